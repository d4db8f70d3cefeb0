"""Types of fewer than 8 bits against runtimes: does a file load, are its logits right, how large is it?

    python benchmarks/sub_byte_types.py

A network of one convolution, a ReLU and a linear layer of 10 outputs, with random codes of each type,
one scale per output channel and no zero point, is written for each runtime: as DequantizeLinear before
Conv and Gemm (transB=1) for ONNX Runtime, as Convert and Multiply for OpenVINO, as DEQUANTIZE before
CONV_2D and FULLY_CONNECTED and as these with packed weights for LiteRT. Its logits on 64 images are
compared with PyTorch's in float64. `right`: within 1e-5 of the largest logit; `rounded`: within 5 %,
as of a product that rounds its images to 8 bits. Runtimes that are not installed are left out.
"""

import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from bitleak.core.errors import ModelError
from bitleak.core.types import ModelSpec
from bitleak.runtimes.packed_codes import pack_codes
from bitleak.runtimes.runtime import open_network, runtime_for

sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))

SIZE, CHANNELS, WIDTH = 8, 3, 8
SPEC = ModelSpec("cnn", {}, 10, CHANNELS, SIZE, (0.5,) * 3, (0.25,) * 3)
FLOAT4 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)
TYPES = {
    "UINT2": (2, np.arange(4)),
    "INT2": (2, np.array([0, 1, -2, -1])),
    "UINT4": (4, np.arange(16)),
    "INT4": (4, np.append(np.arange(8), np.arange(-8, 0))),
    "FLOAT4E2M1": (4, FLOAT4),
    "INT8": (8, np.append(np.arange(128), np.arange(-128, 0))),
}
"""Bits of each type, and the number that each bit pattern stands for."""

Layers = tuple[dict[str, np.ndarray], dict[str, np.ndarray]]


def layers(kind: str) -> dict[str, dict[str, np.ndarray]]:
    """Return patterns, values, scales and biases of both layers."""
    chance = np.random.default_rng(0)
    bits, numbers = TYPES[kind]
    made = {}
    shapes = {"conv": (WIDTH, CHANNELS, 3, 3), "head": (10, WIDTH * SIZE * SIZE)}
    for name, shape in shapes.items():
        patterns = chance.integers(0, 2**bits, shape).astype(np.uint8)
        if kind == "INT8":
            patterns[patterns == 128] = 0  # LiteRT has no -128 in weights
        scale = (chance.uniform(0.5, 1, shape[0]) / np.abs(numbers).max()).astype(np.float32)
        column = scale.reshape(-1, *[1] * (len(shape) - 1))
        made[name] = {
            "patterns": patterns,
            "scale": scale,
            "weight": (numbers[patterns] * column).astype(np.float32),
            "bias": chance.standard_normal(shape[0]).astype(np.float32),
        }
    return made


def expected(made: dict[str, dict[str, np.ndarray]], images: np.ndarray) -> np.ndarray:
    """Return the logits by PyTorch in float64."""
    tensors = {
        (name, part): torch.from_numpy(layer[part]).double()
        for name, layer in made.items()
        for part in ("weight", "bias")
    }
    inputs = torch.from_numpy(images).double()
    hidden = functional.conv2d(
        inputs, tensors["conv", "weight"], tensors["conv", "bias"], padding=1
    )
    hidden = hidden.relu().flatten(1)
    return functional.linear(hidden, tensors["head", "weight"], tensors["head", "bias"]).numpy()


def onnx_file(kind: str, made: Any, folder: Path) -> Path:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes, constants = [], []
    for name, layer in made.items():
        packed = pack_codes(layer["patterns"].ravel(), TYPES[kind][0])
        shape, stored = layer["patterns"].shape, getattr(TensorProto, kind)
        constants.append(helper.make_tensor(f"{name}.codes", stored, shape, packed, raw=True))
        constants += [
            numpy_helper.from_array(layer[key], f"{name}.{key}") for key in ("scale", "bias")
        ]
        inputs, output = [f"{name}.codes", f"{name}.scale"], [f"{name}.weight"]
        nodes.append(helper.make_node("DequantizeLinear", inputs, output, axis=0))
    weights = {name: [f"{name}.weight", f"{name}.bias"] for name in made}
    nodes += [
        helper.make_node("Conv", ["images", *weights["conv"]], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Flatten", ["r"], ["f"]),
        helper.make_node("Gemm", ["f", *weights["head"]], ["logits"], transB=1),
    ]
    shapes = {"images": ["n", CHANNELS, SIZE, SIZE], "logits": ["n", 10]}
    values = [helper.make_tensor_value_info(name, 1, shape) for name, shape in shapes.items()]
    graph = helper.make_graph(nodes, "network", values[:1], values[1:], constants)
    opsets = [helper.make_opsetid("", 25)]
    path = folder / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=13), path)
    return path


def openvino_file(kind: str, made: Any, folder: Path) -> Path:
    import openvino as kit
    from openvino import opset13 as op

    names = {"UINT2": "u2", "UINT4": "u4", "INT4": "i4", "FLOAT4E2M1": "f4e2m1", "INT8": "i8"}
    if kind not in names:
        raise ModelError("OpenVINO has no such type")
    images = op.parameter([-1, CHANNELS, SIZE, SIZE], kit.Type.f32, name="images")
    weights = {}
    for name, layer in made.items():
        values = TYPES[kind][1][layer["patterns"]]
        plain = values.astype(np.float32 if kind == "FLOAT4E2M1" else np.int8)
        codes = op.constant(plain, dtype=getattr(kit.Type, names[kind]))
        scale = layer["scale"].reshape(-1, *[1] * (plain.ndim - 1))
        weights[name] = op.multiply(op.convert(codes, kit.Type.f32), op.constant(scale))
    bias = op.constant(made["conv"]["bias"].reshape(1, -1, 1, 1))
    hidden = op.relu(op.add(op.convolution(images, weights["conv"], *[[1, 1]] * 4), bias))
    flat = op.reshape(hidden, op.constant(np.array([0, -1])), True)
    product = op.matmul(flat, weights["head"], False, True)
    logits = op.add(product, op.constant(made["head"]["bias"].reshape(1, -1)))
    path = folder / "net.xml"
    model = kit.Model([op.result(logits)], [images], "network")
    kit.save_model(model, path, compress_to_fp16=False)
    return path


def litert_file(kind: str, made: Any, folder: Path, *, packed: bool) -> Path:
    from tflite_files import Graph

    graph = Graph()
    if not hasattr(graph.tables.TensorType, kind):
        raise ModelError("LiteRT has no such type")
    images = graph.tensor("images", (-1, SIZE, SIZE, CHANNELS))
    weights = {}
    for name, layer in made.items():
        patterns = layer["patterns"]
        if name == "conv":
            patterns = patterns.transpose(0, 2, 3, 1)
        else:  # the images have their channels last
            patterns = patterns.reshape(10, WIDTH, SIZE, SIZE).transpose(0, 2, 3, 1).reshape(10, -1)
        data = pack_codes(np.ascontiguousarray(patterns).ravel(), TYPES[kind][0])
        grid = (layer["scale"], [0] * len(layer["scale"]))
        codes = graph.tensor(f"{name}.codes", patterns.shape, kind, data=data, grid=grid)
        if not packed:
            floats = graph.tensor(f"{name}.weight", patterns.shape)
            graph.node("DEQUANTIZE", (codes,), (floats,), version=6)
            codes = floats
        weights[name] = (
            codes,
            graph.tensor(f"{name}.bias", (patterns.shape[0],), values=layer["bias"]),
        )
    hidden = graph.tensor("hidden", (-1, SIZE, SIZE, WIDTH))
    strides = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
    graph.node(
        "CONV_2D",
        (images, *weights["conv"]),
        (hidden,),
        version=5 if packed else 1,
        options="Conv2DOptions",
        fusedActivationFunction=graph.tables.ActivationFunctionType.RELU,
        **strides,
    )
    flat = graph.tensor("flat", (-1, WIDTH * SIZE * SIZE))
    sizes = graph.tensor("sizes", (2,), "INT32", values=np.array([-1, WIDTH * SIZE**2], np.int32))
    graph.node("RESHAPE", (hidden, sizes), (flat,), options="ReshapeOptions", newShape=[-1, 512])
    logits = graph.tensor("logits", (-1, 10))
    graph.node(
        "FULLY_CONNECTED",
        (flat, *weights["head"]),
        (logits,),
        version=9 if packed else 1,
        options="FullyConnectedOptions",
    )
    path = folder / "net.tflite"
    path.write_bytes(graph.content([images], [logits]))
    return path


def verdict(path: Path, images: np.ndarray, truth: np.ndarray, **options: Any) -> str:
    """Return how right the answers are, with the largest error relative to the largest logit."""
    try:
        _, runtime = runtime_for(path, options)
        answers = open_network(runtime.read(path, SPEC))(images)
    except ModelError as error:
        text = str(error)
        return "not finite" if "is not finite" in text else f"no: {text[:110]}"
    error = float(np.abs(answers - truth).max() / np.abs(truth).max())
    word = "right" if error < 1e-5 else "rounded" if error < 0.05 else "wrong"
    return f"{word} ({error:.0e})"


def rows() -> Iterator[tuple[str, str, str, str, str]]:
    images = np.random.default_rng(1).standard_normal((64, CHANNELS, SIZE, SIZE), dtype=np.float32)
    writers: dict[str, Callable[[str, Any, Path], Path]] = {
        "ONNX Runtime": onnx_file,
        "OpenVINO": openvino_file,
        "LiteRT, DEQUANTIZE": lambda *parts: litert_file(*parts, packed=False),
        "LiteRT, packed weights": lambda *parts: litert_file(*parts, packed=True),
    }
    for kind in TYPES:
        made = layers(kind)
        truth = expected(made, images)
        for name, write in writers.items():
            with tempfile.TemporaryDirectory() as folder:
                try:
                    path = write(kind, made, Path(folder))
                except (ModelError, ImportError) as error:
                    yield kind, name, f"no: {error}", "", ""
                    continue
                used = verdict(path, images, truth, optimisation="all")
                plain = verdict(path, images, truth, optimisation="none")
                size = sum(file.stat().st_size for file in Path(folder).iterdir())
                yield kind, name, used, plain, f"{size:,}"


def main() -> None:
    print("| type | runtime | as used | without optimisations | bytes |")
    print("|---|---|---|---|---|")
    for row in rows():
        print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
