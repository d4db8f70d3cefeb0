#!/usr/bin/env bash
# PyTorch 2.13.0: `prepare_qat` with the qconfig for post-training quantization, `get_default_qconfig`, runs without a
# word, and the training that follows is ordinary training in float32, bit for bit.
#
# Expected: an error, a warning, or weights that are rounded in every forward pass, as quantization-aware training means.
# Observed: layers become those of `torch.ao.nn.qat`, but their `weight_fake_quant` is an observer, which gives its input
# back unchanged. Fifty steps end at the same weights as those of the network without any preparation. With
# `get_default_qat_qconfig` they differ. Nothing but the name of the function distinguishes the two calls.
# Consequence: published "quantization-aware" models made in this way were trained in float32 and rounded once at the
# end, so that what they show about training with quantization is about training alone.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check 'torch==2.13.0' 'numpy==2.4.6'
cat > "$folder/train.py" <<'PYTHON'
import copy
import warnings

import torch
from torch.ao.quantization import get_default_qat_qconfig, get_default_qconfig, prepare_qat

torch.set_num_threads(1)
torch.manual_seed(0)
inputs, labels = torch.randn(256, 8), torch.randint(0, 3, (256,))
start = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3)).train()


def trained(network):
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(50):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(inputs), labels).backward()
        optimizer.step()
    return [network[layer].weight.detach() for layer in (0, 2)]


plain = trained(copy.deepcopy(start))
for make in (get_default_qconfig, get_default_qat_qconfig):
    network = copy.deepcopy(start)
    network.qconfig = make("x86")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        prepare_qat(network, inplace=True)
    about = [warning for warning in told if "qconfig" in str(warning.message)]
    same = all(torch.equal(*pair) for pair in zip(plain, trained(network), strict=True))
    layer = type(network[0].weight_fake_quant).__name__
    print(f"{make.__name__}: {layer}, {len(about)} warnings, weights as without it: {same}")
PYTHON
"$folder/venv/bin/python" "$folder/train.py" 2> /dev/null | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN'
get_default_qconfig: PerChannelMinMaxObserver, 0 warnings, weights as without it: True
get_default_qat_qconfig: FusedMovingAvgObsFakeQuantize, 0 warnings, weights as without it: False
SEEN
echo "as stated"
