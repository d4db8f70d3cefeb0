"""What the layers of a network are given: their order, and their inputs, layer after layer or all at once.

`walk` goes once through the traced graph of one or several copies of a network, with the activations
of all calibration images in memory, and stops before each watched module. What the visitor does to a
module (quantize its weight, set its statistics) holds for everything after it, so one pass carries the
full-precision and the quantized activations side by side. Activations are freed after their last use.
Where `torch.fx` cannot trace the network, or where the activations would take more than `MEMORY` bytes,
it runs the network up to each watched module instead, chunk by chunk: the same values, in about
(watched modules) / 2 times the time.

`stream` is the cheaper way for what needs no order: one pass over the images, with all inputs on the way.
"""

import copy
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, fx, nn

from bitleak.core.errors import QuantizationError
from bitleak.quant.scheme import Layer, Scheme, layer_levels, quantizable

MEMORY = 2 << 30
POSITIONS = 1 << 16

Visit = Callable[[str, Iterable[tuple[Tensor, ...]]], None]
"""Called with a module's name and its inputs: chunk by chunk, one tensor per network; to be consumed once."""

OnLayer = Callable[[str, int, int], None]
"""Called with a layer's name, its index in the order of execution, and the number of layers."""


Values = dict[fx.Node, Any]


class _Reached(Exception):
    """The module that the run was for has been reached."""


class _Tracer(fx.Tracer):
    """Also keeps subclasses of the quantizable layers whole."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, Layer) or super().is_leaf_module(m, module_qualified_name)


def chunks(calibration: Float[Tensor, "records *sample"]) -> tuple[Tensor, ...]:
    """The calibration images in float32, in parts of about 65,536 pixels.

    Raises:
        QuantizationError: There are no images.
    """
    if not len(calibration):
        raise QuantizationError("the calibration set is empty; at least one image is needed")
    records = max(1, POSITIONS // max(1, calibration[0, 0].numel()))
    return calibration.detach().float().split(records)


def prepare(
    scheme: Scheme, network: nn.Module, calibration: Float[Tensor, "records *sample"]
) -> tuple[nn.Module, dict[str, Layer], dict[str, int]]:
    """What every quantizer begins with.

    Returns:
        A copy of the network in evaluation mode; its quantizable layers in the order of execution;
        their levels.

    Raises:
        QuantizationError: A layer cannot be quantized.
    """
    copied = copy.deepcopy(network).eval()
    layers = quantizable(copied)
    order = execution_order(copied, layers, calibration)
    return copied, {name: layers[name] for name in order}, layer_levels(scheme, order)


def execution_order(
    network: nn.Module, names: Iterable[str], calibration: Float[Tensor, "records *sample"]
) -> list[str]:
    """The named modules in the order in which the network calls them.

    Args:
        network: In evaluation mode.
        names: Qualified names of modules.
        calibration: At least one image; the first one is used.

    Raises:
        QuantizationError: A module is called twice or never.

    Example:
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Linear(3, 2)).eval()
        >>> execution_order(network, ["2", "1"], torch.zeros(1, 1, 2, 2))
        ['1', '2']
    """
    called: list[str] = []
    wanted = list(names)
    stream(network, calibration[:1], {name: lambda called_name, inputs: called.append(called_name) for name in wanted})
    for name in wanted:
        if called.count(name) > 1:
            raise QuantizationError(
                f"layer {name!r} is used {called.count(name)} times in one run; give each use a layer of its own"
            )
        if name not in called:
            raise QuantizationError(
                f"layer {name!r} is never called as a module (its weight may be used by a functional call), "
                "so its inputs cannot be observed"
            )
    return called


def stream(
    network: nn.Module,
    calibration: Float[Tensor, "records *sample"],
    watch: Mapping[str, Callable[[str, Tensor], object]],
) -> None:
    """Run the network over the images once; each watcher gets its module's name and input, chunk by chunk."""
    handles = [
        network.get_submodule(name).register_forward_pre_hook(_hook(name, watcher), with_kwargs=True)
        for name, watcher in watch.items()
    ]
    try:
        with torch.no_grad():
            for images in chunks(calibration):
                network(images.clone())
    finally:
        for handle in handles:
            handle.remove()


def walk(
    networks: Sequence[nn.Module],
    calibration: Float[Tensor, "records *sample"],
    watched: Sequence[str],
    visit: Visit,
) -> None:
    """Visit modules in the order of execution; each visit sees the effect of those before it.

    Args:
        networks: Copies of one network, in evaluation mode; the visitor may change their modules.
        calibration: Normalised images.
        watched: Names of the modules to visit, in the order of execution.
        visit: Called before each watched module is run.
    """
    with torch.no_grad():
        graph = _traced(networks[0], watched)
        if graph is None or _live_bytes(graph, networks[0], calibration) * len(networks) > MEMORY:
            for name in watched:
                visit(name, _inputs_of(name, networks, calibration))
        else:
            _walk_graph(graph, networks, calibration, watched, visit)


def _hook(name: str, watcher: Callable[[str, Tensor], object]) -> Callable[..., None]:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        watcher(name, args[0] if args else next(iter(kwargs.values())))

    return hook


def _inputs_of(name: str, networks: Sequence[nn.Module], calibration: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The inputs of one module in each network, chunk by chunk; no network is run beyond it."""
    for images in chunks(calibration):
        yield tuple(_input_of(name, network, images) for network in networks)


def _input_of(name: str, network: nn.Module, images: Tensor) -> Tensor:
    inputs: list[Tensor] = []

    def stop(name: str, tensor: Tensor) -> None:
        inputs.append(tensor)
        raise _Reached

    handle = network.get_submodule(name).register_forward_pre_hook(_hook(name, stop), with_kwargs=True)
    try:
        network(images.clone())
    except _Reached:
        pass
    finally:
        handle.remove()
    return inputs[0]


def _traced(network: nn.Module, watched: Sequence[str]) -> fx.Graph | None:
    """The graph, if there is one in which each watched module is one node and its weight no other."""
    try:
        graph = _Tracer().trace(network)
    except Exception:  # whatever a forward method does with a stand-in for its input
        return None
    called = [node.target for node in graph.nodes if node.op == "call_module"]
    weights = [node.target for node in graph.nodes if node.op == "get_attr"]
    whole = all(called.count(name) == 1 and f"{name}.weight" not in weights for name in watched)
    return graph if whole else None


def _walk_graph(
    graph: fx.Graph, networks: Sequence[nn.Module], calibration: Tensor, watched: Sequence[str], visit: Visit
) -> None:
    """`walk` with the activations of all images in memory: values by node, per network and chunk."""
    image = next(iter(graph.nodes))
    runs: list[list[Values]] = [[{image: images.clone()} for images in chunks(calibration)] for _ in networks]
    left = set(watched)
    for node, dead in _with_dead(graph):
        if node.op == "call_module" and node.target in left:
            source = node.all_input_nodes[0]
            visit(str(node.target), zip(*([values[source] for values in run] for run in runs), strict=True))
            left.remove(node.target)
        if not left:
            return
        for network, run in zip(networks, runs, strict=True):
            for values in run:
                _compute(node, network, values, dead)


def _live_bytes(graph: fx.Graph, network: nn.Module, calibration: Tensor) -> int:
    """The memory that `_walk_graph` needs for the activations of one network, from a run of one image."""
    values: Values = {next(iter(graph.nodes)): calibration[:1].to(torch.float32, copy=True)}
    largest = 0
    for node, dead in _with_dead(graph):
        _compute(node, network, values, [])
        tensors = [value for key, value in values.items() if key.op != "get_attr" and isinstance(value, Tensor)]
        largest = max(largest, sum(tensor.nbytes for tensor in tensors))
        for done in dead:
            del values[done]
    return largest * len(calibration)


def _with_dead(graph: fx.Graph) -> Iterator[tuple[fx.Node, list[fx.Node]]]:
    """The nodes in order, each with those whose values are not needed after it."""
    last = {source: node for node in graph.nodes for source in (node, *node.all_input_nodes)}
    for node in graph.nodes:
        yield node, [source for source in (node, *node.all_input_nodes) if last[source] is node]


def _compute(node: fx.Node, network: nn.Module, values: Values, dead: Sequence[fx.Node]) -> None:
    """Add a node's value to those of the nodes before it, and drop the dead ones."""
    if node not in values:
        values[node] = _value(node, network, values)
    for done in dead:
        del values[done]


def _value(node: fx.Node, network: nn.Module, values: Values) -> Any:
    args, kwargs = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
    if node.op in ("placeholder", "output"):  # a further argument of `forward`: its default value
        return args[0]
    if node.op == "get_attr":
        return operator.attrgetter(str(node.target))(network)
    if node.op == "call_module":
        return network.get_submodule(str(node.target))(*args, **kwargs)
    if node.op == "call_method":
        return getattr(args[0], str(node.target))(*args[1:], **kwargs)
    assert callable(node.target)
    return node.target(*args, **kwargs)
