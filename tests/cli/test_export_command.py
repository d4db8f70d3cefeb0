"""`bitleak export`: what it writes, says and refuses."""

from dataclasses import replace

import numpy as np
import pytest
from onnx_networks import REASON, SPEC, quantized, trained

from bitleak.core.types import ModelSpec
from bitleak.engine.codecs import encode
from bitleak.engine.keys import Task
from bitleak.engine.store import Store
from bitleak.single_network import save_quantized

for package in ("onnx", "onnxruntime", "onnxscript"):
    pytest.importorskip(package, reason=REASON)


@pytest.fixture(scope="module")
def codes():
    return quantized(trained(SPEC), SPEC, levels=3)


def test_the_bytes_that_are_claimed_and_those_of_the_file_stand_side_by_side(
    bitleak, codes, tmp_path
):
    save_quantized(codes, tmp_path / "codes")
    code, out, err = bitleak(
        "export", "--weights", tmp_path / "codes.json", "--out", tmp_path / "net.onnx"
    )
    assert code == 0, err
    size = (tmp_path / "net.onnx").stat().st_size
    first, second = out.splitlines()
    packed = sum(
        -(-layer.codes.size * np.log2(3) // 8) + 5 * len(layer.scale)
        for layer in codes.layers.values()
    )
    claimed = int(packed + sum(array.nbytes for array in codes.rest.values()))
    assert first.endswith(
        f"net.onnx: {size:,} bytes (weights as tables count them: {claimed:,}), opset 25, UINT2"
    )
    assert second.startswith("onnxruntime")
    assert second.endswith(" of the network's, 0 predictions changed")
    assert float(second.split(" within ")[1].split()[0]) < 1e-5


def test_a_result_of_a_store_is_exported(bitleak, codes, tmp_path):
    folder = Store(tmp_path / "store").write(Task("quantize", "1"), encode(codes), {})
    code, out, err = bitleak("export", "--weights", folder, "--out", "net.onnx")
    assert code == 0, err
    assert "UINT2" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"--out": "net.pt"}, "--out net.pt: expected the name of a file that ends in .onnx"),
        ({"--opset": "13"}, "--opset must be one of 21, 22, 23, 24, 25"),
        ({"--weights": "gone.json"}, "gone.json: cannot be read (No such file or directory)"),
        (
            {"--model": "cnn:width=8"},
            "--model: the weights are those of cnn:width=4, got cnn:width=8",
        ),
    ],
)
def test_mistakes_are_refused_before_anything_is_written(
    bitleak, codes, tmp_path, options, message, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    save_quantized(codes, tmp_path / "codes")
    given = {"--weights": "codes.json", "--out": "net.onnx", **options}
    code, _, err = bitleak("export", *[part for pair in given.items() for part in pair])
    assert code == 2
    assert message in err
    assert not list(tmp_path.glob("net.*"))


def test_outside_code_is_called_only_if_it_is_named(bitleak, codes, tmp_path):
    spec = ModelSpec("external", {"factory": "zoo:net"}, 10, 3, 8, SPEC.mean, SPEC.std)
    save_quantized(replace(codes, spec=spec), tmp_path / "codes")
    code, _, err = bitleak(
        "export", "--weights", tmp_path / "codes.json", "--out", tmp_path / "net.onnx"
    )
    assert code == 2
    assert "--model: missing; the weights name outside code" in err
    assert "add --model zoo:net" in err
