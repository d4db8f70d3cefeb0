from dataclasses import replace

import pytest
import torch
from torch import nn

from bitleak.core.errors import QuantizationError
from bitleak.quantizers.gptq import GPTQ, column_order, inverse_factor, quantize_in_order
from bitleak.quantizers.grid import Grid, search_grid, to_codes, to_weights
from bitleak.quantizers.obc import quantize_greedily as in_greedy_order


def problem(rows, columns, levels, seed=0):
    """Weights, their grid and the H of correlated, non-negative inputs of unequal size."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.eye(columns) + torch.randn(columns, columns, generator=generator) / columns**0.5
    inputs = (torch.randn(6 * columns, columns, generator=generator) @ mixing).relu().double()
    inputs *= torch.rand(columns, generator=generator) + 0.5
    weight = torch.randn(rows, columns, generator=generator)
    return weight, search_grid(weight, levels), 2 / len(inputs) * inputs.T @ inputs


def by_elimination(row, hessian, scale, zero_point, levels, order):
    """OBQ in a given order, from scratch: at every step, H restricted to what is left is inverted."""
    weights, codes, left = row.double().tolist(), [0] * len(row), list(order)
    while left:
        column = left[0]
        code = min(max(round(weights[column] / scale + zero_point), 0), levels - 1)
        line = torch.linalg.inv(hessian[left][:, left])[0]
        error = weights[column] - scale * (code - zero_point)
        for other, entry in zip(left, line.tolist(), strict=True):
            weights[other] -= error / float(line[0]) * entry
        codes[column] = code
        left = left[1:]
    return codes


@pytest.mark.parametrize("order", ["index", "activation"])
@pytest.mark.parametrize(
    ("columns", "levels", "damping"), [(9, 3, 0.0), (20, 16, 0.01), (140, 4, 0.1)]
)
def test_codes_are_those_of_elimination_from_scratch_in_the_same_order(
    columns, levels, damping, order
):
    weight, grid, hessian = problem(3, columns, levels)
    codes, record = quantize_in_order(
        "fc", weight, grid, hessian[None], order=order, damping=damping
    )
    damped = hessian + damping * hessian.diagonal().mean() * torch.eye(columns)
    diagonal = hessian.diagonal().tolist()
    columns = (
        sorted(range(columns), key=lambda column: -diagonal[column])
        if order == "activation"
        else range(columns)
    )
    for row in range(3):
        scale, zero_point = float(grid.scale[row]), float(grid.zero_point[row])
        expected = by_elimination(weight[row], damped, scale, zero_point, levels, columns)
        assert codes[row].tolist() == expected
    assert record == {"dead": 0, "damping": damping}


def test_the_factor_is_that_of_the_inverse():
    _, _, hessian = problem(1, 30, 4)
    (upper,), (damping,) = inverse_factor("fc", hessian[None], (0.0,))
    torch.testing.assert_close(upper.T @ upper, torch.linalg.inv(hessian))
    assert torch.equal(upper, upper.triu())
    assert damping == 0.0


def test_its_error_lies_between_those_of_obc_and_round_to_nearest():
    weight, grid, hessian = problem(16, 60, 3)

    def error(codes):
        change = (to_weights(codes, grid) - weight).double()
        return float(((change @ hessian) * change).sum())

    greedy = error(in_greedy_order("fc", weight, grid, hessian[None])[0])
    errors = {
        o: error(quantize_in_order("fc", weight, grid, hessian[None], order=o)[0])
        for o in ("index", "activation")
    }
    assert all(greedy < found < error(to_codes(weight, grid)) for found in errors.values())
    assert errors["activation"] != errors["index"]


def test_independent_inputs_leave_round_to_nearest():
    weight, grid, _ = problem(5, 12, 4)
    hessian = torch.diag(torch.rand(12, generator=torch.Generator().manual_seed(1)).double() + 0.1)
    codes, _ = quantize_in_order("fc", weight, grid, hessian[None], damping=0.0)
    assert torch.equal(codes, to_codes(weight, grid))


def test_equal_inputs_keep_the_order_of_the_index():
    diagonal = torch.tensor([[2.0, 5.0, 2.0, 5.0], [1.0, 1.0, 3.0, 0.0]]).double()
    assert column_order(diagonal, "activation").tolist() == [[1, 3, 0, 2], [2, 0, 1, 3]]
    assert column_order(diagonal, "index").tolist() == [[0, 1, 2, 3]] * 2


@pytest.mark.parametrize("order", ["index", "activation"])
@pytest.mark.parametrize(("rows", "columns"), [(1, 9), (4, 9), (3, 70)])
def test_groups_together_get_the_codes_that_each_gets_alone(rows, columns, order):
    parts = [problem(rows, columns, 3, seed) for seed in range(3)]
    weight, hessian = (torch.stack([part[i] for part in parts]) for i in (0, 2))
    hessian[1] = torch.outer(
        hessian[1, 0], hessian[1, 0]
    )  # singular: this one alone is damped more
    grid = Grid(
        *(
            torch.cat([getattr(part[1], name) for part in parts])
            for name in ("scale", "zero_point")
        ),
        3,
    )
    together, record = quantize_in_order(
        "conv", weight.flatten(0, 1), grid, hessian, order=order, damping=0.0
    )
    alone = [
        quantize_in_order("conv", part[0], part[1], second[None], order=order, damping=0.0)
        for part, second in zip(parts, hessian, strict=True)
    ]
    assert torch.equal(together, torch.cat([codes for codes, _ in alone]))
    assert [found["damping"] for _, found in alone] == [0.0, 0.01, 0.0]
    assert record["damping"] == 0.01


def test_dead_inputs_get_the_weight_zero_and_too_little_damping_is_raised_and_recorded():
    weight, grid, _ = problem(4, 10, 4)
    inputs = torch.randn(5, 10, generator=torch.Generator().manual_seed(0)).double()
    inputs[:, 7] = 0
    codes, record = quantize_in_order("fc", weight, grid, (inputs.T @ inputs)[None], damping=0.0)
    assert record == {"dead": 1, "damping": 1e-2}
    assert not to_weights(codes, grid)[:, 7].any()
    _, record = quantize_in_order("fc", weight, grid, (inputs.T @ inputs)[None], damping=0.5)
    assert record == {"dead": 1, "damping": 0.5}


def test_inputs_that_are_not_finite_name_the_layer():
    weight, grid, hessian = problem(2, 4, 4)
    hessian[1, 1] = float("nan")
    with pytest.raises(QuantizationError, match="layer 'head'"):
        quantize_in_order("head", weight, grid, hessian[None])


@pytest.mark.parametrize(
    "fields", [{"order": "index"}, {"inputs": "quantized"}, {"polish": 5}, {"reestimate": "none"}]
)
def test_every_field_has_an_effect(fields):
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(96, 4)]
    network, images = (
        nn.Sequential(*layers).eval(),
        torch.randn(40, 2, 6, 6).cumsum(2).cumsum(3) / 3,
    )
    plain, other = (
        replace(GPTQ(levels=3), **more)(network, images, torch.Generator()).dequantize().tensors
        for more in ({}, fields)
    )
    assert any((plain[name] != other[name]).any() for name in plain)


@pytest.mark.parametrize(
    "fields", [{"damping": -0.1}, {"polish": -1}, {"inputs": "none"}, {"order": "random"}]
)
def test_wrong_fields_are_refused(fields):
    with pytest.raises(Exception, match=next(iter(fields))):
        GPTQ(**fields)
