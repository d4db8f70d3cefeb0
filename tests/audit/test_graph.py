"""The plan: which tasks an audit has, what their keys depend on, and the numbers it promises."""

import copy

import numpy as np
import pytest

from bitleak import registry
from bitleak.audit.graph import plan, scale_of, target_rows
from bitleak.config import validate
from bitleak.core.errors import ConfigError
from bitleak.core.types import Description, Images
from bitleak.data import limited, make_splits
from bitleak.engine.graph import Graph
from bitleak.steps.quantizing_work import RATES
from bitleak.steps.scale import NetworkSize

RAW = {
    "data": {"name": "digits", "limit": 400},
    "split": {"models": 6, "targets": 2, "population": 30},
    "model": {"name": "cnn", "width": 4},
    "train": {"epochs": 2},
    "calibration": {"records": 64},
    "quantize": [{"name": "rtn", "levels": [4, 3]}, {"name": "obc", "levels": 3, "last": 256}],
    "query": {"augment": ["identity", "flip"]},
}
DIGITS = Description(1797, 0, 10, 1, 8, "digits")
NETWORK = NetworkSize(5000, 100_000, ((16, 9), (16, 144), (10, 32)))


def made(**changes):
    raw = copy.deepcopy(RAW)
    for name, value in changes.items():
        raw[name] = {**raw[name], **value} if isinstance(value, dict) and name in raw else value
    return plan(validate(raw), DIGITS, NETWORK)


def test_keeping_logits_changes_the_queries_and_what_follows_and_nothing_before():
    kept, usual = made(query={"keep": "logits"}), made()
    keys = {task.key for task in kept.tasks} & {task.key for task in usual.tasks}
    stages = {task.stage for task in kept.tasks if task.key in keys}
    assert stages == {"images", "splits", "copies", "train", "quantize", "weigh"}
    assert made(query={"keep": "signals"}).wanted == usual.wanted
    # 10 classes, 2 queries, 4 bytes, per record of pool and population
    sizes = [next(t.bytes for t in of.tasks if t.stage == "query") for of in (kept, usual)]
    assert sizes[0] - sizes[1] == 10 * 2 * 4 * (usual.scale.pool + usual.scale.population)


def test_attacks_compare_answers_on_a_temperature_if_logits_are_kept_and_standardised_if_not():
    for keep, scale in (("logits", "temperature"), ("signals", "standardised")):
        tasks = made(query={"keep": keep}, joint=[["fp32", "rtn-2"]]).tasks
        stages = {task.stage for task in tasks if task.params.get("answer_scale") == scale}
        assert stages == {"attack", "thresholds", "joint", "power", "play"}


@pytest.mark.parametrize(
    ("data", "key"),
    [
        ({"name": "hub", "path": "a/b"}, "36aeb3e7e9c3"),
        ({"name": "arrays", "path": "x.npz"}, "83b5a6202a6a"),
    ],
)
def test_options_of_data_sets_that_came_later_leave_the_keys_of_before(data, key):
    found = plan(validate({**RAW, "data": {**data, "limit": 400}}), DIGITS, NETWORK)
    assert found.images[:12] == key
    numbered = plan(
        validate({**RAW, "data": {**data, "limit": 400, "classes": 12}}), DIGITS, NETWORK
    )
    assert numbered.images[:12] != key


def keys(made_plan, stage):
    return {task.key for task in made_plan.tasks if task.stage == stage}


def test_the_keys_are_pinned_since_stores_depend_on_them():
    first = {}
    for task in made().tasks:
        first.setdefault(task.stage, task.key[:12])
    assert first == {
        "images": "3c83a926ea9d",
        "splits": "6c3648191542",
        "copies": "535183ecef7e",
        "train": "1f7950f93579",
        "quantize": "3b7215ad2d0b",
        "query": "5aa984e31437",
        "weigh": "b6b75b79bf66",
        "attack": "cd64d89536cb",
        "estimate": "371a64dd0661",
        "thresholds": "1a1c7f9fb9a9",
        "measure": "d576cb24ecbb",
        "utility": "d49d5ecfc7aa",
        "play": "8b553190826b",
        "strongest": "272497d24865",
        "memorise": "455be705c8c4",
        "power": "90756d41b146",
    }


def test_every_task_comes_after_its_inputs_and_every_stage_exists():
    seen = set()
    for task in made().tasks:
        assert set(task.input_keys) <= seen, task.name
        seen.add(task.key)
        step = registry.find(registry.STEPS, task.stage, kind="step")
        assert (task.stage, task.version) == (step.STAGE, step.VERSION)


def test_what_is_trained_does_not_depend_on_what_is_quantized_or_attacked():
    base = keys(made(), "train")
    assert base == keys(made(quantize=[], attacks=["threshold"], references=["fp32"]), "train")
    assert base == keys(made(title="another", fpr=[0.1], query={"augment": ["identity"]}), "train")


def test_a_recipe_changes_the_models_but_not_the_images():
    base, other = made(), made(train={"epochs": 3})
    assert keys(base, "images") == keys(other, "images")
    assert not keys(base, "train") & keys(other, "train")


def test_a_seed_changes_everything():
    base, other = made(), made(seed=1)
    assert not {task.key for task in base.tasks} & {task.key for task in other.tasks}


def test_only_targets_are_quantized_where_no_adversary_needs_more():
    count = sum(task.stage == "quantize" for task in made().tasks)
    assert count == 6 * 3
    few = made(references=["fp32", "recalibrated"])
    assert sum(task.stage == "quantize" for task in few.tasks) == 2 * 3


def test_full_precision_targets_are_their_own_matched_references():
    labels = [task.label for task in made().tasks if task.stage == "attack"]
    assert "attack fp32 by fp32" in labels
    assert "attack fp32 by matched" not in labels
    assert "attack rtn-2 by matched" in labels


def test_the_error_of_a_map_is_planned_where_the_population_is_small_against_the_pool():
    """The limit leaves 280 audited records, of which 17.5 are a sixteenth."""
    for population, fprs in ((17, (0.001, 0.01)), (18, ())):
        found = made(split={"population": population}, attacks=["lira"])
        assert found.scale.pool == 280
        errors = {}
        for task in found.tasks:
            if task.stage == "attack":
                mapped = task.label.endswith("recalibrated")
                at = tuple(task.params.get("map_error_fprs") or ())
                errors.setdefault(mapped, set()).add(at)
        assert errors == {True: {fprs}, False: {()}}


def test_rows_are_made_of_answers_and_sizes_without_weights():
    class Answers:
        def has(self, task):
            return task.stage in ("query", "weigh")

    for mode in ("population", "dedicated"):
        found = made(split={"mode": mode, "shadows": 6}, attacks=["lira", "rmia", "threshold"])
        left = {task.stage for task in Graph(found.tasks, wanted=found.wanted).pending(Answers())}
        assert {"attack", "measure", "utility"} <= left
        assert not left & {"train", "quantize"}


def test_the_baseline_and_the_thresholds_at_full_precision_are_made_once():
    tasks = made().tasks
    assert [task.label for task in tasks if task.stage == "estimate"] == ["figures of fp32 by fp32"]
    chosen = {task.label for task in tasks if task.stage == "thresholds"}
    on_variants = {
        f"thresholds on {variant}" for variant in ("rtn-2", "rtn-1.58", "obc-1.58+last8")
    }
    assert chosen == {"thresholds on fp32", "thresholds on fp32, recalibrated", *on_variants}
    used = {task.label: task.inputs["thresholds"] for task in tasks if "thresholds" in task.inputs}
    assert (
        used["measure fp32 by fp32"]
        == used["measure rtn-2 by fp32"]
        != used["measure rtn-2 by matched"]
    )
    assert "measure control by fp32" not in used


def test_power_is_asked_for_with_1_2_4_and_all_references_unless_it_is_not():
    found = made(split={"models": 16})
    (task,) = [task for task in found.tasks if task.stage == "power"]
    assert task.params["counts"] == [1, 2, 4, 7]
    assert task.key == found.power
    assert found.power in found.wanted
    without = made(power=False)
    assert without.power is None
    assert "power" not in {task.stage for task in without.tasks}


def test_only_targets_are_asked_about_the_test_records():
    asked = {task.label: task.params["test"] for task in made().tasks if task.stage == "query"}
    assert {label for label, test in asked.items() if test} == {
        f"query {variant} of model {row}"
        for variant in ("fp32", "rtn-2", "rtn-1.58", "obc-1.58+last8")
        for row in (0, 2)
    }


def test_variants_are_named_by_their_precision():
    variants = {task.params["variant"] for task in made().tasks if task.stage == "measure"}
    assert variants == {
        "fp32",
        "rtn-2",
        "rtn-1.58",
        "obc-1.58+last8",
        "control",
        "positive_control",
    }


def data(records, held_out, classes=3):
    rng = np.random.default_rng(0)
    flags = np.zeros(records, dtype=bool)
    flags[records - held_out :] = True
    pixels = rng.integers(0, 256, (records, 1, 4, 4)).astype(np.uint8)
    return Images(pixels, rng.integers(0, classes, records), tuple("abc"[:classes]), flags)


@pytest.mark.parametrize("held_out", [0, 90])
@pytest.mark.parametrize("limit", [None, 151])
@pytest.mark.parametrize("mode", ["population", "dedicated"])
def test_the_promised_numbers_are_those_of_the_splits(held_out, limit, mode):
    split = {
        "mode": mode,
        "models": 6,
        "shadows": 4,
        "targets": 2,
        "population": 20,
        "calibration": 10,
    }
    config = validate(
        {**RAW, "data": {"name": "digits", "limit": limit}, "split": split, "quantize": []}
    )
    sizes = scale_of(config, Description(300, held_out, 3, 1, 4, "x"), NETWORK, 1.0)
    images = limited(data(300, held_out), limit, 0)
    counts = {"models": 6} if mode == "population" else {"shadows": 4}
    found = make_splits(
        images, mode=mode, targets=2, calibration=10, population=20, seed=0, **counts
    )
    assert len(found.pool) == sizes.pool
    assert set(found.member.sum(axis=1)[:2].tolist()) == {sizes.members}
    assert (len(found.calibration), len(found.population), len(found.test)) == (10, 20, sizes.test)
    assert found.targets.tolist() == list(target_rows(config))


def test_too_small_a_data_set_is_told_with_the_numbers():
    with pytest.raises(ConfigError, match=r"10000 members, but each model has 140"):
        made(calibration={"records": 10_000})


def test_an_arithmetic_that_is_not_settled_has_no_plan():
    with pytest.raises(ConfigError, match="'auto' must be settled for a device"):
        made(train={"autocast": "auto"})
    assert keys(made(train={"autocast": "bfloat16"}), "train").isdisjoint(keys(made(), "train"))


def cost_of(name, **fields):
    """Seconds of the quantizations of the first model, by levels."""
    entry = {"name": name, "levels": [16, 4, 3], **fields}
    tasks = [
        task
        for task in made(quantize=[entry]).tasks
        if task.stage == "quantize" and task.params["model"] == 0
    ]
    assert len({task.group for task in tasks}) == 1
    return {task.params["levels"]: task.cost for task in tasks}


@pytest.mark.parametrize("name", ["obc", "gptq"])
def test_only_the_first_precision_pays_the_pass_over_the_images(name):
    cost = cost_of(name)
    assert cost[16] > cost[4] == cost[3] > 0
    forward = 100_000 * 64 / RATES["cpu"]
    assert cost[16] - cost[3] == pytest.approx(4 * forward)


@pytest.mark.parametrize("name", ["obc", "gptq"])
def test_quantized_inputs_share_nothing_and_polish_is_counted(name):
    plain, behind, polished = (
        cost_of(name),
        cost_of(name, inputs="quantized"),
        cost_of(name, polish=5),
    )
    assert behind[3] == behind[16] > plain[16]
    assert polished[3] > plain[3]
    assert cost_of(name, polish=5, exchange=2)[3] > polished[3]


def test_more_calibration_images_cost_more_unless_none_is_looked_at():
    rtn = [cost_of("rtn", calibration={"records": records})[3] for records in (32, 64)]
    polished = [
        cost_of("rtn", polish=2, calibration={"records": records})[16] for records in (32, 64)
    ]
    assert rtn[0] == rtn[1] < polished[0] < polished[1]


def test_joint_releases_add_tasks_and_change_none():
    base = made()
    more = made(joint=[["fp32", "rtn-2"], ["rtn-2", "rtn-1.58"]])
    assert {task.key for task in base.tasks} < {task.key for task in more.tasks}
    added = [task for task in more.tasks if task.key not in {task.key for task in base.tasks}]
    assert [task.stage for task in added].count("joint") == 3 + 2
    labels = {task.label for task in added}
    assert {"measure fp32&rtn-2 by matched", "measure rtn-1.58 by matched"} <= labels
    assert "compare rtn-2&rtn-1.58 by matched over best" in labels
    assert all(
        task.bytes > 0 and task.memory > 0
        for task in more.tasks
        if task.stage not in ("train", "weigh")
    )


def test_the_learned_joint_attack_adds_tasks_and_changes_none():
    asked = {"joint": [["fp32", "rtn-2"]], "split": {"models": 8}}
    base, both = made(**asked), made(**asked, joint_attacks=["joint", "joint-learned"])
    known = {task.key for task in base.tasks}
    assert known < {task.key for task in both.tasks}
    added = [task for task in both.tasks if task.key not in known]
    stages = [task.stage for task in added]
    assert (stages.count("joint"), stages.count("estimate"), stages.count("compare")) == (3, 1, 1)
    assert {task.params["attack"] for task in added if task.stage == "joint"} == {"joint-learned"}
    assert {task.key for task in made(**asked, joint_attacks="joint").tasks} == known


def test_calibration_sets_are_halves_of_the_candidates_of_a_target():
    asked = {"variants": ["rtn-2", "obc-1.58+last8"], "candidates": 32, "targets": 1}
    base, more = made(), made(calibration_inference=asked)
    known = {task.key for task in base.tasks}
    assert known < {task.key for task in more.tasks}
    added = [task for task in more.tasks if task.key not in known]
    assert [task.stage for task in added].count("quantize") == 2 * 16
    quantized = [task for task in added if task.stage == "quantize"]
    assert {task.params["calibration"]["records"] for task in quantized} == {16}
    assert {task.params["calibration"]["source"] for task in quantized} == {"members"}
    (candidates,) = [task for task in added if task.stage == "candidates"]
    assert {task.inputs["splits"] for task in quantized} == {candidates.key}
    asks = [task for task in added if task.stage == "query"]
    assert max(task.cost for task in asks) < 0.5 * max(
        task.cost for task in base.tasks if task.stage == "query"
    )
    assert max(task.bytes for task in asks) < 0.5 * max(
        task.bytes for task in base.tasks if task.stage == "query"
    )


def test_more_candidates_than_members_are_refused():
    with pytest.raises(
        ConfigError, match=r"calibration_inference\.candidates: expected at most the 140 members"
    ):
        made(calibration_inference={"variants": ["rtn-2"], "candidates": 200})
    with pytest.raises(ConfigError, match=r"calibration_inference needs an attack with references"):
        made(calibration_inference={"variants": ["rtn-2"]}, attacks=["threshold"])


def test_noise_is_matched_on_targets_and_attacked_as_the_variant_is():
    base, more = made(), made(utility_matched=["rtn-1.58"])
    known = {task.key for task in base.tasks}
    assert known < {task.key for task in more.tasks}
    added = [task for task in more.tasks if task.key not in known]
    stages_of = [task.stage for task in added]
    assert {
        name: stages_of.count(name) for name in ("match", "noise", "query", "attack", "compare")
    } == {
        "match": 1,
        "noise": 6,
        "query": 6,
        "attack": 3,
        "compare": 3,
    }
    few = made(utility_matched=["rtn-1.58"], references=["fp32"])
    assert sum(task.stage == "noise" for task in few.tasks) == 2
