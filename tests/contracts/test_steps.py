"""Every step: its key, its parameters as JSON, what it promises before it runs, and what it imports."""

import subprocess
import sys
from dataclasses import MISSING, dataclass, fields, replace

import numpy as np
import pytest

from bitleak import registry
from bitleak.audit.graph import (
    MatchedQuantizer,
    PlannedReferences,
    PlannedTarget,
    plan,
    plan_references,
)
from bitleak.config import CalibrationConfig, QuantizeConfig, validate
from bitleak.core.params import later, params_of
from bitleak.core.types import Description
from bitleak.engine.keys import plain
from bitleak.steps.assign_members import AssignMembers, packed
from bitleak.steps.assign_references import AssignReferences
from bitleak.steps.fit_estimator import FitEstimator
from bitleak.steps.load_release import LoadRelease
from bitleak.steps.load_target import LoadTarget
from bitleak.steps.orient_images import OrientImages
from bitleak.steps.read_answers_file import ReadAnswersFile
from bitleak.steps.scale import NetworkSize
from bitleak.steps.step import planned, step_of

RAW = {
    "data": {"name": "digits", "limit": 400},
    "split": {"models": 6, "targets": 2, "population": 60},
    "model": {"name": "cnn", "width": 4},
    "train": {"epochs": 2},
    "calibration": {"records": 64},
    "quantize": [
        {"name": "rtn", "levels": [4, 3]},
        {"name": "obc", "levels": 3, "last": 256},
        {"name": "adaround", "levels": [4]},
        {"name": "brecq", "levels": 3},
        {"name": "tool", "call": "plain_tool:quantize", "version": "1", "options": {"bits": 8}},
    ],
    "query": {"augment": ["identity", "flip"]},
    "attacks": [
        "lira", "rmia", "threshold", "population", "quantile", "reference", "calibrated", "signals", "gap",
    ],
    "joint": [["fp32", "rtn-2"]],
    "utility_matched": ["rtn-1.58"],
    "calibration_inference": {"variants": ["rtn-2"], "candidates": 32, "targets": 1},
}  # fmt: skip
DIGITS = Description(1797, 0, 10, 1, 8, "digits")
NETWORK = NetworkSize(5000, 100_000, ((16, 9), (16, 144), (10, 32)))
KEYS = {
    "images": "3c83a926ea9d",
    "splits": "d9acb0d3cd9b",
    "mislabel": "726e427874b7",
    "part": "d1319083f7fe",
    "assign": "9fefd6fa4055",
    "target": "74b87a494302",
    "release": "2a2afcaa9d1d",
    "orient": "85bd0fe3aa55",
    "outsiders": "10718f7b36c7",
    "imitated": "fa1da194e560",
    "imitate": "5536f72b05a6",
    "estimator": "35bc1d60f637",
    "copies": "c870ad94b03a",
    "train": "023475e738db",
    "quantize": "aec60511484b",
    "tool": "6911e934590b",
    "qat": "a279c21af72f",
    "query": "409e18cef58f",
    "weigh": "751593a15678",
    "attack": "518322781d9c",
    "estimate": "0b3edc23ae7a",
    "thresholds": "ef62c8fcc09b",
    "measure": "eaec663cbc55",
    "play": "9d06a7cec09c",
    "strongest": "ef67d6bbd158",
    "utility": "7de8460a91ad",
    "match": "d0d0fa7af025",
    "noise": "93a0e483e93c",
    "matched": "6db90d0bb74f",
    "compare": "6e59405ec9d6",
    "joint": "642f4778d4c1",
    "channel": "766a44793db9",
    "candidates": "442e1f0ecf00",
    "calibration": "6eaca93eaf06",
    "memorise": "bd17d809c12d",
    "power": "1f668af035a5",
    "attack_partly": "5e1c78033da0",
    "play_partly": "125a21a50d05",
    "thresholds_partly": "310ab0ef6df8",
    "attack_alike": "c72309700ba8",
}
GIVEN = PlannedTarget(
    AssignMembers(
        300, packed(np.arange(100), 300), packed(np.arange(100, 300), 300), 0, 60, 20, 6, 0
    ),
    LoadTarget("0" * 64, "cnn", {"width": 4}, 10, 1, 8, (0.5,), (0.25,)),
    members=100,
    evaluated=120,
    releases={
        "int8": LoadRelease(
            "1" * 64, {}, "runtime 1.0", "cnn", {"width": 4}, 10, 1, 8, (0.5,), (0.25,)
        )
    },
)
"""A target that was trained elsewhere, in the place of a trained one."""
REFERENCES = PlannedReferences(
    AssignReferences(
        300,
        *(packed(np.arange(start, start + 60), 300) for start in (0, 60, 120, 180)),
        references=3,
        drawn=48,
        seed=0,
    ),
    OrientImages("bgr", "upright"),
    ReadAnswersFile("0" * 64, 60, 10),
    {"coarse": MatchedQuantizer("rtn", {}, 4, 48)},
    mean=(0.5,),
    std=(0.25,),
)
"""References of such a target."""
HEAVY = ("networks", "noisy_accuracy", "stages")
"""Modules of the room that import PyTorch; steps import them when they run."""


@pytest.fixture(scope="module")
def audit_plan():
    # Releases of other kits are in the keys of tools, and are not the same everywhere.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bitleak.audit.graph.planner.tool_versions", lambda call: "kit 1.0")
        return plan(validate(RAW), DIGITS, NETWORK)


@pytest.fixture(scope="module")
def planned_tasks(audit_plan):
    """The first task of every stage, of an ordinary audit and of one around a given target."""
    left_out = dict.fromkeys(("joint", "utility_matched", "calibration_inference"))
    split = {"mode": "dedicated", "targets": 1, "shadows": 6}
    raw = {**RAW, **left_out, "split": split, "quantize": []}
    file = {"file": "int8.onnx", "runtime": {}, "tool": None}
    entry = QuantizeConfig("file", "int8", None, "", file, CalibrationConfig())
    config = replace(validate(raw), quantize=(entry,))
    around = plan(config, DIGITS, NETWORK, target=GIVEN)
    kinds = ["fp32", {"kind": "matched", "quantized": 4}]
    partly = {**RAW, **left_out, "references": kinds, "split": {**RAW["split"], "models": 8}}
    predicted = plan(validate({**partly, "quantize": RAW["quantize"][:1]}), DIGITS, NETWORK)
    kept = {"query": {"keep": "logits"}, "channels": {"names": ["label"], "variants": ["fp32"]}}
    coarse = plan(validate({**RAW, **left_out, **kept, "quantize": []}), DIGITS, NETWORK)
    trained = {"name": "qat", "levels": 256, "epochs": 3}
    further = plan(validate({**RAW, **left_out, "quantize": [trained]}), DIGITS, NETWORK)
    memorised = plan(validate({**RAW, **left_out, "canaries": 40, "quantize": []}), DIGITS, NETWORK)
    tasks = {}
    outside = plan_references(validate(raw), DIGITS, NETWORK, REFERENCES)
    fit = planned(FitEstimator(1, "0" * 64, 0), {"splits": "0" * 64}, outside.plan.scale, "fit")
    for task in (
        *audit_plan.tasks,
        *around.tasks,
        *predicted.tasks,
        *coarse.tasks,
        *further.tasks,
        *memorised.tasks,
        *outside.plan.tasks,
        fit,
    ):
        tasks.setdefault(task.stage, task)
    return tasks


def kind_of(stage):
    return registry.find(registry.STEPS, stage, kind="step")


@pytest.mark.parametrize("stage", registry.STEPS)
def test_a_key_of_every_step_is_pinned_since_stores_depend_on_it(stage, planned_tasks):
    assert planned_tasks[stage].key[:12] == KEYS[stage]


@pytest.mark.parametrize("stage", registry.STEPS)
def test_a_step_is_named_and_described_in_one_place(stage):
    kind = kind_of(stage)
    assert stage == kind.STAGE
    assert kind.VERSION.isdigit()
    own = [item for item in fields(kind) if item.default is MISSING]
    assert all(f"\n        {item.name}: " in kind.__doc__ for item in fields(kind))
    assert all(item.metadata for item in fields(kind) if item not in own), (
        "a field with a default is later"
    )


@pytest.mark.parametrize("stage", registry.STEPS)
def test_parameters_come_back_from_the_store_as_they_went(stage, planned_tasks):
    params = planned_tasks[stage].params
    step = step_of(kind_of(stage), params)
    assert plain(params_of(step)) == params


@pytest.mark.parametrize("stage", registry.STEPS)
def test_a_step_refuses_parameters_and_inputs_of_another(stage, planned_tasks, audit_plan):
    task, kind, scale = planned_tasks[stage], kind_of(stage), audit_plan.scale
    with pytest.raises(TypeError, match=f"stage {stage} has no parameter colour"):
        step_of(kind, {**task.params, "colour": "red"})
    with pytest.raises(TypeError, match=f"stage {stage}: expected the inputs .* not so for colour"):
        planned(step_of(kind, task.params), {**task.inputs, "colour": "key"}, scale, "")
    if task.inputs:
        name = next(iter(task.inputs))
        with pytest.raises(TypeError, match=f"not so for {name}"):
            planned(
                step_of(kind, task.params),
                {k: v for k, v in task.inputs.items() if k != name},
                scale,
                "",
            )


@pytest.mark.parametrize("stage", registry.STEPS)
def test_a_step_says_beforehand_what_it_takes(stage, planned_tasks):
    task = planned_tasks[stage]
    assert task.cost > 0
    assert task.memory > 0
    assert task.bytes >= 4096


def test_a_later_field_is_left_out_of_the_parameters_while_it_has_its_default():
    @dataclass(frozen=True)
    class Query:
        batch: int
        keep: str = later("signals")

    assert params_of(Query(64)) == {"batch": 64}
    assert params_of(Query(64, "logits")) == {"batch": 64, "keep": "logits"}


def test_steps_import_no_torch_before_they_run():
    modules = [path.partition(":")[0] for path in registry.STEPS.values()]
    assert not {module.rpartition(".")[2] for module in modules} & set(HEAVY)
    code = f"import importlib, sys; [importlib.import_module(name) for name in {modules!r}]; "
    code += "assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
