"""A unit's forward and backward pass as a list of operations, without PyTorch's autograd.

On small maps, autograd, the calls of modules and the search for parameters take longer than the
arithmetic: a step of a residual block on 16 maps of 16 x 8 x 8 spent about a third of its time in
convolutions. So if all operations of a unit are known here, its backward pass is written out by the
chain rule, with the kernels that autograd calls: the gradients are equal bit for bit.

Known are 2-d convolutions, linear layers on vectors, ReLU, additions, batch norms that are written
out as x + shift or x * scale + shift (see `norm_folding`), identities, and dropout in evaluation
mode. An operation overwrites its input if nothing reads that afterwards.

Several copies of a unit, which differ in their weights, run as one: their maps are joined along the
channels, and a convolution has as many groups as there are copies. oneDNN mostly computes a group
as it computes a convolution of its own; where it does not, to the last bit on random numbers, each
copy is computed on its own. So a copy's gradients do not depend on its company. (A batch norm with
a factor is known for a single copy only.)

Cost: that of the kernels, and some microseconds for each.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from bitleak.models.layer_kinds import deviation
from bitleak.quantizers.network.joined_convolution import (
    JoinedConvolution,
    join_copies,
    split_copies,
)

_ADDITIONS = (operator.add, operator.iadd, torch.add, "add", "add_")
_RELUS = (torch.relu, torch.relu_, F.relu, "relu", "relu_")
_IN_PLACE = (operator.iadd, torch.relu_, "add_", "relu_")
_IDENTITIES = (nn.Identity, nn.Dropout, nn.Dropout2d)

Slopes = Sequence[Tensor | None]
"""Derivatives of the loss by the inputs of an operation; None where it is not needed."""

WeightGradients = dict[str, Sequence[Tensor]]
"""Derivatives of each copy's loss by its weight, by the layer's name."""


@dataclass(frozen=True)
class _Operation:
    """One operation of a program.

    Attributes:
        node: Node of its value.
        sources: Nodes of its inputs.
        forward: From the inputs to the value; it may overwrite the first input.
        backward: From the slope by the value, the inputs and the value to the slopes by the inputs,
            and the gradients by the copies' weights, which are empty if it has no learnt weight.
        layer: Name of its layer, or "".
    """

    node: fx.Node
    sources: tuple[fx.Node, ...]
    forward: Callable[..., Tensor]
    backward: Callable[[Tensor, Sequence[Tensor], Tensor], tuple[Slopes, Sequence[Tensor]]]
    layer: str = ""


@dataclass(frozen=True)
class UnitProgram:
    """The operations of a unit, in the order of execution.

    Attributes:
        source: Node of the unit's input.
        result: Node of its output.
        operations: Its operations.
    """

    source: fx.Node
    result: fx.Node
    operations: Sequence[_Operation]

    def gradients(self, inputs: Tensor, slope_of: Callable[[Tensor], Tensor]) -> WeightGradients:
        """Return the derivatives by the learnt weights.

        Args:
            inputs: A batch of inputs of each copy, joined along axis 1; not changed.
            slope_of: From the outputs to the derivatives of the copies' losses by them.
        """
        values = {self.source: inputs}
        for operation in self.operations:
            taken = [values[source] for source in operation.sources]
            values[operation.node] = operation.forward(*taken)

        # The chain rule, from the last operation to the first.
        slopes = {self.result: slope_of(values[self.result])}
        gradients: WeightGradients = {}
        for operation in reversed(self.operations):
            slope = slopes.pop(operation.node, None)
            if slope is None:
                continue
            taken = [values[source] for source in operation.sources]
            passed, by_weights = operation.backward(slope, taken, values[operation.node])
            if by_weights:
                gradients[operation.layer] = by_weights
            for source, part in zip(operation.sources, passed, strict=True):
                if part is not None:
                    slopes[source] = slopes[source] + part if source in slopes else part
        return gradients


def program_of(
    piece: fx.GraphModule, weights: Mapping[str, Sequence[Tensor]], sample: Tensor
) -> UnitProgram | None:
    """Return a unit as a program; None if an operation is not known.

    Args:
        piece: The unit, with batch norms written out (see `norm_folding.with_affine_norms`).
        weights: The weights of each copy's learnt layers, by name; they may change between two
            calls of the program.
        sample: A batch of inputs of one copy; not changed.

    Example:
        >>> piece = fx.symbolic_trace(nn.Sequential(nn.Linear(2, 1), nn.ReLU()))
        >>> learnt = {"0": [torch.tensor([[1.0, 2.0]])]}
        >>> program = program_of(piece.requires_grad_(False), learnt, torch.ones(1, 2))
        >>> program.gradients(torch.tensor([[3.0, 4.0]]), torch.ones_like)
        {'0': [tensor([[3., 4.]])]}
    """
    with torch.no_grad():
        return _Compiler(piece, weights).program(sample)


class _Compiler:
    """Translates the nodes of one unit.

    Attributes:
        piece: The unit.
        weights: The weights of each copy's learnt layers.
        copies: Number of copies.
        moving: Nodes whose value depends on a learnt weight; only their slopes are needed.
    """

    def __init__(self, piece: fx.GraphModule, weights: Mapping[str, Sequence[Tensor]]) -> None:
        self.piece, self.weights = piece, weights
        self.copies = len(next(iter(weights.values())))
        self.moving: set[fx.Node] = set()
        self._same: dict[fx.Node, fx.Node] = {}  # identities, by the node that they repeat
        self._constants: dict[fx.Node, Tensor] = {}
        self._kept: set[fx.Node] = set()  # values that may not be overwritten
        self._shapes: dict[fx.Node, torch.Size] = {}
        self._uses: dict[fx.Node, int] = {}

    def program(self, sample: Tensor) -> UnitProgram | None:
        """Return the program; None if a node is not known."""
        source, *nodes, output = self.piece.graph.nodes
        result = output.args[0]
        if source.op != "placeholder" or not isinstance(result, fx.Node) or sample.ndim < 2:
            return None
        self._read(nodes, output)
        self._kept.add(source)
        self._shapes[source] = sample.shape
        values = {source: join_copies([sample] * self.copies)}
        operations: list[_Operation] = []
        for node in nodes:
            if node in self._constants or node in self._same:
                continue
            operation = self._operation(node)
            if operation is None:
                return None
            # Run at once: the shapes decide what may follow.
            value = operation.forward(*[values[taken] for taken in operation.sources])
            values[node] = value
            channels = value.shape[1] // self.copies
            self._shapes[node] = torch.Size((len(value), channels, *value.shape[2:]))
            learnt = operation.layer in self.weights
            if learnt or not self.moving.isdisjoint(operation.sources):
                self.moving.add(node)
            operations.append(operation)
        found = {operation.layer for operation in operations}
        if not found.issuperset(self.weights):
            return None
        return UnitProgram(source, self._repeated(result), operations)

    def _read(self, nodes: Sequence[fx.Node], output: fx.Node) -> None:
        """Note constants and identities, and count how often each value is read."""
        for node in nodes:
            if node.op == "get_attr":
                value = operator.attrgetter(str(node.target))(self.piece)
                if isinstance(value, Tensor):
                    self._constants[node] = value
            elif node.op == "call_module" and node.args and isinstance(node.args[0], fx.Node):
                module = self.piece.get_submodule(str(node.target))
                idle = type(module) in _IDENTITIES and not module.training
                if idle and deviation(module) is None:
                    self._same[node] = node.args[0]
        for node in [*nodes, output]:
            if node not in self._same:
                for source in node.all_input_nodes:
                    source = self._repeated(source)
                    self._uses[source] = self._uses.get(source, 0) + 1

    def _repeated(self, node: fx.Node) -> fx.Node:
        while node in self._same:
            node = self._same[node]
        return node

    def _operation(self, node: fx.Node) -> _Operation | None:
        """Return the operation of a node; None if it is not known."""
        target: Any = node.target
        module = self.piece.get_submodule(target) if node.op == "call_module" else None
        in_place = target in _IN_PLACE or bool(
            getattr(module, "inplace", node.kwargs.get("inplace", False))
        )
        inputs = [self._repeated(source) for source in node.args if isinstance(source, fx.Node)]
        if not inputs or len(inputs) < len(node.args):
            return None
        if set(node.kwargs) - {"inplace"} or (in_place and self._uses[inputs[0]] > 1):
            return None
        if module is not None:
            known = deviation(module) is None and len(inputs) == 1
            return self._of_module(node, module, inputs[0]) if known else None
        if target in _RELUS and len(inputs) == 1:
            return self._relu(node, inputs[0])
        if target in _ADDITIONS and len(inputs) == 2:
            return self._addition(node, *inputs)
        if target is torch.addcmul and len(inputs) == 3:
            return self._factor(node, *inputs)
        return None

    def _of_module(self, node: fx.Node, module: nn.Module, source: fx.Node) -> _Operation | None:
        if type(module) is nn.ReLU:
            return self._relu(node, source)
        if isinstance(module, nn.Conv2d) and module.padding_mode == "zeros":
            usual = not isinstance(module.padding, str) and len(self._shapes[source]) == 4
            return self._convolution(node, module, source) if usual else None
        if isinstance(module, nn.Linear) and len(self._shapes[source]) == 2:
            return self._linear(node, module, source)
        return None

    def _may_overwrite(self, source: fx.Node) -> bool:
        return self._uses[source] == 1 and source not in self._kept

    def _copies_of(self, node: fx.Node, layer: nn.Conv2d | nn.Linear) -> Sequence[Tensor]:
        """Return the weight of each copy."""
        return self.weights.get(str(node.target), [layer.weight.detach()] * self.copies)

    def _relu(self, node: fx.Node, source: fx.Node) -> _Operation:
        # Its backward pass reads its value.
        self._kept.add(node)

        def backward(slope: Tensor, taken: Sequence[Tensor], value: Tensor) -> Any:
            return (torch.ops.aten.threshold_backward.default(slope, value, 0),), ()

        forward = torch.relu_ if self._may_overwrite(source) else torch.relu
        return _Operation(node, (source,), forward, backward)

    def _addition(self, node: fx.Node, first: fx.Node, second: fx.Node) -> _Operation | None:
        """Return the sum of two values of one shape, or of a value and a constant."""
        if first in self._constants:
            first, second = second, first
        if first in self._constants:
            return None
        overwrite = self._may_overwrite(first)
        if second in self._constants:
            constant = self._constant(second, first)
            if constant is None:
                return None
            add: Callable[..., Tensor] = Tensor.add_ if overwrite else torch.add
            return _Operation(
                node, (first,), lambda value: add(value, constant), lambda slope, *_: ((slope,), ())
            )
        if self._shapes[first] != self._shapes[second]:
            return None
        add = Tensor.add_ if overwrite and first is not second else torch.add
        return _Operation(node, (first, second), add, lambda slope, *_: ((slope, slope), ()))

    def _factor(
        self, node: fx.Node, offset: fx.Node, source: fx.Node, factor: fx.Node
    ) -> _Operation | None:
        """Return offset + source * factor for a constant factor and offset."""
        # For one copy: how the last elements of a tensor are rounded may depend on its size.
        shift, scale = (self._constant(value, source) for value in (offset, factor))
        if shift is None or scale is None or source in self._constants or self.copies > 1:
            return None
        return _Operation(
            node,
            (source,),
            lambda value: torch.addcmul(shift, value, scale),
            lambda slope, *_: ((slope * scale,), ()),
        )

    def _constant(self, node: fx.Node, source: fx.Node) -> Tensor | None:
        """Return a constant for joined maps; None if it is none, or differs between records."""
        constant, shape = self._constants.get(node), self._shapes.get(source)
        if constant is None or shape is None or constant.ndim >= len(shape):
            return None
        if torch.broadcast_shapes(constant.shape, shape) != shape:
            return None
        by_channel = constant.ndim == len(shape) - 1 and len(constant) > 1
        return join_copies([constant] * self.copies, axis=0) if by_channel else constant

    def _convolution(self, node: fx.Node, layer: nn.Conv2d, source: fx.Node) -> _Operation:
        name = str(node.target)
        needed = (source in self.moving, name in self.weights)
        kernel = JoinedConvolution(layer, self._copies_of(node, layer), *needed)
        kernel = kernel.grouped_where_equal(self._shapes[source])
        return _Operation(node, (source,), kernel.forward, kernel.backward, name)

    def _linear(self, node: fx.Node, layer: nn.Linear, source: fx.Node) -> _Operation:
        weights = self._copies_of(node, layer)
        bias = None if layer.bias is None else layer.bias.detach()
        learnt, passes = str(node.target) in self.weights, source in self.moving

        def forward(value: Tensor) -> Tensor:
            parts = zip(split_copies(value, self.copies), weights, strict=True)
            return join_copies([F.linear(part, weight, bias) for part, weight in parts])

        def backward(slope: Tensor, taken: Sequence[Tensor], value: Tensor) -> Any:
            slopes, inputs = split_copies(slope, self.copies), split_copies(taken[0], self.copies)
            by_inputs: Tensor | None = None
            by_weights: list[Tensor] = []
            if passes:
                products = zip(slopes, weights, strict=True)
                by_inputs = join_copies([part @ weight for part, weight in products])
            if learnt:
                by_weights = [part.t() @ given for part, given in zip(slopes, inputs, strict=True)]
            return (by_inputs,), by_weights

        return _Operation(node, (source,), forward, backward, str(node.target))
