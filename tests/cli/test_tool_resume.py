"""An audit with a tool that is killed while the tool runs, and started again."""

import signal
import subprocess
import sys
import time

import pytest
import yaml
from onnx_networks import require_onnx

from bitleak.cli import main
from bitleak.report import read_summary


@pytest.fixture
def config(tmp_path, tiny):
    require_onnx()
    tool = {
        "name": "tool",
        "call": "onnxruntime",
        "label": "int8",
        "options": {"reduce_range": True},
    }
    tiny |= {"quantize": [tool], "attacks": ["threshold", "lira-online-fixed"], "power": False}
    tiny["train"] |= {"epochs": 1}
    tiny["calibration"] = {"records": 16}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(tiny))
    return tmp_path / "config.yaml"


@pytest.mark.usefixtures("without_figures")
def test_an_audit_killed_in_the_middle_of_a_tool_ends_with_the_same_bytes(config, tmp_path):
    def options(name):
        places = ["--out", tmp_path / name / "out", "--store", tmp_path / name / "store"]
        return [str(part) for part in ("audit", config, *places, "--executor", "serial")]

    def quantized(name):
        return len(list((tmp_path / name / "store").glob("tool/*/*/manifest.json")))

    process = subprocess.Popen(
        [sys.executable, "-m", "bitleak", *options("killed")], stdout=subprocess.DEVNULL
    )
    end = time.monotonic() + 600
    while quantized("killed") < 2 and process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    # Of six models, some are quantized and the others are not.
    assert 2 <= quantized("killed") < 6
    assert main(options("killed")) == 0
    assert main(options("undisturbed")) == 0
    assert quantized("killed") == quantized("undisturbed") == 6
    results = [tmp_path / name / "out" / "results.csv" for name in ("killed", "undisturbed")]
    assert results[0].read_bytes() == results[1].read_bytes()
    (file,) = read_summary(results[0].parent).files
    assert (file.name, file.quantized_activations, file.optimisation) == ("int8", True, "all")
    assert 16 < file.levels <= 127
    assert file.coded_bytes <= file.layer_bytes < file.bytes
