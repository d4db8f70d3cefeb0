"""Keys of a tool's results: they hold the releases that made them, and no others."""

import sys
import types
from importlib import metadata

import numpy as np
import pytest

from bitleak.audit.graph import plan
from bitleak.config import validate
from bitleak.core import outside
from bitleak.core.errors import ConfigError, ModelError
from bitleak.core.types import Description, ModelSpec, NetworkFile
from bitleak.steps.scale import NetworkSize
from bitleak.tools import tool_versions as releases

DIGITS = Description(1797, 0, 10, 1, 8, "digits")
NETWORK = NetworkSize(5000, 100_000, ((16, 9), (16, 144), (10, 32)))
INSTALLED = {
    "onnx": "1.23",
    "onnxruntime": "1.32",
    "onnxscript": "0.7",
    "torch": "2.13",
    "quanto": "0.2",
}


OPTIONS = {"export": {"quantizer": "rtn", "levels": 16}}
"""Options that a tool needs."""


@pytest.fixture
def machine(monkeypatch):
    """Sets the releases that seem to be installed; all imports succeed that are among them."""
    modules = types.ModuleType("zoo_plain"), types.ModuleType("zoo_stated")
    for module in modules:
        module.to_int4 = lambda network, images, folder: None
        monkeypatch.setitem(sys.modules, module.__name__, module)
    modules[1].DISTRIBUTIONS = ("quanto", "onnxruntime")
    monkeypatch.setattr(releases, "products_saturate", lambda: False)

    def install(versions):
        def version(name):
            if name not in versions:
                raise metadata.PackageNotFoundError(name)
            return versions[name]

        def held(package):
            return tuple(name for name in versions if name.removesuffix("-gpu") == package)

        def imported(package, extra, purpose):
            if not held(package.partition(".")[0]):
                raise ModelError(f"{purpose} needs {package}: pip install 'bitleak[{extra}]'")

        # Modules that are imported meanwhile ask for releases of their own.
        known = types.SimpleNamespace(
            version=version, PackageNotFoundError=metadata.PackageNotFoundError
        )
        for module in (outside, releases):
            monkeypatch.setattr(module, "metadata", known)
        monkeypatch.setattr(outside, "distributions_of", held)
        monkeypatch.setattr(releases, "import_extra", imported)
        return modules

    return install


def tool_keys(*calls):
    raw = {
        "data": {"name": "digits", "limit": 400},
        "split": {"models": 6, "targets": 2},
        "model": {"name": "cnn", "width": 4},
        "quantize": [
            {
                "name": "tool",
                "call": call,
                "label": f"tool{number}",
                "options": OPTIONS.get(call, {}),
            }
            for number, call in enumerate(calls)
        ],
        "calibration": {"records": 64},
        "attacks": ["threshold"],
    }
    keys = {}
    for task in plan(validate(raw), DIGITS, NETWORK).tasks:
        if task.stage == "tool":
            keys.setdefault(task.params["call"], task.key)
    return [keys[call] for call in keys]


@pytest.mark.parametrize("call", ["onnxruntime", "export", "zoo_stated:to_int4"])
def test_a_kit_that_is_installed_renames_no_result_of_others(machine, call):
    machine(INSTALLED)
    before = tool_keys(call)
    machine({**INSTALLED, "nncf": "3.4", "openvino": "2026.4", "brevitas": "0.13"})
    assert tool_keys(call) == before


def test_another_release_of_the_kit_that_made_a_result_renames_it(machine):
    machine(INSTALLED)
    before = tool_keys("onnxruntime", "zoo_stated:to_int4")
    machine({**INSTALLED, "quanto": "0.3"})
    first, second = tool_keys("onnxruntime", "zoo_stated:to_int4")
    assert (first == before[0], second == before[1]) == (True, False)
    machine({**INSTALLED, "onnxruntime": "1.33"})
    assert not set(tool_keys("onnxruntime", "zoo_stated:to_int4")) & set(before)


def test_a_tool_that_names_nothing_may_use_any_kit(machine):
    machine(INSTALLED)
    assert releases.tool_versions("zoo_plain:to_int4@2") == (
        "onnx 1.23, onnxruntime 1.32, onnxscript 0.7, torch 2.13"
    )
    before = tool_keys("zoo_plain:to_int4")
    machine({**INSTALLED, "nncf": "3.4"})
    assert tool_keys("zoo_plain:to_int4") != before


def test_a_package_of_another_distribution_counts_by_its_own_release(machine):
    gpu = {
        ("onnxruntime-gpu" if name == "onnxruntime" else name): INSTALLED[name]
        for name in INSTALLED
    }
    machine(gpu)
    assert "onnxruntime-gpu 1.32" in releases.tool_versions("onnxruntime")


def test_a_plan_without_the_kit_is_refused(machine):
    _, stated = machine(INSTALLED)
    with pytest.raises(ModelError, match=r"tool brevitas needs brevitas.*bitleak\[brevitas\]"):
        tool_keys("brevitas")
    stated.DISTRIBUTIONS = ("quanta",)
    with pytest.raises(
        ModelError, match="needs quanta, which is not installed: pip install quanta"
    ):
        tool_keys("zoo_stated:to_int4")
    stated.DISTRIBUTIONS = "quanto"
    with pytest.raises(ConfigError, match=r"DISTRIBUTIONS: expected names .* got 'quanto'"):
        tool_keys("zoo_stated:to_int4")


def test_a_result_is_not_made_by_other_releases_than_planned(machine):
    machine(INSTALLED)
    planned = releases.tool_versions("onnxruntime")
    releases.check_planned("onnxruntime", planned)
    machine({**INSTALLED, "onnxruntime": "1.33"})
    with pytest.raises(ModelError, match=r"planned with .*onnxruntime 1.32.*machine has .*1.33"):
        releases.check_planned("onnxruntime", planned)


def test_a_file_of_a_runtime_that_is_not_named_is_refused(machine, monkeypatch):
    machine(INSTALLED)
    file = NetworkFile(
        np.zeros(1, np.uint8), "onnx", {}, 1, "", ModelSpec("cnn", {}, 10, 1, 8, (0.5,), (0.5,)), {}
    )
    runtime = types.SimpleNamespace(version=lambda: "onnxruntime 1.32")
    monkeypatch.setattr(releases, "runtime_of", lambda name, options: runtime)
    releases.check_runtime("zoo:f", "quanto 0.2, onnxruntime 1.32, torch 2.13", file)
    with pytest.raises(ModelError, match=r"answered by onnxruntime, which zoo.DISTRIBUTIONS does"):
        releases.check_runtime("zoo:f", "quanto 0.2, torch 2.13", file)
