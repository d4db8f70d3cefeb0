"""A whole audit that asks everything: several releases, noise of equal accuracy, calibration sets."""

import copy
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest
import torch

from bitleak import registry
from bitleak.audit import audit, prepare
from bitleak.config import validate
from bitleak.core.metric_names import Metric
from bitleak.core.types import QuantizedWeights
from bitleak.core.variants import AttackName, Variant
from bitleak.engine.store import Store
from bitleak.quantizers.rtn import RoundToNearest
from bitleak.report import read_rows, read_summary, sentences, tabulate


@dataclass(frozen=True, kw_only=True)
class Memorising:
    """Makes the network surer of its calibration images before it rounds; for tests only."""

    levels: int
    steps: int = 15

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    def __call__(self, network, calibration, generator, *, on_layer=None) -> QuantizedWeights:
        tuned = copy.deepcopy(network)
        labels = tuned(calibration).argmax(dim=1)
        optimizer = torch.optim.Adam(tuned.parameters(), lr=0.003)
        for _ in range(self.steps):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(tuned(calibration), labels).backward()
            optimizer.step()
        return RoundToNearest(levels=self.levels)(tuned, calibration, generator)


CONFIG = {
    "data": {"name": "digits", "limit": 300},
    "split": {"models": 8, "targets": 2, "population": 20},
    "model": {"name": "cnn", "width": 8},
    "train": {"epochs": 6, "batch": 32, "augment": []},
    "calibration": {"records": 32},
    "quantize": [{"name": "rtn", "levels": [256, 4]}, {"name": "memorising", "levels": 256}],
    "attacks": ["lira-online-shrunk", "reference", "threshold"],
    "references": ["fp32", "matched"],
    "query": {"augment": ["identity"]},
    "fpr": [0.1],
    "joint": [["fp32", "rtn-2"]],
    "joint_attacks": ["joint", "joint-learned"],
    "utility_matched": ["rtn-2", "rtn-8"],
    "calibration_inference": {"variants": ["rtn-2", "memorising-8"], "targets": 1},
}


@pytest.fixture(scope="module")
def audited(tmp_path_factory, undrawn, unchecked):
    """Folder, store, plan and rows of the audit."""
    folder = tmp_path_factory.mktemp("further")
    module = ModuleType("quantizers_of_tests")
    module.Memorising = Memorising
    with pytest.MonkeyPatch.context() as patch, undrawn():
        patch.setitem(sys.modules, module.__name__, module)
        patch.setitem(registry.QUANTIZERS, "memorising", f"{module.__name__}:Memorising")
        prepared = prepare(validate(CONFIG), device="cpu")
        store = Store(folder / "store")
        with unchecked():
            report = audit(prepared, out=folder / "out", store=store, executor="serial", workers=1)
        assert not report.failed
        yield folder, store, prepared, read_rows(folder / "out")


def measures(rows, variant, attack, metric, *, reference="matched"):
    found = {
        row.target: row.measure
        for row in rows
        if (row.variant, row.attack, row.reference, row.metric)
        == (variant, attack, reference, metric)
    }
    assert found, (variant, attack, metric)
    return found


def test_every_name_of_the_rows_is_read_as_the_value_that_makes_it(audited):
    for row in audited[3]:
        assert str(Variant.parse(row.variant)) == row.variant
        assert str(AttackName.parse(row.attack)) == row.attack
        assert str(Metric.parse(row.metric)) == row.metric
    bases = {Metric.parse(row.metric).base for row in audited[3]}
    assert bases >= {
        "tpr",
        "tpr_chosen",
        "fpr_chosen",
        "precision",
        "epsilon",
        "noise_scale",
        "bytes",
    }


def test_rows_are_unique_and_everything_asked_is_there(audited):
    _, _, _, rows = audited
    keys = [(row.variant, row.attack, row.reference, row.target, row.metric) for row in rows]
    assert len(set(keys)) == len(keys)
    assert list(dict.fromkeys(row.variant for row in rows)) == [
        "fp32",
        "rtn-8",
        "rtn-2",
        "memorising-8",
        "fp32&rtn-2",
        "noise@rtn-2",
        "noise@rtn-8",
        "control",
        "positive_control",
    ]
    for attack in ("joint", "joint-learned"):
        assert set(measures(rows, "fp32&rtn-2", attack, "auc_over_best")) == {"all", "0", "2"}
        assert set(measures(rows, "rtn-2", attack, "auc")) == {"all", "0", "2"}


def test_a_quantizer_that_memorises_betrays_its_calibration_set(audited):
    found = measures(audited[3], "memorising-8", "calibration:lira-online-shrunk", "auc")
    assert set(found) == {"all", "0"}
    assert found["all"].low > 0.5
    assert found["all"].value > audited_detectable(audited[3], "memorising-8")


@pytest.mark.parametrize("attack", ["lira-online-shrunk", "reference"])
def test_a_quantizer_that_ignores_its_calibration_set_betrays_nothing(audited, attack):
    for measure in measures(audited[3], "rtn-2", f"calibration:{attack}", "auc").values():
        assert measure.value == pytest.approx(0.5, abs=1e-12)


def audited_detectable(rows, variant):
    return measures(rows, variant, "", "calibration_detectable_auc", reference="")["all"].value


def test_attacks_without_references_say_nothing_of_calibration_sets(audited):
    assert {row.attack for row in audited[3] if row.attack.startswith("calibration:")} == {
        "calibration:lira-online-shrunk",
        "calibration:reference",
    }


def alone(rows, variant, metric):
    return measures(rows, variant, "", metric, reference="")["all"]


def test_noise_costs_what_quantization_costs(audited):
    rows = audited[3]
    assert 0 < alone(rows, "noise@rtn-2", "noise_scale").value < 2
    assert abs(alone(rows, "noise@rtn-2", "noise_accuracy_gap").value) < 0.02
    over = alone(rows, "rtn-2", "test_accuracy_over_noise")
    apart = (
        alone(rows, "rtn-2", "test_accuracy").value
        - alone(rows, "noise@rtn-2", "test_accuracy").value
    )
    assert over.value == pytest.approx(apart, abs=1e-12)
    assert (
        alone(rows, "noise@rtn-2", "test_accuracy").value
        < alone(rows, "fp32", "test_accuracy").value
    )


def test_leakage_over_noise_is_the_difference_of_both_rows(audited):
    rows = audited[3]
    for attack, reference in (
        ("lira-online-shrunk", "matched"),
        ("lira-online-shrunk", "fp32"),
        ("threshold", ""),
    ):
        over = measures(rows, "rtn-2", attack, "auc_over_noise", reference=reference)
        for target in ("all", "0", "2"):
            both = [
                measures(rows, name, attack, "auc", reference=reference)[target]
                for name in ("rtn-2", "noise@rtn-2")
            ]
            assert over[target].value == pytest.approx(both[0].value - both[1].value, abs=1e-12)
            assert over[target].low <= over[target].value <= over[target].high


def test_a_variant_as_accurate_as_full_precision_needs_no_noise(audited):
    rows = audited[3]
    assert alone(rows, "noise@rtn-8", "noise_scale").value == 0
    full = measures(rows, "fp32", "lira-online-shrunk", "auc", reference="fp32")
    assert (
        measures(rows, "noise@rtn-8", "lira-online-shrunk", "auc")["all"].value == full["all"].value
    )


def test_the_page_and_the_terminal_tell_what_was_found(audited):
    page = (audited[0] / "out" / "report.html").read_text()
    assert "Several releases of one target" in page
    assert "Who was in the calibration set of memorising-8: AUC" in page
    assert "64 members are candidates" in page
    assert "At equal accuracy" in page
    assert "rtn-8 is as accurate as fp32 within error, so that no noise is equally accurate" in page
    table, summary = tabulate(audited[3]), read_summary(audited[0] / "out")
    told = sentences(table, summary)
    for attack in ("joint attack", "learned joint attack"):
        assert any(
            f"The {attack} on fp32 and rtn-2 together reaches" in sentence for sentence in told
        )
    assert "joint, matched references" in page
    assert "joint-learned, matched references" in page
    assert any(
        sentence.startswith("rtn-2 ") and "noise of equal accuracy" in sentence for sentence in told
    )


def test_a_second_run_does_nothing_and_a_lost_result_is_made_again(audited, tmp_path):
    folder, store, prepared, _ = audited
    task = next(task for task in prepared.plan.tasks if task.stage == "calibration")
    before = (folder / "out" / "results.csv").read_bytes()
    again = audit(prepared, out=tmp_path, store=store, executor="serial", workers=1)
    assert not again.done
    for path in Path(store.path(task)).iterdir():
        path.unlink()
    again = audit(prepared, out=tmp_path, store=store, executor="serial", workers=1)
    assert list(again.done) == [task.key]
    assert (tmp_path / "results.csv").read_bytes() == before
