import pytest
import torch
import torch.nn.functional as F
from torch import fx, nn

from bitleak.quantizers.grid import search_grid, to_codes, to_weights
from bitleak.quantizers.network import reconstruction as loop
from bitleak.quantizers.network import starting_codes as start
from bitleak.quantizers.network.activations import InMemoryActivations
from bitleak.quantizers.network.reconstruction import loss_of
from bitleak.quantizers.scheme import Scheme


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn = nn.Conv2d(4, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 4, 3, padding=1)

    def forward(self, x):
        return F.relu(x + self.conv2(self.bn(self.conv1(x)).relu()))


def run(piece, inputs, *weights):
    return torch.cat(list(loop.run(piece, InMemoryActivations(inputs), *weights)))


def starting_codes(piece, grids, full, inputs, *, by, grid="zero"):
    scheme = Scheme(levels=3, grid=grid)
    return start.starting_codes(
        scheme, piece, grids, InMemoryActivations(full), InMemoryActivations(inputs), by=by
    )


@pytest.fixture
def case():
    torch.manual_seed(0)
    piece = fx.symbolic_trace(Block().eval().requires_grad_(False))
    full = F.avg_pool2d(torch.randn(150, 4, 7, 7), 3, stride=1) * 3
    inputs = full + 0.1 * torch.randn(full.shape)
    grids = {
        name: search_grid(piece.get_parameter(f"{name}.weight"), 3) for name in ("conv1", "conv2")
    }
    return piece, grids, full, inputs


@pytest.mark.parametrize("by", ["adaround", "polish"])
def test_each_layer_is_fitted_behind_the_codes_of_those_before_it(case, by):
    piece, grids, full, inputs = case
    codes, _ = starting_codes(piece, grids, full, inputs, by=by)
    first, second = (to_weights(codes[name], grids[name]) for name in grids)
    nearest = [
        to_weights(to_codes(piece.get_parameter(f"{name}.weight"), grid), grid)
        for name, grid in grids.items()
    ]

    def errors(one, other):
        hidden = piece.bn(piece.conv1(full)).relu()
        quantized = piece.bn(F.conv2d(inputs, one, padding=1)).relu()
        outputs = F.conv2d(quantized, other, piece.conv2.bias, padding=1)
        return (
            float((F.conv2d(inputs, one, padding=1) - piece.conv1(full)).square().mean()),
            float((outputs - piece.conv2(hidden)).square().mean()),
        )

    assert errors(first, second)[0] < 0.8 * errors(nearest[0], second)[0]
    assert errors(first, second)[1] < 0.8 * errors(first, nearest[1])[1]
    for row in range(4):  # no single step of a weight of the second layer makes it better
        if by == "polish":
            for change in (-1, 1):
                moved = codes["conv2"].clone().int()
                moved[row, 3, 1, 1] = (moved[row, 3, 1, 1] + change).clamp(0, 2)
                other = to_weights(moved.to(torch.uint8), grids["conv2"])
                assert errors(first, other)[1] >= errors(first, second)[1] - 1e-7


@pytest.mark.parametrize("by", ["adaround", "polish"])
def test_the_output_of_the_piece_is_nearer_and_the_piece_as_before(case, by):
    piece, grids, full, inputs = case
    before = {name: value.clone() for name, value in piece.state_dict().items()}
    targets = run(piece, full)
    nearest = {
        name: to_codes(piece.get_parameter(f"{name}.weight"), grid) for name, grid in grids.items()
    }
    codes, _ = starting_codes(piece, grids, full, inputs, by=by)
    losses = [loss_of(run(piece, inputs, each, grids), targets) for each in (codes, nearest)]
    assert losses[0] < 0.9 * losses[1]
    assert all(torch.equal(value, before[name]) for name, value in piece.state_dict().items())
    assert not any(module._forward_pre_hooks for module in piece.modules())


def test_a_layer_that_is_not_called_keeps_the_nearest_codes():
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 3)

        def forward(self, x):
            return F.linear(x, self.fc.weight)

    torch.manual_seed(0)
    piece = fx.symbolic_trace(Functional().eval().requires_grad_(False))
    grids = {"fc": search_grid(piece.get_parameter("fc.weight"), 3)}
    inputs = torch.randn(20, 4)
    codes, _ = starting_codes(piece, grids, inputs, inputs, by="polish")
    assert torch.equal(codes["fc"], to_codes(piece.get_parameter("fc.weight"), grids["fc"]))


@pytest.mark.parametrize("by", ["adaround", "polish"])
def test_grids_that_suit_the_output_leave_less_of_each_layers_error(case, by):
    piece, grids, full, inputs = case
    targets = run(piece, full)
    (plain, kept), (codes, settled) = (
        starting_codes(piece, grids, full, inputs, by=by, grid=grid) for grid in ("zero", "output")
    )
    assert all(kept[name] is grids[name] for name in grids)
    assert all((settled[name].scale != grids[name].scale).any() for name in grids)
    losses = [
        loss_of(run(piece, inputs, each, on), targets)
        for each, on in ((codes, settled), (plain, kept))
    ]
    assert losses[0] < losses[1]
