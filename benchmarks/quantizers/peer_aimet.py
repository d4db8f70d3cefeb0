"""Run AIMET's AdaRound on a network; runs in an environment that holds aimet-torch.

    PYTHONPATH=src PEERS/bin/python benchmarks/quantizers/peer_aimet.py SPEC WEIGHTS CALIBRATION RESULT OPTIONS

`OPTIONS` is JSON: `levels` (a power of 2), `iterations` per layer, `scheme` (`min_max` or
`post_training_tf_enhanced`, AIMET's default). Weights only, per channel, asymmetric. `RESULT` gets
the state dict with the quantized weights, and the CPU seconds in its metadata.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from bitleak.core.types import ModelSpec, Weights
from bitleak.models import load

BATCH = 32
CONFIG = {
    "defaults": {
        "ops": {},
        "params": {"is_quantized": "True", "is_symmetric": "False"},
        "per_channel_quantization": "True",
    },
    "params": {"bias": {"is_quantized": "False"}},
    "op_type": {},
    "supergroups": [],
    "model_input": {},
    "model_output": {},
}


def quantized(
    network: nn.Module, calibration: Tensor, *, levels: int, iterations: int, scheme: str
) -> nn.Module:
    """Return a network with AIMET's weights."""
    from aimet_torch.adaround.adaround_weight import Adaround, AdaroundParameters
    from aimet_torch.common.defs import QuantScheme

    torch.manual_seed(0)  # AIMET draws its batches from the global generator
    loader = DataLoader(TensorDataset(calibration), batch_size=BATCH)
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.json"
        config.write_text(json.dumps(CONFIG))
        return Adaround.apply_adaround(
            network,
            calibration[:1],
            AdaroundParameters(
                loader,
                len(loader),
                default_num_iterations=iterations,
                forward_fn=lambda model, batch: model(batch[0]),
            ),
            folder,
            "adaround",
            default_param_bw=levels.bit_length() - 1,
            default_quant_scheme=QuantScheme[scheme],
            default_config_file=str(config),
        )


def _without_compiled_torchvision() -> torch.library.Library:
    """Declare two operators that a torchvision for CUDA needs to be imported with a torch for the
    CPU.

    AIMET imports torchvision, but calls neither.
    """
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


def main() -> None:
    spec, weights, calibration, result = map(Path, sys.argv[1:5])
    torch.set_num_threads(1)
    library = None if "+cpu" not in torch.__version__ else _without_compiled_torchvision()
    network = load(Weights(load_file(weights), ModelSpec(**json.loads(spec.read_text()))))
    images = torch.from_numpy(np.ascontiguousarray(load_file(calibration)["calibration"]))
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    import aimet_torch.adaround.adaround_weight  # noqa: F401  # its import shall not count

    start = time.process_time()
    found = quantized(network, images, **json.loads(sys.argv[5]))
    seconds = time.process_time() - start
    modules = dict(found.named_modules())
    layers = [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    for name in layers:
        state[f"{name}.weight"] = modules[name].weight.detach().contiguous()
    save_file(state, result, metadata={"cpu_seconds": str(seconds), "layers": json.dumps(layers)})
    del library


if __name__ == "__main__":
    main()
