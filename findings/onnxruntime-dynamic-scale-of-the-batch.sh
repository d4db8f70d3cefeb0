#!/usr/bin/env bash
# onnxruntime 1.32.0, quantize_dynamic: what a network answers about an image depends on the images that it is asked
# about at the same time.
#
# Expected: dynamic quantization finds the range of activations at each run, so that each image has a range of its own,
# as in kits that take one per row.
# Observed: DynamicQuantizeLinear takes one range over the whole tensor, batch included. One neighbour whose values are
# 20 times larger changes the predicted class of about every tenth other image; ordinary neighbours move logits by
# some hundredths and change the prediction of about one image in a hundred.
# Consequence: accuracy and membership scores that are measured in batches are not those of a service that answers
# one image at a time; they change with batch size and shuffling, and a record can be made visible, or hidden, by its
# neighbours. Measure such a file with one image per run. quantize_static stores the range and is not affected.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    'onnxruntime==1.32.0' 'onnx==1.23.2' 'numpy==2.4.6' 'sympy==1.14.0'
cat > "$folder/batch.py" <<'PYTHON'
import logging
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

logging.disable(logging.WARNING)
chance = np.random.default_rng(0)
folder = sys.argv[1]
weights = [
    numpy_helper.from_array(chance.normal(size=(64, 32)).astype(np.float32), "first"),
    numpy_helper.from_array(chance.normal(size=(32, 10)).astype(np.float32) / 6, "second"),
]
nodes = [
    helper.make_node("MatMul", ["images", "first"], ["hidden"]),
    helper.make_node("Relu", ["hidden"], ["active"]),
    helper.make_node("MatMul", ["active", "second"], ["logits"]),
]
graph = helper.make_graph(
    nodes,
    "two_layers",
    [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 64])],
    [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 10])],
    weights,
)
opset = [helper.make_opsetid("", 21)]
onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), f"{folder}/float.onnx")
quantize_dynamic(f"{folder}/float.onnx", f"{folder}/int8.onnx", weight_type=QuantType.QInt8)

images = chance.normal(size=(256, 64)).astype(np.float32)
disturbed = images.copy()
disturbed[-1] *= 20
print("onnxruntime", onnxruntime.__version__)
for name in ("float", "int8"):
    session = onnxruntime.InferenceSession(f"{folder}/{name}.onnx", providers=["CPUExecutionProvider"])
    alone = np.concatenate([session.run(None, {"images": image[None]})[0] for image in images])[:-1]
    changed = {}
    for company, batch in (("ordinary", images), ("one large", disturbed)):
        together = session.run(None, {"images": batch})[0][:-1]
        changed[company] = np.mean(alone.argmax(axis=1) != together.argmax(axis=1))
        print(
            f"{name}, {company} neighbour: logits move by up to {np.abs(alone - together).max():.1e}, "
            f"{changed[company]:.1%} of predictions change"
        )
    if name == "float":
        assert max(changed.values()) == 0
    else:
        assert 0.05 < changed["one large"] < 0.25, "the scale is no longer shared by the batch"
PYTHON
"$folder/venv/bin/python" "$folder/batch.py" "$folder"
echo "as stated"
