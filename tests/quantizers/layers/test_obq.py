import itertools
import weakref
from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bitleak.core.errors import QuantizationError
from bitleak.quantizers.grid import Grid, search_grid, to_codes, to_weights
from bitleak.quantizers.layers.obq import eliminate, invert


def problem(rows, columns, levels, seed=0):
    """Weights, their grid and the H of correlated, non-negative inputs."""
    generator = torch.Generator().manual_seed(seed)
    mixing = (
        torch.eye(columns) + 0.5 * torch.randn(columns, columns, generator=generator) / columns**0.5
    )
    inputs = (torch.randn(6 * columns, columns, generator=generator) @ mixing).relu().double()
    weight = torch.randn(rows, columns, generator=generator)
    return weight, search_grid(weight, levels), 2 / len(inputs) * inputs.T @ inputs


def nearest(value, scale, zero_point, levels):
    code = min(max(round(value / scale) + zero_point, 0), levels - 1)
    return code, scale * (code - zero_point)


def pick(weights, free, diagonal, grid):
    """The free weight that goes next, its code and its grid value, as the paper says."""
    scale, _, _ = grid
    options = []
    for column in free:
        code, value = nearest(weights[column], *grid)
        error = value - weights[column]
        inside = abs(error) <= scale / 2 * (1 + 1e-5)
        options.append((inside, error**2 / diagonal[column], column, code, value))
    return min(options)[2:]


def by_rank_one_updates(row, hessian, grid):
    """The published loop: the inverse is rewritten at every step."""
    weights, inverse = row.double().clone(), torch.linalg.inv(hessian)
    codes, free = {}, list(range(len(row)))
    while free:
        column, code, value = pick(weights.tolist(), free, inverse.diagonal().tolist(), grid)
        codes[column] = code
        free.remove(column)
        weights -= (weights[column] - value) / inverse[column, column] * inverse[column]
        inverse = (
            inverse - torch.outer(inverse[:, column], inverse[column]) / inverse[column, column]
        )
    return [codes[column] for column in range(len(row))]


def from_scratch(row, hessian, grid):
    """Optimal brain surgeon: at every step, invert H restricted to the weights that are left."""
    weights, codes, free = row.double().tolist(), {}, list(range(len(row)))
    while free:
        inverse = torch.linalg.inv(hessian[free][:, free])
        diagonal = dict(zip(free, inverse.diagonal().tolist(), strict=True))
        column, code, value = pick(weights, free, diagonal, grid)
        change = (weights[column] - value) / diagonal[column] * inverse[free.index(column)]
        for other, amount in zip(free, change.tolist(), strict=True):
            weights[other] -= amount
        codes[column] = code
        free.remove(column)
    return [codes[column] for column in range(len(row))]


def loop(solve, weight, grid, hessian):
    grids = [
        (float(scale), int(zero), grid.levels)
        for scale, zero in zip(grid.scale, grid.zero_point, strict=True)
    ]
    return [solve(row, hessian, one) for row, one in zip(weight, grids, strict=True)]


def solve(weight, grid, hessian, dtype=torch.float64):
    inverse = torch.linalg.inv(hessian).to(dtype)
    return eliminate(
        weight[None], inverse[None], grid.scale[None], grid.zero_point[None], grid.levels
    )[0]


@pytest.mark.parametrize(("rows", "columns"), [(3, 5), (4, 48), (4, 49), (2, 97), (1, 200)])
@pytest.mark.parametrize("levels", [2, 3, 4, 16])
def test_all_codes_equal_those_of_the_rank_one_loop(rows, columns, levels):
    weight, grid, hessian = problem(rows, columns, levels)
    assert solve(weight, grid, hessian).tolist() == loop(by_rank_one_updates, weight, grid, hessian)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("levels", [2, 3, 16])
def test_all_codes_equal_those_of_the_surgeon_who_starts_from_scratch_at_every_step(levels, seed):
    weight, grid, hessian = problem(3, 9, levels, seed)
    weight[0, 3] = weight[2, 8] = 0.0
    assert solve(weight, grid, hessian).tolist() == loop(from_scratch, weight, grid, hessian)


def errors_of(weight, quantized, hessian):
    change = (quantized - weight).double()
    return ((change @ hessian) * change).sum(-1)


@pytest.mark.parametrize("seed", range(6))
def test_no_row_is_below_the_optimum_over_all_codings_and_most_are_below_rounding(seed):
    weight, grid, hessian = problem(8, 6, 3, seed)
    found = errors_of(weight, to_weights(solve(weight, grid, hessian), grid), hessian)
    rounded = errors_of(weight, to_weights(to_codes(weight, grid), grid), hessian)
    codings = torch.tensor([*itertools.product(range(3), repeat=6)], dtype=torch.uint8)
    for row, one in enumerate(weight):
        own = Grid(
            grid.scale[row : row + 1].expand(len(codings)),
            grid.zero_point[row : row + 1].expand(len(codings)),
            3,
        )
        best = errors_of(one, to_weights(codings, own), hessian).min()
        assert best * (1 - 1e-9) <= found[row]
    assert found.sum() < rounded.sum()


@pytest.mark.parametrize("levels", [2, 3, 16])
def test_inputs_without_correlation_give_round_to_nearest(levels):
    weight, grid, _ = problem(5, 70, levels)
    hessian = torch.diag(torch.rand(70, generator=torch.Generator().manual_seed(0)).double() + 0.1)
    assert torch.equal(solve(weight, grid, hessian), to_codes(weight, grid))


@pytest.fixture(scope="module")
def many():
    """Three groups of rows: weights, inverses, scales, zero points."""
    found = [problem(rows, 130, 4, seed) for seed, rows in enumerate((5, 5, 5))]
    weights, grids, hessians = zip(*found, strict=True)
    scales, zeros = (
        torch.stack([getattr(grid, name) for grid in grids]) for name in ("scale", "zero_point")
    )
    weights = torch.stack(weights)
    weights[1, 2] *= 3  # outliers in one row only
    weights[2, 0, ::7] = 0
    weights[2, 1] = scales[2, 1] * (weights[2, 1] / scales[2, 1]).round()  # on the grid already
    return weights, torch.linalg.inv(torch.stack(hessians)), scales, zeros


def test_groups_taken_together_have_the_codes_of_each_group_alone(many):
    together = eliminate(*many, 4)
    for group in range(3):
        assert torch.equal(
            eliminate(*(part[group : group + 1] for part in many), 4)[0], together[group]
        )


def test_rows_at_several_levels_have_the_codes_of_the_rank_one_loop():
    counts = [16, 4, 3, 2]
    weight, _, hessian = problem(3, 100, 4)
    grids = [search_grid(weight, levels) for levels in counts]
    codes = eliminate(
        weight.repeat(4, 1)[None],
        torch.linalg.inv(hessian)[None],
        torch.cat([grid.scale for grid in grids])[None],
        torch.cat([grid.zero_point for grid in grids])[None],
        torch.tensor(counts).repeat_interleave(3)[None],
    )[0]
    for grid, part in zip(grids, codes.split(3), strict=True):
        assert part.tolist() == loop(by_rank_one_updates, weight, grid, hessian)


@pytest.mark.parametrize("budget", [1, 3 * 130 * 130 * 8])
def test_the_budget_changes_no_code_and_the_inverses_are_not_changed(many, budget):
    before = many[1].clone()
    assert torch.equal(eliminate(*many, 4, budget=budget), eliminate(*many, 4))
    assert torch.equal(many[1], before)


def test_hundreds_of_small_groups_have_the_codes_of_the_rank_one_loop():
    weight, grid, _ = problem(200, 9, 3)
    inputs = torch.randn(200, 50, 9, generator=torch.Generator().manual_seed(1)).double().relu()
    hessians = inputs.mT @ inputs
    inverses, _ = invert("depthwise", hessians)
    codes = eliminate(weight[:, None], inverses, grid.scale[:, None], grid.zero_point[:, None], 3)[
        :, 0
    ]
    for row in range(200):
        own = (float(grid.scale[row]), int(grid.zero_point[row]), 3)
        assert codes[row].tolist() == by_rank_one_updates(weight[row], hessians[row], own)


def test_outliers_in_some_rows_only_go_first_there():
    weight, grid, hessian = problem(5, 60, 3)
    first, last = (grid.scale * (code - grid.zero_point) for code in (0, 2))
    weight[::2] = weight.clamp(first[:, None], last[:, None])[::2]
    outside = (weight - to_weights(to_codes(weight, grid), grid)).abs() > 0.5001 * grid.scale[
        :, None
    ]
    assert outside.any(1).tolist() == [False, True, False, True, False]
    assert solve(weight, grid, hessian).tolist() == loop(by_rank_one_updates, weight, grid, hessian)


def test_weights_that_are_zero_or_on_the_grid_already_stay_where_they_are_while_the_others_move():
    weight, grid, hessian = problem(4, 60, 4)
    weight[:2, ::2] = 0.0
    weight[2:, ::2] = to_weights(to_codes(weight, grid), grid)[2:, ::2]
    codes = solve(weight, grid, hessian)
    assert codes.tolist() == loop(by_rank_one_updates, weight, grid, hessian)
    assert torch.equal(codes[:, ::2], to_codes(weight, grid)[:, ::2])
    assert not torch.equal(codes, to_codes(weight, grid))


class Held(TorchDispatchMode):
    """Notes the most bytes that tensors made under it hold at a time."""

    def __init__(self):
        super().__init__()
        self.owners, self.now, self.most = Counter(), 0, 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        for tensor in filter(torch.is_tensor, tree_leaves(result)):
            memory = tensor.untyped_storage().data_ptr(), tensor.untyped_storage().nbytes()
            self.now += memory[1] if not self.owners[memory] else 0
            self.owners[memory] += 1
            weakref.finalize(tensor, self.release, memory)
        self.most = max(self.most, self.now)
        return result

    def release(self, memory):
        self.owners[memory] -= 1
        self.now -= memory[1] if not self.owners[memory] else 0


@pytest.mark.parametrize("budget", [1 << 20, 2 << 20])
def test_the_memory_is_a_small_multiple_of_the_budget(budget):
    weight, grid, hessian = problem(20, 120, 4)  # 2.3 MB of inverses, 0.9 MB of panels
    one = (part[None] for part in (weight, torch.linalg.inv(hessian), grid.scale, grid.zero_point))
    with Held() as held:
        eliminate(*one, 4, budget=budget)
    assert budget / 2 < held.most < 2 * budget


def test_float32_differs_in_ties_only():
    weight, grid, hessian = problem(16, 120, 4)
    assert (
        solve(weight, grid, hessian) == solve(weight, grid, hessian, torch.float32)
    ).float().mean() > 0.999


def test_a_regular_matrix_is_inverted_without_damping():
    _, _, hessian = problem(1, 20, 4)
    (inverse,), (damping,) = invert("fc", hessian[None])
    assert damping == 0
    torch.testing.assert_close(inverse @ hessian, torch.eye(20, dtype=torch.float64))


def test_each_matrix_is_damped_as_little_as_the_ladder_allows():
    inputs = torch.randn(3, 10, generator=torch.Generator().manual_seed(0)).double()
    _, _, regular = problem(1, 10, 4)
    indefinite = torch.diag(
        torch.tensor([-0.5] + [2.0] * 9).double()
    )  # -0.5 + 1.75 * 0.1 < 0 < -0.5 + 1.75
    hessian = torch.stack([regular, inputs.T @ inputs, indefinite, 2 * regular])
    inverse, damping = invert("fc", hessian)
    assert damping.tolist() == [0.0, 1e-2, 1.0, 0.0]
    for group in range(4):
        alone, own = invert("fc", hessian[group : group + 1])
        assert torch.equal(alone[0], inverse[group])
        assert own == damping[group]
        identity = torch.eye(10, dtype=torch.float64)
        damped = hessian[group] + damping[group] * hessian[group].diagonal().mean() * identity
        torch.testing.assert_close(inverse[group] @ damped, identity)


def test_a_matrix_that_no_damping_saves_names_the_layer():
    identity = torch.eye(3, dtype=torch.float64)
    with pytest.raises(QuantizationError, match="layer 'fc'"):
        invert("fc", torch.stack([identity, -identity]))
