#!/usr/bin/env bash
# PyTorch 2.13.0, torch.onnx.export(dynamo=True): an initializer of the file has the name of a parameter, but not its values.
#
# Expected: an initializer that is called conv.weight is the parameter conv.weight. The older exporter (dynamo=False)
# gave a weight that it had changed a new name (onnx::Conv_16), so that names could be trusted.
# Observed: the optimiser that runs by default folds batch norms into the convolutions before them and keeps the name of
# the weight. Here conv.weight is off by far more than rounding, and each output channel by another factor, some of them
# negative, so that signs and the order of codes are mirrored; the norm's own parameters are gone. No warning is given.
# With optimize=False names and values agree, and the batch norm stays a node of its own.
# Consequence: whoever matches weights by name, to compare a file with its checkpoint, to count levels, to measure the
# error of quantization or to load the file into the network, works with other numbers and sees nothing.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    'torch==2.13.0' 'onnx==1.23.2' 'onnxscript==0.7.2' 'numpy==2.4.6'
cat > "$folder/names.py" <<'PYTHON'
import sys
import warnings

import onnx
import torch
from onnx import numpy_helper
from torch import nn

warnings.simplefilter("ignore")
torch.manual_seed(0)


class Network(nn.Module):
    """A convolution, its batch norm and a head."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 10)

    def forward(self, images):
        return self.head(self.norm(self.conv(images)).relu().mean((2, 3)))


network = Network()
with torch.no_grad():
    network.norm.weight.uniform_(-2, 2)
    network(torch.randn(64, 3, 16, 16))
network.eval()
parameters = network.state_dict()
print("torch", torch.__version__.split("+")[0])
wrong = {}
for name, options in {
    "dynamo=True": {"dynamo": True},
    "dynamo=True, optimize=False": {"dynamo": True, "optimize": False},
    "dynamo=False": {"dynamo": False},
}.items():
    path = f"{sys.argv[1]}/network.onnx"
    torch.onnx.export(network, (torch.randn(2, 3, 16, 16),), path, verbose=False, external_data=False, **options)
    graph = onnx.load(path).graph
    shared = [tensor for tensor in graph.initializer if tensor.name in parameters]
    wrong[name] = []
    for tensor in shared:
        values = torch.tensor(numpy_helper.to_array(tensor))
        if not torch.allclose(values, parameters[tensor.name], atol=1e-6):
            wrong[name].append(tensor.name)
            factors = (values / parameters[tensor.name]).mean(dim=(1, 2, 3))
            print(f"{tensor.name}: factors per channel {[round(float(factor), 2) for factor in factors]}")
    print(f"{name}: {len(shared)} names of parameters, with other values: {wrong[name] or 'none'}")
assert wrong == {"dynamo=True": ["conv.weight"], "dynamo=True, optimize=False": [], "dynamo=False": []}, wrong
PYTHON
"$folder/venv/bin/python" "$folder/names.py" "$folder" 2> "$folder/log" || { tail -3 "$folder/log"; exit 1; }
echo "as stated"
