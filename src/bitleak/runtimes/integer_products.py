"""Whether ONNX Runtime's products of 8-bit integers are exact on this processor.

An x86 processor without VNNI instructions multiplies unsigned 8-bit activations by signed 8-bit weights
in pairs, and keeps the sum of two products in 16 bits: what lies beyond is cut to 32,767. A file with
8-bit weights and activations then answers otherwise than on a processor that has the instructions, and
than its own graph without optimisation. Weights of 7 bits, as ONNX Runtime's quantizer makes them with
`reduce_range`, are safe: 2 x 255 x 63 < 32,767.

So the answers of such a file depend on the processor, and with them everything that they leak.
"""

import functools
from typing import Any

import numpy as np

from bitleak.runtimes.packages import import_extra

SATURATES = "saturating 8-bit products"
"""What the version of ONNX Runtime, and the keys that hold it, say of such a processor."""

SAFE_CODE = 64
"""Largest absolute weight with which no sum is cut: 2 x 255 x 64 < 32,767."""

ADVICE = (
    "On this processor ONNX Runtime cuts the sums of two 8-bit products to 16 bits, as on any x86 processor without "
    "VNNI instructions: quantize with weights of 7 bits (reduce_range), audit on a processor as your users have, or "
    "choose the answers to audit by the runtime's option optimisation: all for those that users get on one like this, "
    "none for those of the graph"
)


@functools.cache
def products_saturate() -> bool:
    """Return whether a sum of 64 products of 255 and 127 is not what it must be.

    Raises:
        ModelError: ONNX or ONNX Runtime is not installed.
    """
    onnx: Any = import_extra("onnx", "onnx", "looking at an .onnx file")
    runtime: Any = import_extra("onnxruntime", "onnx", "answering an .onnx file")
    make, kinds = onnx.helper, onnx.TensorProto
    length = 64
    weights = np.full((length, 16), 127, np.int8)
    graph = make.make_graph(
        [make.make_node("MatMulInteger", ["bytes", "codes"], ["sums"])],
        "products",
        [make.make_tensor_value_info("bytes", kinds.UINT8, [1, length])],
        [make.make_tensor_value_info("sums", kinds.INT32, [1, 16])],
        [onnx.numpy_helper.from_array(weights, "codes")],
    )
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 13)], ir_version=7)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    (sums,) = session.run(None, {"bytes": np.full((1, length), 255, np.uint8)})
    return bool((sums != 255 * 127 * length).any())
