"""An audit of a network from outside, from the README's words to the report; and what changes its keys."""

import os
import sys
import time

import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file

from bitleak.audit import prepare
from bitleak.config import read_config, validate
from bitleak.core.errors import ModelError
from bitleak.core.types import ModelSpec, Weights
from bitleak.engine.codecs import encode
from bitleak.engine.store import Store
from bitleak.models import build, state
from bitleak.steps.networks import check_origin

ZOO = """
import torch
from torch import nn
from torch.nn import functional

class View(nn.Module):
    def __init__(self, num_classes, in_chans, width=4):
        super().__init__()
        self.conv = nn.Conv2d(in_chans, width, 3, padding=1)
        self.head = nn.Linear(16 * width, num_classes)

    def forward(self, x):
        x = functional.max_pool2d(functional.relu(self.conv(x)), 2)
        return self.head(x.view(x.size(0), -1))

class Norm(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.gain = nn.Parameter(torch.zeros(channels))

    def forward(self, x):
        x = x / (x.square().mean(dim=(1, 2, 3), keepdim=True) + 1e-5).sqrt()
        return x * (1 + self.gain[:, None, None])

def own_norm(classes, channels, size, depth=1):
    layers = [nn.Conv2d(channels, 4, 3, padding=1), Norm(4), nn.ReLU()]
    return nn.Sequential(*layers, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(size * size, classes))
"""
UNSAVED = """
import time
import torch
from own_zoo.nets import View

ORDER = torch.randperm(64, generator=torch.Generator().manual_seed(time.time_ns() % 2**60))

class Mixed(View):
    def forward(self, x):
        return super().forward(x.flatten(2)[:, :, ORDER].view_as(x))
"""
TIMM = """
from torch import nn

def create_model(model_name, pretrained=False, **options):
    assert model_name == "tiny" and not pretrained
    layers = [nn.Conv2d(options["in_chans"], 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(16, options["num_classes"]))
"""
AUDIT = """
data: {name: digits, limit: 200}
split: {models: 6, targets: 2, population: 20}
train: {epochs: 1, batch: 32, augment: []}
calibration: {records: 32}
quantize: [{name: rtn, levels: 4}]
attacks: [threshold]
references: [fp32]
fpr: [0.1]
power: false
"""


MINE = """
from dataclasses import dataclass

@dataclass(frozen=True)
class Signs:
    levels: int
    name = "signs"

    def __call__(self, network, calibration, generator):
        raise NotImplementedError

@dataclass(frozen=True)
class Loud:
    name = "loud"
    signal = "logit_scaled"
    uses_references = False
    fewest_population = 0

    def __call__(self, view):
        return view.target[:, 0, 1]

@dataclass(frozen=True)
class Share:
    name = "share"

    def __call__(self, scores, member):
        return 0.5
"""


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    """A package of one's own, and a stand-in for timm, that only this folder holds."""
    package = tmp_path / "own_zoo"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "nets.py").write_text(ZOO)
    (tmp_path / "timm.py").write_text(TIMM)
    monkeypatch.syspath_prepend(tmp_path)
    yield package
    for name in [name for name in sys.modules if name.partition(".")[0] in ("own_zoo", "timm")]:
        del sys.modules[name]


MODELS = {
    "own": "{name: external, factory: own_zoo.nets:own_norm, options: {depth: 1}, version: 1}",
    "view": "{name: external, factory: 'own_zoo.nets:View', options: {width: 3}}",
    "timm": "{name: external, factory: 'timm:tiny'}",
}


def audited(model, **changes):
    return yaml.safe_dump({**yaml.safe_load(AUDIT), "model": yaml.safe_load(model), **changes})


def to_do(said):
    """Tasks to do by stage, from the table of `plan`."""
    lines = [line.split() for line in said.splitlines()]
    return {line[0]: int(line[1]) for line in lines if len(line) == 3 and line[1].isdigit()}


def quick(bitleak, verb="audit", **options):
    pairs = [part for key, value in options.items() for part in (f"--{key}", value)]
    executor = ["--executor", "serial"] if verb == "audit" else []
    return bitleak(verb, "config.yaml", *executor, *pairs)


@pytest.mark.usefixtures("zoo", "without_figures", "without_new_process")
@pytest.mark.parametrize("kind", MODELS)
def test_a_network_from_outside_goes_from_the_config_to_the_report(bitleak, tmp_path, kind):
    (tmp_path / "config.yaml").write_text(audited(MODELS[kind]))
    code, out, err = quick(bitleak)
    assert code == 0, out + err
    assert ("it is trained and asked in contiguous order" in out) is (kind == "view")
    folder = tmp_path / "audits" / "config"
    assert "rtn-2" in (folder / "report.html").read_text()
    written = yaml.safe_load((folder / "config.yaml").read_text())["model"]
    given = yaml.safe_load(MODELS[kind])
    assert written == {
        key: str(value) if key == "version" else value for key, value in given.items()
    }
    code, out, err = bitleak("plan", folder / "config.yaml")
    assert code == 0, out + err
    assert set(to_do(out).values()) == {0}


def test_a_network_that_workers_would_make_differently_is_refused_before_work(
    bitleak, zoo, tmp_path
):
    (zoo / "mixed.py").write_text(UNSAVED)
    (tmp_path / "config.yaml").write_text(
        audited("{name: external, factory: 'own_zoo.mixed:Mixed'}")
    )
    code, out, err = quick(bitleak)
    assert code == 2, out + err
    assert "model: own_zoo.mixed:Mixed: a new process makes another network" in err
    assert "variable 'ORDER' of module own_zoo.mixed" in err
    assert "self.register_buffer(name, tensor)" in err
    assert not list((tmp_path / "bitleak-store").glob("train/*/*"))


def test_quantize_refuses_a_network_that_another_process_would_make_differently(
    bitleak, zoo, tmp_path
):
    (zoo / "mixed.py").write_text(UNSAVED)
    weights = state(build(spec_of("external", {"factory": "own_zoo.mixed:Mixed"}), seed=0))
    save_file(weights, tmp_path / "net.safetensors")
    named = (
        "--model",
        "own_zoo.mixed:Mixed",
        "--weights",
        "net.safetensors",
        "--data",
        "digits",
        "--out",
        "out",
    )
    code, out, err = bitleak("quantize", *named, "--quantizer", "rtn", "--levels", 4)
    assert code == 2, out + err
    assert "--model: own_zoo.mixed:Mixed: a new process makes another network" in err


@pytest.mark.usefixtures("without_figures", "without_new_process")
def test_stored_weights_of_a_network_that_is_another_one_now_are_refused(bitleak, zoo, tmp_path):
    (tmp_path / "config.yaml").write_text(audited("{name: external, factory: 'own_zoo.nets:View'}"))
    store = Store(tmp_path / "bitleak-store")
    tasks = fill(store, tmp_path / "config.yaml")
    weights = store.read(tasks[0])
    store.remove(store.path(tasks[0]))
    store.write(tasks[0], {**weights, "fingerprint": np.ones((4, 10), np.float32)}, {})
    code, out, err = quick(bitleak)
    assert code == 2, out + err
    assert (
        "own_zoo.nets:View: with its stored weights, the network that is made here answers"
        in out + err
    )


@pytest.mark.parametrize(
    ("change", "retrained"),
    [
        ({}, 0),
        ({"version": "2"}, 6),
        ({"options": {"depth": 1}}, 6),
    ],
)
def test_options_and_version_are_in_the_key(bitleak, zoo, tmp_path, change, retrained):
    store = Store(tmp_path / "bitleak-store")
    base = {"name": "external", "factory": "own_zoo.nets:own_norm"}
    (tmp_path / "config.yaml").write_text(audited(yaml.safe_dump(base)))
    fill(store, tmp_path / "config.yaml")
    (tmp_path / "config.yaml").write_text(audited(yaml.safe_dump({**base, **change})))
    code, out, err = quick(bitleak, "plan")
    assert code == 0, out + err
    assert to_do(out)["train"] == retrained


def fill(store, path):
    """Stands in for training: the network's own weights under the keys of the plan; returns the train tasks."""
    prepared = prepare(validate(read_config(path)), device="cpu")
    name, options = prepared.config.model
    weights = Weights(state(build(spec_of(name, options), seed=0)), spec_of(name, options))
    trained = [task for task in prepared.plan.tasks if task.stage == "train"]
    for task in trained:
        store.write(task, encode(weights), {})
    return trained


def spec_of(name, options):
    return ModelSpec(name, options, 10, 1, 8, (0.5,), (0.5,))


def test_the_version_of_the_distribution_is_in_the_key(bitleak, zoo, tmp_path, monkeypatch):
    from bitleak.models import origin

    (tmp_path / "config.yaml").write_text(audited(MODELS["timm"]))
    keys = []
    for version in ("1.0.9", "1.0.9", "1.1.0"):
        monkeypatch.setattr(
            origin, "_distributions", lambda package: ("timm",) if package == "timm" else ()
        )
        monkeypatch.setattr(origin.metadata, "version", lambda name, version=version: version)
        monkeypatch.setattr(origin.metadata, "files", lambda name: [])
        prepared = prepare(validate(read_config(tmp_path / "config.yaml")), device="cpu")
        task = next(task for task in prepared.plan.tasks if task.stage == "train")
        assert task.params["made_by"] == f"timm {version}"
        keys.append(task.key)
    assert keys[0] == keys[1] != keys[2]
    with pytest.raises(
        ModelError, match=r"planned with timm 1.0.9, but this machine has timm 1.1.0"
    ):
        check_origin({"factory": "timm:tiny"}, "timm 1.0.9")


def test_plan_says_when_code_without_a_version_is_newer_than_the_results(bitleak, zoo, tmp_path):
    (tmp_path / "config.yaml").write_text(audited("{name: external, factory: 'own_zoo.nets:View'}"))
    fill(Store(tmp_path / "bitleak-store"), tmp_path / "config.yaml")
    for path, age in ((zoo / "nets.py", 3600), (zoo / "__init__.py", 3600)):
        os.utime(path, (time.time() - age, time.time() - age))
    assert "was changed" not in quick(bitleak, "plan")[1]
    (zoo / "blocks.py").write_text("")  # another module of the same package, in the future
    os.utime(zoo / "blocks.py", (time.time() + 60, time.time() + 60))
    code, out, err = quick(bitleak, "plan")
    assert code == 0, out + err
    assert "note: model: blocks.py was changed on 20" in out
    assert "after 6 of the trained models in the store were made" in out
    assert "set model.version" in out
    versioned = audited("{name: external, factory: 'own_zoo.nets:View', version: '1'}")
    (tmp_path / "config.yaml").write_text(versioned)
    assert "was changed" not in quick(bitleak, "plan")[1]


def test_plan_says_so_of_attacks_quantizers_and_metrics_too(bitleak, zoo, tmp_path):
    (zoo / "mine.py").write_text(MINE)
    names = {"quantize": "own_zoo.mine:Signs", "attacks": "own_zoo.mine:Loud"}

    def planned(version):
        changes = {
            "quantize": [{"name": names["quantize"] + version, "levels": 4}],
            "attacks": [names["attacks"] + version, "threshold"],
            "metrics": ["own_zoo.mine:Share" + version],
        }
        (tmp_path / "config.yaml").write_text(audited("{name: cnn, width: 4}", **changes))
        prepared = prepare(validate(read_config(tmp_path / "config.yaml")), device="cpu")
        content = encode(Weights({"weight": np.zeros(3)}, spec_of("cnn", {})))
        for task in prepared.plan.tasks:
            if task.stage in ("train", "quantize", "attack", "measure"):
                Store(tmp_path / "bitleak-store").write(task, content, {})
        return quick(bitleak, "plan")

    for path in zoo.glob("*.py"):
        os.utime(path, (time.time() - 3600, time.time() - 3600))
    code, out, err = planned("")
    assert code == 0, out + err
    assert "was changed" not in out
    os.utime(zoo / "mine.py", (time.time() + 60, time.time() + 60))
    out = planned("")[1]
    for section, results in (
        ("quantize", "quantized models"),
        ("attacks", "attacks' scores"),
        ("metrics", "figures"),
    ):
        (line,) = [line for line in out.splitlines() if line.startswith(f"note: {section}: ")]
        assert "mine.py was changed on 20" in line
        assert f"of the {results} in the store were made" in line
    assert "write own_zoo.mine:Loud@2" in out
    assert "was changed" not in planned("@1")[1]


@pytest.mark.usefixtures("without_new_process")
@pytest.mark.parametrize(
    "model", ["{name: cnn, width: 4}", "{name: external, factory: 'own_zoo.nets:View'}"]
)
def test_a_stored_result_cannot_have_another_module_imported(bitleak, zoo, tmp_path, model):
    (tmp_path / "recording.py").write_text(
        "import pathlib\npathlib.Path(__file__).with_name('imported').touch()\n"
    )
    (tmp_path / "config.yaml").write_text(audited(model))
    store = Store(tmp_path / "bitleak-store")
    prepared = prepare(validate(read_config(tmp_path / "config.yaml")), device="cpu")
    forged = encode(
        Weights({"weight": np.zeros(3)}, spec_of("external", {"factory": "recording:net"}))
    )
    for task in prepared.plan.tasks:
        if task.stage == "train":
            store.write(task, forged, {})
    code, out, err = quick(bitleak)
    assert code == 2, out + err
    assert "says that its weights are those of the network external" in err
    assert "recording:net" in err
    assert "no code that it names was loaded. Remove this folder" in err
    assert not (tmp_path / "imported").exists()


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("zoo:net", ("model.name: 'zoo:net'", "model: {name: external, factory: 'zoo:net'}")),
        ("{name: 'zoo:net'}", ("model: {name: external, factory: 'zoo:net'}",)),
        ("external", ("model.factory: missing",)),
        (
            "{name: external, factory: zoo}",
            ("model.factory must be 'package.module:make' or 'timm:NAME', got 'zoo'",),
        ),
        ("{name: external, factory: 'no_zoo:net'}", ("cannot import no_zoo", "PYTHONPATH=.")),
        (
            "{name: external, factory: 'own_zoo.nets:View', options: [3]}",
            ("model.options", "mapping"),
        ),
        (
            "{name: external, factory: 'own_zoo.nets:View', widht: 3}",
            ("model.widht: unknown key", "options"),
        ),
        (
            "{name: external, factory: 'own_zoo.nets:View', options: {widht: 3}}",
            ("did you mean 'width'",),
        ),
        (
            "{name: external, factory: 'own_zoo.nets:View', options: {day: 2024-01-01}}",
            ("unknown", "'day'"),
        ),
    ],
)
@pytest.mark.usefixtures("zoo")
def test_a_mistake_in_the_model_is_refused_before_work(bitleak, tmp_path, model, words):
    (tmp_path / "config.yaml").write_text(audited(model))
    code, out, err = quick(bitleak)
    assert code == 2, out + err
    for word in words:
        assert word in err, err
    assert not (tmp_path / "bitleak-store").exists()
