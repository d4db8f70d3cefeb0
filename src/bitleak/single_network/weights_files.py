"""The weights to quantize: a `.safetensors` state dict, or a result of bitleak's store."""

import shlex
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch

from bitleak.core.damage import damage_as, reason
from bitleak.core.errors import ModelError, StoreError
from bitleak.core.types import QuantizedWeights, Weights
from bitleak.engine.artifacts import read_artifact
from bitleak.engine.codecs import decode, kind_of
from bitleak.engine.manifest import load_manifest

PICKLE_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle")
_ZIP, _PROTOCOL = b"PK", b"\x80"
"""First bytes of the archives that `torch.save` writes, and of any other pickle."""

_CONVERT = (
    "import sys, torch, safetensors.torch as s; "
    "c = torch.load(sys.argv[1], map_location='cpu', weights_only=True); "
    "f = lambda d: next((f(d[k]) for k in ('state_dict', 'model_state_dict', 'model', 'network', 'net', 'weights') "
    "if isinstance(d.get(k), dict)), d); "
    "t = {k: v.clone().contiguous() for k, v in f(c).items() if torch.is_tensor(v)}; "
    "t or sys.exit('no state dict found; the file holds ' + ', '.join(map(str, c))); "
    "s.save_file(t, sys.argv[2])"
)
"""A program that finds the state dict in a checkpoint and writes its tensors."""

_LENGTH = 8
"""Bytes of a safetensors file before its JSON header: the header's length, the low byte first."""

_NUMBERS = {
    "F64",
    "F32",
    "F16",
    "BF16",
    "I64",
    "I32",
    "I16",
    "I8",
    "U64",
    "U32",
    "U16",
    "U8",
    "BOOL",
}
"""Types of a state dict: their numbers need no scale that is stored elsewhere."""


def read_weights(path: Path) -> Weights:
    """Read the state dict of a file, without a spec, or a trained model of the store, with its
    spec.

    Args:
        path: A `.safetensors` file, or the folder of a result: `STORE/train/XX/KEY`.

    Returns:
        Tensors as arrays; floating-point tensors of any width become float32.

    Raises:
        ModelError: There is nothing, a pickle, a file that is not safetensors, a tensor of 4-, 6-
            or 8-bit floats or of complex numbers, a result that is no model's weights, or a number
            that is not finite.
        StoreError: The folder holds no result.
    """
    if not path.exists():
        raise ModelError(
            f"--weights {path}: no such file or folder; give a .safetensors file or a store's result"
        )
    weights = read_result(path) if path.is_dir() else Weights(_read_file(path))
    if isinstance(weights, QuantizedWeights):
        raise ModelError(
            f"--weights {path}: expected a trained model's weights, got quantized_weights; the store keeps "
            "the models in its folder `train`"
        )
    for name, array in weights.tensors.items():
        if not np.isfinite(array).all():
            raise ModelError(
                f"--weights {path}: tensor {name!r} holds NaN or infinite values; give trained weights"
            )
    return weights


def _read_file(path: Path) -> dict[str, np.ndarray]:
    if not _begins_as_safetensors(path) and _is_pickle(path):
        raise ModelError(f"--weights {path}: {_conversion(path)}")
    message = f"--weights {path}: not a .safetensors file"
    with damage_as(
        ModelError, message, "save the state dict as one", also=(safetensors.SafetensorError,)
    ):
        _check_types(path)
        tensors = safetensors.torch.load_file(path)
    return {name: _array(tensor) for name, tensor in tensors.items()}


def _check_types(path: Path) -> None:
    """Refuse floats of 4, 6 and 8 bits, which are codes of quantized weights, and complex
    numbers.
    """
    with safetensors.safe_open(path, framework="np") as file:
        types = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
    for name, kind in types.items():
        if kind not in _NUMBERS:
            raise ModelError(
                f"--weights {path}: tensor {name!r} is of type {kind}; expected floating-point weights of 16, 32 or 64 "
                "bits. If these are quantized weights, multiply them by their scales and save the state dict as F32"
            )


def _begins_as_safetensors(path: Path) -> bool:
    """Whether a JSON header of the stated length can follow; its first bytes may be those of a
    pickle.
    """
    with path.open("rb") as file:
        start = file.read(_LENGTH + 1)
    length = int.from_bytes(start[:_LENGTH], "little")
    return start[_LENGTH:] == b"{" and length <= path.stat().st_size - _LENGTH


def _is_pickle(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(len(_ZIP))
    return path.suffix in PICKLE_SUFFIXES or start == _ZIP or start[:1] == _PROTOCOL


def _conversion(path: Path) -> str:
    new = path.with_name(f"{path.stem}-converted.safetensors")
    return (
        "a pickle can run code when it is read, so it is never loaded; if you trust it, convert it (a state dict, or a "
        f'checkpoint that holds one): python -c "{_CONVERT}" {shlex.quote(str(path))} {shlex.quote(str(new))}'
    )


def read_result(path: Path) -> Weights | QuantizedWeights:
    """Read a model from the folder of a store's result, with its spec.

    Raises:
        ModelError: The folder holds no result, or the result of a step that makes no model.
    """
    if not (path / "manifest.json").is_file():
        raise ModelError(
            f"--weights {path}: no manifest.json in this folder; give a result of the store, such as "
            "bitleak-store/train/XX/KEY, or a .safetensors file"
        )
    artifacts: dict[str, Any] = {}
    for name in load_manifest(path)["files"]:
        try:
            artifacts[Path(name).stem] = read_artifact(path / name)
        except (OSError, ValueError) as error:
            raise ModelError(
                f"--weights {path}: {name} cannot be read ({reason(error)}); train the model again"
            ) from error
    kind = kind_of(artifacts)
    if kind not in ("weights", "quantized_weights"):
        raise ModelError(
            f"--weights {path}: expected a trained model's weights, got {kind or 'other artifacts'}; the store keeps "
            "the models in its folder `train`"
        )
    try:
        weights: Weights | QuantizedWeights = decode(kind, artifacts)
    except StoreError as error:
        raise ModelError(f"--weights {path}: {error}; train the model again") from error
    return weights


def _array(tensor: torch.Tensor) -> np.ndarray:
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()
