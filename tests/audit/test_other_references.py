"""Adversaries whose references are quantized otherwise than the target: what is planned, and the rows."""

import csv
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from bitleak.audit import audit, prepare
from bitleak.config import resolved, validate
from bitleak.config.preset_references import entries_by_preset
from bitleak.core.errors import ConfigError
from bitleak.core.types import Measure
from bitleak.engine.store import Store
from bitleak.report.results_table import tabulate
from bitleak.report.row_files import read_rows
from bitleak.report.sections.recipe_section import recipe_section
from bitleak.report.summary import read_summary
from bitleak.steps.attack_targets import AttackScores

OTHER = {"kind": "other", "variant": "rtn-4"}
RAW = {
    "data": {"name": "digits", "limit": 240},
    "split": {"models": 8, "targets": 2, "population": 20},
    "model": {"name": "cnn", "width": 4},
    "train": {"epochs": 1},
    "calibration": {"records": 32},
    "quantize": [{"name": "rtn", "levels": [16, 3]}],
    "attacks": ["lira-online-shrunk", "threshold"],
    "references": ["fp32", OTHER],
    "query": {"augment": ["identity"]},
    "fpr": [0.1],
    "power": False,
}


def planned(**changes):
    return prepare(validate({**RAW, **changes}), device="cpu").plan


def test_references_are_quantized_as_the_named_variant_alone():
    counts = Counter(task.stage for task in planned().tasks)
    # two targets in two variants, six references in one
    assert counts["quantize"] == 10
    assert Counter(task.stage for task in planned(references=["fp32"]).tasks)["quantize"] == 4
    plan = planned()
    assert ("rtn-1.58", "other:rtn-4") in plan.scores
    # as the target is quantized, they are the kind matched
    assert ("rtn-4", "other:rtn-4") not in plan.scores
    assert ("fp32", "other:rtn-4") not in plan.scores


def test_nothing_that_was_planned_before_has_another_key():
    def keys(**changes):
        return {task.key for task in planned(**changes).tasks if task.stage != "measure"}

    assert keys(references=["fp32", "matched"]) < keys(references=["fp32", "matched", OTHER])


@pytest.mark.parametrize(
    ("references", "message"),
    [
        (["fp32", {"kind": "other"}], "expected {kind: other, variant: rtn-4}"),
        (["fp32", {"kind": "other", "variant": 4}], "expected {kind: other, variant: rtn-4}"),
        (["fp32", {"kind": "other", "variant": "rtn-2"}], "unknown variant 'rtn-2': did you mean"),
        (["fp32", {"kind": "other", "variant": "fp32"}], "write fp32"),
        ([OTHER], "add fp32"),
    ],
)
def test_a_wrong_entry_is_refused_with_what_to_write(references, message):
    with pytest.raises(ConfigError) as caught:
        validate({**RAW, "references": references})
    assert message in str(caught.value)


def test_references_of_the_only_variant_are_called_matched():
    with pytest.raises(ConfigError, match="the only variant"):
        validate({**RAW, "quantize": [{"name": "rtn", "levels": [16]}]})


def test_the_resolved_config_reads_as_the_same():
    config = validate(RAW)
    assert validate(resolved(config)) == config
    assert resolved(config)["references"] == RAW["references"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, undrawn, unchecked):
    folder = tmp_path_factory.mktemp("other")
    raw = {**RAW, "references": ["fp32", "matched", OTHER]}
    prepared, store = prepare(validate(raw), device="cpu"), Store(folder / "store")
    with undrawn(), unchecked():
        audit(prepared, out=folder / "out", store=store, executor="serial", workers=1)
    return prepared, store, folder / "out"


def test_the_scores_are_those_by_the_answers_of_the_named_variant(finished):
    prepared, store, _ = finished
    tasks = {task.key: task for task in prepared.plan.tasks}
    attacks = {kind: tasks[prepared.plan.scores["rtn-1.58", kind]] for kind in KINDS}
    named = tasks[prepared.plan.scores["rtn-4", "matched"]]
    assert attacks["other:rtn-4"].inputs["references"] == named.inputs["references"]
    assert attacks["other:rtn-4"].inputs["targets"] == attacks["matched"].inputs["targets"]
    scores = [
        AttackScores.read(store.read_key(task.key)).of("lira-online-shrunk")
        for task in attacks.values()
    ]
    assert not np.array_equal(scores[0], scores[1])


KINDS = ("other:rtn-4", "matched")


def test_rows_have_the_kind_and_the_page_has_its_section(finished):
    with (finished[2] / "results.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["reference"] == "other:rtn-4"]
    assert {row["variant"] for row in rows} == {"rtn-1.58"}
    assert {row["attack"] for row in rows} == {"lira-online-shrunk"}
    assert any(row["metric"].startswith("tpr_chosen") for row in rows)
    page = (finished[2] / "report.html").read_text()
    assert "What the adversary must know" in page
    assert "quantized as rtn-4" in page


def cells(*figures):
    return {
        (variant, "lira-online-shrunk", kind, "tpr@0.1"): Measure(value, low=low, high=0.9)
        for variant, kind, value, low in figures
    }


def test_the_sentence_has_the_share_of_the_excess_where_matched_references_find_any(finished):
    summary, rows = read_summary(finished[2]), read_rows(finished[2])
    measured = tabulate(rows)
    found = cells(
        ("rtn-1.58", "matched", 0.5, 0.4),
        ("rtn-1.58", "other:rtn-4", 0.3, 0.2),
        ("rtn-1.58", "matched-8", 0.48, 0.4),
        ("rtn-4", "matched", 0.11, 0.09),
        ("rtn-4", "matched-8", 0.2, 0.15),
    )
    table = replace(measured, cells=found)
    section = recipe_section(table, summary)
    assert section.tables[0].header == (
        "target",
        "quantized as rtn-4",
        "8 of them quantized as the target is",
        "matched references",
    )
    # (0.3 - 0.1) / (0.5 - 0.1); matched references on rtn-4 may be guessing
    assert section.sentences == (
        "Of the TPR beyond the FPR of 10 % that matched references find by lira-online-shrunk, "
        "references quantized as rtn-4 find 50 % on rtn-1.58.",
        "Of the TPR beyond the FPR of 10 % that matched references find by lira-online-shrunk, "
        "references of which 8 are quantized as the target is find 95 % on rtn-1.58.",
    )
    lines = {variant: [cell.main for cell in line] for variant, line in section.tables[0].lines}
    assert lines["rtn-4"] == ["0.110", "0.200", "0.110"]
    assert recipe_section(replace(measured, cells={}), summary) is None


QUICK = {"kind": "other", "preset": "quick"}
BY_PRESET = {
    **RAW,
    "quantize": [
        {"name": "rtn", "levels": [16]},
        {"name": "adaround", "levels": [4, 3], "iterations": 20, "last": 256},
    ],
    "references": ["fp32", "matched", QUICK],
}


def test_a_preset_changes_its_fields_alone():
    config = validate(BY_PRESET)
    entries = entries_by_preset(config.quantize, "quick")
    # rtn has no fields that the preset sets: its references are matched
    assert list(entries) == ["adaround-2+last8", "adaround-1.58+last8"]
    for own, entry in zip(config.quantize[1:], entries.values(), strict=True):
        changed = {name for name in own.options if own.options[name] != entry.options[name]}
        assert changed == {"iterations", "learning_rate", "grid"}
        assert entry.options["iterations"] == 250
        assert entry.levels == own.levels
        assert entry.options["last"] == 256
        assert entry.calibration == own.calibration
    # fields of the target's own preset do not stay behind
    papers = {"name": "adaround", "levels": [4], "preset": "paper"}
    (entry,) = entries_by_preset(
        validate({**RAW, "references": ["fp32"], "quantize": [papers]}).quantize, "quick"
    ).values()
    (quick,) = validate(
        {**RAW, "references": ["fp32"], "quantize": [{**papers, "preset": "quick"}]}
    ).quantize
    assert entry.options == quick.options


def test_references_by_a_preset_are_quantized_for_each_variant_and_never_called_matched():
    plan = planned(**{name: BY_PRESET[name] for name in ("quantize", "references")})
    labels = [task.label for task in plan.tasks if task.stage == "quantize"]
    # 8 models in 3 variants, and once more by the preset in two of them
    assert len(labels) == 40
    kinds = {(variant, kind) for variant, kind in plan.scores if kind == "other:quick"}
    assert {variant for variant, _ in kinds} == {"adaround-2+last8", "adaround-1.58+last8"}
    tasks = {task.key: task for task in plan.tasks}
    quick = tasks[plan.scores["adaround-2+last8", "other:quick"]].inputs["references"]
    made = {tasks[tasks[key].inputs["weights"]].params["options"]["iterations"] for key in quick}
    assert made == {250}
    matched = tasks[plan.scores["adaround-2+last8", "matched"]]
    assert (
        matched.inputs["targets"]
        == tasks[plan.scores["adaround-2+last8", "other:quick"]].inputs["targets"]
    )


@pytest.mark.parametrize(
    ("references", "quantize", "message"),
    [
        ([QUICK], RAW["quantize"], "changes no entry of quantize"),
        ([{"kind": "other", "preset": "fast"}], RAW["quantize"], "unknown preset 'fast'"),
        ([{"kind": "other", "preset": 3}], RAW["quantize"], "expected {kind: other, preset: quick}"),
        (
            [{"kind": "other", "preset": "quick", "variant": "rtn-4"}],
            RAW["quantize"],
            "expected {kind: other, preset: quick}",
        ),
    ],
)  # fmt: skip
def test_a_wrong_preset_is_refused_with_what_to_write(references, quantize, message):
    with pytest.raises(ConfigError) as caught:
        validate({**RAW, "quantize": quantize, "references": ["fp32", *references]})
    assert message in str(caught.value)


def test_the_resolved_config_with_a_preset_reads_as_the_same():
    config = validate(BY_PRESET)
    assert validate(resolved(config)) == config
    assert resolved(config)["references"] == BY_PRESET["references"]


@pytest.mark.usefixtures("shapes_unchecked")
def test_rows_and_the_page_of_a_preset_have_the_difference_from_matched(tmp_path, undrawn):
    raw = {**BY_PRESET, "quantize": [{"name": "obc", "levels": [4], "last": 256}]}
    prepared, store = prepare(validate(raw), device="cpu"), Store(tmp_path / "store")
    with undrawn():
        audit(prepared, out=tmp_path / "out", store=store, executor="serial", workers=1)
    with (tmp_path / "out" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    named = {"variant": "obc-2+last8", "attack": "lira-online-shrunk", "target": "all"}

    def value(reference, metric):
        wanted = {**named, "reference": reference, "metric": metric}
        (row,) = (row for row in rows if wanted.items() <= row.items())
        return float(row["value"])

    difference = value("other:quick", "auc") - value("matched", "auc")
    assert value("other:quick", "auc_over_matched") == pytest.approx(difference)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "quantized as the target is, but by preset quick" in page
    assert "shown equivalent to matched ones on obc-2+last8" in page


def test_equivalence_is_said_by_the_interval_of_the_difference_alone(finished):
    measured = tabulate(read_rows(finished[2]))
    summary = read_summary(finished[2])
    found = {
        ("rtn-1.58", "lira-online-shrunk", "other:quick", "auc"): Measure(0.7),
        ("rtn-4", "lira-online-shrunk", "other:quick", "auc"): Measure(0.7),
        ("rtn-1.58", "lira-online-shrunk", "other:quick", "auc_over_matched"): Measure(
            0.001, low=-0.0035, high=0.0055
        ),
        # no difference is distinguishable, and no equivalence shown
        ("rtn-4", "lira-online-shrunk", "other:quick", "auc_over_matched"): Measure(
            0.0, low=-0.01, high=0.01
        ),
    }
    (sentence,) = recipe_section(replace(measured, cells=found), summary).sentences
    # 0.001 + 0.0045 * 1.645 / 1.960 = 0.0048
    assert (
        "are shown equivalent to matched ones on rtn-1.58 (+0.0010 [-0.0028, +0.0048])" in sentence
    )
    assert (
        "are not shown equivalent to matched ones on rtn-4 (+0.0000 [-0.0084, +0.0084])" in sentence
    )
    assert "90 % interval of the paired difference in AUC lies within +-0.005" in sentence
