"""An audit with canaries: what reads them, networks that have learnt them by heart, and noise."""

from collections import Counter

import numpy as np
import pytest
from stage_calls import run_stage

from bitleak.attacks import two_class_signals
from bitleak.audit import audit, prepare
from bitleak.audit.exposed_records import decoded_result
from bitleak.config import resolved, validate
from bitleak.core.errors import ConfigError
from bitleak.core.types import Images, Outputs
from bitleak.core.variants import question_of
from bitleak.data import make_splits
from bitleak.data.canaries import pool_part
from bitleak.engine.store import Store
from bitleak.report.results_table import tabulate
from bitleak.report.row_files import read_rows
from bitleak.report.sections.canary_section import canary_section
from bitleak.report.summary import read_summary

RAW = {
    "data": {"name": "digits", "limit": 400},
    "split": {"models": 8, "targets": 2, "population": 40},
    "model": {"name": "cnn", "width": 16},
    "train": {"epochs": 20, "batch": 16, "augment": []},
    "calibration": {"records": 32},
    "quantize": [{"name": "rtn", "levels": [256]}],
    "attacks": ["lira-online-fixed", "threshold"],
    "references": ["fp32", "matched"],
    "query": {"augment": ["identity"]},
    "fpr": [0.1],
    "power": False,
}
RECORDS = 80
CANARIES = {"records": RECORDS, "fpr": [0.05, 0.1]}
TRAINED = ("train", "quantize")
"""Stages that read the members of a model."""


def planned(**changes):
    return prepare(validate({**RAW, **changes}), device="cpu").plan


def test_only_training_and_quantizing_read_canaries_beside_other_records():
    quantize = [*RAW["quantize"], {"name": "qat", "levels": 256, "epochs": 1}]
    plan = planned(canaries=CANARIES, quantize=quantize)
    tasks = {task.key: task for task in plan.tasks}
    (drawn,) = [task for task in plan.tasks if task.stage == "splits"]
    parts = {task.params["canaries"]: task.key for task in plan.tasks if task.stage == "part"}
    assert plan.splits == parts[False]
    reads = {}
    for task in plan.tasks:
        if "splits" in task.inputs:
            reads.setdefault(task.inputs["splits"], Counter())[task.stage] += 1
    assert set(reads) == {drawn.key, *parts.values()}
    assert set(reads[drawn.key]) == {"part", "mislabel", "train", "quantize", "qat"}
    assert set(reads[parts[True]]) == {"query", "attack", "thresholds", "estimate", "measure"}
    # what follows from canaries has its name, and nothing else has
    asked = {task.key for task in plan.tasks if task.inputs.get("splits") == parts[True]}
    for task in plan.tasks:
        inputs = {
            key for value in task.inputs.values()
            for key in (value if isinstance(value, tuple) else (value,))
        }  # fmt: skip
        if inputs & asked:
            assert task.key in asked
        if "variant" in task.params:
            canaries = task.params["variant"].startswith("canaries@")
            assert canaries == (task.key in asked)
    # the labels are wrong for all tasks that read images but the draw
    images = Counter(
        tasks[task.inputs["images"]].stage for task in plan.tasks if "images" in task.inputs
    )
    assert images["images"] == 2
    assert images["mislabel"] > 20


def test_audits_without_canaries_have_the_keys_of_before():
    plain = {task.key for task in planned().tasks}
    assert {task.key for task in planned(canaries=None).tasks} == plain
    both = {task.key for task in planned(canaries=CANARIES).tasks} & plain
    stages = {task.stage for task in planned().tasks if task.key in both}
    assert stages == {"images"}


def test_the_numbers_of_records_are_those_of_the_other_tables():
    with_canaries, plain = planned(canaries=CANARIES).scale, planned().scale
    assert with_canaries.pool == plain.pool - RECORDS
    assert with_canaries.members == plain.members - RECORDS // 2
    assert with_canaries.trained_records == plain.members
    assert with_canaries.decoded_bytes == plain.decoded_bytes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"canaries": 81}, r"canaries\.records must be even"),
        ({"canaries": 10}, r"canaries\.records must be an integer of at least 20, got 10"),
        ({"canaries": "many"}, "canaries: expected a mapping, got str 'many'"),
        ({"canaries": {"record": 60}}, r"unknown key 'record': did you mean 'records'"),
        ({"canaries": {"records": 60, "fpr": [2]}}, r"fpr must be a number in \(0, 1\)"),
        (
            {"canaries": 30},
            r"0\.05 is less than one of the 15 .*; raise canaries\.records to at least 40",
        ),
        ({"canaries": True}, r"500 of 280 records of the pool leave 0 for the other tables"),
    ],
)
def test_a_wrong_section_is_refused_with_what_to_write(changes, message):
    with pytest.raises(ConfigError, match=message):
        planned(**changes)


def test_a_target_that_was_trained_elsewhere_has_no_canaries():
    target = {"weights": "a.safetensors", "members": "members.npy"}
    raw = {"data": {"name": "digits"}, "model": {"name": "cnn"}, "target": target}
    validate(raw)
    with pytest.raises(ConfigError, match="canaries: need models that are trained with them"):
        validate({**raw, "canaries": 60})


def test_the_resolved_config_reads_as_the_same():
    for canaries in (CANARIES, 600, True):
        config = validate({**RAW, "canaries": canaries})
        assert validate(resolved(config)) == config
    assert (config.canaries.records, config.canaries.fpr) == (500, (0.05,))
    assert "canaries" not in resolved(validate(RAW))


@pytest.fixture(scope="module")
def finished(tmp_path_factory, undrawn, unchecked):
    folder = tmp_path_factory.mktemp("canaries")
    prepared = prepare(validate({**RAW, "canaries": CANARIES}), device="cpu")
    store = Store(folder / "store")
    with undrawn(), unchecked():
        report = audit(prepared, out=folder, store=store, executor="serial", workers=1)
    assert not report.failed
    return folder, store, prepared, read_rows(folder)


def decoded(finished, stage, **params):
    _, store, prepared, _ = finished
    for task in prepared.plan.tasks:
        if task.stage == stage and all(
            task.params[name] == value for name, value in params.items()
        ):
            return decoded_result(store, task)
    raise AssertionError(stage)


def test_labels_are_wrong_for_all_models_alike_and_for_no_record_of_another_table(finished):
    before, after = decoded(finished, "images"), decoded(finished, "mislabel")
    canaries, others = (decoded(finished, "part", canaries=flag) for flag in (True, False))
    assert len(canaries.pool) == RECORDS
    assert (before.labels[canaries.pool] != after.labels[canaries.pool]).all()
    for part in (others.pool, others.calibration, others.population, others.test):
        np.testing.assert_array_equal(before.labels[part], after.labels[part])
        assert not np.isin(canaries.pool, part).any()
    # every model is trained on one and the same set of labels
    _, _, prepared, _ = finished
    assert (
        len({task.inputs["images"] for task in prepared.plan.tasks if task.stage in TRAINED}) == 1
    )
    assert len(read_rows_of_records(finished)) == len(others.pool)


def read_rows_of_records(finished):
    import pyarrow.parquet as pq

    return set(pq.read_table(finished[0] / "records.parquet")["record"].to_pylist())


def measure(rows, variant, attack, reference, metric, target="all"):
    (found,) = [
        row.measure
        for row in rows
        if (row.variant, row.attack, row.reference, row.metric, row.target)
        == (variant, attack, reference, metric, target)
    ]
    return found


def test_networks_that_learnt_wrong_labels_by_heart_give_all_canaries_away(finished):
    rows = finished[3]
    assert measure(rows, "fp32", "", "", "train_accuracy").value > 0.97
    for variant, kind in (("fp32", "fp32"), ("rtn-8", "fp32"), ("rtn-8", "matched")):
        name = f"canaries@{variant}"
        area = measure(rows, name, "lira-online-fixed", kind, "auc")
        ordinary = measure(rows, variant, "lira-online-fixed", kind, "auc")
        assert area.value > 0.98
        assert area.value > ordinary.value
        assert measure(rows, name, "lira-online-fixed", kind, "tpr@0.05").value > 0.9
        chosen = measure(rows, name, "lira-online-fixed", kind, "tpr_chosen@0.05").value
        false = measure(rows, name, "lira-online-fixed", kind, "fpr_chosen@0.05").value
        assert chosen > 0.9
        assert false < 0.2
    assert measure(rows, "canaries@fp32", "threshold", "", "auc").value > 0.95


def test_thresholds_are_none_that_records_with_right_labels_set(finished):
    rows = [row for row in finished[3] if question_of(row.variant, row.attack) == "canaries"]
    assert {row.metric for row in rows if row.attack == "threshold"} == {
        "auc", "balanced_accuracy", "epsilon", "tpr@0.05", "tpr@0.1",
    }  # fmt: skip
    assert {row.measure.family.partition("/")[0] for row in rows} == {"canaries", ""}
    assert "strongest" not in {row.attack for row in rows}


def test_the_page_has_the_section_and_the_note(finished):
    folder, _, _, rows = finished
    table, summary = tabulate(rows), read_summary(folder)
    assert [str(variant) for variant in table.quantized] == ["rtn-8"]
    section = canary_section(table, summary)
    assert section.sentences[1].startswith("Canaries of rtn-8: AUC ")
    assert "matched references" in section.sentences[1]
    assert summary.records == 280 - RECORDS
    page = (folder / "report.html").read_text()
    assert "The most exposed: mislabelled canaries" in page
    assert "80 canaries of the pool had wrong labels" in page
    assert (
        canary_section(tabulate([row for row in rows if "@" not in row.variant]), summary) is None
    )


POOL, COUNT, MODELS = 21_000, 20_000, 10


@pytest.fixture(scope="module")
def drawn():
    """A large pool, nearly all of it canaries."""
    total = POOL + 200
    images = Images(
        np.zeros((total, 1, 1, 1), np.uint8), np.arange(total) % 2, ("a", "b"),
        np.arange(total) >= POOL,
    )  # fmt: skip
    return images, make_splits(
        images, mode="population", models=MODELS, targets=2, calibration=0, population=100, seed=0,
        canaries=COUNT,
    )  # fmt: skip


def areas_of(images, part, shift):
    """AUC of attacks on confidences that are higher by `shift` for members."""
    rng = np.random.default_rng(3)
    answers = []
    for member in part.member:
        confidence = rng.normal(-2, 1, len(member)) + shift * member
        outside = two_class_signals(rng.normal(2, 1, (len(part.population), 1)))
        nothing = np.zeros(0, np.int64)
        answers.append(Outputs(two_class_signals(confidence[:, None]), outside, nothing))
    attacks = ["lira-online-fixed", "lira-online-shrunk", "rmia-online", "threshold"]
    params = {
        "attacks": attacks, "recalibrated": False, "control": False, "targets": [0, 2],
        "references": list(range(MODELS)), "seed": 0, "variant": "canaries@fp32", "quantizer": "",
        "levels": None, "reference": "fp32", "fpr": [0.05], "priors": [0.5], "delta": 1e-5,
        "comparisons": 1, "standalone": True, "population_thresholds": False,
    }  # fmt: skip
    inputs = {"images": images, "splits": part, "references": tuple(answers)}
    inputs["targets"] = tuple(answers[row] for row in (0, 2))
    inputs["scores"] = run_stage("attack", params, inputs)
    inputs["thresholds"] = run_stage("thresholds", params, inputs)
    inputs["baseline"] = run_stage("estimate", params, inputs)
    rows = run_stage("measure", params, inputs)["rows"]
    return {
        (row["attack"], row["metric"]): row["measure"]["value"]
        for row in rows
        if row["target"] == "all"
    }


def test_a_planted_memoriser_of_canaries_is_found_there_and_not_among_others(drawn):
    images, splits = drawn
    canaries, others = (pool_part(splits, COUNT, 0, canaries=flag) for flag in (True, False))
    found, quiet = areas_of(images, canaries, 3.0), areas_of(images, others, 0.0)
    for attack in ("lira-online-fixed", "lira-online-shrunk", "rmia-online", "threshold"):
        assert found[attack, "auc"] > 0.95, attack
        assert found[attack, "tpr@0.05"] > 0.8, attack
        # 1,000 records, two targets
        assert quiet[attack, "auc"] == pytest.approx(0.5, abs=0.06), attack
    assert found["lira-online-fixed", "fpr_chosen@0.05"] == pytest.approx(0.05, abs=0.01)


def test_canaries_that_nothing_remembers_are_at_chance(drawn):
    images, splits = drawn
    found = areas_of(images, pool_part(splits, COUNT, 0, canaries=True), 0.0)
    for attack in ("lira-online-fixed", "lira-online-shrunk", "rmia-online", "threshold"):
        assert found[attack, "auc"] == pytest.approx(0.5, abs=0.0165), attack
        assert found[attack, "tpr@0.05"] == pytest.approx(0.05, abs=0.01), attack
