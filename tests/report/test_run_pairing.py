"""Two runs on shared records: the interval of a difference against a direct bootstrap, and closed forms."""

from dataclasses import replace

import numpy as np
import pytest

from bitleak.metrics import (
    auc,
    difference_of_trainings,
    difference_over_records,
    difference_over_trainings,
    estimate_metrics,
    mean_over_records,
    roc,
)
from bitleak.report.influence_file import FigureKey, Influences, record_digests
from bitleak.report.run_pairing import RunPair

RECORDS, TARGETS = 400, 2
CELL = ("rtn-2", "lira", "matched")
DIGESTS = record_digests([str(number).encode() for number in range(2 * RECORDS)])
RNG = np.random.default_rng(5)
MEMBER = RNG.random((TARGETS, RECORDS)) < 0.5
SHARED = RNG.normal(size=RECORDS)


def scores_of(seed, shift=1.0, shared=0.8):
    noise = np.random.default_rng(seed).normal(size=(TARGETS, RECORDS))
    return shared * SHARED + np.sqrt(1 - shared**2) * noise + shift * MEMBER


def figures(scores):
    return estimate_metrics(scores, MEMBER, fprs=(), balanced=False)["auc"]


def run(scores, models=("m0", "m1"), digests=DIGESTS[:RECORDS], about="records"):
    estimates = figures(scores)
    targets = ("all",) if about == "records" else tuple(map(str, range(TARGETS)))
    if about == "records":
        estimates = (mean_over_records(estimates),)
    columns = {}
    for target, estimate in zip(targets, estimates, strict=True):
        columns[FigureKey(*CELL, "auc", target, "pool")] = estimate
    return Influences(about, models, {"pool": digests}, columns)


def test_the_interval_of_a_difference_is_that_of_a_direct_bootstrap():
    first, second = scores_of(1), scores_of(2, shift=0.8)
    paired = RunPair(run(first), run(second)).difference(CELL, CELL, "auc")
    rng, drawn = np.random.default_rng(0), []
    for _ in range(600):
        sample = rng.integers(RECORDS, size=RECORDS)
        means = []
        for scores in (first, second):
            of_run = zip(scores[:, sample], MEMBER[:, sample], strict=True)
            means.append(np.mean([auc(roc(*target)) for target in of_run]))
        drawn.append(means[1] - means[0])
    _, low, high, _ = paired.difference
    # the standard error of a deviation of 600 draws is 2.9 %
    assert high - low == pytest.approx(2 * 1.96 * np.std(drawn), rel=0.09)
    assert (low + high) / 2 == pytest.approx(np.mean(drawn), abs=0.002)
    independent = np.hypot(*(sum(mean_over_records(figures(s)).reach) for s in (first, second)))
    assert high - low < 0.8 * independent


def test_equal_runs_are_identical_and_have_no_width():
    pair = RunPair(run(scores_of(1)), run(scores_of(1)))
    paired = pair.difference(CELL, CELL, "auc")
    assert (paired.basis, tuple(paired.difference)) == ("identical", (0.0, 0.0, 0.0, 1.0))
    moved = run(scores_of(1) + 0.01 * SHARED**2)
    assert RunPair(run(scores_of(1)), moved).difference(CELL, CELL, "auc").basis != "identical"


@pytest.mark.parametrize(
    ("models", "basis", "words"),
    [
        (("m1", "m0"), "models and records", "the same 2 models and 400 records"),
        (("m0", "m9"), "records", "paired by record (400 records); the models are other trainings"),
    ],
)
def test_the_way_of_pairing_is_named(models, basis, words):
    pair = RunPair(run(scores_of(1)), run(scores_of(2), models=models))
    assert pair.difference(CELL, CELL, "auc").basis == basis
    assert words in pair.sentence()


def test_records_are_found_by_their_digests_in_any_order():
    first, second = run(scores_of(1)), run(scores_of(2))
    order = np.random.default_rng(1).permutation(RECORDS)
    columns = {}
    for key, estimate in second.figures.items():
        columns[key] = replace(estimate, influence=estimate.influence[order])
    digests = tuple(second.records["pool"][index] for index in order)
    shuffled = replace(second, figures=columns, records={"pool": digests})
    straight = RunPair(first, second).difference(CELL, CELL, "auc").difference
    again = RunPair(first, shuffled).difference(CELL, CELL, "auc").difference
    assert tuple(again) == pytest.approx(tuple(straight))


def test_runs_without_a_common_record_are_not_paired_and_few_common_ones_hardly_narrow():
    first = run(scores_of(1))
    apart = run(scores_of(2), digests=DIGESTS[RECORDS:])
    assert RunPair(first, apart).difference(CELL, CELL, "auc") is None
    assert "no record in common" in RunPair(first, apart).sentence()
    widths = []
    for shared in (1, 200, RECORDS):
        digests = (*DIGESTS[:shared], *DIGESTS[RECORDS : 2 * RECORDS - shared])
        pair = RunPair(first, run(scores_of(2), digests=digests))
        _, low, high, _ = pair.difference(CELL, CELL, "auc").difference
        widths.append(high - low)
    estimates = [mean_over_records(figures(scores_of(seed))) for seed in (1, 2)]
    independent = np.hypot(*(sum(estimate.reach) for estimate in estimates))
    assert widths[0] == pytest.approx(independent, rel=0.01)
    assert widths == sorted(widths, reverse=True)
    assert (
        "200 records that both have (400 in A)"
        in RunPair(
            first,
            run(scores_of(2), digests=(*DIGESTS[:200], *DIGESTS[RECORDS : RECORDS + 200])),
        ).sentence()
    )


def trained(seed, spread=0.3, targets=8):
    """One figure of dedicated targets whose leakage varies."""
    rng = np.random.default_rng(seed)
    member = np.random.default_rng(3).random((targets, RECORDS)) < 0.5
    shifts = 1 + spread * rng.normal(size=(targets, 1))
    scores = 0.8 * SHARED + 0.6 * rng.normal(size=member.shape) + shifts * member
    return estimate_metrics(scores, member, fprs=(), balanced=False)["auc"]


def test_other_trainings_are_paired_by_records_alone():
    first, second = trained(1), trained(2)
    change = difference_of_trainings(second, first)
    over_records = difference_over_records(mean_over_records(second), mean_over_records(first))
    alone = [replace(estimate, influence=np.roll(estimate.influence, 7)) for estimate in second]
    apart = difference_of_trainings(alone, first)
    assert over_records.value == change.value
    # trainings add to the error, and the records take a part of it away
    width = change.high - change.low
    assert over_records.high - over_records.low < width < apart.high - apart.low


def test_the_same_trainings_are_paired_target_by_target():
    models = tuple(f"m{index}" for index in range(8))
    runs = []
    for seed, order in ((1, range(8)), (2, reversed(range(8)))):
        estimates = trained(seed)
        columns, names = {}, []
        for place in order:
            columns[FigureKey(*CELL, "auc", str(place), "pool")] = estimates[place]
            names.append(models[place])
        runs.append(Influences("trainings", tuple(names), {"pool": DIGESTS[:RECORDS]}, columns))
    paired = RunPair(*runs).difference(CELL, CELL, "auc")
    expected = difference_over_trainings(trained(2), trained(1))
    assert tuple(paired.difference) == pytest.approx(tuple(expected))
