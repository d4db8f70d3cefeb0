"""Reconstruction units: the pieces of a network that are quantized jointly, from its graph.

A node of the graph is a *cut* if every path from the input to the output passes through it, that
is, if no edge jumps over it in execution order. Consecutive cuts bound a segment with one input and
one output:

- a segment that branches (a residual block up to its addition, an attention block) and holds layers
  is one unit;
- of the segments that do not branch, each layer is a unit of its own;
- batch norm and activation after a unit belong to it, so its output is the activation;
- the rest between them (pooling, flatten, dropout) makes units without layers, which only carry
  activations from one unit to the next.

So the units are run one after the other, each on the previous one's output, and every convolution
and linear layer lies in exactly one of them. BRECQ (Li et al. 2021, arXiv 2102.05426, section 3.2)
takes its blocks from a table of architectures; here any network that `torch.fx` traces has them. A
linear chain inside a block that has no shortcut (an inverted residual with stride 2) is cut into
its layers.

A size taken from an early tensor and used late (`n = x.shape[0]` at the top of `forward`) is an
edge as any other, and joins the units it jumps over; `x.flatten(1)` and `x.size(0)` on the spot do
not.

Cost: one symbolic trace; no arithmetic.
"""

import inspect
import operator
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bitleak.core.errors import QuantizationError
from bitleak.quantizers.scheme import Layer, Scheme, leave_out, quantizable

ONE_TENSOR = "the network must take one tensor and return one tensor, its logits, not several, none or another object"

FOLLOWING_MODULES = {
    f"torch.nn.modules.{kind}"
    for kind in ("activation", "batchnorm", "instancenorm", "normalization")
}
NOT_FOLLOWING = (nn.Softmax, nn.LogSoftmax, nn.Softmin)
FOLLOWING_FUNCTIONS = {
    *(
        "relu",
        "relu6",
        "leaky_relu",
        "prelu",
        "elu",
        "selu",
        "celu",
        "gelu",
        "silu",
        "mish",
        "softplus",
        "sigmoid",
    ),
    *("tanh", "hardswish", "hardsigmoid", "hardtanh", "clamp", "batch_norm"),
    *("add", "mul", "sub", "truediv", "neg", "iadd", "imul"),
}


@dataclass(frozen=True)
class Unit:
    """A piece of the network with one input and one output.

    Attributes:
        name: Name of its layer, or the common module path of its layers; name of its first node if
            it has no layers.
        layers: Its convolution and linear layers by qualified name, in the order of execution; may
            be empty.
        input: Graph node whose value it takes.
        output: Graph node whose value it returns.
        run: The piece as a module of one argument. It holds the network's own modules under their
            qualified names, not copies, and may change its argument in place.
    """

    name: str
    layers: tuple[str, ...]
    input: str
    output: str
    run: fx.GraphModule


class _Tracer(fx.Tracer):
    """Tracer that keeps subclasses of layers and of batch norm whole, wherever they are defined."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, Layer | _BatchNorm) or super().is_leaf_module(m, module_qualified_name)


def trace(network: nn.Module) -> fx.Graph:
    """Return the graph of a network's forward pass; arguments after the first take their defaults.

    Raises:
        QuantizationError: `torch.fx` cannot trace it.

    Example:
        >>> [node.op for node in trace(nn.Sequential(nn.Linear(4, 2), nn.ReLU())).nodes]
        ['placeholder', 'call_module', 'call_module', 'output']
    """
    parameters = list(inspect.signature(network.forward).parameters.values())[1:]
    fixed = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    defaults = {p.name: p.default for p in parameters if p.kind not in fixed}
    try:
        return _Tracer().trace(network, concrete_args=defaults or None)
    except Exception as error:
        raise QuantizationError(
            f"{type(network).__name__} cannot be traced by torch.fx ({type(error).__name__}: {error}). Take out of "
            "`forward` what depends on the values or sizes of tensors (if, for, assert, int()), or wrap it in a "
            "function marked with torch.fx.wrap; or use one that works layer by layer (rtn, adaround, obc, gptq)"
        ) from error


def units(network: nn.Module, scheme: Scheme | None = None) -> tuple[Unit, ...]:
    """Return the network's reconstruction units, in the order of execution.

    Args:
        network: Takes one tensor and returns one tensor. The units share its modules.
        scheme: Layers that it leaves in full precision belong to no unit's `layers`.

    Raises:
        QuantizationError: The network cannot be traced, a layer is called twice or never or its
            weight is read without a call, or it does not map one tensor to one tensor.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2))
        >>> [(unit.name, unit.layers, unit.output) for unit in units(network)]
        [('0', ('0',), '_2'), ('_3', (), '_3'), ('4', ('4',), '_4')]
    """
    graph = trace(network)
    path = _data_path(graph)
    owned = _layers_of(graph, network, scheme)
    groups: list[tuple[fx.Node, fx.Node, tuple[str, ...]]] = []  # first and last node, layers
    for start, nodes in _segments(path):
        layers: list[str] = []
        for node in _between(start, nodes[-1]):
            layers += owned.get(node, ())
        # A segment without layers joins the unit before it if that has none either, or if it is its
        # batch norm and activation.
        if groups and not layers:
            first, _, held = groups[-1]
            if not held or all(_follows(node, network) for node in nodes):
                groups[-1] = (first, nodes[-1], held)
                continue
        groups.append((start, nodes[-1], tuple(layers)))

    pieces: list[Unit] = []
    names = _names([(held, end.name) for _, end, held in groups])
    for name, (start, end, held) in zip(names, groups, strict=True):
        module = fx.GraphModule(network, _extract(start, end))
        pieces.append(Unit(name, held, start.name, end.name, module))
    return tuple(pieces)


def layer_units(network: nn.Module, scheme: Scheme | None = None) -> dict[str, Unit]:
    """Return a unit for each layer, with the normalisations and activations that alone follow it.

    Unlike the units of `units`, they need not be one after the other: inside of a block they end
    before the addition.

    Raises:
        QuantizationError: The network cannot be traced, or a layer is not called just once, as a
            module.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2))
        >>> [(unit.name, unit.output) for unit in layer_units(network).values()]
        [('0', '_2'), ('4', '_4')]
    """
    graph = trace(network)
    owned = _layers_of(graph, network, scheme)
    units_by_layer: dict[str, Unit] = {}
    for node in graph.nodes:
        if node.target not in owned.get(node, ()) or node.op != "call_module":
            continue
        start, end = node.all_input_nodes[0], node
        while len(end.users) == 1 and len((after := next(iter(end.users))).all_input_nodes) == 1:
            if not _follows(after, network):
                break
            end = after
        name = str(node.target)
        units_by_layer[name] = Unit(
            name, (name,), start.name, end.name, fx.GraphModule(network, _extract(start, end))
        )
    return units_by_layer


def _data_path(graph: fx.Graph) -> list[fx.Node]:
    """Return the nodes between input and output, in the order of execution."""
    source = next((node for node in graph.nodes if node.op == "placeholder"), None)
    result = next(node for node in graph.nodes if node.op == "output").args[0]
    if source is None or not isinstance(result, fx.Node):
        raise QuantizationError(ONE_TENSOR)
    # Constants (buffers, parameters) lead to the result too, but do not depend on the input.
    path = [source]
    reached = {source}
    for node in _between(source, result):
        if reached.intersection(node.all_input_nodes):
            reached.add(node)
            path.append(node)
    if result not in reached:
        raise QuantizationError("the network's output does not depend on its first argument")
    return path


def _between(start: fx.Node, end: fx.Node) -> list[fx.Node]:
    """Return the nodes to compute for `end` once `start` is known, in the order of execution."""
    needed: set[fx.Node] = set()
    todo = [end] if end is not start else []
    while todo:
        node = todo.pop()
        needed.add(node)
        todo += [
            parent
            for parent in node.all_input_nodes
            if parent is not start and parent not in needed
        ]
    return [node for node in start.graph.nodes if node in needed]


def _segments(path: Sequence[fx.Node]) -> Iterable[tuple[fx.Node, list[fx.Node]]]:
    """Yield each cut with the nodes up to the next cut."""
    # `furthest` is the last user of the nodes so far: a node is a cut if no edge jumps over it.
    position = {node: i for i, node in enumerate(path)}
    start, nodes, furthest = path[0], [], 0
    for i, node in enumerate(path):
        if i > 0:
            nodes.append(node)
            if furthest <= i and not _is_tuple(node):
                yield start, nodes
                start, nodes = node, []
        for user in node.users:
            furthest = max(furthest, position.get(user, 0))


def _is_tuple(node: fx.Node) -> bool:
    """Return whether the value is taken apart by index (`chunk`, attention with weights)."""
    return any(
        user.target is operator.getitem and isinstance(user.args[1], int) for user in node.users
    )


def _layers_of(
    graph: fx.Graph, network: nn.Module, scheme: Scheme | None
) -> dict[fx.Node, tuple[str, ...]]:
    """Return the layers that each node runs by calling a module."""
    names = list(quantizable(network, scheme))
    owned: dict[fx.Node, tuple[str, ...]] = {}
    calls: Counter[str] = Counter()
    read: set[object] = set()
    for node in graph.nodes:
        if node.op == "call_module":
            # The module may hold the layer: a transformer layer of PyTorch is one node.
            owned[node] = tuple(name for name in names if f"{name}.".startswith(f"{node.target}."))
            calls.update(owned[node])
        elif node.op == "get_attr" and not all(map(_describes, node.users)):
            read.add(node.target)

    for name in names:
        if f"{name}.weight" in read:
            raise QuantizationError(
                f"layer {name!r} is {'also used otherwise' if calls[name] else 'never called as a module'}: its weight "
                "is read by a functional call, so that not all of its inputs can be observed; call the layer itself, "
                f"or {leave_out(name)}"
            )
        if calls[name] != 1:
            times = f"called {calls[name]} times" if calls[name] else "never called"
            raise QuantizationError(
                f"layer {name!r} is {times} in a forward pass; reconstruction needs each layer to be called "
                "exactly once: give every call a layer of its own, remove layers that are not used, "
                f"or {leave_out(name)}"
            )
    return owned


def _describes(node: fx.Node) -> bool:
    """Return whether a node uses a tensor's type or place only (`x.to(self.head.weight.dtype)`)."""
    return node.target is getattr and node.args[1] in ("dtype", "device", "shape", "ndim")


def _follows(node: fx.Node, network: nn.Module) -> bool:
    """Return whether a node is a normalisation or activation, which joins the unit before."""
    if node.op == "call_module":
        module = network.get_submodule(str(node.target))
        kind = type(module).__module__ in FOLLOWING_MODULES or isinstance(module, _BatchNorm)
        return kind and not isinstance(module, NOT_FOLLOWING)
    name = node.target if isinstance(node.target, str) else node.target.__name__
    return node.op in ("call_function", "call_method") and name.rstrip("_") in FOLLOWING_FUNCTIONS


def _names(groups: Sequence[tuple[tuple[str, ...], str]]) -> list[str]:
    """Return a name per unit, given layers and output node: the common module path if unique."""
    common: list[str] = []
    for held, _ in groups:
        paths = [name.replace(".", "/") for name in held]
        common.append(os.path.commonpath(paths or ["."]))

    names: list[str] = []
    for path, (held, node) in zip(common, groups, strict=True):
        if not held:
            names.append(node)
        elif path and common.count(path) == 1:
            names.append(path.replace("/", "."))
        else:
            names.append(f"{held[0]}..{held[-1]}")
    return names


def _extract(start: fx.Node, end: fx.Node) -> fx.Graph:
    """Return the graph from one node (exclusive) to another, constants included."""
    graph = fx.Graph()
    copies: dict[Any, Any] = {start: graph.placeholder("inputs")}
    for node in _between(start, end):
        copies[node] = graph.node_copy(node, lambda old: copies[old])
    graph.output(copies[end])
    return graph
