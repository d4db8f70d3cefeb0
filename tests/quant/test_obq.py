import itertools

import pytest
import torch

from bitleak.core.errors import QuantizationError
from bitleak.quant.grid import Grid, decode, encode, search_grid
from bitleak.quant.obq import eliminate, invert


def problem(rows, columns, levels, seed=0):
    """Weights, their grid and the H of correlated, non-negative inputs."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.eye(columns) + 0.5 * torch.randn(columns, columns, generator=generator) / columns**0.5
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
        inverse = inverse - torch.outer(inverse[:, column], inverse[column]) / inverse[column, column]
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
    grids = [(float(scale), int(zero), grid.levels) for scale, zero in zip(grid.scale, grid.zero_point, strict=True)]
    return [solve(row, hessian, one) for row, one in zip(weight, grids, strict=True)]


def solve(weight, grid, hessian, dtype=torch.float64):
    return eliminate(weight, torch.linalg.inv(hessian).to(dtype), grid.scale, grid.zero_point, grid.levels)


@pytest.mark.parametrize(("rows", "columns"), [(3, 5), (4, 32), (4, 33), (2, 80), (1, 200)])
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
    found = errors_of(weight, decode(solve(weight, grid, hessian), grid), hessian)
    rounded = errors_of(weight, decode(encode(weight, grid), grid), hessian)
    codings = torch.tensor([*itertools.product(range(3), repeat=6)], dtype=torch.uint8)
    for row, one in enumerate(weight):
        own = Grid(
            grid.scale[row : row + 1].expand(len(codings)), grid.zero_point[row : row + 1].expand(len(codings)), 3
        )
        best = errors_of(one, decode(codings, own), hessian).min()
        assert best * (1 - 1e-9) <= found[row]
    assert found.sum() < rounded.sum()


@pytest.mark.parametrize("levels", [2, 3, 16])
def test_inputs_without_correlation_give_round_to_nearest(levels):
    weight, grid, _ = problem(5, 70, levels)
    hessian = torch.diag(torch.rand(70, generator=torch.Generator().manual_seed(0)).double() + 0.1)
    assert torch.equal(solve(weight, grid, hessian), encode(weight, grid))


def test_parts_of_the_rows_give_the_same_codes_and_the_inverse_is_not_changed(monkeypatch):
    weight, grid, hessian = problem(5, 70, 4)
    whole = solve(weight, grid, hessian)
    monkeypatch.setattr("bitleak.quant.obq.CHUNK", 1)
    inverse = torch.linalg.inv(hessian)
    before = inverse.clone()
    assert torch.equal(eliminate(weight, inverse, grid.scale, grid.zero_point, 4), whole)
    assert torch.equal(inverse, before)


def test_float32_differs_in_ties_only():
    weight, grid, hessian = problem(16, 120, 4)
    assert (solve(weight, grid, hessian) == solve(weight, grid, hessian, torch.float32)).float().mean() > 0.999


def test_a_regular_matrix_is_inverted_without_damping():
    _, _, hessian = problem(1, 20, 4)
    inverse, damping = invert("fc", hessian)
    assert damping == 0
    torch.testing.assert_close(inverse @ hessian, torch.eye(20, dtype=torch.float64))


def test_a_singular_matrix_is_damped_as_little_as_the_ladder_allows():
    inputs = torch.randn(3, 10, generator=torch.Generator().manual_seed(0)).double()
    hessian = inputs.T @ inputs
    inverse, damping = invert("fc", hessian)
    assert damping == 1e-2
    damped = hessian + damping * hessian.diagonal().mean() * torch.eye(10, dtype=torch.float64)
    torch.testing.assert_close(inverse @ damped, torch.eye(10, dtype=torch.float64))


def test_a_matrix_that_no_damping_saves_names_the_layer():
    with pytest.raises(QuantizationError, match="layer 'fc'"):
        invert("fc", -torch.eye(3, dtype=torch.float64))
