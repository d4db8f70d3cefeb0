import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bitleak.core.types import QuantizedLayer
from bitleak.quantizers.grid import search_grid, to_codes, to_weights


def loop_grid(row, levels, style):
    """One channel: every candidate in turn, the first best one kept."""
    low, high = row.min(), row.max()
    if style == "zero":
        low, high = low.clamp(max=0), high.clamp(min=0)
    best = torch.tensor(float("inf"))
    for step in range(80):
        factor = torch.tensor(1 - step / 100)
        scale = (factor * high - factor * low) / (levels - 1)
        zero_point = torch.round(-(factor * low) / scale)
        codes = torch.clamp(torch.round(row / scale) + zero_point, 0, levels - 1)
        error = (scale * (codes - zero_point) - row).abs().pow(2.4).sum()
        if error < best:
            best, found = error, (scale, zero_point)
    return found


@pytest.mark.parametrize("style", ["zero", "paper"])
@pytest.mark.parametrize("levels", [2, 3, 4, 7, 16, 256])
@pytest.mark.parametrize("shape", [(6, 5, 3, 3), (16, 131), (3, 1)])
def test_the_search_equals_the_channel_loop_bit_for_bit(shape, levels, style):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(levels)) * 0.1
    weight[0] += 0.3
    if shape[1] == 1:
        style = "zero"
    grid = search_grid(weight, levels, style=style)
    expected = [loop_grid(row.flatten(), levels, style) for row in weight]
    if shape[1] == 1:  # a constant channel, which the loop gets nearly right and the search exactly
        assert torch.equal(to_weights(to_codes(weight, grid), grid), weight)
        return
    assert torch.equal(grid.scale, torch.stack([scale for scale, _ in expected]))
    assert torch.equal(grid.zero_point, torch.stack([zero_point for _, zero_point in expected]))


def test_chunks_do_not_change_the_grid(monkeypatch):
    weight = torch.randn(5, 40, generator=torch.Generator().manual_seed(0))
    whole = search_grid(weight, 4)
    monkeypatch.setattr("bitleak.quantizers.grid.SEARCH_CHUNK", 1)
    parts = search_grid(weight, 4)
    assert torch.equal(whole.scale, parts.scale)
    assert torch.equal(whole.zero_point, parts.zero_point)


def test_a_grid_per_tensor_is_that_of_all_weights_as_one_channel():
    weight = torch.randn(4, 9, generator=torch.Generator().manual_seed(0))
    tensor, row = (
        search_grid(weight, 4, granularity="tensor"),
        search_grid(weight.reshape(1, -1), 4),
    )
    assert tensor.scale.shape == (1,)
    assert torch.equal(tensor.scale, row.scale)
    assert torch.equal(
        to_codes(weight, tensor).flatten(), to_codes(weight.reshape(1, -1), row).flatten()
    )


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("style", ["zero", "paper"])
@pytest.mark.parametrize("levels", [2, 3, 4, 255, 256])
@pytest.mark.parametrize("value", [0.0, 0.3, -0.7, 1e-20, 3e5])
def test_a_constant_channel_is_exact(value, levels, style, symmetric):
    weight = torch.tensor([[1.0, -0.5, 0.2], [value] * 3])
    grid = search_grid(weight, levels, style=style, symmetric=symmetric)
    assert torch.equal(to_weights(to_codes(weight, grid), grid)[1], weight[1])


def test_a_nearly_constant_channel_stays_close_on_a_paper_grid():
    weight = torch.tensor([[1.0, 1.0 + 1e-6, 1.0 + 2e-6]])
    grid = search_grid(weight, 256, style="paper")
    assert (to_weights(to_codes(weight, grid), grid) - weight).abs().max() < 3e-6


@given(st.integers(2, 256), st.integers(0, 10_000), st.booleans(), st.floats(-2, 2))
@settings(max_examples=60, deadline=None)
def test_zero_is_exact_and_in_range_unless_paper(levels, seed, symmetric, offset):
    weight = torch.randn(3, 10, generator=torch.Generator().manual_seed(seed)) + offset
    grid = search_grid(weight, levels, symmetric=symmetric)
    assert bool((grid.zero_point >= 0).all() and (grid.zero_point <= levels - 1).all())
    assert torch.equal(grid.zero_point, grid.zero_point.round())
    zeros = torch.zeros(3, 1)
    assert torch.equal(to_weights(to_codes(zeros, grid), grid), zeros)


def test_a_paper_grid_leaves_out_zero_where_a_channel_does_not_change_sign():
    weight = torch.tensor([[1.0, 1.1, 1.2, 1.3]])
    exact, forced = search_grid(weight, 4, style="paper"), search_grid(weight, 4)
    error = [
        float((to_weights(to_codes(weight, grid), grid) - weight).abs().max())
        for grid in (exact, forced)
    ]
    assert error[0] < 0.05 < error[1]
    assert not 0 <= float(exact.zero_point) <= 3


def test_symmetric_ternary_codes_are_minus_one_zero_one():
    weight = torch.tensor([[-1.0, 0.05, 0.9, 1.0]])
    grid = search_grid(weight, 3, symmetric=True)
    assert (to_codes(weight, grid) - grid.zero_point).tolist() == [[-1, 0, 1, 1]]


def test_a_symmetric_grid_of_an_even_number_of_levels_has_one_code_less_above():
    weight = torch.randn(4, 50, generator=torch.Generator().manual_seed(0))
    grid = search_grid(weight, 16, symmetric=True)
    assert grid.zero_point.tolist() == [8.0] * 4


def test_encoding_what_was_decoded_changes_nothing():
    weight = torch.randn(64, 37, generator=torch.Generator().manual_seed(0))
    for levels in (2, 3, 4, 16, 256):
        grid = search_grid(weight, levels)
        codes = to_codes(weight, grid)
        assert torch.equal(to_codes(to_weights(codes, grid), grid), codes)
        assert int(codes.max()) < levels


def test_decoding_equals_the_stored_layers_dequantization_bit_for_bit():
    weight = torch.randn(5, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    for granularity in ("channel", "tensor"):
        grid = search_grid(weight, 7, granularity=granularity)
        codes = to_codes(weight, grid)
        stored = QuantizedLayer(codes.numpy(), grid.scale.numpy(), grid.zero_point.numpy(), 7)
        assert np.array_equal(stored.dequantize(), to_weights(codes, grid).numpy())


def test_weights_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="finite"):
        search_grid(torch.tensor([[1.0, float("nan")]]), 4)
