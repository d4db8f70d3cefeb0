#!/usr/bin/env bash
# LiteRT 2.3.0: a convolution of float images with 2-bit weights (INT2, a scale per channel) is loaded without a word
# and answers NaN and wrong numbers; with 4 and 8 bits, and in a fully connected layer with 2 bits, it is right.
#
# Expected: y = conv(x, scale * codes) up to the rounding of x to 8 bits, which these "dynamic range" products do, as
# with INT4 and INT8; or a refusal, as of other types that a kernel does not have (UINT4: "filter->type != ...").
# Observed: CONV_2D with INT2 weights passes the preparation and answers wrong numbers, some of them NaN, by XNNPACK,
# without it, and by the reference kernels alike. FULLY_CONNECTED with INT2 weights is right.
# Consequence: a CNN whose weights were packed to 2 bits has NaN for logits; with finite wrong ones, nothing warns. Right
# is DEQUANTIZE before the convolution.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check 'ai-edge-litert==2.3.0' 'numpy==2.4.6'
cat > "$folder/products.py" <<'PYTHON'
import numpy as np
from ai_edge_litert import schema_py_generated as tables
from ai_edge_litert.interpreter import Interpreter, OpResolverType
import flatbuffers

SIZE, CHANNELS, WIDTH = 8, 3, 8
RESOLVERS = {
    "default": OpResolverType.AUTO,
    "without XNNPACK": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    "reference kernels": OpResolverType.BUILTIN_REF,
}
chance = np.random.default_rng(0)


def packed(codes, bits):
    fields = (codes.reshape(-1, 8 // bits) % 2**bits) << (bits * np.arange(8 // bits))
    return np.bitwise_or.reduce(fields, axis=1).astype(np.uint8)


def model(kind, codes, bits, scale, shapes, name, version, options):
    """A file of one operator on floats, with a weight of packed codes and a scale per output channel."""
    file, graph = tables.ModelT(), tables.SubGraphT()
    file.version, file.buffers = 3, [tables.BufferT() for _ in range(3)]
    file.buffers[1].data = packed(codes, bits)
    file.buffers[2].data = np.zeros(4 * len(scale), np.uint8)
    graph.tensors = []
    for place, (shape, number) in enumerate(zip((*shapes, scale.shape), ("FLOAT32", kind, "FLOAT32", "FLOAT32"))):
        tensor = tables.TensorT()
        tensor.name, tensor.shape, tensor.buffer = f"t{place}", list(shape), {1: 1, 3: 2}.get(place, 0)
        tensor.type = getattr(tables.TensorType, number)
        if place == 1:
            tensor.quantization = tables.QuantizationParametersT()
            tensor.quantization.scale = list(map(float, scale))
            tensor.quantization.zeroPoint = [0] * len(scale)
        graph.tensors.append(tensor)
    code, node = tables.OperatorCodeT(), tables.OperatorT()
    code.builtinCode = code.deprecatedBuiltinCode = getattr(tables.BuiltinOperator, name)
    code.version = version
    node.inputs, node.outputs, node.opcodeIndex = [0, 1, 3], [2], 0
    node.builtinOptionsType = getattr(tables.BuiltinOptions, options)
    node.builtinOptions = getattr(tables, options + "T")()
    for field in ("strideH", "strideW", "dilationHFactor", "dilationWFactor"):
        if hasattr(node.builtinOptions, field):
            setattr(node.builtinOptions, field, 1)
    graph.operators, graph.inputs, graph.outputs = [node], [0], [2]
    file.operatorCodes, file.subgraphs = [code], [graph]
    builder = flatbuffers.Builder(1024)
    builder.Finish(file.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def convolved(x, w):
    """SAME padding; x and w have their channels last."""
    p, out = np.pad(x.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0))), 0
    for i in range(3):
        for j in range(3):
            out = out + p[:, i : i + SIZE, j : j + SIZE] @ w[:, i, j].T
    return out


def answer(content, x, resolver):
    interpreter = Interpreter(model_content=content, experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    interpreter.set_tensor(0, x)
    interpreter.invoke()
    return interpreter.get_tensor(2)


def verdict(found, expected):
    error = np.abs(found - expected).max() / np.abs(expected).max()
    return "rounded" if error < 0.03 else "wrong"


for kind, bits in (("INT8", 8), ("INT4", 4), ("INT2", 2)):
    for name in ("CONV_2D", "FULLY_CONNECTED"):
        conv = name == "CONV_2D"
        shape = (WIDTH, 3, 3, CHANNELS) if conv else (WIDTH, 192)
        # Symmetric codes: -127 to 127, -7 to 7, -1 to 1.
        top = 2 ** (bits - 1) - 1
        codes = chance.integers(-top, top + 1, shape)
        scale = chance.uniform(0.5, 1, WIDTH).astype(np.float32) / top
        weight = codes * scale.reshape(-1, *[1] * (len(shape) - 1)).astype(np.float64)
        x = chance.standard_normal((4, SIZE, SIZE, CHANNELS) if conv else (4, 192)).astype(np.float32)
        y = convolved(x, weight) if conv else x @ weight.T
        shapes = (x.shape, shape, y.shape)
        if conv:
            content = model(kind, codes, bits, scale, shapes, name, 8, "Conv2DOptions")
        else:
            content = model(kind, codes, bits, scale, shapes, name, 9, "FullyConnectedOptions")
        words = []
        for label, resolver in RESOLVERS.items():
            words.append(f"{label} {verdict(answer(content, x, resolver), y)}")
        print(f"{kind} {name}: {', '.join(words)}")
PYTHON
"$folder/venv/bin/python" "$folder/products.py" 2> "$folder/log" | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN'
INT8 CONV_2D: default rounded, without XNNPACK rounded, reference kernels rounded
INT8 FULLY_CONNECTED: default rounded, without XNNPACK rounded, reference kernels rounded
INT4 CONV_2D: default rounded, without XNNPACK rounded, reference kernels rounded
INT4 FULLY_CONNECTED: default rounded, without XNNPACK rounded, reference kernels rounded
INT2 CONV_2D: default wrong, without XNNPACK wrong, reference kernels wrong
INT2 FULLY_CONNECTED: default rounded, without XNNPACK rounded, reference kernels rounded
SEEN
echo "as stated"
