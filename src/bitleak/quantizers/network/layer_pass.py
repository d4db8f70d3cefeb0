"""Layer after layer through copies of a network, each layer after the changes to those before it.

`visit_in_order` stops before each watched module and shows its inputs in every copy by chunks. The
visitor's change to a module (its weight quantized, its statistics set) holds for everything
after it, so one walk carries the full-precision and the quantized activations side by side.

The walk goes through the traced graph. Between two stops it holds each network's values of all
images at one place in the graph: the last place up to the stop at which they fit into the memory
that was granted. If that is the stop itself, the next module is reached from there; if not, all
from that place on is computed once more. With much memory this is one pass over the images, with
none it is a pass up to each stop, which takes about (watched modules) / 2 times as long; in
between, the narrow places after pooling and strides are held, and the wide first stage is computed
again. The values do not depend on the memory.

Where `torch.fx` cannot trace the network, or its graph gives other outputs (a hook of the network,
a context such as autocast), it is run up to each stop instead, by hooks: the same values.
"""

import copy
import operator
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, fx, nn

from bitleak.core.errors import QuantizationError
from bitleak.quantizers.network.layer_inputs import chunks, input_hook, leading_images
from bitleak.quantizers.network.reconstruction_units import trace

MEMORY = 64 << 20
SHARE = 4
SAME = 1e-5  # of the largest output: the graph runs the same operations on the same values
# Held values are stored in blocks that glibc maps one by one (from 32 MiB): its heap fragments to
# twice the size.
BLOCK_BYTES_HELD = 33 << 20

Visit = Callable[[str, Iterable[tuple[Tensor, ...]]], None]
"""Called with a module's name and its inputs: by chunks, one tensor per network, to read once."""

Values = dict[fx.Node, Any]


class _Reached(Exception):
    """The module that the run was for has been reached."""


def activation_budget(calibration: Tensor, memory: int | None) -> int:
    """Return the bytes for activations: `memory`, or `MEMORY`, or `SHARE` times the images if more.

    Example:
        >>> images = torch.zeros(1, 3, 32, 32)
        >>> activation_budget(images, None) == MEMORY, activation_budget(images, 5)
        (True, 5)
    """
    return max(MEMORY, SHARE * calibration.numel() * 4) if memory is None else memory


def visit_in_order(
    networks: Sequence[nn.Module],
    calibration: Float[Tensor, "records *sample"],
    watched: Sequence[str],
    visit: Visit,
    *,
    alone: Collection[str] = (),
    records: int | None = None,
    memory: int | None = None,
) -> None:
    """Visit modules in the order of execution; each visit sees the effect of those before it.

    Args:
        networks: Copies of one network, in evaluation mode; the visitor may change their modules.
        calibration: Normalised images.
        watched: Names of the modules to visit, in the order of execution.
        visit: Called before each watched module is run.
        alone: Watched modules whose visits see the last network only: one tensor per chunk.
        records: Number of images of these visits, rounded up to whole chunks; None = all.
        memory: Bytes that may be held between two visits, see `activation_budget`; it changes the
            time, not the values.

    Example:
        >>> network = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1)).eval()
        >>> def visit(name, inputs):
        ...     print(name, [tensor.tolist() for (tensor,) in inputs])
        ...     network.get_submodule(name).weight.fill_(2.0)
        ...     network.get_submodule(name).bias.fill_(1.0)
        >>> visit_in_order([network], torch.tensor([[3.0]]), ["0", "1"], visit)
        0 [[[3.0]]]
        1 [[[7.0]]]
    """
    with torch.no_grad():
        graph = _traced(networks[0], watched, calibration)
        few = len(chunks(leading_images(calibration, records)))
        if graph is not None:
            _share_constants(graph, networks)
            memory = activation_budget(calibration, memory)
            _walk_graph(
                graph,
                networks,
                calibration,
                watched,
                visit,
                alone=dict.fromkeys(alone, few),
                memory=memory,
            )
            return
        # Without a graph, the inputs of every layer take a forward pass of their own.
        images = chunks(calibration)
        for name in watched:
            seen = (networks[-1:], images[:few]) if name in alone else (networks, images)
            visit(name, _inputs_of(name, *seen))


def _traced(network: nn.Module, watched: Sequence[str], calibration: Tensor) -> fx.Graph | None:
    """Return the graph if it is the whole network, with one node per watched module; else None."""
    try:
        graph = trace(network)
    except QuantizationError:
        return None
    called = [node.target for node in graph.nodes if node.op == "call_module"]
    weights = [node.target for node in graph.nodes if node.op == "get_attr"]
    # A weight that is also read without a call has inputs that no visit would show.
    complete = all(called.count(name) == 1 and f"{name}.weight" not in weights for name in watched)
    return graph if complete and _is_whole(graph, network, calibration[:2]) else None


def _share_constants(graph: fx.Graph, networks: Sequence[nn.Module]) -> None:
    """Give the copies the tensors that tracing computed and stored on the first network."""
    for node in graph.nodes:
        name = str(node.target)
        if node.op == "get_attr" and name.startswith("_tensor_constant"):
            for network in networks[1:]:
                setattr(network, name, getattr(networks[0], name))


def _is_whole(graph: fx.Graph, network: nn.Module, images: Tensor) -> bool:
    """Return whether the graph gives the network's outputs: hooks of the network are not in it."""
    values: Values = {}
    for node in graph.nodes:
        if not values:
            values[node] = images.to(torch.float32, copy=True)
        _compute(node, network, values, [])
    graph_output, expected = (
        values[next(reversed(graph.nodes))],
        network(images.to(torch.float32, copy=True)),
    )
    if (
        not isinstance(graph_output, Tensor)
        or not isinstance(expected, Tensor)
        or graph_output.shape != expected.shape
    ):
        return False
    return torch.allclose(
        graph_output, expected, rtol=SAME, atol=SAME * float(expected.abs().max()), equal_nan=True
    )


def _walk_graph(
    graph: fx.Graph,
    networks: Sequence[nn.Module],
    calibration: Tensor,
    watched: Sequence[str],
    visit: Visit,
    *,
    alone: Mapping[str, int],
    memory: int,
) -> None:
    """Visit the modules along the nodes of the graph.

    The last network holds its values first, the others if there is memory left. If a visit sees
    some of the chunks only, the held values stay at their place: they would have to be computed for
    all.
    """
    nodes, dead = list(graph.nodes), _dead(graph)
    sizes = [size * len(calibration) for size in _live_bytes(nodes, dead, networks[0], calibration)]
    sizes[1] = 0  # the images are held in any case
    chunked = chunks(calibration)
    runs: list[_Run] = []
    for network in networks:
        values: list[Values] = [{nodes[0]: images} for images in chunked]
        runs.append(_Run(network, nodes, dead, values))

    places = [1] * len(runs)
    for stop, node in enumerate(nodes):
        if node.op != "call_module" or node.target not in watched:
            continue
        name = str(node.target)
        first, few = (len(runs) - 1, alone[name]) if name in alone else (0, len(chunked))

        # The last place up to the stop at which the values fit, beside those of the other networks.
        held = list(places)
        for number in reversed(range(first, len(runs))) if few == len(chunked) else ():
            taken = sum(sizes[place] for place in held) - sizes[held[number]]
            for place in range(held[number], stop + 1):
                if sizes[place] + taken <= memory:
                    held[number] = place

        seen: list[Iterator[Tensor]] = []
        for number in range(first, len(runs)):
            seen.append(runs[number].inputs_at(stop, places[number], held[number], few))
        inputs = zip(*seen, strict=True)
        visit(name, inputs)
        for _ in inputs:  # chunks that the visitor did not take have to move to the held place too
            pass
        places = held


@dataclass(frozen=True)
class _Run:
    """One network on its way: each chunk's values at one place; place `i` is before node `i`."""

    network: nn.Module
    nodes: Sequence[fx.Node]
    dead: Sequence[Sequence[fx.Node]]
    chunks: list[Values]

    def inputs_at(self, stop: int, place: int, held: int, few: int) -> Iterator[Tensor]:
        """Yield the node's inputs of the first chunks; the values move from `place` to `held`."""
        source = self.nodes[stop].all_input_nodes[0]
        free: dict[fx.Node, Tensor] = {}
        for number, values in enumerate(self.chunks[:few]):
            if held > place:
                moved = self.advance(values if place > 1 else _copied(values), place, held)
                self.chunks[number] = _packed(moved, free, len(self.chunks) - number)
            values = self.chunks[number] if held == stop else _copied(self.chunks[number])
            yield self.advance(values, held, stop)[source]

    def advance(self, values: Values, place: int, end: int) -> Values:
        """Compute the nodes from one place to another, in `values`, which are returned."""
        for index in range(place, end):
            _compute(self.nodes[index], self.network, values, self.dead[index])
        return values


def _packed(values: Values, free: dict[fx.Node, Tensor], left: int) -> Values:
    """Return the values as parts of blocks, each for up to `left` chunks.

    `free` holds the rests of blocks, and is changed. See `BLOCK_BYTES_HELD` for the reason.
    """
    if _share_memory(values):
        return values
    packed = dict(values)
    for node, value in values.items():
        if (
            isinstance(value, Tensor)
            and value.ndim
            and value.is_contiguous()
            and 0 < value.nbytes < BLOCK_BYTES_HELD
        ):
            rest = free.get(node)
            if rest is None or len(rest) < len(value):
                rest = value.new_empty(
                    min(left, -(-BLOCK_BYTES_HELD // value.nbytes)) * len(value), *value.shape[1:]
                )
            packed[node] = rest[: len(value)].copy_(value)
            free[node] = rest[len(value) :]
    return packed


def _copied(values: Values) -> Values:
    """Copy values, as later nodes may change them in place; those that share memory still do."""
    if _share_memory(values):
        return dict(zip(values, copy.deepcopy(list(values.values())), strict=True))
    return {
        node: value.clone() if isinstance(value, Tensor) else value
        for node, value in values.items()
    }


def _share_memory(values: Values) -> bool:
    """Return whether values may share memory: always if one is a tuple, a list or the like."""
    storages: set[int] = set()
    for value in values.values():
        if isinstance(value, int | float | str | None):
            continue
        if not isinstance(value, Tensor) or value.untyped_storage().data_ptr() in storages:
            return True
        storages.add(value.untyped_storage().data_ptr())
    return False


def _live_bytes(
    nodes: Sequence[fx.Node],
    dead: Sequence[Sequence[fx.Node]],
    network: nn.Module,
    calibration: Tensor,
) -> list[int]:
    """Return the bytes of all values that are held at each place of the graph, for one image."""
    values: Values = {nodes[0]: calibration[:1].to(torch.float32, copy=True)}
    sizes = [0]
    for node, done in zip(nodes, dead, strict=True):
        _compute(node, network, values, done)
        sizes.append(_bytes(list(values.values())))
    return sizes


def _bytes(values: list[Any]) -> int:
    """Return the memory that tensors hold together; shared memory counts once."""
    held: dict[int, int] = {}

    def add(value: Any) -> None:
        if isinstance(value, Tensor):
            held[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()

    fx.node.map_aggregate(values, add)
    return sum(held.values())


def _dead(graph: fx.Graph) -> list[list[fx.Node]]:
    """Return for each node the nodes whose values are not needed after it."""
    last: dict[fx.Node, fx.Node] = {}  # the last user of each value; the node itself if it has none
    for node in graph.nodes:
        last.update(dict.fromkeys((node, *node.all_input_nodes), node))
    dead: dict[fx.Node, list[fx.Node]] = {node: [] for node in graph.nodes}
    for source, user in last.items():
        dead[user].append(source)
    return list(dead.values())


def _compute(node: fx.Node, network: nn.Module, values: Values, dead: Sequence[fx.Node]) -> None:
    """Add a node's value to those of the nodes before it, and drop the dead ones."""
    if node.op != "get_attr" and node not in values:
        values[node] = _value(node, network, values)
    for done in dead:
        values.pop(done, None)


def _value(node: fx.Node, network: nn.Module, values: Values) -> Any:
    """Return the node's value; attributes are read at their use, as the visitor may change them."""

    def of(source: fx.Node) -> Any:
        return (
            operator.attrgetter(str(source.target))(network)
            if source.op == "get_attr"
            else values[source]
        )

    args, kwargs = fx.node.map_arg((node.args, node.kwargs), of)
    if node.op in ("placeholder", "output"):  # a further argument of `forward`: its default value
        return args[0]
    if node.op == "call_module":
        return network.get_submodule(str(node.target))(*args, **kwargs)
    if node.op == "call_method":
        return getattr(args[0], str(node.target))(*args[1:], **kwargs)
    assert callable(node.target)
    return node.target(*args, **kwargs)


def _inputs_of(
    name: str, networks: Sequence[nn.Module], chunked: Sequence[Tensor]
) -> Iterator[tuple[Tensor, ...]]:
    """Yield the inputs of one module in each network by chunks; no network is run beyond it."""
    for images in chunked:
        yield tuple(_input_of(name, network, images) for network in networks)


def _input_of(name: str, network: nn.Module, images: Tensor) -> Tensor:
    inputs: list[Tensor] = []

    def stop(name: str, tensor: Tensor) -> None:
        inputs.append(tensor)
        raise _Reached

    handle = network.get_submodule(name).register_forward_pre_hook(
        input_hook(name, stop), with_kwargs=True
    )
    try:
        network(images.clone())
    except _Reached:
        pass
    finally:
        handle.remove()
    return inputs[0]
