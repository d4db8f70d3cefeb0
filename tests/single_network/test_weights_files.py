"""Files of weights are told apart by their content: safetensors are read, pickles never."""

import json
import pickle

import numpy as np
import pytest
import torch
from safetensors.numpy import save
from safetensors.torch import save_file

from bitleak.core.errors import ModelError
from bitleak.core.types import ModelSpec, Weights
from bitleak.models import build, load, state
from bitleak.single_network.weights_files import read_weights

WEIGHT = np.arange(6, dtype=np.float32).reshape(2, 3)


def file_with_header_of(length: int) -> bytes:
    """A valid safetensors file whose header has that many bytes, padded with spaces as the format allows."""
    data = save({"weight": WEIGHT})
    written = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + written].rstrip().ljust(length)
    return len(header).to_bytes(8, "little") + header + data[8 + written :]


def test_safetensors_are_read_whatever_the_length_of_their_header(tmp_path):
    path = tmp_path / "net.safetensors"
    for length in [*range(80, 80 + 256), 0x4B50, 0x4B50 + 0x10000, 0x180]:
        path.write_bytes(file_with_header_of(length))
        np.testing.assert_array_equal(read_weights(path).tensors["weight"], WEIGHT)


@pytest.mark.parametrize("name", ["net.bin", "net.pt", "weights"])
def test_safetensors_are_read_whatever_the_file_is_called(tmp_path, name):
    (tmp_path / name).write_bytes(file_with_header_of(0x80))
    np.testing.assert_array_equal(read_weights(tmp_path / name).tensors["weight"], WEIGHT)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_called_safetensors_is_named_as_one(tmp_path, protocol):
    path = tmp_path / "net.safetensors"
    path.write_bytes(pickle.dumps({"weight": WEIGHT.tolist(), "{": "{" * 100}, protocol=protocol))
    with pytest.raises(ModelError, match="a pickle can run code"):
        read_weights(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_files_of_torch_save_are_named_as_pickles(tmp_path, zipped):
    path = tmp_path / "net.safetensors"
    torch.save({"weight": torch.tensor(WEIGHT)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ModelError, match="a pickle can run code"):
        read_weights(path)


@pytest.mark.parametrize(
    "kind", ["F4", "F6_E2M3", "F6_E3M2", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "C64"]
)
def test_codes_of_quantized_weights_are_refused_by_tensor_and_type(tmp_path, kind):
    bits = 64 if kind == "C64" else int(kind[1])
    entry = {"dtype": kind, "shape": [4, 4], "data_offsets": [0, 2 * bits]}
    header = json.dumps({"stem.weight": entry}).encode().ljust(160)
    path = tmp_path / "net.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(2 * bits))
    with pytest.raises(
        ModelError, match=f"tensor 'stem.weight' is of type {kind}; expected .* scales"
    ):
        read_weights(path)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_wider_and_narrower_floats_are_read_as_float32(tmp_path, dtype):
    save_file({"weight": torch.tensor(WEIGHT, dtype=dtype)}, tmp_path / "net.safetensors")
    found = read_weights(tmp_path / "net.safetensors").tensors["weight"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, WEIGHT)


def test_integers_in_the_place_of_weights_are_refused():
    spec = ModelSpec("cnn", {"width": 4}, 10, 1, 8, (0.5,), (0.2,))
    tensors = state(build(spec, seed=0))
    name = next(name for name in tensors if name.endswith("weight"))
    tensors[name] = np.ones(tensors[name].shape, np.int8)
    with pytest.raises(
        ModelError, match=f"tensor '{name}' of model cnn must hold floating-point numbers, got int8"
    ):
        load(Weights(tensors, spec))
