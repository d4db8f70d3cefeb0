"""The grid that suits a layer's output: an independent search row by row, and what must not get worse."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from bitleak.quantizers.adaround import AdaRound
from bitleak.quantizers.brecq import BRECQ
from bitleak.quantizers.gptq import GPTQ
from bitleak.quantizers.grid import Grid, search_grid, to_codes, to_weights
from bitleak.quantizers.layers import output_grid as module
from bitleak.quantizers.layers.descent import polish
from bitleak.quantizers.layers.output_grid import GridAttempt, better_of, output_grid
from bitleak.quantizers.layers.quadratic import Quadratic, quadratic
from bitleak.quantizers.obc import OBC
from bitleak.quantizers.rtn import RoundToNearest


@torch.no_grad()
def problem(layer=None, shape=(200, 20)):
    """A layer, its inputs in both networks, and their quadratic."""
    torch.manual_seed(0)
    layer = layer or nn.Linear(20, 6)
    layer.reset_parameters()
    inputs = (torch.randn(shape).cumsum(1) / 2).relu()
    behind = inputs + 0.1 * torch.randn_like(inputs)
    return layer, inputs, behind, quadratic("layer", layer, [(inputs, behind)])


def row_of(loss, row, group):
    part = slice(row, row + 1)
    return Quadratic(
        loss.gram[group : group + 1], loss.moment[part], loss.constant[part], loss.positions
    )


def left(weight, scale, zero_point, levels, loss):
    """The error of one row after the short descent."""
    grid = Grid(scale.reshape(1), zero_point.reshape(1), levels)
    codes, _ = polish(to_codes(weight, grid), weight, grid, loss, sweeps=4)
    return float(loss.error((to_weights(codes, grid) - weight).flatten(1)))


def by_hand(weight, grid, loss, groups, *, symmetric):
    """Row after row, candidate after candidate, as the docstring says."""
    found = []
    for row, own in enumerate(weight.split(1)):
        mine = row_of(loss, row, row * groups // len(weight))
        best = (grid.scale[row], grid.zero_point[row])
        least = left(own, *best, grid.levels, mine)
        for around in (False, True):
            start = best
            changes = [(1 + step / 10, 0) for step in range(1, 6)]
            if around:
                changes = [(0.95, 0), (1.05, 0)]
                if not symmetric:
                    changes += [(0.9, -1), (1.0, -1), (0.9, 1), (1.0, 1)]
            for factor, shift in changes:
                tried = (start[0] * factor, (start[1] + shift).clamp(0, grid.levels - 1))
                if (error := left(own, *tried, grid.levels, mine)) < least:
                    best, least = tried, error
        found.append(best)
    return torch.stack([scale for scale, _ in found]), torch.stack(
        [zero_point for _, zero_point in found]
    )


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("levels", [3, 4, 16])
@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.usefixtures("shapes_unchecked")  # thousands of descents of single rows
def test_it_is_what_a_search_row_by_row_finds(grouped, levels, symmetric, monkeypatch):
    layer, _, _, loss = problem(*((nn.Conv2d(6, 9, 3, groups=3), (40, 6, 5, 4)) if grouped else ()))
    weight = layer.weight.detach()
    grid = search_grid(weight, levels, symmetric=symmetric)
    scale, zero_point = by_hand(weight, grid, loss, 3 if grouped else 1, symmetric=symmetric)
    for together in (1, 1 << 20):
        monkeypatch.setattr(module, "TOGETHER", together)
        found = output_grid(grid, weight, weight, loss, symmetric=symmetric)
        torch.testing.assert_close(found.scale, scale, rtol=1e-6, atol=0)
        assert torch.equal(found.zero_point, zero_point)
    assert (found.scale != grid.scale).any()


def test_a_tensor_has_one_grid_and_it_is_the_best_for_all_its_rows():
    layer, _, _, loss = problem()
    weight = layer.weight.detach()
    grid = search_grid(weight, 3, granularity="tensor")
    found = output_grid(grid, weight, weight, loss)
    assert found.scale.shape == found.zero_point.shape == (1,)

    def error(scale, zero_point):
        tried = Grid(scale.expand(1), zero_point.expand(1), 3)
        codes, _ = polish(to_codes(weight, tried), weight, tried, loss, sweeps=4)
        return float(loss.error((to_weights(codes, tried) - weight).flatten(1)).sum())

    mine = error(found.scale, found.zero_point)
    assert mine < error(grid.scale, grid.zero_point)
    for factor in module.FACTORS:
        assert mine <= error(grid.scale * factor, grid.zero_point) * (1 + 1e-12)


def test_independent_inputs_leave_nothing_to_make_up_for_and_errors_are_those_of_the_weights():
    layer, _, _, _ = problem()
    weight = layer.weight.detach()
    eye = torch.eye(20, dtype=torch.float64)
    zeros = eye.new_zeros(6, 20)
    loss = Quadratic(eye[None], zeros, zeros[:, 0], 1)
    grid = search_grid(weight, 4)
    found = output_grid(grid, weight, weight, loss)
    errors = [
        (to_weights(to_codes(weight, each), each) - weight).double().square().sum(1)
        for each in (found, grid)
    ]
    assert (errors[0] <= errors[1]).all()


def test_rows_of_equal_weights_keep_the_grid_that_is_exact():
    layer, _, _, loss = problem()
    weight = layer.weight.detach().clone()
    weight[0], weight[1], weight[2] = 0.25, -0.1, 0.0
    grid = search_grid(weight, 3)
    found = output_grid(grid, weight, weight, loss)
    assert torch.equal(found.scale[:3], grid.scale[:3])
    assert torch.equal(to_weights(to_codes(weight, found), found)[:3], weight[:3])


def test_of_two_attempts_each_row_or_tensor_keeps_the_better():
    layer, inputs, behind, loss = problem()
    weight = layer.weight.detach()
    for granularity in ("channel", "tensor"):
        grids = [search_grid(weight, 3, granularity=granularity)]
        grids.append(Grid(grids[0].scale * 1.15, grids[0].zero_point, 3))
        attempts = [
            GridAttempt(grid, to_codes(weight, grid), {"number": torch.full((6,), number)})
            for number, grid in enumerate(grids)
        ]
        kept, other = better_of(*attempts, weight, loss)
        rounded = [to_weights(each.codes, each.grid) for each in (*attempts, kept)]
        errors = [(inputs @ weight.T - behind @ own.T).double().square().sum(0) for own in rounded]
        if granularity == "channel":
            assert 0 < int(other.sum()) < 6
            torch.testing.assert_close(errors[2], torch.minimum(errors[0], errors[1]))
        else:
            assert float(errors[2].sum()) == pytest.approx(
                min(float(errors[0].sum()), float(errors[1].sum()))
            )
        assert torch.equal(kept.facts["number"], other.long())


LAYERWISE = [
    AdaRound(levels=3, iterations=100, learning_rate=0.3),
    AdaRound(levels=4, iterations=100, learning_rate=0.3, polish=5),
    OBC(levels=3, grid="output", reestimate="none"),
    OBC(levels=3, grid="output", granularity="tensor", polish=3, reestimate="none"),
    GPTQ(levels=4, symmetric=True, reestimate="none"),
    GPTQ(levels=3, inputs="quantized", reestimate="none"),
    RoundToNearest(levels=3, grid="output", polish=2),
]


@pytest.mark.parametrize("quantizer", LAYERWISE)
def test_no_first_layer_ends_with_more_error_than_on_the_grid_of_the_weights(quantizer):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 4)).eval()
    images = torch.randn(60, 2, 6, 6).cumsum(2).cumsum(3) / 3
    wide, plain = (
        replace(quantizer, grid=grid)(network, images, torch.Generator()).record["0"]
        for grid in ("output", "zero")
    )
    if wide["rows_on_output_grid"]:
        assert wide["relative_error"] < plain["relative_error"]
    else:
        assert wide["relative_error"] == plain["relative_error"]
    assert wide["rows_on_output_grid"] in (
        range(1, 9) if quantizer.granularity == "channel" else (0, 8)
    )
    assert "rows_on_output_grid" not in plain


def test_units_are_learnt_on_it_if_wanted():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 4)).eval()
    images = torch.randn(60, 2, 6, 6).cumsum(2).cumsum(3) / 3
    wide, plain = (
        BRECQ(levels=3, iterations=100, grid=grid)(
            network, images, torch.Generator().manual_seed(0)
        )
        for grid in ("output", "zero")
    )
    assert (wide.layers["0"].scale != plain.layers["0"].scale).any()
    assert wide.record["0"]["kept"] == "learned"
    assert wide.record["0"]["relative_error"] < plain.record["0"]["relative_error"]


def test_it_is_refused_where_no_linear_output_is_looked_at():
    with pytest.raises(ValueError, match="grid 'output' needs polish of at least 1"):
        RoundToNearest(grid="output")
    with pytest.raises(
        ValueError, match="with objective 'activation', it must be 'zero' or 'paper'"
    ):
        AdaRound(objective="activation", grid="output")


def test_the_published_settings_have_the_grid_of_the_weights():
    made = {
        kind: kind(**kind.PRESETS["paper"]).grid
        for kind in (AdaRound, BRECQ, OBC, GPTQ, RoundToNearest)
    }
    assert "output" not in made.values()
    assert (AdaRound().grid, GPTQ().grid) == ("output", "output")
