import numpy as np
import pytest
import torch
from torch import nn

from bitleak.core.errors import QuantizationError
from bitleak.quantizers.adaround import AdaRound, round_adaptively
from bitleak.quantizers.assembly import deployed
from bitleak.quantizers.grid import search_grid, to_codes, to_weights
from bitleak.quantizers.layers.quadratic import quadratic


def network():
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(2, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 6, 3, stride=2, groups=3),
    ]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(24, 4))


@pytest.fixture
def images():
    noise = torch.randn(40, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    return 3 * torch.nn.functional.avg_pool2d(
        noise, 3, stride=1
    )  # neighbouring pixels are correlated


SHORT = {"iterations": 150, "learning_rate": 0.1}


def problem(rows=6, columns=20):
    """A linear layer, its inputs in both networks, and their quadratic."""
    torch.manual_seed(0)
    layer = nn.Linear(columns, rows)
    inputs = (torch.randn(200, columns) @ torch.randn(columns, columns)).relu()
    quantized_inputs = inputs + 0.1 * torch.randn_like(inputs)
    return layer, inputs, quantized_inputs, quadratic("layer", layer, [(inputs, quantized_inputs)])


def by_autograd(settings, layer, inputs, quantized_inputs, grid):
    """The paper's loop on the data: PyTorch's own gradients, PyTorch's own Adam, full batch, float64."""
    weight, inputs, quantized_inputs = (
        part.detach().double() for part in (layer.weight, inputs, quantized_inputs)
    )
    scale, zero_point = grid.scale.double()[:, None], grid.zero_point.double()[:, None]
    floor = (weight / scale).floor()
    variable = -torch.log(1.2 / (weight / scale - floor + 0.1) - 1)
    variable.requires_grad_(True)
    optimizer = torch.optim.Adam([variable], lr=settings.learning_rate, betas=settings.decay)
    start = settings.warmup * settings.iterations
    units = (
        100 * scale.squeeze(1) ** 2 * quantized_inputs.square().mean()
        if settings.scaling == "row"
        else 1
    )
    for iteration in range(settings.iterations):
        up = (1.2 * torch.sigmoid(variable) - 0.1).clamp(0, 1)
        quantized = scale * ((floor + zero_point + up).clamp(0, grid.levels - 1) - zero_point)
        loss = ((inputs @ weight.T - quantized_inputs @ quantized.T).square() / units).sum(1).mean()
        if iteration >= start:
            part = (iteration - start) / (settings.iterations - start)
            beta = settings.beta_end + (settings.beta_start - settings.beta_end) * (1 - part)
            loss = loss + settings.regularization * (1 - (2 * up - 1).abs().pow(beta)).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return (floor + zero_point + (variable >= 0)).clamp(0, grid.levels - 1).detach()


@pytest.mark.parametrize("levels", [3, 16])
@pytest.mark.parametrize("regularization", [0.001, 1.0])
def test_the_codes_are_those_of_autograd_and_adam_on_the_data(levels, regularization):
    layer, inputs, quantized_inputs, loss = problem()
    settings = AdaRound(iterations=100, learning_rate=0.05, regularization=regularization)
    weight = layer.weight.detach()
    grid = search_grid(weight, levels)
    codes, kept = round_adaptively(settings, weight, grid, loss)
    expected = by_autograd(settings, layer, inputs, quantized_inputs, grid)
    errors = [
        loss.error(to_weights(each.to(torch.uint8), grid) - weight)
        for each in (expected, to_codes(weight, grid))
    ]
    better = errors[0] <= errors[1]
    assert torch.equal(kept, ~better)
    assert better.sum() >= 4
    assert (codes[better] == expected[better]).double().mean() > 0.98
    assert (codes != to_codes(weight, grid)).any()


def test_a_strong_regulariser_and_a_weak_one_differ():
    layer, _, _, loss = problem()
    weight = layer.weight.detach()
    grid = search_grid(weight, 3)
    codes = [
        round_adaptively(AdaRound(regularization=value, **SHORT), weight, grid, loss)[0]
        for value in (0.0, 100.0)
    ]
    assert not torch.equal(*codes)


def test_no_iteration_is_round_to_nearest():
    layer, _, _, loss = problem()
    weight = layer.weight.detach()
    grid = search_grid(weight, 4)
    codes, _ = round_adaptively(AdaRound(iterations=0), weight, grid, loss)
    assert torch.equal(codes, to_codes(weight, grid))


def test_a_row_that_would_end_worse_keeps_round_to_nearest():
    layer, inputs, _, _ = problem()
    loss = quadratic("layer", layer, [(inputs, inputs)])
    weight = layer.weight.detach()
    grid = search_grid(weight, 4)
    wild = AdaRound(iterations=3, learning_rate=100.0)
    codes, kept = round_adaptively(wild, weight, grid, loss)
    assert kept.any()
    assert int((codes == to_codes(weight, grid)).all(1).sum()) >= int(kept.sum())


@pytest.mark.parametrize("levels", [2, 3, 256])
def test_constant_channels_stay_exact(levels):
    layer, _, _, loss = problem()
    weight = layer.weight.detach().clone()
    weight[0], weight[1], weight[2] = 0.25, -0.1, 0.0
    grid = search_grid(weight, levels)
    codes, _ = round_adaptively(AdaRound(**SHORT), weight, grid, loss)
    assert torch.equal(to_weights(codes, grid)[:3], weight[:3])


ACTIVATION = {
    "objective": "activation",
    "grid": "zero",
    "iterations": 60,
    "batch": 20,
    "learning_rate": 0.2,
}


def mostly_silent():
    """A layer of which the ReLU lets a small part through."""
    torch.manual_seed(1)
    network = (
        nn.Sequential(nn.Conv2d(2, 6, 5), nn.BatchNorm2d(6), nn.ReLU()).eval().requires_grad_(False)
    )
    network[1].running_mean[:] = 2 * torch.rand(6)
    return network


def test_the_activation_objective_lowers_the_error_after_the_activation(images):
    network = mostly_silent()
    assert 0.02 < float((network(images) > 0).float().mean()) < 0.4
    linear, activation, nearest = (
        deployed(
            network, AdaRound(levels=3, **fields)(network, images, torch.Generator().manual_seed(0))
        )
        for fields in ({}, {**ACTIVATION, "iterations": 300, "batch": 40}, {"iterations": 0})
    )
    with torch.no_grad():
        before = [
            float((each[:1](images) - network[:1](images)).square().mean())
            for each in (linear, activation)
        ]
        after = [
            float((each(images) - network(images)).square().mean())
            for each in (linear, activation, nearest)
        ]
    assert after[1] < 0.9 * after[0]
    assert after[1] < 0.5 * after[2]
    assert before[0] < before[1]  # what the linear objective minimises


def test_with_nothing_behind_a_layer_the_activation_objective_is_the_linear_one():
    torch.manual_seed(0)
    inputs = (torch.randn(40, 20) @ torch.randn(20, 20)).relu()
    network = nn.Sequential(nn.Linear(20, 6)).eval()
    fields = {
        "levels": 3,
        "iterations": 400,
        "batch": 40,
        "learning_rate": 0.01,
        "decay": (0.9, 0.999),
    }
    fields["scaling"] = "none"  # the mini-batches know the error itself
    linear, activation = (
        AdaRound(objective=objective, grid="zero", **fields)(
            network, inputs, torch.Generator().manual_seed(0)
        )
        for objective in ("linear", "activation")
    )
    assert np.mean(linear.layers["0"].codes == activation.layers["0"].codes) > 0.98
    assert linear.record["0"]["relative_error"] == pytest.approx(
        activation.record["0"]["relative_error"], rel=0.03
    )


def test_the_activation_objective_is_deterministic_and_draws_its_batches(images):
    runs = [
        AdaRound(levels=3, **ACTIVATION)(network(), images, torch.Generator().manual_seed(seed))
        for seed in (0, 0, 1)
    ]
    same, other = (
        [np.array_equal(runs[0].layers[name].codes, run.layers[name].codes) for name in run.layers]
        for run in runs[1:]
    )
    assert all(same)
    assert not all(other)
    assert runs[0].record["0"]["kept"] == "learned"


def test_the_activation_objective_needs_a_graph_and_says_so(images):
    class Untraceable(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = network()

        def forward(self, x):
            return self.inner(x) if float(x.sum()) < 1e9 else x

    with pytest.raises(
        QuantizationError, match=r"objective 'activation' needs the graph .*torch\.fx"
    ):
        AdaRound(**ACTIVATION)(Untraceable(), images, torch.Generator())
    assert AdaRound(iterations=1)(Untraceable(), images, torch.Generator()).layers


def test_polish_goes_with_the_linear_objective_only():
    with pytest.raises(ValueError, match=r"polish .* must be 0 with objective 'activation'"):
        AdaRound(objective="activation", polish=3)


@torch.no_grad()
def layer_errors(quantized, images, codes_of):
    """Squared error of each layer's output behind the quantized prefix, for the weights that `codes_of` gives."""
    errors, reference, changed = {}, network().eval(), deployed(network(), quantized)
    inputs, quantized_inputs = images, images
    for index, (layer, other) in enumerate(zip(reference, changed, strict=True)):
        if str(index) in quantized.layers:
            kept = other.weight.data.clone()
            other.weight.data = codes_of(
                layer.weight.detach(), quantized.layers[str(index)].levels, kept
            )
            errors[str(index)] = float((layer(inputs) - other(quantized_inputs)).square().sum())
            other.weight.data = kept
        inputs, quantized_inputs = layer(inputs), other(quantized_inputs)
    return errors


@pytest.mark.parametrize("levels", [3, 16])
def test_no_layer_is_worse_than_round_to_nearest_behind_the_same_prefix(levels, images):
    def rounded(weight, levels, kept):
        grid = search_grid(weight, levels)
        return to_weights(to_codes(weight, grid), grid)

    quantized = AdaRound(levels=levels, **SHORT)(network(), images, torch.Generator())
    adapted = layer_errors(quantized, images, lambda weight, levels, kept: kept)
    nearest = layer_errors(quantized, images, rounded)
    assert all(adapted[name] < nearest[name] for name in adapted)
    first = network().eval()[0]
    energy = float((first(images) - first.bias[:, None, None]).detach().square().sum())
    assert quantized.record["0"]["relative_error"] == pytest.approx(adapted["0"] / energy, rel=1e-3)


def test_it_is_deterministic_and_leaves_the_network_alone(images):
    given = network()
    before = {name: value.clone() for name, value in given.state_dict().items()}
    first, second = (
        AdaRound(levels=3, **SHORT)(given, images, torch.Generator()) for _ in range(2)
    )
    assert all(
        np.array_equal(first.layers[name].codes, second.layers[name].codes) for name in first.layers
    )
    assert first.record == second.record
    assert given.training
    assert all(torch.equal(value, before[name]) for name, value in given.state_dict().items())
    assert all(np.array_equal(value, before[name].numpy()) for name, value in first.rest.items())


def test_calibration_images_that_are_not_finite_name_the_first_layer(images):
    images[3, 0, 2, 2] = float("inf")
    with pytest.raises(QuantizationError, match="layer '0': the calibration input"):
        AdaRound(**SHORT)(network(), images, torch.Generator())


@pytest.mark.parametrize("preset", AdaRound.PRESETS)
def test_presets_are_fields(preset):
    assert AdaRound(**AdaRound.PRESETS[preset]).levels == 16


@pytest.mark.parametrize("groups", [1, 2])
def test_factors_of_weights_and_of_inputs_do_not_change_the_codes(images, groups):
    torch.manual_seed(0)
    layer = nn.Conv2d(2, 8, 3, groups=groups, bias=False)
    factors = torch.tensor([2.0**power for power in (-7, -3, -1, 0, 1, 3, 5, 7)])[
        :, None, None, None
    ]
    kinds = {"row": [], "none": []}
    for by_row, of_inputs in (
        (torch.ones(1), 1.0),
        (factors, 1.0),
        (torch.full((1,), 128.0), 1.0),
        (factors, 1 / 64),
    ):
        scaled = nn.Conv2d(2, 8, 3, groups=groups, bias=False)
        scaled.weight = nn.Parameter(layer.weight.detach() * by_row)
        for scaling, found in kinds.items():
            quantizer = AdaRound(levels=3, scaling=scaling, **SHORT)
            found.append(
                quantizer(nn.Sequential(scaled), images * of_inputs, torch.Generator())
                .layers["0"]
                .codes
            )
    assert all((codes == kinds["row"][0]).all() for codes in kinds["row"])
    assert not (kinds["none"][2] == kinds["none"][0]).all()


def test_a_scale_that_batch_norm_removes_costs_no_accuracy_of_the_outputs():
    layer, inputs, quantized_inputs, _ = problem(rows=8, columns=40)
    errors = {}
    for scaling in ("row", "none"):
        for factor in (1, 128):
            scaled = nn.Linear(40, 8)
            scaled.weight = nn.Parameter(layer.weight.detach() * factor)
            loss = quadratic("layer", scaled, [(inputs, quantized_inputs)])
            grid = search_grid(scaled.weight, 3)
            codes, _ = round_adaptively(
                AdaRound(levels=3, scaling=scaling), scaled.weight.detach(), grid, loss
            )
            change = (to_weights(codes, grid) - scaled.weight.detach()).flatten(1)
            errors[scaling, factor] = loss.relative(change, scaled.weight.detach().flatten(1))
    assert errors["row", 128] == errors["row", 1] < 1.05 * errors["none", 1]
    assert errors["none", 128] > 1.1 * errors["row", 128]


def test_the_grid_fits_the_objective_unless_it_is_chosen():
    assert AdaRound().grid == "output"
    assert AdaRound(objective="activation").grid == "zero"
    assert (
        AdaRound(objective="activation", grid="paper").grid
        == AdaRound(**AdaRound.PRESETS["paper"]).grid
        == "paper"
    )
    with pytest.raises(ValueError, match="grid 'output' suits the linear output"):
        AdaRound(objective="activation", grid="output")
    assert AdaRound(**AdaRound.PRESETS["paper"]).scaling == "none"


def test_with_the_linear_objective_nothing_is_drawn(images):
    chance = torch.Generator().manual_seed(0)
    before = chance.get_state()
    AdaRound(levels=3, iterations=5)(network(), images, chance)
    assert torch.equal(chance.get_state(), before)
