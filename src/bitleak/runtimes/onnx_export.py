"""A network as an ONNX file, with the weights of its quantized layers as packed codes.

The graph is PyTorch's own export of the network, with batch norms as they are. In place of the
weight of a quantized layer it has

    DequantizeLinear(codes, scale, zero_point)    (axis 0: one grid per output channel)

with codes of 2 bits (up to 4 levels, opset 25), 4 bits (up to 16 levels, opset 21) or 8 bits, so
that weight = scale * (code - zero_point), bit for bit that of `QuantizedLayer.dequantize`.

A runtime may replace DequantizeLinear and the operator after it by one that computes otherwise.
ONNX Runtime does so before MatMul, where it rounds the activations to 8 bits, but not before Conv
and not before Gemm with transB=1, as which linear layers of matrices are exported. A weight with
another use, and one whose zero point is not a code (`grid: paper`), is written as

    Mul(Sub(DequantizeLinear(codes, 1), zero_point), scale)

With 8-bit activations, the input of each quantized layer passes QuantizeLinear and DequantizeLinear
(UINT8, one grid per tensor). Where such a pair follows a Conv or a Gemm too, ONNX Runtime joins all
three into a product of integers, whose rounding is that of the file but for a few last bits. It has none
for codes of 2 bits, and then refuses the file: with rounded inputs these are written in the second form.

The input `images` is the network's own: standardised float32 images, records x channels x
height x width. Mean and standard deviation, levels and the network are in the file's metadata. The
bytes depend on the network and the releases of PyTorch, ONNX and onnxscript alone: notes of the
exporter, which hold paths of source files, are removed.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np
import torch
from torch import nn

from bitleak.core.errors import ModelError
from bitleak.core.types import ModelSpec, QuantizedLayer, QuantizedWeights, Weights
from bitleak.models.input_rounding import exact_inputs
from bitleak.runtimes.packages import import_extra, quiet_packages
from bitleak.runtimes.packed_codes import bits_of, pack_codes
from bitleak.runtimes.traced_graphs import traced_graph

OPSETS = {21: 10, 22: 10, 23: 11, 24: 12, 25: 13}
"""Opsets that can be written, with the version of the format (IR) that came with each."""

TWO_BITS = 25
"""First opset with types of 2 bits."""

SMALLEST_OPSET = min(OPSETS)
"""First opset with types of 4 bits; it is written unless another is needed."""

_RECORDS = 2
"""Images of the example that the exporter traces; with one, it could take the axis for a constant."""


@dataclass(frozen=True)
class ExportedNetwork:
    """The content of an ONNX file, and a summary of it.

    Attributes:
        content: The file's bytes.
        opset: Version of the operators.
        bits: Width of the stored codes by layer.
        notes: Layers whose codes are stored wider than their levels need, in words.
    """

    content: bytes
    opset: int
    bits: Mapping[str, int]
    notes: tuple[str, ...] = ()


def check_opset(opset: int | None) -> None:
    """Refuse an opset that cannot be written.

    Raises:
        ValueError: It is not known.

    Example:
        >>> check_opset(13)
        Traceback (most recent call last):
        ...
        ValueError: opset must be one of 21, 22, 23, 24, 25 (4-bit types need 21, 2-bit types 25), got 13
    """
    if opset is not None and opset not in OPSETS:
        raise ValueError(
            f"opset must be one of {', '.join(map(str, OPSETS))} (4-bit types need {SMALLEST_OPSET}, "
            f"2-bit types {TWO_BITS}), got {opset}"
        )


def export_network(
    network: nn.Module, weights: Weights | QuantizedWeights, *, opset: int | None = None
) -> ExportedNetwork:
    """Return a network as ONNX.

    Args:
        network: Holds `weights`, dequantized; on the CPU, in evaluation mode.
        weights: Weights or codes, with their spec.
        opset: One of `OPSETS`; None takes 25 if codes fit into 2 bits, else 21.

    Raises:
        ModelError: A package is missing, PyTorch cannot export the network, or a quantized layer's
            weight is not a tensor of the exported graph.
        ValueError: The opset is not known, or the weights have no spec.
    """
    check_opset(opset)
    spec = weights.spec
    if spec is None:
        raise ValueError("weights must have a spec: the file's input has its shape")
    layers = weights.layers if isinstance(weights, QuantizedWeights) else {}
    if opset is None:
        narrow = any(bits_of(layer.levels) == 2 for layer in layers.values())
        opset = TWO_BITS if narrow else SMALLEST_OPSET
    smallest = 2 if opset >= TWO_BITS else 4
    bits = {name: bits_of(layer.levels, smallest=smallest) for name, layer in layers.items()}

    # PyTorch's graph, in which codes take the place of weights.
    with exact_inputs(network):
        model = _float_graph(network, spec, opset, [f"{name}.weight" for name in layers])
    rounded = weights.activations if isinstance(weights, QuantizedWeights) else {}
    for name, grid in rounded.items():
        _round_input(model, name, layers[name], grid)
    for name, layer in layers.items():
        _store_codes(model, name, layer, bits[name], joined=bool(rounded))
    _remove_notes(model)
    _describe(model, spec, weights, opset)
    onnx = _onnx()
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ModelError(f"the exported network is not valid ONNX: {error}") from error
    return ExportedNetwork(
        model.SerializeToString(deterministic=True), opset, bits, _wide(layers, bits)
    )


def _wide(layers: Mapping[str, QuantizedLayer], bits: Mapping[str, int]) -> tuple[str, ...]:
    wide = [name for name, layer in layers.items() if bits[name] > bits_of(layer.levels)]
    if not wide:
        return ()
    return (
        f"codes of {len(wide)} layers with up to 4 levels are stored in 4 bits, since types of "
        f"2 bits need opset {TWO_BITS}",
    )


def _onnx() -> Any:
    import_extra("onnx.checker", "onnx", "writing an .onnx file")
    import_extra("onnx.shape_inference", "onnx", "writing an .onnx file")
    return import_extra("onnx", "onnx", "writing an .onnx file")


def _float_graph(network: nn.Module, spec: ModelSpec, opset: int, weights: Collection[str]) -> Any:
    """Return PyTorch's export of the float network; constants are computed, but not from `weights`."""

    def should_fold(node: Any) -> bool | None:
        names = {None if value is None else value.name for value in node.inputs}
        return False if node.op_type != "Shape" and not names.isdisjoint(weights) else None

    optimizer = import_extra("onnxscript.optimizer", "onnx", "writing an .onnx file")
    passes = import_extra("onnx_ir.passes.common", "onnx", "writing an .onnx file")
    ir = import_extra("onnx_ir", "onnx", "writing an .onnx file")
    example = torch.zeros(_RECORDS, *spec.input_shape)
    try:
        with quiet_packages(), torch.no_grad():
            model = traced_graph(network.eval(), example, opset)
            optimizer.fold_constants(model, onnx_shape_inference=False, should_fold=should_fold)
            passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
            passes.RemoveUnusedNodesPass()(model)
            passes.RemoveUnusedOpsetsPass()(model)
    except Exception as error:  # the exporter may raise anything
        raise ModelError(
            f"PyTorch cannot export the network to ONNX: {_first_line(error)} (its forward pass must "
            "be one that torch.export follows, for any number of images)"
        ) from error
    proto = ir.to_proto(model)
    if proto.functions or len(proto.graph.output) != 1:
        raise ModelError(
            f"PyTorch exports the network with {len(proto.graph.output)} outputs and "
            f"{len(proto.functions)} functions; expected one output and plain operators"
        )
    return proto


def _first_line(error: Exception) -> str:
    cause = error.__cause__ or error
    lines = [line for line in str(cause).splitlines() if line.strip()]
    return f"{type(cause).__name__}: {lines[0].strip() if lines else ''}"


def _store_codes(model: Any, name: str, layer: QuantizedLayer, bits: int, *, joined: bool) -> None:
    """Replace a layer's float weight by codes and the operators that dequantize them."""
    tensor = _weight_tensor(model, name, layer)
    weight = tensor.name
    nodes = _dequantizing(model, weight, layer, bits, joined=joined)
    model.graph.initializer.remove(tensor)
    for position, node in enumerate(nodes):
        model.graph.node.insert(position, node)


def _round_input(model: Any, name: str, layer: QuantizedLayer, grid: Mapping[str, Any]) -> None:
    """Put QuantizeLinear and DequantizeLinear before the input of a layer, wherever it is called."""
    helper = import_extra("onnx.helper", "onnx", "writing an .onnx file")
    weight = _weight_tensor(model, name, layer).name
    scale, zero_point = f"{name}.input.scale", f"{name}.input.zero_point"
    kind = _onnx().TensorProto.UINT8
    constants = model.graph.initializer
    constants.append(_floats(helper, scale, np.array(grid["scale"], np.float32), ()))
    constants.append(helper.make_tensor(zero_point, kind, (), [int(grid["zero_point"])]))
    products = [node for node in model.graph.node if _reads(model, node, weight)]
    if not products:
        raise ModelError(
            f"layer {name!r}: its input is not found in the exported graph, so it cannot be rounded"
        )
    for number, node in enumerate(products):
        codes, values = (f"{name}.input.{part}.{number}" for part in ("codes", "values"))
        pair = (
            helper.make_node("QuantizeLinear", [node.input[0], scale, zero_point], [codes]),
            helper.make_node("DequantizeLinear", [codes, scale, zero_point], [values]),
        )
        position = list(model.graph.node).index(node)
        node.input[0] = values
        for step, made in enumerate(pair):
            model.graph.node.insert(position + step, made)


def _reads(model: Any, node: Any, weight: str) -> bool:
    """Return whether a product's second factor is this weight, or its transpose."""
    if node.op_type not in ("Conv", "Gemm", "MatMul") or len(node.input) < 2:
        return False
    names = {weight}
    for other in model.graph.node:
        if other.op_type == "Transpose" and other.input[0] == weight:
            names.update(other.output)
    return node.input[1] in names


def _weight_tensor(model: Any, name: str, layer: QuantizedLayer) -> Any:
    """Return the initializer with the weight of a layer, found by its name and its values.

    Raises:
        ModelError: There is none with these values: a name alone is no evidence.
    """
    numpy_helper = import_extra("onnx.numpy_helper", "onnx", "writing an .onnx file")
    values = layer.dequantize()
    named = [tensor for tensor in model.graph.initializer if tensor.name == f"{name}.weight"]
    for tensor in [*named, *model.graph.initializer]:
        if tuple(tensor.dims) != values.shape:
            continue
        if np.array_equal(numpy_helper.to_array(tensor), values):
            return tensor
    raise ModelError(
        f"layer {name!r}: its weight is not a tensor of the exported graph, so its codes cannot be "
        "stored; PyTorch's exporter computes another tensor from it"
    )


def _dequantizing(
    model: Any, weight: str, layer: QuantizedLayer, bits: int, *, joined: bool
) -> list[Any]:
    """Return the operators that make the tensor `weight` from codes, and add their constants.

    Args:
        model: The file, to which constants are added.
        weight: Name of the tensor.
        layer: Codes and grid.
        bits: Width of the stored codes.
        joined: Whether inputs are rounded, so that a runtime may join the operators around a product.
    """
    helper = import_extra("onnx.helper", "onnx", "writing an .onnx file")
    kind = getattr(_onnx().TensorProto, f"UINT{bits}")
    constants = model.graph.initializer
    names = {part: f"{weight}.{part}" for part in ("codes", "scale", "zero_point")}
    packed = pack_codes(layer.codes.reshape(-1), bits)
    constants.append(helper.make_tensor(names["codes"], kind, layer.codes.shape, packed, raw=True))

    has_product = not joined or bits > 2
    if has_product and _is_plain(model, weight) and _are_codes(layer.zero_point, bits):
        shape = () if len(layer.scale) == 1 else layer.scale.shape
        points = pack_codes(layer.zero_point.astype(np.uint8), bits)
        constants.append(_floats(helper, names["scale"], layer.scale, shape))
        constants.append(helper.make_tensor(names["zero_point"], kind, shape, points, raw=True))
        inputs = [names["codes"], names["scale"], names["zero_point"]]
        return [helper.make_node("DequantizeLinear", inputs, [weight], axis=0)]

    # Steps of their own, which no runtime takes for the weight of a matrix product.
    shape = (len(layer.scale), *[1] * (layer.codes.ndim - 1))
    one, floats, shifted = f"{weight}.one", f"{weight}.floats", f"{weight}.shifted"
    constants.append(_floats(helper, one, np.ones(1, np.float32), ()))
    constants.append(_floats(helper, names["scale"], layer.scale, shape))
    constants.append(_floats(helper, names["zero_point"], layer.zero_point, shape))
    return [
        helper.make_node("DequantizeLinear", [names["codes"], one], [floats]),
        helper.make_node("Sub", [floats, names["zero_point"]], [shifted]),
        helper.make_node("Mul", [shifted, names["scale"]], [weight]),
    ]


def _is_plain(model: Any, weight: str) -> bool:
    """Return whether a weight is used only by operators that compute with it as the file says."""
    for node in model.graph.node:
        if weight not in node.input:
            continue
        transposed = any(item.name == "transB" and item.i == 1 for item in node.attribute)
        plain = node.op_type == "Conv" or (node.op_type == "Gemm" and transposed)
        if not plain or list(node.input).index(weight) != 1:
            return False
    return True


def _are_codes(zero_point: np.ndarray, bits: int) -> bool:
    whole = zero_point == np.round(zero_point)
    return bool((whole & (zero_point >= 0) & (zero_point < 2**bits)).all())


def _floats(helper: Any, name: str, values: np.ndarray, shape: tuple[int, ...]) -> Any:
    content = values.astype("<f4").tobytes()
    return helper.make_tensor(name, _onnx().TensorProto.FLOAT, shape, content, raw=True)


def _remove_notes(model: Any) -> None:
    """Remove the exporter's notes, which hold paths and the text of source files."""
    graph = model.graph
    graph.ClearField("value_info")
    parts = (model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer)
    for part in parts:
        part.ClearField("doc_string")
        part.ClearField("metadata_props")


def _describe(model: Any, spec: ModelSpec, weights: Weights | QuantizedWeights, opset: int) -> None:
    """Write the format's version and the file's metadata."""
    model.ir_version = OPSETS[opset]
    model.producer_name, model.producer_version = "bitleak", metadata.version("bitleak")
    model.graph.name = spec.name
    facts: dict[str, Any] = {
        "bitleak.network": {"name": spec.name, "options": dict(spec.options)},
        "bitleak.mean": list(spec.mean),
        "bitleak.std": list(spec.std),
    }
    if isinstance(weights, QuantizedWeights):
        if weights.activations:
            facts["bitleak.activations"] = 8
        facts["bitleak.levels"] = {name: layer.levels for name, layer in weights.layers.items()}
    for key, value in facts.items():
        model.metadata_props.add(key=key, value=json.dumps(value, separators=(",", ":")))
