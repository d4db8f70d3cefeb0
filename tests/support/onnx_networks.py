"""Networks and files that several tests use, made once."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from bitleak.core.types import ModelSpec
from bitleak.models import build, load
from bitleak.models.fingerprint import random_images
from bitleak.quantizers.rtn import RoundToNearest

REASON = "needs bitleak[onnx]: onnx, onnxruntime and onnxscript"

SPEC = ModelSpec("cnn", {"width": 4}, 10, 3, 8, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))


def require_onnx():
    for package in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(package, reason=REASON)


def trained(spec, seed=0):
    """A network whose batch norms have seen data and whose logits are as large as trained ones."""
    network = build(spec, seed=seed)
    chance = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            noise = torch.randn(parameter.shape, generator=chance)
            # Gains of both signs: a file in which batch norms were folded would mirror the codes.
            parameter.copy_(noise if parameter.ndim == 1 else parameter + 0.1 * noise)
        for _ in range(3):
            network(random_images(spec, 64))
    return network.eval()


def quantized(network, spec, **options):
    return replace(
        RoundToNearest(**options)(network, random_images(spec, 8), torch.Generator()), spec=spec
    )


@pytest.fixture(scope="session")
def network():
    return trained(SPEC)


@pytest.fixture(scope="session")
def codes(network):
    """Codes of 16 levels."""
    return quantized(network, SPEC, levels=16)


@pytest.fixture(scope="session")
def exported(codes):
    """Their ONNX file's bytes."""
    require_onnx()
    from bitleak.runtimes.onnx_export import export_network

    return export_network(load(codes.dequantize()), codes)


@pytest.fixture
def file(exported, tmp_path):
    """A path of that file."""
    path = tmp_path / "net.onnx"
    path.write_bytes(exported.content)
    return path


@pytest.fixture(scope="session")
def images():
    return random_images(SPEC, 70).numpy()


@pytest.fixture(scope="session")
def expected(codes, images):
    """The logits by PyTorch."""
    with torch.no_grad():
        return np.asarray(load(codes.dequantize())(torch.from_numpy(images)))
