"""A network of this package for evaluation: the same function in fewer passes over the maps.

Tracing takes several times as long as the rest, and depends on the architecture alone: it is done
once per process for all networks of one spec.
"""

import functools
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from bitleak.core.types import ModelSpec
from bitleak.models import build
from bitleak.models.layer_kinds import deviation, fed_by_one


def fused(network: nn.Module) -> nn.Module:
    """Return a copy in evaluation mode with batch norms in the convolutions, and ReLUs in place.

    Outputs are those of the network up to the rounding of float32. On a CPU, batch norm and ReLU
    are a pass each through memory, together a third of the time of a small residual network.

    A batch norm stays as it is if it or the convolution has a forward pass of its own or hooks (see
    `layer_kinds`), if it has no running statistics, if anything but one convolution feeds it, or if
    the convolution's output is used elsewhere; a ReLU stays if its input comes from anything but a
    convolution or an addition, or has other users, or if it is called twice.

    Args:
        network: A network that `torch.fx` traces and that has no effect but its output, as those of
            the registry; it is not changed.

    Example:
        >>> import torch
        >>> network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU()).eval()
        >>> images = torch.rand(4, 1, 5, 5)
        >>> torch.allclose(fused(network)(images), network(images), atol=1e-6)
        True
        >>> [type(part).__name__ for part in fused(network).children()]
        ['Conv2d', 'ReLU']
    """
    return _traced(network).apply(network)


def fused_by_spec(network: nn.Module, spec: ModelSpec) -> nn.Module:
    """Like `fused`, for a network that `build` or `load` made of a spec.

    Args:
        network: It is not changed.
        spec: Its spec, not of a network from outside.
    """
    # Hooks, as for rounded inputs, belong to this network alone, and decide what is fused.
    if any(deviation(module) for module in network.modules()):
        return fused(network)
    options = json.dumps(dict(spec.options), sort_keys=True)
    return _traced_spec(spec.name, options, spec.classes, spec.channels, spec.size).apply(network)


@dataclass(frozen=True)
class _Fusion:
    """The fused form of all networks of one architecture.

    Attributes:
        graph: The forward pass without the batch norms that are fused.
        norms: The batch norm that goes into a convolution, by the names of both.
        in_place: Names of the ReLUs that overwrite their input.
        constants: Tensors that tracing has made, by the graph's name for them.
    """

    graph: fx.Graph
    norms: Mapping[str, str]
    in_place: frozenset[str]
    constants: Mapping[str, Any]

    def apply(self, network: nn.Module) -> nn.Module:
        """Return the fused network of one that has the same architecture."""
        network.eval()
        parts = {
            str(node.target): self._part(network, str(node.target))
            for node in self.graph.nodes
            if node.op in ("call_module", "get_attr")
        }
        ready = fx.GraphModule(parts, self.graph).eval()
        self.graph.owning_module = None  # or the graph would keep the weights of the last network
        return ready

    def _part(self, network: nn.Module, name: str) -> Any:
        """Return the module or tensor that the graph uses under a name."""
        if name in self.constants:
            return self.constants[name]
        if name in self.in_place:
            return nn.ReLU(inplace=True)
        part = functools.reduce(getattr, name.split("."), network)
        if name not in self.norms:
            return part
        # The batch norm's scale and shift go into the convolution's weight and bias.
        norm = network.get_submodule(self.norms[name])
        assert isinstance(part, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        return fuse_conv_bn_eval(part, norm)


@functools.lru_cache(maxsize=8)
def _traced_spec(name: str, options: str, classes: int, channels: int, size: int) -> _Fusion:
    """Return the fused form of the networks of a spec; the standardisation is no part of them."""
    nothing = (0.0,) * channels
    spec = ModelSpec(name, json.loads(options), classes, channels, size, mean=nothing, std=nothing)
    return _traced(build(spec, seed=0))


def _traced(network: nn.Module) -> _Fusion:
    traced = fx.symbolic_trace(network.eval())
    norms: dict[str, str] = {}
    for before, node, layer, norm in list(fed_by_one(traced.graph, traced)):
        plain = deviation(layer) is None and deviation(norm) is None
        if (
            plain
            and type(layer) is nn.Conv2d
            and isinstance(norm, nn.BatchNorm2d)
            and norm.running_var is not None
        ):
            norms[str(before.target)] = str(node.target)
            node.replace_all_uses_with(before)
            traced.graph.erase_node(node)

    # In place only where nothing else reads the input: a new tensor with this one user.
    times = Counter(node.target for node in traced.graph.nodes if node.op == "call_module")
    in_place: set[str] = set()
    for node in traced.graph.nodes:
        alone = type(_called(traced, node)) is nn.ReLU and times[node.target] == 1
        if alone and _fresh(traced, node.all_input_nodes[0]):
            in_place.add(str(node.target))

    # Tensors that the forward pass makes itself become attributes of the traced network.
    own = {name for name, _ in network.named_parameters(remove_duplicate=False)}
    own |= {name for name, _ in network.named_buffers(remove_duplicate=False)}
    constants = {
        str(node.target): functools.reduce(getattr, str(node.target).split("."), traced)
        for node in traced.graph.nodes
        if node.op == "get_attr" and node.target not in own
    }
    traced.graph.owning_module = None
    return _Fusion(traced.graph, norms, frozenset(in_place), constants)


def _called(traced: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return traced.get_submodule(str(node.target)) if node.op == "call_module" else None


def _fresh(traced: fx.GraphModule, node: fx.Node) -> bool:
    """Return whether the value is a new tensor with a single user."""
    adds = node.op == "call_function" and getattr(node.target, "__name__", "") in ("add", "iadd")
    return len(node.users) == 1 and (
        adds or isinstance(_called(traced, node), nn.Conv2d | nn.BatchNorm2d)
    )
