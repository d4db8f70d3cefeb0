"""Which batch norms of a traced network a single layer feeds."""

from collections import Counter
from collections.abc import Iterator

from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm


def fed_by_one(graph: fx.Graph, network: nn.Module) -> Iterator[tuple[fx.Node, fx.Node, nn.Module, _BatchNorm]]:
    """Every batch norm that takes a module's output, which nothing else takes; both are called once.

    They need not compute what their classes say, see `kinds.deviation`.

    Args:
        graph: Of the network's forward pass.
        network: Holds the modules that the graph calls.

    Yields:
        The nodes of module and batch norm, and the two, in the order of execution.
    """
    calls = [node for node in graph.nodes if node.op == "call_module"]
    modules = {node: network.get_submodule(str(node.target)) for node in calls}
    times = Counter(id(module) for module in modules.values())
    for node in calls:
        source = next(iter(node.all_input_nodes), None)  # also where it is called by keyword
        if source is None or len(source.users) > 1:
            continue
        module, norm = modules.get(source), modules[node]
        if module is not None and isinstance(norm, _BatchNorm) and times[id(module)] == times[id(norm)] == 1:
            yield source, node, module, norm
