"""Run brevitas' layer-by-layer quantizers on a network; runs in brevitas' own environment.

    PYTHONPATH=src PEERS/bin/python benchmarks/quantizers/peer_brevitas.py SPEC WEIGHTS CALIBRATION RESULT OPTIONS

`OPTIONS` is JSON: `algorithm` (`gpfq`, `qronos` or `gptq`), `levels` (a power of 2, or 3), `grid`
(`stats` or `mse`), `order` (`index` or `activation`). The functions of brevitas' ImageNet example
do the work, in the order of its `ptq_evaluate.py`: weights only, per channel, float scales, first
and last layer like the rest. The grid of 2**b levels is its asymmetric one; 3 levels are its
symmetric 2 bits with a narrow range. `RESULT` gets the state dict with the quantized weights, and
the CPU seconds in its metadata.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from brevitas.quant_tensor import QuantTensor
from brevitas_examples.imagenet_classification.ptq.ptq_common import (
    apply_gpfq,
    apply_gptq,
    apply_qronos,
    quantize_model,
)
from safetensors.numpy import load_file
from safetensors.torch import save_file
from torch import Tensor, nn

from bitleak.core.types import ModelSpec, Weights
from bitleak.models import load

BATCH = 64  # the example's default


def quantized(
    network: nn.Module, calibration: Tensor, *, algorithm: str, levels: int, grid: str, order: str
) -> dict:
    """Return the state dict with brevitas' weights instead of the network's."""
    narrow = levels == 3
    bits = 2 if narrow else levels.bit_length() - 1
    model = quantize_model(
        network,
        backend="layerwise",
        weight_bit_width=bits,
        layerwise_first_last_bit_width=bits,
        act_bit_width=None,
        bias_bit_width=None,
        weight_quant_granularity="per_channel",
        weight_quant_type="sym" if narrow else "asym",
        weight_narrow_range=narrow,
        weight_param_method=grid,
        act_quant_percentile=None,
        act_quant_type="sym",
        scale_factor_type="float_scale",
        quant_format="int",
    ).eval()
    batches = [(images, torch.zeros(len(images))) for images in calibration.split(BATCH)]
    with torch.no_grad():
        model(batches[0][0])  # sets the scales
    by_activation = order == "activation"
    if algorithm == "gpfq":
        apply_gpfq(batches, model, act_order=by_activation)
    elif algorithm == "qronos":
        apply_qronos(model, batches, act_order=by_activation)
    else:
        apply_gptq(batches, model, act_order=by_activation)
    return {
        name: module.quant_weight()
        for name, module in model.named_modules()
        if hasattr(module, "quant_weight")
    }


def main() -> None:
    spec, weights, calibration, result = map(Path, sys.argv[1:5])
    torch.set_num_threads(1)
    network = load(Weights(load_file(weights), ModelSpec(**json.loads(spec.read_text()))))
    images = torch.from_numpy(np.ascontiguousarray(load_file(calibration)["calibration"]))
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    start = time.process_time()
    found = quantized(network, images, **json.loads(sys.argv[5]))
    seconds = time.process_time() - start
    for name, weight in found.items():
        value = weight.value if isinstance(weight, QuantTensor) else weight
        state[f"{name}.weight"] = value.detach().contiguous()
    save_file(
        state, result, metadata={"cpu_seconds": str(seconds), "layers": json.dumps(list(found))}
    )


if __name__ == "__main__":
    main()
