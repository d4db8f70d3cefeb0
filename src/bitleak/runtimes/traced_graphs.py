"""PyTorch's export of networks to graphs, made once for all networks of a kind.

`torch.onnx.export` takes a second for a small network, and nearly all of it has nothing to do with
the values of weights: the forward pass is run with tensors that have none, and weights become
initializers of the graph, by name. So a graph is kept without its weights, and another network of
that kind in this process (see `network_kinds`) gets a copy of it with its own.

A graph is kept only if each of its initializers is a parameter or a buffer of the traced network:
the very tensor, by its name. A constant that the exporter made otherwise, a branch within the graph
and a function leave it out, and each network of that kind is traced anew. Computations with weights
alone, such as folded constants, come after this module, and are made for each network.
"""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

import torch
from torch import Tensor, nn

from bitleak.runtimes.network_kinds import network_kind, network_tensors
from bitleak.runtimes.packages import import_extra

INPUT, OUTPUT = "images", "logits"

_MOST_KEPT = 8
"""Graphs that a process keeps; each takes about a kilobyte per operator."""

_kept: OrderedDict[Hashable, Any] = OrderedDict()
"""Graphs without weights, by kind of network; the one used last is at the end."""


def traced_graph(network: nn.Module, example: Tensor, opset: int) -> Any:
    """Return a network as a graph of `onnx_ir`, with its own tensors as initializers.

    Args:
        network: On the CPU, in evaluation mode.
        example: At least 2 images; the graph takes any number.
        opset: Version of the operators.

    Raises:
        Exception: PyTorch cannot export the network.
    """
    kind = network_kind(network, example)
    if kind is None:
        return _export(network, example, opset)
    key = (kind, str(example.dtype), tuple(example.shape), opset)
    if key in _kept:
        _kept.move_to_end(key)
        return _filled(_kept[key], network)
    graph = _export(network, example, opset)
    if _holds_only_own_tensors(graph, network):
        _kept[key] = _without_weights(graph)
        while len(_kept) > _MOST_KEPT:
            _kept.popitem(last=False)
    return graph


def forget_graphs() -> None:
    """Forget the kept graphs, so that the next network of each kind is traced."""
    _kept.clear()


def _export(network: nn.Module, example: Tensor, opset: int) -> Any:
    program = torch.onnx.export(
        network,
        (example,),
        dynamo=True,
        # The optimiser would fold batch norms into convolutions, and keep their names.
        optimize=False,
        opset_version=opset,
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_shapes=({0: torch.export.Dim("records")},),
        verbose=False,
    )
    return program.model  # type: ignore[union-attr]


def _holds_only_own_tensors(model: Any, network: nn.Module) -> bool:
    """Return whether each initializer is the tensor of the network that has its name."""
    ir = import_extra("onnx_ir", "onnx", "writing an .onnx file")
    branches = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
    if model.functions or any(
        attribute.type in branches for node in model.graph for attribute in node.attributes.values()
    ):
        return False
    tensors = network_tensors(network)
    return all(
        name in tensors and getattr(value.const_value, "raw", None) is tensors[name]
        for name, value in model.graph.initializers.items()
    )


def _without_weights(model: Any) -> Any:
    ir = import_extra("onnx_ir", "onnx", "writing an .onnx file")
    copied = model.clone()
    for name, value in copied.graph.initializers.items():
        value.const_value = ir.tensor([0.0], name=name)
    return copied


def _filled(model: Any, network: nn.Module) -> Any:
    """Return a copy of a graph with a network's tensors as initializers."""
    adapters = import_extra("onnx_ir.tensor_adapters", "onnx", "writing an .onnx file")
    copied, tensors = model.clone(), network_tensors(network)
    for name, value in copied.graph.initializers.items():
        value.const_value = adapters.TorchTensor(tensors[name], name=name)
    return copied
