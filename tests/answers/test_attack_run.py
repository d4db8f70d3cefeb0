"""A run against the stages of an audit, null tests, and quantized answers."""

import numpy as np
import pytest
from stage_calls import run_stage

from bitleak.answers import AttackRequest, Scratch, prepare_attack, try_attacks, write_attack
from bitleak.attacks import expand
from bitleak.core.errors import ConfigError, DataError
from bitleak.core.signals import signals
from bitleak.core.types import Images, Measure, Outputs, Row, Splits
from bitleak.report import read_summary


def audited(arrays, attacks, *, target_arrays=None, recalibrated=False, control=False):
    """Scores of the attack stage on the same answers, and the rows that the measure stage makes of them."""
    records, population = len(arrays["labels"]), len(arrays["population_labels"])
    labels = np.concatenate([arrays["labels"], arrays["population_labels"]])
    pixels = np.zeros((len(labels), 1, 1, 1), np.uint8)
    data = Images(pixels, labels, ("a", "b", "c", "d"), np.arange(len(labels)) >= records)
    empty = np.empty(0, np.int64)
    outside = np.arange(records, records + population)
    targets = np.arange(len(arrays["member"]))
    split = Splits(
        "population", np.arange(records), arrays["member"], targets, empty, outside, empty
    )

    def outputs(source):
        return tuple(Outputs(each(one, labels[:records]), each(other, labels[records:]), empty,
                             one.astype(np.float32), other.astype(np.float32))
                     for one, other in zip(source["logits"], source["population_logits"], strict=True))  # fmt: skip

    params = {"attacks": attacks, "recalibrated": recalibrated, "control": control,
              "targets": targets.tolist(), "references": targets.tolist(), "seed": 0,
              "answer_scale": "temperature"}  # fmt: skip
    inputs = {"images": data, "splits": split, "references": outputs(arrays)}
    inputs["targets"] = outputs(target_arrays or arrays)
    made = run_stage("attack", params, inputs)
    return made, split


def each(logits, labels):
    """Signals query by query."""
    return np.stack([signals(logits[:, query], labels) for query in range(logits.shape[1])], axis=1)


def quantized_of(arrays, seed=1):
    rng = np.random.default_rng(seed)
    worse = {name: (0.5 * arrays[name] + 0.5 * rng.normal(size=arrays[name].shape)).astype(np.float32)
             for name in ("logits", "population_logits")}  # fmt: skip
    return arrays | worse


def aggregate(rows, variant, attack, reference, metric="auc"):
    (found,) = [row.measure for row in rows if (row.variant, row.attack, row.reference, row.target, row.metric)
                == (variant, attack, reference, "all", metric)]  # fmt: skip
    return found


def test_scores_are_those_of_an_audit_on_the_same_answers(lab, tmp_path):
    arrays = lab.made(models=8)
    path = lab.write["npz"](tmp_path, arrays)
    _, prepared, scores = lab.rows_of(tmp_path, path, attacks=("lira", "threshold"))
    for case in prepared.cases:
        made, _ = audited(
            arrays,
            ["lira", "threshold"],
            recalibrated=case.reference == "recalibrated",
            control=case.variant == "control",
        )
        for attack, expected in zip(made["attacks"], made["scores"], strict=True):
            np.testing.assert_allclose(
                scores[case, attack["name"]], expected, rtol=1e-12, err_msg=str(case)
            )
    assert {case.reference for case in prepared.cases} == {"fp32", "recalibrated"}


def test_rows_are_those_of_an_audit_on_the_same_answers(lab, tmp_path):
    arrays = lab.made(models=8)
    rows, _, _ = lab.rows_of(
        tmp_path, lab.write["npz"](tmp_path, arrays), attacks=("lira-online-fixed",)
    )
    made, split = audited(arrays, ["lira-online-fixed"])
    params = {"variant": "fp32", "quantizer": "", "levels": None, "reference": "fp32", "fpr": [0.1], "seed": 0,
              "standalone": True, "delta": 1e-5, "comparisons": 2, "priors": [0.5]}  # fmt: skip
    inputs = {"scores": made, "splits": split}
    inputs["baseline"] = run_stage("estimate", params, inputs)
    measured = run_stage("measure", params, inputs)
    expected = [Row(**{**line, "measure": Measure(**line["measure"])}) for line in measured["rows"]]
    chosen = ("tpr_chosen", "fpr_chosen", "precision")  # test_statistics.py
    found = [row for row in rows if (row.variant, row.reference) == ("fp32", "fp32")]
    assert [row for row in found if not row.metric.startswith(chosen)] == expected


def test_quantized_answers_are_attacked_three_ways_as_in_an_audit(lab, tmp_path):
    arrays = lab.made(models=8)
    smaller = quantized_of(arrays)
    rows, prepared, scores = lab.rows_of(
        tmp_path,
        lab.write["npz"](tmp_path, arrays),
        quantized=lab.write["npz"](tmp_path, smaller, "quantized.npz"),
        attacks=("lira-online-fixed", "threshold"),
    )
    found = {
        case.reference: scores[case, "lira-online-fixed"]
        for case in prepared.cases
        if case[0] == "quantized"
    }
    assert list(found) == ["fp32", "recalibrated", "matched"]
    naive, _ = audited(arrays, ["lira-online-fixed"], target_arrays=smaller)
    mapped, _ = audited(arrays, ["lira-online-fixed"], target_arrays=smaller, recalibrated=True)
    matched, _ = audited(smaller, ["lira-online-fixed"])
    for kind, expected in (("fp32", naive), ("recalibrated", mapped), ("matched", matched)):
        np.testing.assert_allclose(found[kind], expected["scores"][0], rtol=1e-12, err_msg=kind)
    change = aggregate(rows, "quantized", "lira-online-fixed", "matched")
    full = aggregate(rows, "fp32", "lira-online-fixed", "fp32")
    assert change.verdict == "lower"
    assert change.difference == pytest.approx(change.value - full.value)
    assert len([row for row in rows if row.variant == "quantized" and row.attack == "threshold"
                and row.metric == "auc" and row.target == "all"]) == 1  # fmt: skip


def test_rows_of_the_quantized_file_are_matched_by_the_numbers_of_the_models(lab, tmp_path):
    arrays = lab.made(models=8)
    smaller = quantized_of(arrays)
    chosen = np.array([5, 2])
    some = {name: array[chosen] if name in ("logits", "population_logits", "member") else array
            for name, array in smaller.items()}  # fmt: skip
    path = lab.write["npz"](tmp_path, arrays)
    part = lab.write["npz"](tmp_path, some | {"models": chosen}, "part.npz")
    _, prepared, scores = lab.rows_of(tmp_path, path, quantized=part)
    assert prepared.design.targets == (2, 5)
    assert [case.reference for case in prepared.cases if case[0] == "quantized"] == [
        "fp32",
        "recalibrated",
    ]
    left = "models, and only these are attacked; no matched references."
    assert any(
        note.startswith("The quantized file has ") and note.endswith(left)
        for note in prepared.notes
    )
    whole = lab.write["npz"](tmp_path, smaller, "whole.npz")
    _, _, expected = lab.rows_of(tmp_path, path, quantized=whole, targets="2,5")
    # Attacks without references are on the scale of their own variant where matched references give it.
    assert {name for _, name in scores.keys() - expected.keys()} == {"threshold"}
    for key in scores.keys() & expected.keys():
        np.testing.assert_array_equal(scores[key], expected[key])


def test_a_single_target_has_the_scores_that_it_has_among_all(lab, tmp_path):
    path = lab.write["npz"](tmp_path, lab.made(models=8))
    _, _, alone = lab.rows_of(tmp_path, path, targets="3")
    _, _, among = lab.rows_of(tmp_path, path)
    for key, value in alone.items():
        np.testing.assert_allclose(value[0], among[key][3], rtol=1e-12)


def test_arrays_in_files_change_nothing(lab, tmp_path):
    path = lab.write["npz"](tmp_path, lab.made(models=8))
    in_memory, _, _ = lab.rows_of(tmp_path, path)
    in_files, _, _ = lab.rows_of(tmp_path, path, in_memory=0)
    assert in_files == in_memory


@pytest.mark.usefixtures("shapes_unchecked")
@pytest.mark.parametrize("rate", [0.5, 0.3, "three of twelve"])
def test_noise_with_an_unbalanced_membership_is_at_chance(lab, tmp_path, rate):
    rng = np.random.default_rng(5)
    models, records = 12, 20_000
    member = rng.random((models, records)) < rate if isinstance(rate, float) else (
        rng.random((models, records)).argsort(axis=0) < 3)  # fmt: skip
    noise = rng.normal(size=(models, records)).astype(np.float32)
    path = lab.write["npz"](tmp_path, {"scores": noise, "member": member})
    rows, prepared, _ = lab.rows_of(tmp_path, path, targets="0,1", attacks=("lira", "threshold"))
    assert bool(prepared.notes) == isinstance(rate, float)
    areas = {}
    for row in rows:
        if row.metric == "auc" and row.target == "0" and row.variant != "positive_control":
            areas[row.attack] = row.measure.value
    assert len(areas) == len(expand("lira")) + 1
    for name, area in areas.items():
        assert area == pytest.approx(0.5, abs=0.02), name


def test_informative_references_of_unbalanced_counts_say_nothing_about_a_target_of_noise(
    lab, tmp_path
):
    rng = np.random.default_rng(6)
    member = rng.random((8, 20_000)).argsort(axis=0) < 4  # balanced, without complements
    scores = rng.normal(3, 2, 20_000) + 2 * member + rng.normal(size=member.shape)
    path = lab.write["npz"](tmp_path, {"scores": scores, "member": member})
    rows, prepared, _ = lab.rows_of(tmp_path, path, targets="0,1", attacks=("lira",))
    assert prepared.design.complements == (-1, -1)
    for name in {row.attack for row in rows}:
        assert aggregate(rows, "fp32", name, "fp32").value > 0.6, name
        assert aggregate(rows, "control", name, "fp32").value == pytest.approx(0.5, abs=0.015), name


def test_one_model_is_attacked_without_references(lab, tmp_path):
    arrays = lab.made(models=2, population=0)
    one = {
        name: array[:1] if name in ("logits", "member") else array for name, array in arrays.items()
    }
    path = lab.write["npz"](tmp_path, one)
    rows, prepared, _ = lab.rows_of(tmp_path, path, attacks=None)
    assert "threshold" in {attack.name for attack in prepared.attacks}
    assert not any(attack.uses_references for attack in prepared.attacks)
    assert [note.partition(": ")[2] for note in prepared.notes] == [
        "lira (12 forms), rmia (4 forms), reference, calibrated (4 forms), quantile (2 forms).",
        "population.",
    ]
    assert (
        "for want of reference models (no record has 2 that were trained on it and 2 that were not"
        in prepared.notes[0]
    )
    assert (
        "for want of population records (an array population_logits, or records of no model)"
        in prepared.notes[1]
    )
    assert aggregate(rows, "fp32", "threshold", "").value > 0.6
    assert 0.4 < aggregate(rows, "control", "threshold", "").value < 0.6
    assert aggregate(rows, "positive_control", "threshold", "").value > 0.85
    with pytest.raises(
        ConfigError, match=r"lira-online-fixed cannot be run on .*: for want of reference models"
    ):
        lab.rows_of(tmp_path, path, attacks=("lira-online-fixed",))


@pytest.mark.parametrize("population", [0, 5, 49, 50, 200])
def test_ready_scores_are_attacked_by_all_that_read_a_confidence_alone(lab, tmp_path, population):
    rng = np.random.default_rng(0)
    member = lab.made(models=8, population=0)["member"]
    arrays = {"scores": rng.normal(size=member.shape) + member, "member": member}
    if population:
        arrays["population_scores"] = rng.normal(size=(8, population))
    path = lab.write["npz"](tmp_path, arrays)
    rows, prepared, _ = lab.rows_of(tmp_path, path, attacks=None, targets="0")
    left_out = next(note for note in prepared.notes if "for want of logits" in note)
    assert "quantile (2 forms)" in left_out
    assert ("population" in {attack.name for attack in prepared.attacks}) is (population > 1)
    assert aggregate(rows, "fp32", "lira-online-shrunk", "fp32").value > 0.6
    for name in ("quantile", "quantile-pinball"):
        with pytest.raises(ConfigError, match=f"{name}.* needs logits or probabilities"):
            lab.rows_of(tmp_path, path, attacks=(name,))


def test_a_target_with_one_member_is_attacked_and_its_figures_say_nothing(lab, tmp_path):
    rng = np.random.default_rng(0)
    member = np.arange(200)[None] == 7
    path = lab.write["npz"](tmp_path, {"scores": rng.normal(size=(1, 200)), "member": member})
    rows, prepared, _ = lab.rows_of(tmp_path, path, attacks=("threshold-log_probability",))
    area = aggregate(rows, "fp32", "threshold-log_probability", "")
    assert (area.low, area.high) == (0.0, 1.0)
    assert aggregate(rows, "fp32", "threshold-log_probability", "", "epsilon").value == 0
    assert "Target 0 has 1 member: its figures are little more than chance" in " ".join(
        prepared.remarks
    )


def test_accuracies_are_those_on_the_targets_own_members_and_non_members(lab, tmp_path):
    arrays = lab.made(models=8)
    rows, _, _ = lab.rows_of(
        tmp_path, lab.write["npz"](tmp_path, arrays), attacks=("threshold",), targets="2"
    )
    right = arrays["logits"][2, :, 0].argmax(axis=1) == arrays["labels"]
    inside = arrays["member"][2]
    assert aggregate(rows, "fp32", "", "", "train_accuracy").value == right[inside].mean()
    assert aggregate(rows, "fp32", "", "", "test_accuracy").value == right[~inside].mean()


def test_an_answer_that_is_no_number_is_named(lab, tmp_path):
    arrays = lab.made(models=8)
    arrays["logits"][3, 17, 1, 2] = np.nan
    path = lab.write["npz"](tmp_path, arrays)
    with pytest.raises(
        DataError,
        match=r"answers.npz: logits of model 3, record 17, query 1: must be finite, got nan",
    ):
        lab.rows_of(tmp_path, path)


def test_expected_seconds_grow_with_the_work(lab, tmp_path):
    path = lab.write["npz"](tmp_path, lab.made(models=8, records=400))
    with Scratch(tmp_path) as scratch:
        _, one = try_attacks(prepare_attack(AttackRequest(path, targets="0"), scratch))
        _, all_of_them = try_attacks(prepare_attack(AttackRequest(path), scratch))
    assert 0 < one.attacking < all_of_them.attacking
    assert all_of_them.total > all_of_them.attacking


def test_one_model_is_reported_without_a_warning_of_numpys(lab, tmp_path):
    """The suite turns warnings into errors; a single model has no memorisation, of which a mean was taken."""
    arrays = lab.made(models=2, population=0)
    one = {
        name: array[:1] if name in ("logits", "member") else array for name, array in arrays.items()
    }
    with Scratch(tmp_path) as scratch:
        prepared, _ = try_attacks(
            prepare_attack(AttackRequest(lab.write["npz"](tmp_path, one), power=False), scratch)
        )
        write_attack(prepared, tmp_path, scratch)
    exposed = read_summary(tmp_path).exposed
    assert exposed is not None
    assert exposed.variants[0].memorisation is None
