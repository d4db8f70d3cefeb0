"""Adversaries who quantize only some of their references: what is planned, and the rows that come of it."""

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from bitleak.audit import audit, preparation, prepare
from bitleak.audit.comparison_notes import prediction_note
from bitleak.audit.graph.partly_quantized_tasks import quantized_order, quantized_rows
from bitleak.cli.audit_progress import quantized_line
from bitleak.config import read_config, resolved, validate
from bitleak.core.errors import ConfigError
from bitleak.core.types import Description
from bitleak.data.hub import Hub
from bitleak.engine.store import Store
from bitleak.steps.attack_targets import AttackScores

RAW = {
    "data": {"name": "digits", "limit": 240},
    "split": {"models": 12, "targets": 2, "population": 20},
    "model": {"name": "cnn", "width": 4},
    "train": {"epochs": 1},
    "calibration": {"records": 32},
    "quantize": [{"name": "rtn", "levels": [4]}],
    "attacks": ["lira-online-shrunk", "rmia-online", "threshold"],
    "references": ["fp32", {"kind": "matched", "quantized": 4}],
    "query": {"augment": ["identity"]},
    "fpr": [0.1],
    "power": False,
}


def planned(**changes):
    prepared = prepare(validate({**RAW, **changes}), device="cpu")
    return Counter(task.stage for task in prepared.plan.tasks)


def test_only_the_targets_and_the_named_references_are_quantized():
    # targets 0 and 2, and for each of them two pairs that are not its own: rows 0 to 5
    assert planned()["quantize"] == 6
    assert planned(references=["fp32"])["quantize"] == 2
    assert planned(references=["fp32", "matched"])["quantize"] == 12
    assert planned()["attack_partly"] == planned()["attack_alike"] == 1


@pytest.mark.parametrize("also", [[], ["matched"]])
def test_all_adversaries_of_a_variant_have_the_same_players_and_the_strongest_chooses_among_them(
    also,
):
    kinds = [*RAW["references"], *also, {"kind": "matched", "quantized": 6}]
    plan = prepare(validate({**RAW, "references": kinds}), device="cpu").plan
    played, partly = (
        [task for task in plan.tasks if task.stage == stage] for stage in ("play", "play_partly")
    )
    played = [task for task in played if "rtn-2" in task.label]
    assert len(played) == 1 + len(also)
    assert [task.params["count"] for task in partly] == [4, 6]
    assert len({str(task.params["players"]) for task in (*played, *partly)}) == 1
    for task in partly:
        players = {row for of_group in task.params["players"] for row in of_group}
        assert players <= set(task.params["quantized"])
    strongest = [task for task in plan.tasks if task.stage == "strongest"][1]
    assert strongest.params["references"][-2:] == ["matched-4", "matched-6"]
    assert len(strongest.inputs["alike"]) == 2
    assert "alike" not in next(task for task in plan.tasks if task.stage == "strongest").inputs
    measured = [
        task
        for task in plan.tasks
        if task.stage == "measure" and task.params["reference"] == "matched-6"
    ]
    assert all("thresholds" in task.inputs for task in measured)
    assert measured


def test_nothing_is_planned_that_no_row_needs():
    changes = {"utility_matched": ["rtn-2"], "split": {**RAW["split"], "population": 60}}
    plan = prepare(validate({**RAW, **changes}), device="cpu").plan
    tasks, needed, rest = {task.key: task for task in plan.tasks}, set(), list(plan.wanted)
    while rest:
        key = rest.pop()
        if key not in needed:
            needed.add(key)
            for keys in tasks[key].inputs.values():
                rest += [keys] if isinstance(keys, str) else keys
    assert needed == set(tasks)


def test_pairs_with_a_target_come_first_and_a_targets_own_pair_is_replaced():
    assert quantized_order((4, 8), tuple(range(10))) == (4, 5, 8, 9, 0, 1, 2, 3, 6, 7)
    assert quantized_rows((4, 8), tuple(range(10)), 4) == (4, 5, 8, 9, 0, 1)
    assert quantized_rows((4, 8), tuple(range(10)), 0) == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"references": ["fp32", {"kind": "matched", "quantized": 3}]}, "even number of at least 4"),
        ({"references": ["fp32", {"kind": "matched", "quantized": 10}]}, "10 of 10 references"),
        ({"references": ["fp32", {"kind": "fp32", "quantized": 4}]}, "expected a kind, {kind"),
        ({"references": [{"kind": "matched", "quantized": 4}]}, "add fp32"),
        ({"split": {"mode": "dedicated", "targets": 2, "shadows": 8, "population": 20}}, "split.pairs: true"),
        ({"split": {"models": 12, "targets": 2, "pairs": True}}, "pairs is for mode dedicated"),
        (
            {"split": {"mode": "dedicated", "targets": 2, "shadows": 4, "pairs": True, "population": 20}},
            "4 of 4 references",
        ),
    ],
)  # fmt: skip
def test_a_wrong_number_is_refused_with_what_to_write(changes, message):
    with pytest.raises(ConfigError) as caught:
        validate({**RAW, **changes})
    assert message in str(caught.value)


def test_the_resolved_config_reads_as_the_same():
    config = validate(RAW)
    assert validate(resolved(config)) == config
    assert resolved(config)["references"] == RAW["references"]


def test_the_papers_networks_take_as_many_gpu_hours_as_the_page_says(monkeypatch):
    examples = Path(__file__).parents[2] / "examples"
    description = Description(60_000, 10_000, 100, 3, 32, "planned")
    monkeypatch.setattr(Hub, "describe", lambda self, data: description)
    # whether a quantizer takes the network is no matter of hours
    monkeypatch.setattr(preparation, "_check_quantizers", lambda config, spec: ())
    hours = {}
    for name in ("paper-cifar100", "paper-cifar100-few"):
        config = validate(read_config(examples / f"{name}.yaml"))
        tasks = prepare(config, device="cuda", on_this_machine=False).plan.tasks
        hours[name] = sum(task.cost for task in tasks) / 3600
    assert hours["paper-cifar100"] == pytest.approx(54.3, abs=0.1)
    assert hours["paper-cifar100-few"] == pytest.approx(28.0, abs=0.1)


def test_a_plan_says_what_the_quantized_references_are_worth():
    line = quantized_line(12, 62)
    assert "matched-12: 12 of 62 references are quantized; per side they are worth 6 where" in line
    # 1 / ((1 - 0.81) / 6 + 0.81 / 31) = 17.3
    assert "17.3 at r = 0.9, and 31 at r = 1" in line


@pytest.fixture(scope="module")
def finished(tmp_path_factory, undrawn, unchecked):
    folder = tmp_path_factory.mktemp("partly")
    prepared, store = prepare(validate(RAW), device="cpu"), Store(folder / "store")
    with undrawn(), unchecked():
        audit(prepared, out=folder / "out", store=store, executor="serial", workers=1)
    return prepared, store, folder / "out"


def test_rows_of_the_kind_have_differences_from_full_precision_under_a_handicap(finished):
    prepared, store, out = finished
    with (out / "results.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["reference"] == "matched-4"]
    assert {row["variant"] for row in rows} == {"rtn-2"}
    assert {row["attack"] for row in rows} == {"lira-online-shrunk", "rmia-online"}
    area = next(
        row
        for row in rows
        if (row["metric"], row["attack"], row["target"]) == ("auc", "lira-online-shrunk", "all")
    )
    tasks = {task.stage: task for task in prepared.plan.tasks}
    alike = AttackScores.read(store.read_key(tasks["attack_alike"].key))
    partly = AttackScores.read(store.read_key(tasks["attack_partly"].key))
    member = store.read_key(prepared.plan.splits)["member"][list(prepared.plan.targets)]
    handicapped = [
        _area(*pair) for pair in zip(alike.of("lira-online-shrunk"), member, strict=True)
    ]
    attacked = [_area(*pair) for pair in zip(partly.of("lira-online-shrunk"), member, strict=True)]
    assert float(area["value"]) == pytest.approx(sum(attacked) / 2)
    assert float(area["difference"]) == pytest.approx((sum(attacked) - sum(handicapped)) / 2)


def _area(scores, member):
    inside, outside = scores[member], scores[~member]
    wins = sum((inside > value).sum() + (inside == value).sum() / 2 for value in outside)
    return wins / (len(inside) * len(outside))


def test_with_too_few_quantized_models_for_a_player_the_report_says_why_there_is_no_threshold(
    finished,
):
    # 6 models are quantized: without the target's pair and the player's, 2 are left
    text = (finished[2] / "summary.json").read_text()
    assert "thresholds on rtn-2 by matched-4" in text
    assert (
        "needs 4 quantized references, and 2 are left; raise `quantized` of the references" in text
    )


def test_the_note_has_correlation_and_worth(finished):
    text = (finished[2] / "summary.json").read_text()
    assert "Of the matched-4 references 4 are quantized as the target is" in text
    note = prediction_note(
        "matched-16",
        {"rtn-2": {"correlation": {"IN": [0.5, 0.7], "OUT": [0.9, 0.9]}, "effective": {"IN": [4, 6], "OUT": [7, 7]}}},
    )  # fmt: skip
    assert "(rtn-2: 0.60, 5.0)" in note


DEDICATED = {"mode": "dedicated", "targets": 3, "shadows": 12, "population": 20, "pairs": True}


@pytest.mark.usefixtures("shapes_unchecked")
def test_dedicated_targets_have_shadows_in_pairs_of_which_some_are_quantized(tmp_path, undrawn):
    """Three targets, so that the pairs of shadows do not begin at an even row."""
    raw = {**RAW, "split": DEDICATED, "references": ["fp32", {"kind": "matched", "quantized": 8}]}
    config = validate(raw)
    assert validate(resolved(config)) == config
    prepared, store = prepare(config, device="cpu"), Store(tmp_path / "store")
    counts = Counter(task.stage for task in prepared.plan.tasks)
    assert counts["train"] == 15
    assert counts["quantize"] == 3 + 8  # a target's own pair is not among the shadows
    with undrawn():
        audit(prepared, out=tmp_path / "out", store=store, executor="serial", workers=1)

    # any pairs of the shadows hold every record equally often, and the targets do not
    member = store.read_key(prepared.plan.splits)["member"]
    assert (member[3::2] ^ member[4::2]).all()
    assert not (member[:2].sum(axis=0) == 1).all()

    # rows with thresholds and a chosen pair: a player has the other six quantized shadows
    with (tmp_path / "out" / "results.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["variant"] == "rtn-2"]
    metrics = {row["metric"] for row in rows if row["reference"] == "matched-8"}
    assert {"auc", "tpr_chosen@0.1"} <= metrics
    tasks = {task.label: task for task in prepared.plan.tasks}
    chosen = store.read_key(tasks["thresholds on rtn-2 by matched-8"].key)
    assert np.isfinite(chosen["thresholds"]).all()
    played = tasks["play rtn-2 by matched-8"]
    players = {row for of_group in played.params["players"] for row in of_group}
    assert len(players) >= 4
    assert players <= set(played.params["quantized"]) == set(range(3, 11))


def test_a_draw_without_pairs_keeps_its_key():
    split = {"mode": "dedicated", "targets": 2, "shadows": 8, "population": 20}
    keys = []
    for pairs in ({}, {"pairs": False}, {"pairs": True}):
        changed = validate({**RAW, "references": ["fp32"], "split": {**split, **pairs}})
        keys.append(prepare(changed, device="cpu").plan.splits)
    assert keys[0] == keys[1] != keys[2]
