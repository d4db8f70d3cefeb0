"""Entries of every table from outside the package, named as `package.module:Name` in a config."""

import csv
import sys
import textwrap
from collections import Counter

import numpy as np
import pytest
import yaml

from bitleak import registry
from bitleak.attacks import attack_entries, expand
from bitleak.audit import prepare
from bitleak.cli import main
from bitleak.config import validate
from bitleak.core.errors import ConfigError, ModelError
from bitleak.core.outside import versioned
from bitleak.core.types import ModelSpec
from bitleak.metrics import further_measures
from bitleak.models import build

RAW = {"data": "digits", "model": "cnn", "quantize": [{"name": "rtn", "levels": 4}]}

ATTACK = """
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Loudest:
        name = "loudest"
        signal = "logit_scaled"
        uses_references = False
        fewest_population = 0

        def __call__(self, view):
            return view.target[..., 1].max(axis=1)

    class Silent(Loudest):
        name = "a&b"

    class Again(Loudest):
        name = "lira-online-fixed"

    NONE = ()
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Writes a module of a package `zoo` that can be imported in this test."""
    folder = tmp_path / "outside" / "zoo"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(folder.parent)

    def write(name, text):
        (folder / f"{name}.py").write_text(textwrap.dedent(text))

    yield write
    for module in [module for module in sys.modules if module.partition(".")[0] == "zoo"]:
        del sys.modules[module]


def test_an_attack_stands_for_its_default_form_and_keeps_its_name_in_parameters(package):
    package("attacks", ATTACK)
    assert [form.name for form in expand("zoo.attacks:Loudest@2")] == ["loudest"]
    assert attack_entries(["gap", "zoo.attacks:Loudest@2"]) == [
        "threshold-correct",
        "zoo.attacks:Loudest@2",
    ]
    assert validate({**RAW, "attacks": ["zoo.attacks:Loudest"]}).attacks == ("zoo.attacks:Loudest",)


def test_the_version_of_a_distribution_is_a_part_of_the_name_in_parameters():
    assert versioned("yaml:load").startswith("yaml:load@PyYAML ")
    assert versioned("yaml:load@3").startswith("yaml:load@3, PyYAML ")
    assert versioned("adaround") == "adaround"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("zoo.attacks", "unknown attack 'zoo.attacks'"),
        (
            "zoo.attacks:",
            r"attack must be a known name, 'package.module:Name' or .*, got 'zoo.attacks:'",
        ),
        (
            "zoo.nothing:Loudest",
            r"cannot import zoo.nothing: No module named 'zoo.nothing' \(is it installed",
        ),
        ("zoo.attacks:Louder", "module zoo.attacks has no Louder"),
        ("zoo.attacks:dataclass", r"must be an attack with name, signal, .*, got function"),
        ("zoo.attacks:NONE", "names an empty tuple"),
        ("zoo.attacks:Silent", r"name must hold at most 60 letters, .*, got 'a&b'"),
        ("zoo.attacks:Again", "another attack is called 'lira-online-fixed' too"),
        ("__main__:Loudest", "is in the script that was started; put it in a module of its own"),
        ("zoo.broken:Loudest", "cannot import zoo.broken: ZeroDivisionError: division by zero"),
    ],
)
def test_an_attack_that_cannot_be_used_is_refused_before_any_work(package, entry, message):
    package("attacks", ATTACK)
    package("broken", "1 / 0")
    with pytest.raises(ConfigError, match=rf"^attacks: .*{message}"):
        validate({**RAW, "attacks": ["threshold", entry]})


QUANTIZER = """
    from dataclasses import dataclass
    from bitleak.quantizers.rtn import RoundToNearest

    @dataclass(frozen=True, kw_only=True)
    class Coarse(RoundToNearest):
        name = "coarse"

    @dataclass(frozen=True, kw_only=True)
    class Signed(RoundToNearest):
        name = "a@b"

    @dataclass(frozen=True)
    class Required:
        levels: int

        def __call__(self, network, calibration, generator):
            raise NotImplementedError

    @dataclass(frozen=True)
    class Dumb:
        levels: int

    @dataclass(frozen=True)
    class Short:
        levels: int

        def __call__(self, network):
            raise NotImplementedError

    @dataclass(frozen=True)
    class Bare:
        pass

    def function():
        pass
"""


def test_a_quantizer_from_outside_has_its_own_name_in_variants_and_the_package_in_parameters(
    package,
):
    package("quantizers", QUANTIZER)
    entry = {"name": "zoo.quantizers:Coarse@2", "levels": [4], "granularity": "tensor"}
    made = validate({**RAW, "quantize": [entry]}).quantize[0]
    assert (made.variant, made.name, made.looks_at_images) == (
        "coarse-2",
        "zoo.quantizers:Coarse@2",
        False,
    )
    assert made.options["granularity"] == "tensor"
    assert (
        validate({**RAW, "quantize": [{**entry, "label": "mine"}]}).quantize[0].variant == "mine-2"
    )
    assert validate({**RAW, "quantize": [{**entry, "polish": 1}]}).quantize[0].looks_at_images


def test_the_levels_of_a_quantizer_need_no_default(package):
    package("quantizers", QUANTIZER)
    made = validate(
        {**RAW, "quantize": [{"name": "zoo.quantizers:Required", "levels": [4, 3]}]}
    ).quantize
    assert [(entry.variant, entry.levels) for entry in made] == [
        ("Required-2", 4),
        ("Required-1.58", 3),
    ]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("zoo.quantizers:Signed", "a label must not hold '@'"),
        (
            "zoo.quantizers:Bare",
            "must be a frozen dataclass with levels, got .*, which has no levels",
        ),
        ("zoo.quantizers:function", "must be a frozen dataclass with levels, got <function"),
        ("zoo.quantizers:Dumb", r"it must have __call__\(self, network, calibration, generator\)"),
        (
            "zoo.quantizers:Short",
            r"its call must take \(network, calibration, generator\), .*; got \(network",
        ),
        ("zoo.quantizers:Nothing", "module zoo.quantizers has no Nothing"),
    ],
)
def test_a_quantizer_that_cannot_be_used_is_refused_before_any_work(package, entry, message):
    package("quantizers", QUANTIZER)
    with pytest.raises(ConfigError, match=rf"^quantize.*: .*{message}"):
        validate({**RAW, "quantize": [{"name": entry, "levels": [4]}]})


DATA = """
    from dataclasses import dataclass
    from bitleak.data.digits import Digits

    @dataclass(frozen=True)
    class Dark(Digits):
        darker: int = 2

    class Named:
        name = "x"
"""


def test_a_data_set_from_outside_takes_its_fields_from_the_config(package):
    package("data", DATA)
    made = validate({**RAW, "data": {"name": "zoo.data:Dark", "darker": 3, "limit": 50}}).data
    assert (made.name, dict(made.options), made.limit) == ("zoo.data:Dark", {"darker": 3}, 50)
    with pytest.raises(
        ConfigError, match=r"data.darkr: unknown key 'darkr': did you mean 'darker'"
    ):
        validate({**RAW, "data": {"name": "zoo.data:Dark", "darkr": 3}})
    with pytest.raises(
        ConfigError, match=r"data.name: .* must be a frozen dataclass with load, describe, got"
    ):
        validate({**RAW, "data": "zoo.data:Named"})


METRIC = """
    class Gap:
        name = "mean_gap"

        def __call__(self, scores, member):
            return scores[member].mean() - scores[~member].mean()

    class Taken(Gap):
        name = "auc"

    class Signed(Gap):
        name = "gap@0.1"

    gap = Gap()
"""


def test_a_metric_from_outside_is_measured_for_every_target(package):
    package("metrics", METRIC)
    assert validate({**RAW, "metrics": ["zoo.metrics:Gap", "advantage"]}).metrics == (
        "zoo.metrics:Gap",
        "advantage",
    )
    scores = np.array([[0.0, 4.0, 1.0, 5.0], [1.0, 2.0, 2.0, 3.0]])
    member = np.array([[False, True, False, True], [True, True, False, False]])
    found = further_measures(["zoo.metrics:gap"], scores, member, mode="population")
    assert [measure.value for measure in found["mean_gap"]] == [1.5, 4.0, -1.0]
    assert found["mean_gap"][0].low is None


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("advantge", "unknown metric 'advantge': did you mean 'advantage'"),
        ("zoo.metrics:Taken", "every table has a metric 'auc'; give it another name"),
        (
            "zoo.metrics:Signed",
            "name must hold at most 60 lower-case letters, digits and underlines, got 'gap@0.1'",
        ),
        ("zoo.metrics:Nothing", "module zoo.metrics has no Nothing"),
        (
            "math:sqrt",
            "must have a name and take scores and member, got builtin_function_or_method",
        ),
    ],
)
def test_a_metric_that_cannot_be_used_is_refused_before_any_work(package, entry, message):
    package("metrics", METRIC)
    with pytest.raises(ConfigError, match=f"^metrics: .*{message}"):
        validate({**RAW, "metrics": [entry]})


def test_two_metrics_of_one_name_are_refused(package):
    package("metrics", METRIC)
    with pytest.raises(ConfigError, match="another metric is called 'mean_gap' too"):
        validate({**RAW, "metrics": ["zoo.metrics:Gap", "zoo.metrics:gap"]})


FIGURE = """
    from matplotlib.figure import Figure
    from bitleak.report.figures import ReportFigure

    def draw_nothing(data):
        drawing = Figure()
        drawing.subplots().bar([0], [len(data.table.attacks)])
        return drawing

    ATTACKS = ReportFigure("attack_count", "Number of attacks.", draw_nothing)
    TWICE = ReportFigure("roc", "Another.", draw_nothing)
"""


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("zoo.figures:Nothing", "module zoo.figures has no Nothing"),
        ("zoo.figures:draw_nothing", "expected a ReportFigure, got function"),
        ("zoo.figures:TWICE", "there is another figure named 'roc'"),
        ("roc", "roc is in every report; name figures of your own"),
        ("tradeof", "figure must be a known name, 'package.module:Name'"),
        (3, "expected names of figures, as package.module:NAME, got int 3"),
    ],
)
def test_a_figure_that_cannot_be_drawn_is_refused_before_any_work(package, entry, message):
    package("figures", FIGURE)
    with pytest.raises(ConfigError, match=f"^figures: .*{message}"):
        prepare(validate({**RAW, "figures": [entry]}))


def tasks_in(store):
    """Number of results by stage."""
    return Counter(path.relative_to(store).parts[0] for path in store.glob("*/*/*/manifest.json"))


def test_an_audit_of_code_from_outside_alone(package, tmp_path, monkeypatch, capsys):
    """A data set, a quantizer that looks at no images, an attack and a figure."""
    for name, text in {
        "attacks": ATTACK,
        "quantizers": QUANTIZER,
        "data": DATA,
        "figures": FIGURE,
    }.items():
        package(name, text)
    monkeypatch.setattr(registry, "FIGURES", {})  # the other figures take longer than the rest
    config = {
        "data": {"name": "zoo.data:Dark", "limit": 150},
        "split": {"models": 6, "targets": 1, "population": 20},
        "model": {"name": "cnn", "width": 4},
        "train": {"epochs": 1, "augment": []},
        "quantize": [{"name": "zoo.quantizers:Coarse", "levels": [4]}],
        "calibration": {"records": 8},
        "attacks": ["zoo.attacks:Loudest"],
        "references": ["fp32"],
        "query": {"augment": ["identity"]},
        "fpr": [0.1],
        "power": False,
        "figures": ["zoo.figures:ATTACKS"],
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    arguments = [
        "--out",
        str(tmp_path / "out"),
        "--store",
        str(tmp_path / "store"),
        "--executor",
        "serial",
    ]
    assert main(["audit", str(tmp_path / "config.yaml"), *arguments]) == 0
    with (tmp_path / "out" / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["attack"] for row in rows} == {"loudest", "strongest", ""}
    assert {row["variant"] for row in rows} == {"fp32", "coarse-2", "control", "positive_control"}
    assert {path.name for path in (tmp_path / "out" / "figures").iterdir()} == {
        "attack_count.svg",
        "attack_count.png",
    }
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Number of attacks." in page
    assert "Dark, cnn" in page
    assert yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())["figures"] == [
        "zoo.figures:ATTACKS"
    ]

    # a metric that is added later is computed on the warm store, and nothing else is
    package("metrics", METRIC)
    (tmp_path / "config.yaml").write_text(
        yaml.safe_dump({**config, "metrics": ["zoo.metrics:Gap", "advantage"]})
    )
    before = tasks_in(tmp_path / "store")
    assert main(["audit", str(tmp_path / "config.yaml"), *arguments]) == 0
    assert tasks_in(tmp_path / "store") - before == Counter(measure=before["measure"])
    with (tmp_path / "out" / "results.csv").open(newline="") as file:
        again = list(csv.DictReader(file))
    further = [row for row in again if row["metric"] in ("mean_gap", "advantage")]
    variants = ("fp32", "coarse-2", "control", "positive_control")
    assert {(row["variant"], row["target"]) for row in further} == {
        (variant, target) for variant in variants for target in ("all", "0")
    }
    assert [row for row in again if row not in further] == rows


def test_weights_cannot_name_code_as_a_model_of_the_registry():
    with pytest.raises(ModelError, match="unknown model 'os:getcwd'"):
        build(ModelSpec("os:getcwd", {}, 10, 1, 8, (0.3,), (0.4,)))


def test_an_executor_from_outside_runs_the_tasks_and_an_unknown_one_is_refused(
    tmp_path, monkeypatch, capsys
):
    (tmp_path / "elsewhere.py").write_text(
        "from pathlib import Path\n"
        "from bitleak.engine.executors.serial import Serial\n"
        "class Counting(Serial):\n"
        "    def submit(self, batch):\n"
        "        with open('batches', 'a') as file: file.write('.')\n"
        "        super().submit(batch)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    config = {
        "data": {"name": "digits", "limit": 200},
        "split": {"models": 6, "targets": 1, "population": 20},
        "model": {"name": "cnn", "width": 2},
        "train": {"epochs": 1},
        "attacks": ["threshold"],
        "power": False,
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    assert main(["audit", "config.yaml", "--executor", "elsewhere:Missing"]) == 2
    assert "--executor: executor 'elsewhere:Missing'" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "batches").exists()
    assert main(["audit", "config.yaml", "--executor", "elsewhere:Counting"]) == 0
    assert len((tmp_path / "batches").read_text()) > 6
