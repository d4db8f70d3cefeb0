"""Rows of calibration sets: means over versions and targets, and the null."""

import numpy as np
import pytest
from stage_calls import run_stage

from bitleak.core.types import Splits
from bitleak.data.splits import balanced_pairs
from bitleak.metrics import auc, roc

CANDIDATES, VERSIONS = 64, 16
ABOUT = {
    "variant": "obc-2",
    "quantizer": "obc",
    "levels": 4,
    "targets": [0, 2],
    "fpr": [0.1],
    "seed": 0,
}


def halves(seed):
    none = np.empty(0, np.int64)
    member = balanced_pairs(CANDIDATES, VERSIONS, np.random.default_rng(seed))
    return Splits(
        "population", np.arange(CANDIDATES), member, np.arange(VERSIONS), none, none, none
    )


def rows_of(scores, splits):
    attacks = [{"name": "reference", "references": True}]
    found = [
        {"scores": each[None], "attacks": attacks, "targets": list(range(VERSIONS))}
        for each in scores
    ]
    inputs = {"scores": tuple(found), "splits": tuple(splits)}
    made = run_stage("calibration", ABOUT, inputs)
    return {(row["metric"], row["target"]): row for row in made["rows"]}, made["curves"]


@pytest.fixture(scope="module")
def world():
    rng, splits = np.random.default_rng(0), [halves(seed) for seed in (1, 2)]
    pairs = zip((0.0, 2.0), splits, strict=True)
    return [
        effect * each.member + rng.normal(size=each.member.shape) for effect, each in pairs
    ], splits


def test_a_target_is_the_mean_of_its_versions_and_all_the_mean_of_the_targets(world):
    scores, splits = world
    rows, _ = rows_of(scores, splits)
    for place, target in enumerate(("0", "2")):
        areas = [auc(roc(*pair)) for pair in zip(scores[place], splits[place].member, strict=True)]
        assert rows["auc", target]["measure"]["value"] == pytest.approx(np.mean(areas), abs=1e-12)
    both = [rows["auc", target]["measure"]["value"] for target in ("0", "2")]
    assert rows["auc", "all"]["measure"]["value"] == pytest.approx(np.mean(both), abs=1e-12)


def test_targets_share_no_candidates_so_their_errors_are_independent(world):
    rows, _ = rows_of([world[0][1]] * 2, [world[1][1]] * 2)
    one, both = (rows["auc", target]["measure"] for target in ("0", "all"))
    width = (one["high"] - one["low"]) / (both["high"] - both["low"])
    assert width == pytest.approx(np.sqrt(2), rel=0.02)


def test_rows_say_what_they_are_about_and_what_would_be_noticed(world):
    rows, curves = rows_of(*world)
    about = rows["auc", "all"]
    assert (about["variant"], about["attack"], about["reference"]) == (
        "obc-2",
        "calibration:reference",
        "matched",
    )
    assert list(curves) == ["calibration:reference/matched/all"]
    # z(97.5 %) + z(80 %) standard deviations of the mean of 32 AUCs, twice the variance of independent ones
    deviation = np.sqrt((CANDIDATES + 1) / (12 * 32 * 32) * 2 / 32)
    noticed = rows["calibration_detectable_auc", "all"]["measure"]["value"]
    assert noticed == pytest.approx(0.5 + (1.959964 + 0.841621) * deviation, abs=1e-5)
