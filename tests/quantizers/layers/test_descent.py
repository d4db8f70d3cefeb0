import itertools
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bitleak.quantizers.adaround import AdaRound
from bitleak.quantizers.grid import Grid, search_grid, to_codes, to_weights
from bitleak.quantizers.layers.descent import polish
from bitleak.quantizers.layers.quadratic import quadratic
from bitleak.quantizers.rtn import RoundToNearest


def problem(layer=None, shape=(200, 20), seed=0, noise=0.1):
    """A layer, its inputs in both networks, and their quadratic."""
    torch.manual_seed(seed)
    layer = layer or nn.Linear(20, 6)
    layer.reset_parameters()  # layers given as parameters of a test were made without the seed
    inputs = torch.randn(shape)
    inputs = (inputs.cumsum(1) / 2).relu()
    quantized_inputs = inputs + noise * torch.randn_like(inputs)
    with torch.no_grad():
        loss = quadratic("layer", layer, [(inputs, quantized_inputs)])
    return layer, inputs, quantized_inputs, loss


@torch.no_grad()
def direct_error(layer, inputs, quantized_inputs, weight):
    """Squared error of the layer's output per channel, on the data."""
    inputs, quantized_inputs, before, weight = (
        part.double() for part in (inputs, quantized_inputs, layer.weight, weight)
    )
    if isinstance(layer, nn.Linear):
        return (inputs @ before.T - quantized_inputs @ weight.T).square().sum(0)
    options = {"stride": layer.stride, "padding": layer.padding, "groups": layer.groups}
    difference = F.conv2d(inputs, before, **options) - F.conv2d(quantized_inputs, weight, **options)
    return difference.square().sum((0, 2, 3))


def pairs_by_loops(codes, weight, grid, loss, row):
    """The most that a step of one weight of a row, together with any move of another one, can lower the error."""
    before = float(loss.error(to_weights(codes, grid) - weight)[row])
    best = 0.0
    for column, other in itertools.permutations(range(codes.shape[1]), 2):
        for step, level in itertools.product((-1, 1), range(grid.levels)):
            trial = codes.clone().int()
            trial[row, column] += step
            trial[row, other] = level
            if 0 <= int(trial[row, column]) < grid.levels:
                error = float(loss.error(to_weights(trial.to(torch.uint8), grid) - weight)[row])
                best = max(best, before - error)
    return best / before


def by_loops(codes, weight, grid, loss, sweeps):
    """One weight at a time: the level with the smallest error, of all levels; no move on ties."""
    codes = codes.clone()
    for _ in range(sweeps):
        for row, column in itertools.product(range(codes.shape[0]), range(codes.shape[1])):
            best = float(loss.error(to_weights(codes, grid) - weight)[row])
            for level in range(grid.levels):
                trial = codes.clone()
                trial[row, column] = level
                error = float(loss.error(to_weights(trial, grid) - weight)[row])
                if error < best * (1 - 1e-9):
                    codes, best = trial, error
    return codes


@pytest.mark.parametrize("sweeps", [1, 2])
@pytest.mark.parametrize("levels", [3, 5])
def test_a_sweep_is_the_best_level_for_one_weight_after_the_other(levels, sweeps):
    layer, _, _, loss = problem(nn.Linear(7, 3), (60, 7))
    weight = layer.weight.detach()
    grid = search_grid(weight, levels)
    start = torch.randint(levels, weight.shape, dtype=torch.uint8)
    polished, _ = polish(start, weight, grid, loss, sweeps=sweeps)
    assert torch.equal(polished, by_loops(start, weight, grid, loss, sweeps))
    assert not torch.equal(polished, start)


@pytest.mark.parametrize("seed", range(4))
def test_at_the_end_no_single_weight_can_be_moved_with_profit(seed):
    layer, _, _, loss = problem(nn.Linear(6, 4), (40, 6), seed)
    weight = layer.weight.detach()
    grid = search_grid(weight, 3)
    polished, sweeps = polish(to_codes(weight, grid), weight, grid, loss, sweeps=50)
    assert sweeps < 50
    assert torch.equal(by_loops(polished, weight, grid, loss, 1), polished)
    codings = torch.tensor(list(itertools.product(range(3), repeat=6)), dtype=torch.uint8)
    for row in range(4):
        alone = Grid(grid.scale[row : row + 1], grid.zero_point[row : row + 1], 3)
        errors = [
            float(loss.error(to_weights(c.expand(4, -1), alone) - weight)[row]) for c in codings
        ]
        found = float(loss.error(to_weights(polished, grid) - weight)[row])
        assert min(errors) * (1 - 1e-9) <= found < sorted(errors)[len(errors) // 10]


@pytest.mark.parametrize("seed", range(3))
def test_after_exchanges_no_pair_can_be_moved_with_profit_and_the_optimum_is_not_passed(seed):
    layer, _, _, loss = problem(nn.Linear(6, 4), (40, 6), seed)
    weight = layer.weight.detach()
    grid = search_grid(weight, 3)
    single, made = polish(to_codes(weight, grid), weight, grid, loss, sweeps=50)
    paired, more = polish(to_codes(weight, grid), weight, grid, loss, sweeps=50, exchanges=50)
    assert made <= more < 100
    errors = [loss.error(to_weights(codes, grid) - weight) for codes in (single, paired)]
    assert (errors[1] <= errors[0]).all()
    codings = torch.tensor(list(itertools.product(range(3), repeat=6)), dtype=torch.uint8)
    for row in range(4):
        assert pairs_by_loops(paired, weight, grid, loss, row) < 1e-6
        alone = Grid(grid.scale[row : row + 1], grid.zero_point[row : row + 1], 3)
        optimum = min(
            float(loss.error(to_weights(c.expand(4, -1), alone) - weight)[row]) for c in codings
        )
        assert optimum * (1 - 1e-9) <= float(errors[1][row])


def test_exchanges_lower_the_error_where_single_moves_have_ended():
    layer, inputs, quantized_inputs, loss = problem(
        nn.Conv2d(6, 6, 3, padding=1, groups=2), (20, 6, 7, 7)
    )
    weight = layer.weight.detach()
    grid = search_grid(weight, 4)
    single, paired = (
        polish(to_codes(weight, grid), weight, grid, loss, sweeps=50, exchanges=exchanges)[0]
        for exchanges in (0, 9)
    )
    before, after = (
        direct_error(layer, inputs, quantized_inputs, to_weights(codes, grid))
        for codes in (single, paired)
    )
    assert (after <= before * (1 + 1e-6)).all()
    assert after.sum() < 0.99 * before.sum()


@pytest.mark.parametrize("granularity", ["channel", "tensor"])
@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(120, 6), (300, 120)),  # several blocks of columns
        (nn.Conv2d(4, 6, 3, padding=1), (5, 4, 6, 6)),
        (nn.Conv2d(4, 6, 3, stride=2, groups=2), (5, 4, 7, 7)),
        (nn.Conv2d(6, 6, 3, padding=1, groups=6), (5, 6, 7, 7)),
    ],
)
def test_no_sweep_raises_the_error_on_the_data(layer, shape, granularity):
    layer, inputs, quantized_inputs, loss = problem(layer, shape)
    weight = layer.weight.detach()
    grid = search_grid(weight, 4, granularity=granularity)
    codes = to_codes(weight, grid)
    errors = [direct_error(layer, inputs, quantized_inputs, to_weights(codes, grid))]
    for _ in range(3):
        codes, _ = polish(codes, weight, grid, loss, sweeps=1)
        errors.append(direct_error(layer, inputs, quantized_inputs, to_weights(codes, grid)))
        assert (errors[-1] <= errors[-2] * (1 + 1e-6)).all()
    assert errors[1].sum() < 0.99 * errors[0].sum()


def test_rows_that_have_arrived_do_not_change_the_others():
    layer, _, _, loss = problem(nn.Linear(70, 8), (300, 70))
    weight = layer.weight.detach()
    grid = search_grid(weight, 4)
    codes = to_codes(weight, grid)
    together, sweeps = polish(codes, weight, grid, loss, sweeps=200)
    for _ in range(sweeps):
        codes, _ = polish(codes, weight, grid, loss, sweeps=1)
    assert torch.equal(together, codes)
    assert 1 < sweeps < 200


def test_columns_without_input_and_no_sweeps_leave_the_codes():
    layer, inputs, _, _ = problem()
    inputs[:, 3] = 0
    loss = quadratic("layer", layer, [(inputs, inputs)])
    weight = layer.weight.detach()
    grid = search_grid(weight, 3)
    start = torch.randint(3, weight.shape, dtype=torch.uint8)
    polished, _ = polish(start, weight, grid, loss, sweeps=20)
    assert torch.equal(polished[:, 3], start[:, 3])
    assert (polished != start).any()
    assert torch.equal(polish(start, weight, grid, loss, sweeps=0)[0], start)


def test_independent_inputs_leave_round_to_nearest():
    layer, _, _, _ = problem()
    inputs = 3 * torch.eye(20)
    loss = quadratic("layer", layer, [(inputs, inputs)])
    weight = layer.weight.detach()
    grid = search_grid(weight, 4)
    assert torch.equal(
        polish(to_codes(weight, grid), weight, grid, loss, sweeps=5)[0], to_codes(weight, grid)
    )


@pytest.mark.parametrize(
    "quantizer",
    [RoundToNearest(levels=3), AdaRound(levels=3, iterations=50, learning_rate=0.2, grid="zero")],
)
def test_quantizers_polish_if_wanted(quantizer):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(96, 4)).eval()
    images = torch.randn(40, 2, 6, 6).cumsum(2).cumsum(3) / 3
    plain, polished, paired = (
        replace(quantizer, polish=n, exchange=m)(network, images, torch.Generator())
        for n, m in ((0, 0), (20, 0), (20, 20))
    )
    assert "polish_sweeps" not in plain.record["0"]
    assert polished.record["0"]["polish_sweeps"] >= 1

    def error(quantized):
        difference = (
            torch.from_numpy(quantized.layers["0"].dequantize()) - network[0].weight.detach()
        )
        return float(F.conv2d(images, difference).square().sum())

    energy = float((F.conv2d(images, network[0].weight.detach())).square().sum())
    assert error(paired) < error(polished) < error(plain)
    assert polished.record["0"]["relative_error"] == pytest.approx(
        error(polished) / energy, rel=1e-4
    )
