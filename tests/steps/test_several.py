"""Several releases of one target through the stages: joint attack, rows, and the comparison with the best alone."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm
from stage_calls import run_stage

from bitleak.attacks import two_class_signals
from bitleak.core.types import Images, Outputs
from bitleak.data import make_splits

RECORDS = 8000
MODELS = 34
SHIFTS = (1.0, 0.7)


def world(records=RECORDS, models=MODELS):
    flags = np.arange(records + 40) >= records
    pixels = np.zeros((len(flags), 1, 1, 1), np.uint8)
    data = Images(pixels, np.arange(len(flags)) % 2, ("a", "b"), flags)
    return data, make_splits(
        data, mode="population", models=models, targets=2, calibration=0, population=20, seed=0
    )


def release(split, shift, seed):
    """Confidences with independent noise: N(shift, 1) for members, N(0, 1) for others."""
    rng = np.random.default_rng(seed)
    found = []
    for member in split.member:
        confidence = shift * member + rng.normal(size=len(member))
        outside = two_class_signals(rng.normal(size=(len(split.population), 1)))
        found.append(
            Outputs(
                two_class_signals(confidence[:, None]), outside, np.zeros(len(split.test), np.int64)
            )
        )
    return found


def joint_scores(data, split, releases, **options):
    rows = list(range(len(split.member)))
    params = {
        "releases": len(releases),
        "targets": split.targets.tolist(),
        "references": rows,
        "seed": 0,
        **options,
    }
    inputs = {
        "images": data,
        "splits": split,
        "targets": tuple(answers[row] for answers in releases for row in split.targets),
        "references": tuple(answers[row] for answers in releases for row in rows),
    }
    return run_stage("joint", params, inputs)


def rows_of(stage, split, **inputs):
    about = {
        "variant": "fp32&rtn-2",
        "quantizer": "",
        "levels": None,
        "reference": "matched",
        "over": "best",
    }
    params = {
        **about,
        "fpr": [0.01],
        "seed": 0,
        "standalone": False,
        "delta": 1e-5,
        "comparisons": 1,
        "priors": [0.5],
    }
    if "baseline" in inputs:
        scores = {"splits": split, "scores": inputs["baseline"]}
        inputs["baseline"] = run_stage("estimate", params, scores)
    made = run_stage(stage, params, {"splits": split, **inputs})
    return {(row["metric"], row["target"]): row for row in made["rows"]}


@pytest.fixture(scope="module")
def attacked():
    data, split = world()
    releases = [release(split, shift, seed) for seed, shift in enumerate(SHIFTS)]
    return (
        split,
        joint_scores(data, split, releases),
        [joint_scores(data, split, [one]) for one in releases],
    )


def test_two_releases_with_independent_noise_have_the_closed_form(attacked):
    split, together, alone = attacked
    for found, shift in [(together, np.hypot(*SHIFTS)), *zip(alone, SHIFTS, strict=True)]:
        row = rows_of("measure", split, scores=found, baseline=alone[0])["auc", "all"]
        # the record's own centre is estimated from 16 references a side, hence the 1 / 32
        expected = norm.cdf(shift / np.sqrt(2 * (1 + 1 / 32)))
        error = (row["measure"]["high"] - row["measure"]["low"]) / 2
        assert row["measure"]["value"] == pytest.approx(expected, abs=1.5 * error)
        assert error < 0.01


def test_the_joint_rows_name_attack_and_reference(attacked):
    split, together, alone = attacked
    row = rows_of("measure", split, scores=together, baseline=alone[0])["auc", "all"]
    assert (row["variant"], row["attack"], row["reference"]) == ("fp32&rtn-2", "joint", "matched")
    assert row["measure"]["verdict"] == "higher"


def test_the_comparison_is_with_the_best_release_alone(attacked):
    split, together, alone = attacked
    of = {
        (index, key): row["measure"]["value"]
        for index, scores in enumerate([together, *alone])
        for key, row in rows_of("measure", split, scores=scores, baseline=alone[0]).items()
    }
    found = rows_of("compare", split, scores=together, others=tuple(alone))
    assert {metric for metric, _ in found} == {
        "auc_over_best",
        "tpr@0.01_over_best",
        "balanced_accuracy_over_best",
    }
    for target in ("all", "0", "2"):
        for metric in ("auc", "tpr@0.01"):
            row = found[f"{metric}_over_best", target]["measure"]
            best = max((1, 2), key=lambda index, metric=metric: of[index, (metric, "all")])
            assert row["value"] == pytest.approx(
                of[0, (metric, target)] - of[best, (metric, target)], abs=1e-12
            )
            assert row["low"] < row["value"] == row["difference"] < row["high"]
            assert row["verdict"] == "higher"


def test_a_second_release_of_pure_noise_costs_no_more_than_the_error():
    data, split = world(4000, 18)
    first, second = release(split, 1.0, 0), release(split, 0.0, 1)
    together = joint_scores(data, split, [first, second])
    alone = tuple(joint_scores(data, split, [one]) for one in (first, second))
    row = rows_of("compare", split, scores=together, others=alone)["auc_over_best", "all"][
        "measure"
    ]
    assert row["verdict"] != "higher"
    assert row["value"] > -0.005


def test_two_releases_of_noise_are_at_chance():
    data, split = world(4000, 18)
    found = joint_scores(data, split, [release(split, 0.0, seed) for seed in (3, 4)])
    row = rows_of("measure", split, scores=found, baseline=found)["auc", "all"]["measure"]
    assert row["value"] == pytest.approx(0.5, abs=0.02)


def test_the_learned_attack_does_not_read_the_targets_membership():
    """All labels of the first target are wrong, and those of its references right: the same scores."""
    data, split = world(2000, 10)
    releases = [release(split, 1.0, seed) for seed in range(2)]
    wrong = replace(split, member=split.member[[1, 0, *range(2, 10)]])
    by_labels = [
        joint_scores(data, known, releases, attack="joint-learned") for known in (split, wrong)
    ]
    assert [attack["name"] for attack in by_labels[0]["attacks"]] == ["joint-learned"]
    first, second = (found["scores"] for found in by_labels)
    np.testing.assert_array_equal(first[0, 0], second[0, 0])
    # the second target has the first one among its references
    assert not np.array_equal(first[0, 1], second[0, 1])
