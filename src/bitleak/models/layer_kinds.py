"""Check that a module runs the code of its kind, and the batch norms that a single layer feeds.

A subclass with a forward pass of its own may do anything with the same attributes: pad by the size
of its input, mask or standardise its weight, keep gamma as the difference from 1. The same holds
for a method that was replaced on one instance, and for hooks, which may change inputs and outputs.
So the attributes of a layer or of a batch norm describe its function only if the code that runs is
that of its kind.
"""

from collections import Counter
from collections.abc import Iterator

from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

_KINDS: dict[type[nn.Module], tuple[type[nn.Module], ...]] = {
    nn.Conv1d: (nn.Conv1d,),
    nn.Conv2d: (nn.Conv2d,),
    nn.Conv3d: (nn.Conv3d,),
    nn.Linear: (nn.Linear,),
    _BatchNorm: (_BatchNorm, nn.SyncBatchNorm),
}
_METHODS = ("forward", "_conv_forward", "__call__", "_call_impl")
_HOOKS = {"_forward_pre_hooks": "pre-hook", "_forward_hooks": "hook"}


def deviation(module: nn.Module) -> str | None:
    """Return the reason why the module may differ from its kind; None if it runs its kind's code.

    Args:
        module: A convolution, a linear layer or a batch norm; for any other module, only hooks
            count.

    Example:
        >>> class Masked(nn.Linear):
        ...     def forward(self, x):
        ...         return x
        >>> deviation(nn.Linear(2, 2)), deviation(Masked(2, 2))
        (None, 'its class Masked has a forward pass of its own')
    """
    for base, kinds in _KINDS.items():
        if not isinstance(module, base):
            continue
        # A method on the instance comes before that of its class.
        for method in _METHODS:
            if method in vars(module):
                return f"its method {method} was replaced by another one"
            code = getattr(type(module), method, None)
            if code not in [getattr(kind, method, None) for kind in kinds]:
                return f"its class {type(module).__name__} has a forward pass of its own"
    for attribute, name in _HOOKS.items():
        if getattr(module, attribute):
            return f"it has a forward {name}, which may change what it computes"
    return None


def fed_by_one(
    graph: fx.Graph, network: nn.Module
) -> Iterator[tuple[fx.Node, fx.Node, nn.Module, _BatchNorm]]:
    """Yield every batch norm that alone takes a module's output, both being called once.

    Either may have a forward pass of its own, see `deviation`.

    Args:
        graph: Graph of the network's forward pass.
        network: Holds the modules that the graph calls.

    Yields:
        The nodes of module and batch norm, and the two, in the order of execution.
    """
    modules: dict[fx.Node, nn.Module] = {}
    for node in graph.nodes:
        if node.op == "call_module":
            modules[node] = network.get_submodule(str(node.target))
    times = Counter(map(id, modules.values()))
    for node, norm in modules.items():
        source = next(iter(node.all_input_nodes), None)  # also where it is called by keyword
        if source is None or len(source.users) > 1:
            continue
        module = modules.get(source)
        if (
            module is not None
            and isinstance(norm, _BatchNorm)
            and times[id(module)] == times[id(norm)] == 1
        ):
            yield source, node, module, norm
