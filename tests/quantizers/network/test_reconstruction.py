import itertools
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import fx, nn

from bitleak.quantizers.adaround import AdaRound, round_adaptively
from bitleak.quantizers.grid import Grid, search_grid, to_codes, to_weights
from bitleak.quantizers.layers.quadratic import quadratic
from bitleak.quantizers.network import reconstruction as loop
from bitleak.quantizers.network.activations import InMemoryActivations
from bitleak.quantizers.network.reconstruction import loss_of
from bitleak.quantizers.network.rounding_loop import Rounding, loss_gradient
from bitleak.quantizers.network.rounding_relaxation import RoundingRelaxation, RoundingSchedule

SCHEDULE = RoundingSchedule(iterations=60, batch=8, learning_rate=0.1, regularization=1e-4)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn = nn.Conv2d(4, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 4, 3, padding=1)

    def forward(self, x):
        return F.relu(x + self.conv2(self.bn(self.conv1(x)).relu()))


def run(piece, inputs):
    return torch.cat(list(loop.run(piece, InMemoryActivations(inputs))))


def reconstruct(piece, grids, inputs, targets, *, generator, start=None, importance=None, **fields):
    """The loop on tensors, for a single copy."""
    maps = [
        None if values is None else InMemoryActivations(values)
        for values in (inputs, targets, importance)
    ]
    copy = loop.PieceCopy(grids, maps[0], generator, maps[2], start)
    (found,) = loop.reconstruct(piece, [copy], maps[1], **fields)
    return SimpleNamespace(**{**vars(found), "outputs": torch.cat(list(found.outputs.chunks()))})


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def case(module, *shape, levels=3, shift=0.05, records=20):
    """A piece, grids for all of its layers, correlated inputs of the quantized network, and targets."""
    piece = fx.symbolic_trace(module.eval().requires_grad_(False))
    layers = {name: m for name, m in piece.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    grids = {name: search_grid(layer.weight, levels) for name, layer in layers.items()}
    common = torch.randn(records, *[1] * len(shape), generator=generator(1))
    inputs = torch.randn(records, *shape, generator=generator(1)) + 2 * common
    return (
        piece,
        grids,
        inputs + shift * torch.randn(inputs.shape, generator=generator(2)),
        run(piece, inputs),
    )


@pytest.fixture
def block():
    torch.manual_seed(0)
    return case(Block(), 4, 5, 5)


def naive_codes(module, grids, inputs, targets, schedule, draws):
    """The published loop: autograd through sigmoid, clip, regulariser and a layer at a time."""
    layers = {name: module.get_submodule(name) for name in grids}
    variables, below = {}, {}
    for name, layer in layers.items():
        scale = grids[name].scale[:, None, None, None]
        below[name] = torch.floor(layer.weight / scale)
        fraction = layer.weight / scale - below[name]
        variables[name] = (-torch.log(1.2 / (fraction + 0.1) - 1)).requires_grad_()

    def soft(name):
        return (1.2 * torch.sigmoid(variables[name]) - 0.1).clamp(0, 1)

    def weight(name, up):
        grid = grids[name]
        zero, scale = grid.zero_point[:, None, None, None], grid.scale[:, None, None, None]
        return (below[name] + up + zero).clamp(0, grid.levels - 1), zero, scale

    optimizer = torch.optim.Adam(
        variables.values(), lr=schedule.learning_rate, betas=schedule.decay
    )
    order = torch.cat(
        [torch.randperm(len(inputs), generator=draws) for _ in range(schedule.iterations)]
    )
    for step in range(schedule.iterations):
        records = order[step * schedule.batch : (step + 1) * schedule.batch]
        values = {}
        for name in layers:
            position, zero, scale = weight(name, soft(name))
            values[f"{name}.weight"] = scale * (position - zero)
        outputs = torch.func.functional_call(module, values, (inputs[records],))
        loss = (outputs - targets[records]).pow(2).sum(1).mean()
        if step >= 0.2 * schedule.iterations:
            part = (step - 0.2 * schedule.iterations) / (0.8 * schedule.iterations)
            beta = 20 - 18 * part
            for name in layers:
                loss = (
                    loss
                    + schedule.regularization * (1 - (2 * soft(name) - 1).abs().pow(beta)).sum()
                )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {name: weight(name, (soft(name) >= 0.5).float())[0].to(torch.uint8) for name in layers}


@pytest.mark.parametrize("decay", [(0.9, 0.999), (0.5, 0.9)])
def test_the_loop_is_the_published_one(block, decay):
    piece, grids, inputs, targets = block
    schedule = RoundingSchedule(
        iterations=40, batch=8, learning_rate=0.1, regularization=0.01, decay=decay
    )
    found = reconstruct(piece, grids, inputs, targets, schedule=schedule, generator=generator(3))
    expected = naive_codes(piece, grids, inputs, targets, schedule, generator(3))
    assert found.choice == "learned"
    for name in grids:
        assert (
            found.codes[name] != expected[name]
        ).double().mean() < 0.01  # what the order of sums decides
    assert not torch.equal(found.codes["conv1"], to_codes(piece.conv1.weight, grids["conv1"]))


def test_the_result_is_what_its_codes_give_and_better_than_nearest(block):
    piece, grids, inputs, targets = block
    found = reconstruct(piece, grids, inputs, targets, schedule=SCHEDULE, generator=generator())
    for name, codes in found.codes.items():
        piece.get_parameter(f"{name}.weight").copy_(to_weights(codes, grids[name]))
    torch.testing.assert_close(found.outputs, piece(inputs))
    assert found.loss == pytest.approx(float((piece(inputs) - targets).square().sum(1).mean()))
    assert found.loss < 0.8 * found.nearest


def test_nothing_handed_in_is_changed(block):
    piece, grids, inputs, targets = block
    before = [
        inputs.clone(),
        targets.clone(),
        *(value.clone() for value in piece.state_dict().values()),
    ]
    reconstruct(piece, grids, inputs, targets, schedule=SCHEDULE, generator=generator())
    after = [inputs, targets, *piece.state_dict().values()]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_the_same_draws_give_the_same_codes(block):
    piece, grids, inputs, targets = block
    found = [
        reconstruct(
            piece, grids, inputs, targets, schedule=SCHEDULE, generator=generator(seed)
        ).codes
        for seed in (0, 0, 1)
    ]
    assert all(torch.equal(found[0][name], found[1][name]) for name in grids)
    assert any(not torch.equal(found[0][name], found[2][name]) for name in grids)


def test_few_weights_are_rounded_as_well_as_by_trying_everything():
    torch.manual_seed(5)
    piece, grids, inputs, targets = case(
        nn.Sequential(nn.Linear(6, 1)), 6, levels=4, shift=0.0, records=40
    )
    schedule = RoundingSchedule(iterations=400, batch=40, learning_rate=0.05, regularization=1e-3)
    found = reconstruct(piece, grids, inputs, targets, schedule=schedule, generator=generator())
    position = piece.get_parameter("0.weight")[0] / grids["0"].scale + grids["0"].zero_point
    choices = itertools.product(
        *[sorted({int(p.floor().clamp(0, 3)), int(p.ceil().clamp(0, 3))}) for p in position]
    )
    losses = []
    for codes in choices:
        weight = to_weights(torch.tensor([codes], dtype=torch.uint8), grids["0"])
        losses.append(
            float(
                (F.linear(inputs, weight, piece.get_parameter("0.bias")) - targets).square().mean()
            )
        )
    assert min(losses) == pytest.approx(found.loss, rel=1e-4)
    assert found.loss < found.nearest


@pytest.mark.parametrize("layer", [nn.Conv2d(2, 4, 3, stride=2, groups=2), nn.Linear(6, 3)])
def test_a_unit_of_one_layer_without_activation_has_the_loss_of_adaround(layer):
    torch.manual_seed(0)
    layer.reset_parameters()  # it was made, unseeded, when the tests were collected
    shape = (6,) if isinstance(layer, nn.Linear) else (2, 7, 7)
    piece = fx.symbolic_trace(nn.Sequential(layer).eval().requires_grad_(False))
    full = torch.randn(30, *shape)
    inputs = full + 0.1 * torch.randn(full.shape)
    grid = search_grid(layer.weight, 3)
    schedule = RoundingSchedule(iterations=400, batch=30, learning_rate=1e-2, regularization=0.001)
    found = reconstruct(
        piece, {"0": grid}, inputs, run(piece, full), schedule=schedule, generator=generator()
    )
    loss = quadratic("0", layer, [(full, inputs)])

    def error(codes):
        return (
            float(loss.error((to_weights(codes, grid) - layer.weight).flatten(1)).sum())
            / loss.positions
        )

    assert found.loss == pytest.approx(error(found.codes["0"]), rel=1e-4)
    assert found.nearest == pytest.approx(error(to_codes(layer.weight, grid)), rel=1e-4)
    settings = AdaRound(iterations=400, learning_rate=1e-2, regularization=0.001)
    adaround, kept = round_adaptively(settings, layer.weight, grid, loss)
    assert not kept.any()
    assert torch.equal(found.codes["0"], adaround)


def test_weights_outside_of_the_grid_stay_at_its_ends():
    piece = fx.symbolic_trace(
        nn.Sequential(nn.Linear(4, 1, bias=False)).eval().requires_grad_(False)
    )
    piece.get_parameter("0.weight").copy_(torch.tensor([[-9.0, 9.0, 0.4, 0.6]]))
    grids = {"0": Grid(torch.ones(1), torch.ones(1), 3)}
    inputs = torch.randn(16, 4, generator=generator())
    found = reconstruct(
        piece, grids, inputs, run(piece, inputs), schedule=SCHEDULE, generator=generator()
    )
    assert found.codes["0"][0, :2].tolist() == [0, 2]


def test_what_is_worse_than_rounding_to_the_nearest_is_dropped(block):
    piece, grids, inputs, targets = block
    harmful = RoundingSchedule(iterations=3, batch=1, learning_rate=50.0, regularization=0.0)
    found = reconstruct(piece, grids, inputs, targets, schedule=harmful, generator=generator())
    assert found.choice == "nearest"
    assert found.loss == found.nearest
    assert all(
        torch.equal(found.codes[name], to_codes(piece.get_parameter(f"{name}.weight"), grids[name]))
        for name in grids
    )


def test_the_loss_sums_over_channels_and_averages_over_the_rest():
    outputs, targets = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    total = sum(
        float((outputs[n, c, i, j] - targets[n, c, i, j]) ** 2)
        for n, c, i, j in itertools.product(range(2), range(3), range(4), range(5))
    )
    assert float(loss_of(outputs, targets)) == pytest.approx(total / (2 * 4 * 5))


def test_beta_is_off_at_first_and_then_falls_linearly():
    schedule = RoundingSchedule(iterations=10, batch=1, learning_rate=1.0, regularization=1.0)
    assert [schedule.beta(step) for step in range(10)] == pytest.approx(
        [None, None, 20, 17.75, 15.5, 13.25, 11, 8.75, 6.5, 4.25]
    )


def test_every_record_is_drawn_equally_often(block):
    piece, grids, inputs, targets = block
    seen = torch.zeros(len(inputs))
    identity = inputs.flatten(1)

    def count(module, arguments):
        if len(arguments[0]) == 4:
            seen.index_add_(
                0, torch.cdist(arguments[0].flatten(1), identity).argmin(1), torch.ones(4)
            )

    piece.conv1.register_forward_pre_hook(count)
    schedule = RoundingSchedule(iterations=10, batch=4, learning_rate=0.1, regularization=0.01)
    reconstruct(piece, grids, inputs, targets, schedule=schedule, generator=generator())
    assert seen.tolist() == [2.0] * 20


def test_a_piece_may_change_its_argument_and_view_it_as_it_likes():
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.relu, self.fc = nn.ReLU(inplace=True), nn.Linear(18, 2)

        def forward(self, x):
            return self.fc(self.relu(x).view(x.shape[0], -1))

    torch.manual_seed(0)
    piece, grids, inputs, targets = case(InPlace(), 2, 3, 3)
    inputs = inputs.contiguous(memory_format=torch.channels_last)
    before = inputs.clone()
    found = reconstruct(piece, grids, inputs, targets, schedule=SCHEDULE, generator=generator())
    assert torch.equal(inputs, before)
    assert found.loss < found.nearest


def test_equal_weights_of_the_errors_are_no_weights(block):
    piece, grids, inputs, targets = block
    plain, weighted, other = (
        reconstruct(
            piece,
            grids,
            inputs,
            targets,
            schedule=SCHEDULE,
            generator=generator(),
            importance=importance,
        )
        for importance in (
            None,
            torch.ones_like(targets),
            2 * torch.rand(targets.shape, generator=generator(4)),
        )
    )
    assert all(torch.equal(plain.codes[name], weighted.codes[name]) for name in grids)
    assert (plain.loss, plain.nearest) == (weighted.loss, weighted.nearest)
    assert any(not torch.equal(plain.codes[name], other.codes[name]) for name in grids)


def test_an_output_that_does_not_count_is_given_up_for_one_that_does():
    torch.manual_seed(0)
    piece, grids, inputs, targets = case(
        nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 2)), 8, records=60
    )
    del grids["1"]
    found = []
    for channel in (0, 1):
        importance = torch.zeros_like(targets)
        importance[:, channel] = 2
        schedule = RoundingSchedule(
            iterations=150, batch=30, learning_rate=0.1, regularization=1e-5
        )
        result = reconstruct(
            piece,
            grids,
            inputs,
            targets,
            schedule=schedule,
            generator=generator(),
            importance=importance,
        )
        found.append((result.outputs - targets).square().mean(0))
        assert result.loss == pytest.approx(2 * float(found[-1][channel]), rel=1e-4)
    assert found[0][0] < 0.9 * found[1][0]
    assert found[1][1] < 0.9 * found[0][1]


def test_the_two_choices_of_a_weight_are_the_given_code_and_the_next_one_towards_the_weight(block):
    piece, grids, _, _ = block
    weights = {name: piece.get_parameter(f"{name}.weight") for name in grids}
    nudged = {
        name: (weight + 0.3 * torch.randn(weight.shape, generator=generator()))
        for name, weight in weights.items()
    }
    start = {name: to_codes(nudged[name], grids[name]) for name in grids}
    rounding = Rounding(weights, grids, start)
    assert all(
        torch.equal(codes, start[name]) for name, codes in rounding.codes(rounding.up > 0.5).items()
    )
    assert any(
        (start[name].int() - to_codes(weights[name], grids[name]).int()).abs().max() > 1
        for name in grids
    )
    other = rounding.codes(rounding.up <= 0.5)
    for name, weight in weights.items():
        step = grids[name].scale[:, None, None, None]
        near, far = (to_weights(codes[name], grids[name]) for codes in (start, other))
        assert ((near - far).abs() <= 1.001 * step).all()
        moved = near != far
        assert moved.double().mean() > 0.3
        assert ((far - near) * (weight - near) >= 0)[
            moved
        ].all()  # the other choice lies towards the weight


def test_the_loop_begins_at_the_codes_that_it_is_given(block):
    piece, grids, inputs, targets = block
    best = reconstruct(
        piece,
        grids,
        inputs,
        targets,
        schedule=replace(SCHEDULE, iterations=300),
        generator=generator(),
    )
    still = RoundingSchedule(iterations=1, batch=8, learning_rate=1e-6, regularization=1e-4)
    found = reconstruct(
        piece, grids, inputs, targets, schedule=still, generator=generator(), start=best.codes
    )
    assert all(torch.equal(found.codes[name], best.codes[name]) for name in grids)
    assert found.choice == "learned"


def test_the_gradients_that_are_written_out_are_those_of_autograd():
    outputs, targets, importance = torch.randn(3, 4, 2, 5, 5).unbind()
    outputs.requires_grad_()
    expected = torch.autograd.grad(loss_of(outputs, targets, importance), outputs)[0]
    torch.testing.assert_close(loss_gradient(outputs.detach(), [targets, importance]), expected)
    start = torch.linspace(0, 1, 41)
    schedule = RoundingSchedule(iterations=10, batch=1, learning_rate=0.3, regularization=0.7)
    relaxation = RoundingRelaxation(start, schedule)
    torch.testing.assert_close(relaxation.up, start)
    variable = relaxation.variable.clone().requires_grad_()
    optimizer, slope = torch.optim.Adam([variable], lr=0.3, betas=schedule.decay), torch.randn(41)
    for step in range(10):
        up = (1.2 * torch.sigmoid(variable) - 0.1).clamp(0, 1)
        torch.testing.assert_close(relaxation.up, up)
        beta = schedule.beta(step)
        loss = (slope * up).sum() + (
            0 if beta is None else 0.7 * (1 - (2 * up - 1).abs().pow(beta)).sum()
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        relaxation.step(slope.clone(), step)
        torch.testing.assert_close(relaxation.variable, variable.detach())
