import pytest
import torch
import torch.nn.functional as F
from torch import fx, nn

from bitleak.quantizers.network.joined_convolution import JoinedConvolution, join_copies
from bitleak.quantizers.network.norm_folding import with_affine_norms
from bitleak.quantizers.network.unit_program import program_of


class Block(nn.Module):
    """A residual block with every known operation; the value `x` is read three times."""

    def __init__(self, inputs, outputs, groups=1, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm1, self.relu = nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=2, dilation=2, groups=groups)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride=stride)
        self.idle, self.out = nn.Identity(), nn.Dropout(0.5)

    def forward(self, x):
        hidden = self.relu(self.norm1(self.conv1(x)))
        total = self.conv2(self.out(hidden)) + self.idle(hidden)
        total = F.relu(total) + self.shortcut(x)
        return torch.relu(total + hidden)


class Chain(nn.Module):
    """Fully connected layers, the first of which is read by two operations."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(7, 5), nn.Linear(5, 5, bias=False)

    def forward(self, x):
        hidden = self.first(x)
        return self.second(hidden.relu()) + hidden


def unit(module, seed=0):
    """The module as a unit, its batch norms with statistics that no folding has taken out."""
    torch.manual_seed(seed)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.running_mean)
            nn.init.normal_(part.bias)
            part.running_var.fill_(1 - part.eps)
        if isinstance(part, nn.Conv2d | nn.Linear):
            part.reset_parameters()
    return with_affine_norms(fx.symbolic_trace(module.eval().requires_grad_(False)))


def by_autograd(piece, learnt, inputs, slope):
    """Gradients by `torch.autograd` through the module's own calls."""
    leaves = {name: weight.clone().requires_grad_() for name, weight in learnt.items()}
    weights = {f"{name}.weight": leaf for name, leaf in leaves.items()}
    outputs = torch.func.functional_call(piece, weights, (inputs.clone(),))
    gradients = torch.autograd.grad(outputs, list(leaves.values()), slope)
    return outputs.detach(), dict(zip(leaves, gradients, strict=True))


def case(piece, shape, copies, seed=0):
    """Weights, inputs and slopes of each copy."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*size):
        return torch.randn(*size, generator=generator)

    layers = [
        name for name, part in piece.named_modules() if isinstance(part, nn.Conv2d | nn.Linear)
    ]
    weights = []
    for _ in range(copies):
        weights.append(
            {name: draw(*piece.get_parameter(f"{name}.weight").shape) for name in layers}
        )
    inputs = [draw(*shape) for _ in range(copies)]
    return weights, inputs, [draw(*piece(one.clone()).shape) for one in inputs]


UNITS = [
    (lambda: Block(1, 16), (6, 1, 8, 8)),
    (lambda: Block(16, 16), (6, 16, 8, 8)),
    (lambda: Block(16, 32, stride=2), (6, 16, 8, 8)),
    (lambda: Block(3, 6, groups=3), (5, 3, 7, 9)),
    (lambda: Block(8, 24, groups=2, stride=2), (4, 8, 9, 9)),
    (Chain, (9, 7)),
]


@pytest.mark.parametrize("copies", [1, 3])
@pytest.mark.parametrize(("make", "shape"), UNITS)
def test_the_gradients_of_each_copy_are_those_of_autograd_bit_for_bit(make, shape, copies):
    piece = unit(make())
    weights, inputs, slopes = case(piece, shape, copies)
    learnt = {name: [part[name] for part in weights] for name in weights[0]}
    program = program_of(piece, learnt, inputs[0])
    seen, before = [], [one.clone() for one in inputs]
    found = program.gradients(
        join_copies(inputs), lambda outputs: seen.append(outputs) or join_copies(slopes)
    )
    assert found.keys() == learnt.keys()
    outputs = seen[0].chunk(copies, 1)
    for number in range(copies):
        expected, gradients = by_autograd(piece, weights[number], inputs[number], slopes[number])
        assert torch.equal(outputs[number], expected)
        for name, gradient in gradients.items():
            assert torch.equal(found[name][number], gradient), name
        assert torch.equal(inputs[number], before[number])


def test_weights_that_are_not_learnt_have_no_gradient():
    piece = unit(Block(4, 4))
    weights, inputs, slopes = case(piece, (3, 4, 6, 6), 1)
    learnt = {"conv1": weights[0]["conv1"]}
    program = program_of(piece, {"conv1": [learnt["conv1"]]}, inputs[0])
    found = program.gradients(inputs[0], lambda _: slopes[0])
    _, expected = by_autograd(piece, learnt, inputs[0], slopes[0])
    assert list(found) == ["conv1"]
    assert torch.equal(found["conv1"][0], expected["conv1"])


def test_weights_may_change_between_calls():
    piece = unit(Chain())
    (weights,), (inputs,), (slopes,) = case(piece, (9, 7), 1)
    program = program_of(piece, {name: [part] for name, part in weights.items()}, inputs)
    for part in weights.values():
        part.mul_(-2)
    found = program.gradients(inputs, lambda _: slopes)
    _, expected = by_autograd(piece, weights, inputs, slopes)
    assert all(torch.equal(found[name][0], expected[name]) for name in weights)


def test_a_batch_norm_with_a_factor_is_known_for_one_copy():
    module = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3), nn.ReLU())
    for norm in (module[0], module[2]):
        nn.init.uniform_(norm.weight, 0.5, 2)
    piece = with_affine_norms(fx.symbolic_trace(module.eval().requires_grad_(False)))
    (weights,), (inputs,), (slopes,) = case(piece, (5, 3, 6, 6), 1)
    program = program_of(piece, {"1": [weights["1"]]}, inputs)
    found = program.gradients(inputs, lambda _: slopes)
    assert torch.equal(found["1"][0], by_autograd(piece, weights, inputs, slopes)[1]["1"])
    assert program_of(piece, {"1": [weights["1"]] * 2}, inputs) is None


class ReadLater(nn.Module):
    """An operation in place whose input is read again, so that its value is another one."""

    def __init__(self):
        super().__init__()
        self.conv, self.relu = nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(inplace=True)

    def forward(self, x):
        hidden = self.conv(x)
        return self.relu(hidden) + hidden


class Broadcast(nn.Module):
    """A sum of values of two shapes."""

    def __init__(self):
        super().__init__()
        self.conv, self.pooled = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 6)

    def forward(self, x):
        return self.conv(x) + self.pooled(x)


def hooked():
    module = nn.Sequential(nn.Conv2d(3, 3, 3))
    module[0].register_forward_hook(lambda layer, inputs, output: 2 * output)
    return module


@pytest.mark.parametrize(
    "module",
    [
        nn.Sequential(nn.Conv2d(3, 3, 3), nn.GELU()),
        nn.Sequential(nn.Conv2d(3, 3, 3, padding="same")),
        nn.Sequential(nn.Conv2d(3, 3, 3, padding=1, padding_mode="circular")),
        nn.Sequential(nn.Conv2d(3, 3, 3), nn.MaxPool2d(2)),
        nn.Sequential(nn.Linear(6, 4)),  # on maps
        ReadLater(),
        Broadcast(),
        hooked(),
    ],
    ids=str,
)
def test_a_unit_with_an_unknown_operation_has_no_program(module):
    piece = fx.symbolic_trace(module.eval().requires_grad_(False))
    weights, inputs, _ = case(piece, (2, 3, 6, 6), 1)
    learnt = {name: [part] for name, part in weights[0].items()}
    assert program_of(piece, learnt, inputs[0]) is None


def test_convolutions_of_whole_blocks_of_channels_are_grouped():
    layer = nn.Conv2d(16, 16, 3, padding=1)
    kernel = JoinedConvolution(layer, [layer.weight.detach()] * 3, passes=True, learnt=True)
    assert any(kernel.grouped_where_equal(torch.Size((16, 16, 8, 8))).grouped)
    alone = JoinedConvolution(layer, [layer.weight.detach()], passes=True, learnt=True)
    assert not any(alone.grouped_where_equal(torch.Size((16, 16, 8, 8))).grouped)
