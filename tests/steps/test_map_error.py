"""Rows of recalibrated references: steps carry the error of the map from the scores to the intervals."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from bitleak import metrics
from bitleak.attacks import expand, moved_maps, recalibrated, two_class_signals
from bitleak.core.types import Images, Outputs, Splits
from bitleak.engine.worker import Runtime
from bitleak.steps.attack_targets import AttackScores, AttackTargets, target_view
from bitleak.steps.compare_variants import CompareVariants
from bitleak.steps.estimate_baseline import EstimateBaseline
from bitleak.steps.measure_strongest import MeasureStrongest
from bitleak.steps.measure_variant import MeasureVariant
from bitleak.steps.play_targets import PlayTargets

MODELS, RECORDS, POPULATION, FPR = 6, 600, 12, 0.1
ATTACKS, TARGETS = ("lira-online-fixed", "rmia-online"), (0, 2)
METRICS = "auc", "tpr@0.1", "balanced_accuracy"


@pytest.fixture(scope="module")
def audit():
    """Targets whose confidence is halved, and a population too small to see that precisely."""
    rng = np.random.default_rng(0)
    halves = rng.random((MODELS // 2, RECORDS)).argsort(axis=1) < RECORDS // 2
    member = np.stack([halves, ~halves], axis=1).reshape(MODELS, RECORDS)
    pool = 2 * rng.normal(size=RECORDS) + rng.normal(size=member.shape) + 1.5 * member
    outside = 2 * rng.normal(size=POPULATION) + rng.normal(size=(MODELS, POPULATION))
    none = np.zeros(0, np.int64)
    total = RECORDS + POPULATION
    split = Splits(
        "population",
        np.arange(RECORDS),
        member,
        np.array(TARGETS),
        none,
        np.arange(RECORDS, total),
        none,
    )
    images = Images(
        np.zeros((total, 1, 1, 1), np.uint8),
        np.zeros(total, np.int64),
        ("a",),
        np.arange(total) >= RECORDS,
    )

    def answers(scale):
        made = []
        for row in range(MODELS):
            signals = [two_class_signals(scale * part[row, :, None]) for part in (pool, outside)]
            made.append(Outputs(*signals, none))
        return tuple(made)

    return SimpleNamespace(split=split, images=images, full=answers(1.0), half=answers(0.5))


def run(step, **inputs):
    return step.run(step.Inputs(**inputs), Runtime(), lambda done: None)


def attacked(audit, answers, *, recalibrate, error=True):
    fprs = (FPR,) if recalibrate and error else None
    step = AttackTargets(
        ATTACKS, recalibrate, False, TARGETS, tuple(range(MODELS)), 0, map_error_fprs=fprs
    )
    scores = run(
        step,
        targets=tuple(answers[row] for row in TARGETS),
        references=audit.full,
        images=audit.images,
        splits=audit.split,
    )
    return AttackScores.read(scores.artifacts())


def test_scores_come_with_the_change_that_an_error_of_the_map_makes(audit):
    scores = attacked(audit, audit.half, recalibrate=True)
    without = attacked(audit, audit.half, recalibrate=True, error=False)
    np.testing.assert_array_equal(scores.scores, without.scores)
    assert without.map_influence == {}
    by_row = dict(enumerate(audit.full))
    view = target_view(audit.images, audit.split, 2, audit.half[2], by_row, seed=0)
    moved, member = moved_maps(view), audit.split.member[2]
    (attack,) = expand("rmia-online")
    areas = [metrics.auc(metrics.roc(attack(seen), member)) for seen in (recalibrated(view), *moved.views)]  # fmt: skip
    expected = (np.array(areas[1:]) - areas[0]) @ moved.influence
    assert np.linalg.norm(expected) > 0.003
    np.testing.assert_allclose(scores.map_influence_of("rmia-online")["auc"][1], expected)


def rows_of(table, target="all"):
    return {
        (row.attack, row.metric): row.measure for row in table.rows if row.target in ("", target)
    }


def widths(measures):
    return {key: of.high - of.low for key, of in measures.items() if key[1] in METRICS}


def test_intervals_of_all_rows_of_recalibrated_references_include_the_error_of_the_map(audit):
    full = attacked(audit, audit.full, recalibrate=False)
    baseline = run(EstimateBaseline((FPR,), 0), scores=full, splits=audit.split)
    step = MeasureVariant(
        "rtn-2", "rtn", 4, "recalibrated", (FPR,), (0.5,), 1e-5, 2, seed=0, standalone=False
    )
    tables = []
    for error in (True, False):
        scores = attacked(audit, audit.half, recalibrate=True, error=error)
        tables.append(run(step, scores=scores, baseline=baseline, splits=audit.split))
    now, before = (rows_of(table) for table in tables)
    for key, width in widths(before).items():
        assert now[key].value == before[key].value
        # the balanced accuracy near its minimum is bounded on one side
        assert widths(now)[key] > 1.01 * width, key
        change, old = now[key], before[key]
        assert change.difference_high - change.difference_low > (
            old.difference_high - old.difference_low
        )
        assert change.p_value >= old.p_value
    one = rows_of(tables[0], "2"), rows_of(tables[1], "2")
    assert widths(one[0])["lira-online-fixed", "auc"] > widths(one[1])["lira-online-fixed", "auc"]


def test_what_exceeds_a_rival_includes_the_error_of_the_map(audit):
    step = CompareVariants(
        "rtn-2", "rtn", 4, "recalibrated", "best", (FPR,), seed=0, standalone=False
    )
    rival = attacked(audit, audit.full, recalibrate=False)
    found = []
    for error in (True, False):
        scores = attacked(audit, audit.half, recalibrate=True, error=error)
        found.append(rows_of(run(step, scores=scores, others=(rival,), splits=audit.split)))
    key = "lira-online-fixed", "auc_over_best"
    assert found[0][key].value == found[1][key].value
    assert found[0][key].high - found[0][key].low > 1.01 * (found[1][key].high - found[1][key].low)


def test_the_strongest_pair_has_the_error_of_its_map_if_it_has_one(audit):
    rows = tuple(range(MODELS))
    play = PlayTargets(ATTACKS, True, (TARGETS,), ((),), rows, FPR, 0)
    played = run(play, players=(), references=audit.full, images=audit.images, splits=audit.split)
    step = MeasureStrongest(
        "fp32", "", None, ("recalibrated",), "rmia-online", "recalibrated", (FPR,), 0
    )
    found = []
    for error in (True, False):
        scores = attacked(audit, audit.half, recalibrate=True, error=error)
        strongest = run(step, scores=(scores,), played=(played,), splits=audit.split)
        found.append(rows_of(strongest.table)["strongest", "auc"])
    assert found[0].chosen == "rmia-online/recalibrated (named)"
    assert found[0].value == found[1].value
    assert found[0].high - found[0].low > 1.01 * (found[1].high - found[1].low)


def test_a_reference_far_off_the_others_is_stored_with_the_scores(audit):
    wild = list(audit.full)
    far = two_class_signals(40 * wild[5].signals[..., 1])
    wild[5] = replace(wild[5], signals=far)
    found = attacked(SimpleNamespace(**vars(audit) | {"full": tuple(wild)}), audit.half, recalibrate=False)  # fmt: skip
    assert list(found.outlying) == ["5"]
    assert found.outlying["5"] > 20
    assert "outlying" not in attacked(audit, audit.half, recalibrate=False).artifacts()
