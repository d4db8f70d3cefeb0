"""Whether ONNX Runtime's 8-bit products are exact: the probe beside the processor's own flags, and what follows."""

import platform
from pathlib import Path

import pytest
from onnx_networks import require_onnx

from bitleak.core.errors import ModelError
from bitleak.runtimes import onnx as onnx_runtime
from bitleak.runtimes.integer_products import SATURATES, products_saturate
from bitleak.runtimes.runtime import runtime_of
from bitleak.tools import tool_versions as versions_of_tools
from bitleak.tools.tool_versions import check_planned, tool_versions


@pytest.fixture(autouse=True)
def packages():
    require_onnx()


def test_products_saturate_on_x86_without_vnni_alone():
    info = Path("/proc/cpuinfo")
    if platform.machine() != "x86_64" or not info.exists():
        pytest.skip("needs the flags of an x86 processor")
    flags = next(line for line in info.read_text().splitlines() if line.startswith("flags"))
    exact = {"avx512_vnni", "avx_vnni"} & set(flags.split())
    assert products_saturate() is not bool(exact)


@pytest.mark.parametrize("saturates", [False, True])
def test_versions_and_keys_say_so(saturates, monkeypatch):
    for module in (onnx_runtime, versions_of_tools):
        monkeypatch.setattr(module, "products_saturate", lambda: saturates)
    assert (SATURATES in runtime_of("onnx", {}).version()) is saturates
    assert (SATURATES in tool_versions("onnxruntime")) is saturates


def test_a_worker_whose_processor_computes_otherwise_is_refused(monkeypatch):
    monkeypatch.setattr(versions_of_tools, "products_saturate", lambda: False)
    planned = tool_versions("onnxruntime")
    check_planned("onnxruntime", planned)
    monkeypatch.setattr(versions_of_tools, "products_saturate", lambda: True)
    with pytest.raises(ModelError, match=f"but this machine has .*{SATURATES}"):
        check_planned("onnxruntime", planned)
