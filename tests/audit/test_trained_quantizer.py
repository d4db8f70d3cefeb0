"""Quantization-aware training in an audit: each model on its own members, and named as training everywhere."""

from dataclasses import replace

import numpy as np
import pytest
from stage_calls import run_stage

from bitleak.audit import audit, prepare
from bitleak.audit.graph import plan
from bitleak.config import resolved, validate
from bitleak.core.errors import ConfigError
from bitleak.core.types import Description
from bitleak.engine.codecs import decoded
from bitleak.engine.store import Store
from bitleak.report import read_rows, read_summary
from bitleak.steps.scale import NetworkSize

CONFIG = {
    "data": {"name": "digits", "limit": 400},
    "split": {"models": 6, "targets": 2, "population": 20, "calibration": 0},
    "model": {"name": "cnn", "width": 8},
    "train": {"epochs": 12, "batch": 32, "augment": []},
    "calibration": {"records": 32},
    "quantize": [
        {"name": "rtn", "levels": 256},
        {"name": "qat", "levels": [256, 4], "epochs": 2, "learning_rate": 0.005},
    ],
    "attacks": ["lira-online-shrunk", "threshold"],
    "references": ["fp32", "matched"],
    "query": {"augment": ["identity"]},
    "fpr": [0.1],
    "power": False,
}
DIGITS = Description(1797, 0, 10, 1, 8, "digits")
NETWORK = NetworkSize(5000, 100_000, ((16, 9), (16, 144), (10, 32)))


@pytest.fixture(scope="module")
def audited(tmp_path_factory, undrawn, unchecked):
    """Folder, store and plan of an audit."""
    folder = tmp_path_factory.mktemp("trained")
    with undrawn():
        prepared = prepare(validate(CONFIG), device="cpu")
        store = Store(folder / "store")
        with unchecked():
            report = audit(prepared, out=folder / "out", store=store, executor="serial", workers=1)
        assert not report.failed
        yield folder, store, prepared


def value(rows, variant, metric, target="all"):
    (found,) = [
        row.measure.value
        for row in rows
        if (row.variant, row.metric, row.target, row.attack) == (variant, metric, target, "")
    ]
    return found


def test_at_256_levels_no_accuracy_is_lost(audited):
    rows = read_rows(audited[0] / "out")
    for metric in ("test_accuracy", "train_accuracy"):
        assert value(rows, "qat-8", metric) >= value(rows, "rtn-8", metric) - 0.02


def test_rows_name_the_variants_and_matched_references_are_trained_alike(audited):
    rows = read_rows(audited[0] / "out")
    matched = {row.variant for row in rows if row.reference == "matched"}
    assert {"rtn-8", "qat-8", "qat-2"} <= matched
    tasks = [task for task in audited[2].plan.tasks if task.stage == "qat"]
    assert {(task.params["model"], task.params["levels"]) for task in tasks} == {
        (model, levels) for model in range(6) for levels in (256, 4)
    }
    recipe = tasks[0].params["recipe"]
    assert (recipe["epochs"], recipe["learning_rate"], recipe["batch"]) == (2, 0.005, 32)


def test_the_report_says_that_it_is_training(audited):
    sentence = (
        "qat-2 is quantization-aware training, not quantization after training: each model was trained "
        "for 2 epochs more on its own members with their labels"
    )
    assert any(sentence in warning for warning in read_summary(audited[0] / "out").warnings)
    assert sentence in (audited[0] / "out" / "report.html").read_text()


def stored(store, key):
    return decoded(store.read_key(key))


def codes(quantized):
    return np.concatenate([layer.codes.ravel() for layer in quantized.layers.values()])


def test_a_second_run_does_nothing(audited, tmp_path):
    folder, store, prepared = audited
    again = audit(prepared, out=tmp_path, store=store, executor="serial", workers=1)
    assert not again.done
    before = (folder / "out" / "results.csv").read_bytes()
    assert (tmp_path / "results.csv").read_bytes() == before


def test_only_the_members_and_their_labels_are_trained_on(audited):
    _, store, prepared = audited
    task = next(task for task in prepared.plan.tasks if task.stage == "qat")
    inputs = {name: stored(store, key) for name, key in task.inputs.items()}
    data, split = inputs["images"], inputs["splits"]
    members = split.pool[split.member[task.params["model"]]]
    others = np.setdiff1d(np.arange(len(data.labels)), members)

    def made(changed):
        return codes(run_stage("qat", task.params, {**inputs, "images": changed}))

    expected = codes(stored(store, task.key))
    pixels, labels = data.pixels.copy(), data.labels.copy()
    pixels[others] = 255 - pixels[others]
    labels[others] = (labels[others] + 1) % 10
    np.testing.assert_array_equal(
        made(replace(data, pixels=pixels, labels=labels)), expected, strict=True
    )
    labels = data.labels.copy()
    labels[members] = (labels[members] + 1) % 10
    assert not np.array_equal(made(replace(data, labels=labels)), expected)


def test_entries_of_other_quantizers_keep_their_keys():
    base = {**CONFIG, "quantize": CONFIG["quantize"][:1]}
    known = {task.key for task in plan(validate(base), DIGITS, NETWORK).tasks}
    more = plan(validate(CONFIG), DIGITS, NETWORK).tasks
    lost = known - {task.key for task in more}
    # what is chosen or drawn over all variants at once
    assert {
        task.stage for task in plan(validate(base), DIGITS, NETWORK).tasks if task.key in lost
    } <= {"strongest", "play"}


def test_the_resolved_config_says_the_same():
    config = validate(CONFIG)
    assert validate(resolved(config)) == config
    assert "calibration" not in resolved(config)["quantize"][1]
    assert [entry.variant for entry in config.quantize] == ["rtn-8", "qat-8", "qat-2"]
    # its default calibration is not a demand for members
    plan(validate({**CONFIG, "calibration": {"records": 20}}), DIGITS, NETWORK)


TARGET = {"weights": "net.safetensors", "members": [1, 2, 3]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"quantize": [{"name": "qat", "levels": 256, "calibration": {"records": 8}}]},
            r"quantize\.0\.calibration: qat trains on all members of a model; leave calibration out",
        ),
        (
            {"quantize": [{"name": "qat", "levels": 256, "epochs": 0}]},
            r"quantize\.0\.epochs must be",
        ),
        (
            {"quantize": [{"name": "qat", "levels": 256, "polish": 1}]},
            r"quantize\.0\.polish: unknown",
        ),
        (
            {"target": TARGET, "data": "digits", "split": {"mode": "dedicated"}},
            r"quantize\.1: qat trains each model on all its members with their labels.*target\.releases",
        ),
        (
            {
                "target": {**TARGET, "releases": {"q": {"name": "qat", "levels": 256}}},
                "data": "digits",
                "split": {"mode": "dedicated"},
                "quantize": [],
            },
            r"target\.releases\.q: qat trains each model",
        ),
    ],
)
def test_a_config_without_members_or_with_other_fields_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        validate({**CONFIG, **changes})


def test_a_calibration_set_is_not_inferred_of_it():
    asked = {"calibration_inference": {"variants": ["qat-8"], "candidates": 32, "targets": 1}}
    with pytest.raises(ConfigError, match="qat-8 is made by training on all members"):
        plan(validate({**CONFIG, **asked}), DIGITS, NETWORK)
