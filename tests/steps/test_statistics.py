"""Thresholds, power and memorisation through the stages, on worlds whose answers are known."""

import numpy as np
import pytest
from scipy.stats import norm
from stage_calls import run_stage

from bitleak import metrics
from bitleak.attacks import expand, two_class_signals
from bitleak.core.seeds import seed_for
from bitleak.core.types import Images, Outputs
from bitleak.data import make_splits

RECORDS, MODELS, TARGETS, SHIFT = 2000, 12, 3, 2.0


def quiet(done):
    """Shows nothing."""


@pytest.fixture(scope="module")
def world():
    """Images, splits and answers: N(SHIFT, 1) for members, N(0, 1) for others and the population."""
    flags = np.arange(RECORDS + 340) >= RECORDS
    data = Images(
        np.zeros((len(flags), 1, 1, 1), np.uint8), np.arange(len(flags)) % 2, ("a", "b"), flags
    )
    split = make_splits(
        data,
        mode="population",
        models=MODELS,
        targets=TARGETS,
        calibration=0,
        population=300,
        seed=0,
    )
    rng = np.random.default_rng(0)
    answers = []
    for member in split.member:
        inside = two_class_signals(rng.normal(size=(RECORDS, 1)) + SHIFT * member[:, None])
        outside = two_class_signals(rng.normal(size=(len(split.population), 1)))
        answers.append(Outputs(inside, outside, np.zeros(len(split.test), np.int64)))
    return data, split, answers


def inputs_of(world):
    data, split, answers = world
    return {
        "images": data,
        "splits": split,
        "targets": tuple(answers[row] for row in split.targets),
        "references": tuple(answers),
    }


def params_of(world, *attacks, **more):
    split = world[1]
    about = {
        "variant": "fp32",
        "quantizer": "",
        "levels": None,
        "reference": "fp32",
        "standalone": True,
    }
    return {
        **about,
        "attacks": attacks,
        "recalibrated": False,
        "control": False,
        "targets": split.targets.tolist(),
        "references": list(range(MODELS)),
        "fpr": [0.0001, 0.05],
        "priors": [0.5, 0.1],
        "delta": 1e-5,
        "comparisons": len(attacks),
        "seed": 0,
        **more,
    }


def run(stage, world, params, **inputs):
    return run_stage(stage, params, {**inputs_of(world), **inputs})


@pytest.fixture(scope="module")
def measured(world):
    """Rows of two attacks, by attack, target and metric."""
    params = params_of(world, "lira-online-fixed", "threshold")
    scores = run("attack", world, params)
    chosen = run("thresholds", world, params)
    baseline = run("estimate", world, params, scores=scores)
    made = run("measure", world, params, scores=scores, baseline=baseline, thresholds=chosen)
    rows = {(row["attack"], row["target"], row["metric"]): row["measure"] for row in made["rows"]}
    return rows, scores, chosen


def test_thresholds_that_references_give_keep_to_the_fpr_on_the_targets(measured):
    rows, _, chosen = measured
    assert chosen["attacks"] == ["lira-online-fixed"]
    assert np.isnan(chosen["thresholds"][0, :, 0]).all()  # 1,000 non-members are too few for 0.01 %
    for attack in ("lira-online-fixed", "threshold"):
        rate = rows[attack, "all", "fpr_chosen@0.05"]
        assert rate["low"] < 0.055
        assert rate["value"] > 0.03
        assert (attack, "all", "tpr_chosen@0.0001") not in rows
    expected = norm.sf(norm.isf(rows["threshold", "all", "fpr_chosen@0.05"]["value"]) - SHIFT)
    assert rows["threshold", "all", "tpr_chosen@0.05"]["value"] == pytest.approx(expected, abs=0.03)


def test_precision_at_a_prior_is_bayes_rule_on_the_mean_rates(measured):
    rows, _, _ = measured
    tpr, fpr = (rows["threshold", "all", f"{name}_chosen@0.05"]["value"] for name in ("tpr", "fpr"))
    found = rows["threshold", "all", "precision@0.05,prior0.1"]
    assert found["value"] == pytest.approx(0.1 * tpr / (0.1 * tpr + 0.9 * fpr))
    assert found["low"] < found["value"] < found["high"]


def test_a_target_has_no_part_in_its_thresholds(world):
    data, split, answers = world
    params = params_of(
        world, "lira-online-fixed", "rmia-online", targets=split.targets[:1].tolist()
    )
    before = run("thresholds", world, params)
    changed = list(answers)
    for row in (0, 1):  # the target and its complement
        noise = two_class_signals(np.random.default_rng(9).normal(5, 3, (RECORDS, 1)))
        changed[row] = Outputs(
            noise, answers[row].population_signals * 2, answers[row].test_predictions
        )
    after = run("thresholds", (data, split, changed), params)
    np.testing.assert_array_equal(before["thresholds"], after["thresholds"])
    assert np.isfinite(before["thresholds"][:, :, 1]).all()


def test_epsilon_is_that_of_the_bounds_of_single_targets(measured, world):
    rows, scores, _ = measured
    split = world[1]
    for place, row in enumerate(split.targets.tolist()):
        bounds = metrics.epsilon_bounds(
            scores["scores"][:, place], split.member[row], seed=seed_for(0, "epsilon"), delta=1e-5
        )
        for attack, bound in zip(("lira-online-fixed", "threshold"), bounds, strict=True):
            assert rows[attack, str(row), "epsilon"]["value"] == pytest.approx(
                bound.epsilon, rel=0.15
            )
    found = rows["threshold", "all", "epsilon"]
    assert (
        0.5
        < found["value"]
        < max(rows["threshold", str(row), "epsilon"]["value"] for row in split.targets) + 1e-9
    )
    assert (found["low"], found["high"]) == (found["value"], None)


def test_power_grows_with_the_references_and_ends_at_the_scores_of_all(world, measured):
    params = params_of(
        world, "lira-online-fixed", "reference", "rmia-offline", counts=[1, 2, 5], fpr=0.05
    )
    scores = run("attack", world, params)
    made = run("power", world, params, scores=scores)
    area = {(row["attack"], row["references"]): row["measure"]["value"] for row in made["rows"]
            if (row["target"], row["metric"]) == ("all", "auc")}  # fmt: skip
    assert set(area) == {("lira-online-fixed", 2), ("lira-online-fixed", 5), ("reference", 1), ("reference", 2),
                         ("reference", 5), ("rmia-offline", 2), ("rmia-offline", 5)}  # fmt: skip
    assert {(attack, count) for attack, count, _ in made["refused"]} == {
        ("lira-online-fixed", 1),
        ("rmia-offline", 1),
    }
    assert area["lira-online-fixed", 2] < area["lira-online-fixed", 5]
    assert area["reference", 1] < area["reference", 5]
    own = world[1].member[world[1].targets]
    whole = [metrics.auc(metrics.roc(*pair)) for pair in zip(scores["scores"][0], own, strict=True)]
    assert area["lira-online-fixed", 5] == pytest.approx(np.mean(whole), rel=1e-12)
    assert {row["metric"] for row in made["rows"]} == {"auc", "tpr@0.05"}


def test_memorisation_is_the_difference_in_the_probability_of_the_true_class(world, monkeypatch):
    monkeypatch.setattr("bitleak.steps.measure_memorisation.RECORDS", 64)
    _, split, answers = world
    made = run("memorise", world, {"models": list(range(MODELS))}, outputs=tuple(answers))
    probability = np.stack([np.exp(each.signals[:, 0, 0]) for each in answers])
    for record in (0, 7, 99):
        inside = split.member[:, record]
        expected = probability[inside, record].mean() - probability[~inside, record].mean()
        assert made["mean"][record] == pytest.approx(expected)
    assert made["mean"].mean() == pytest.approx(0.3, abs=0.1)
    assert (made["error"] > 0).all()


def test_with_too_few_references_there_is_no_threshold_and_a_reason(world):
    data, _, _ = world
    split = make_splits(
        data, mode="population", models=6, targets=1, calibration=0, population=300, seed=0
    )
    few = (data, split, world[2][:6])
    params = {**params_of(few, "lira-online-fixed", "reference"), "references": list(range(6))}
    made = run("thresholds", few, params)
    assert np.isnan(made["thresholds"][0]).all()
    assert "needs at least 2 usable OUT references" in made["refused"]["lira-online-fixed"]
    assert "reference" not in made["refused"]


def test_stored_estimates_come_back_bit_for_bit(world):
    params = params_of(world, "lira-online-fixed", "threshold")
    scores = run("attack", world, params)
    stored = run("estimate", world, params, scores=scores)
    member = world[1].member[world[1].targets]
    seed = seed_for(0, "measure")
    for index, attack in enumerate(expand("lira-online-fixed") + expand("threshold")):
        made = metrics.estimate_metrics(
            scores["scores"][index], member, fprs=params["fpr"], seed=seed
        )
        back = metrics.unpack_estimates(stored, attack.name)
        assert list(back) == list(made)
        for name, figures in made.items():
            for one, other in zip(figures, back[name], strict=True):
                for part in ("value", "centre", "low", "high", "interval", "limits", "choice_variance", "pairing",
                             "bounded_below"):  # fmt: skip
                    assert getattr(one, part) == getattr(other, part), (name, part)
                np.testing.assert_array_equal(one.influence, other.influence)
    with pytest.raises(KeyError, match="no estimates of attack 'other'"):
        metrics.unpack_estimates(stored, "other")
