import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bitleak.quantizers.grid import search_grid, to_weights
from bitleak.quantizers.network import fisher as estimate
from bitleak.quantizers.network.activations import InMemoryActivations
from bitleak.quantizers.network.reconstruction import PieceCopy, reconstruct, run
from bitleak.quantizers.network.reconstruction_units import units
from bitleak.quantizers.network.rounding_relaxation import RoundingSchedule

CLASSES = 3


def fisher(rest, outputs, generator):
    """The weights as one tensor."""
    return torch.cat(list(estimate.fisher(rest, InMemoryActivations(outputs), generator).chunks()))


@pytest.fixture
def network():
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(2, 4, 3),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 4, 3),
        nn.ReLU(),
        nn.Flatten(),
    ]
    return nn.Sequential(*layers, nn.Linear(16, CLASSES)).eval().requires_grad_(False)


@pytest.fixture
def outputs(network):
    images = 4 * torch.randn(5, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    return units(network)[0].run(images)


def by_hand(network, outputs):
    """Sum over classes of p_c times the square of the gradient of -log p_c, one record and class at a time."""
    expected = torch.zeros_like(outputs)
    for record, given in enumerate(outputs):
        for label in range(CLASSES):
            moved = given[None].clone().requires_grad_()
            logits = network[2:](moved)
            loss = F.cross_entropy(logits, torch.tensor([label]))
            expected[record] += (
                logits.detach().softmax(1)[0, label] * torch.autograd.grad(loss, moved)[0][0] ** 2
            )
    return expected


def test_the_mean_over_the_draws_is_the_expectation_over_the_labels(network, outputs):
    expected = by_hand(network, outputs)
    many = outputs.repeat(4000, 1, 1, 1)
    weights = fisher(units(network)[1:], many, torch.Generator().manual_seed(0)).unflatten(
        0, (4000, -1)
    )
    mean, error = weights.mean(0), weights.std(0) / 4000**0.5
    expected /= expected.mean()
    assert (expected > 0).any()
    assert (expected.amax((1, 2, 3)) > 2 * expected.amax((1, 2, 3)).min()).any()  # records differ
    assert ((mean - expected).abs() <= 5 * error + 0.01 * expected).all()


def test_weights_have_the_mean_1_and_are_of_the_right_record(network, outputs):
    weights = fisher(units(network)[1:], outputs, torch.Generator().manual_seed(0))
    assert weights.shape == outputs.shape
    assert float(weights.mean()) == pytest.approx(1)
    assert torch.equal(weights == 0, by_hand(network, outputs) == 0)  # dead units have no weight


def test_two_classes_and_no_unit_behind_give_p_times_1_minus_p():
    logits = torch.tensor([[0.0, 0.0], [1.0, -1.0], [0.0, 5.0]])
    p = logits.softmax(1)
    expected = p[:, :1] * p[:, 1:]
    weights = fisher([], logits.repeat(5000, 1), torch.Generator().manual_seed(0)).unflatten(
        0, (5000, -1)
    )
    torch.testing.assert_close(
        weights.mean(0), (expected / expected.mean()).expand(-1, 2), rtol=0.1, atol=0.0
    )


def test_outputs_without_effect_all_count_alike(network, outputs):
    network[5].weight.zero_()
    assert torch.equal(
        fisher(units(network)[1:], outputs, torch.Generator()), torch.ones_like(outputs)
    )


def test_outputs_are_not_changed_and_the_draw_is_the_generators(network, outputs):
    before = outputs.clone()
    draws = [
        fisher(units(network)[1:], outputs, torch.Generator().manual_seed(seed))
        for seed in (0, 0, 1)
    ]
    assert torch.equal(outputs, before)
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_weighted_rounding_changes_the_prediction_less_where_few_channels_matter():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 12), nn.Linear(12, CLASSES)).eval().requires_grad_(False)
    network[0].weight[:] = network[0].weight[:1] + 0.1 * network[0].weight
    network[1].weight[:, 2:] *= 0.01  # the prediction hangs on the first two outputs
    first, last = units(network)
    inputs = 3 * torch.randn(200, 8) @ torch.randn(8, 8)
    outputs = torch.cat(list(run(first.run, InMemoryActivations(inputs))))
    weights = fisher([last], outputs, torch.Generator().manual_seed(0))
    assert float(weights[:, :2].mean()) > 5
    assert float(weights[:, 2:].mean()) < 0.1
    schedule = RoundingSchedule(
        iterations=150, batch=50, learning_rate=0.2, decay=(0.5, 0.9), regularization=0.01
    )
    grids = {"0": search_grid(network[0].weight, 3, granularity="tensor")}

    def divergence(importance):
        generator = torch.Generator().manual_seed(0)
        maps = [
            None if values is None else InMemoryActivations(values)
            for values in (inputs, outputs, importance)
        ]
        copy = PieceCopy(grids, maps[0], generator, maps[2])
        (found,) = reconstruct(first.run, [copy], maps[1], schedule=schedule)
        changed = F.linear(inputs, to_weights(found.codes["0"], grids["0"]), network[0].bias)
        expected, given = (last.run(values).log_softmax(1) for values in (outputs, changed))
        return float(F.kl_div(given, expected, log_target=True, reduction="batchmean"))

    assert divergence(weights) < divergence(None)
