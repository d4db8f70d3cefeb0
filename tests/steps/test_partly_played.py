"""Partly quantized references among those that the strongest pair is chosen from, and their thresholds."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from bitleak.attacks import LiRA, attack_view, expand, predicted_view
from bitleak.core.types import SIGNALS, Images, Outputs, Splits
from bitleak.engine.worker import Runtime
from bitleak.metrics import player_rates, thresholds_for
from bitleak.steps.attack_full_alike import AttackFullAlike
from bitleak.steps.attack_partly_quantized import AttackPartlyQuantized
from bitleak.steps.attack_targets import AttackTargets
from bitleak.steps.choose_partly_thresholds import ChoosePartlyThresholds
from bitleak.steps.measure_strongest import MeasureStrongest, Pair, StrongestFigures
from bitleak.steps.play_partly_quantized import PlayPartlyQuantized, known_references
from bitleak.steps.play_targets import PlayTargets

MODELS, RECORDS, FPR, COUNT = 12, 1000, 0.05, 6
TARGETS = (0, 2)
GROUPS, PLAYERS = ((0,), (2,)), ((2, 3, 6, 7), (0, 1, 6, 7))
QUANTIZED = (0, 1, 2, 3, 4, 5, 6, 7)
ALL = tuple(range(MODELS))
ATTACKS = ("lira-online-shrunk", "threshold")


def answers_of(confidence, population):
    signals = np.zeros((*confidence.shape, 1, len(SIGNALS)))
    outside = np.zeros((*population.shape, 1, len(SIGNALS)))
    for values, into in ((confidence, signals), (population, outside)):
        into[..., 0, 0], into[..., 0, 1] = -np.logaddexp(0, -values), values
    return tuple(
        Outputs(*pair, np.zeros(0, np.int64)) for pair in zip(signals, outside, strict=True)
    )


@pytest.fixture
def audit():
    """Answers at full precision, and quantized ones whose confidence is moved record by record."""
    rng = np.random.default_rng(0)
    halves = rng.random((MODELS // 2, RECORDS)).argsort(axis=1) < RECORDS // 2
    member = np.stack([halves, ~halves], axis=1).reshape(MODELS, RECORDS)
    full = 2 * rng.normal(size=RECORDS) + rng.normal(size=member.shape) + 1.5 * member
    moved = full + 2 * rng.normal(size=RECORDS) + 0.2 * rng.normal(size=full.shape)
    outside = rng.normal(size=(MODELS, 30))
    none = np.zeros(0, np.int64)
    splits = Splits(
        "population", np.arange(RECORDS), member, np.array(TARGETS), none, np.arange(30), none
    )
    images = Images(
        np.zeros((RECORDS, 1, 1, 1), np.uint8),
        np.zeros(RECORDS, np.int64),
        ("a",),
        np.zeros(RECORDS, bool),
    )
    return SimpleNamespace(
        splits=splits, images=images, full=answers_of(full, outside), moved=answers_of(moved, outside)
    )  # fmt: skip


def run(step, audit, **inputs):
    known = {"images": audit.images} if "images" in step.Inputs._fields else {}
    inputs = {**known, "splits": audit.splits, **inputs}
    return step.run(step.Inputs(**inputs), Runtime(), lambda done: None)


def some(answers, rows):
    return tuple(answers[row] for row in rows)


def partly_inputs(audit):
    return {"references": audit.full, "quantized": some(audit.moved, QUANTIZED)}


def play_partly(audit, count=COUNT):
    step = PlayPartlyQuantized(ATTACKS, GROUPS, PLAYERS, ALL, QUANTIZED, count, FPR, 0)
    return run(step, audit, **partly_inputs(audit))


@pytest.mark.parametrize(
    ("names", "count"), [(["lira-online-shrunk", "rmia-online"], 2), (["quantile"], len(SIGNALS))]
)
def test_only_signals_that_the_attacks_read_are_predicted(audit, names, count):
    step = PlayPartlyQuantized(tuple(names), GROUPS, PLAYERS, ALL, QUANTIZED, COUNT, FPR, 0)
    inputs = step.Inputs(images=audit.images, splits=audit.splits, **partly_inputs(audit))
    attacks = [attack for name in names for attack in expand(name)]
    view = known_references(step, inputs, attacks).played(2, (0,), COUNT).view
    assert view.references.shape[-1] == view.population_references.shape[-1] == count
    assert {signal for signal, _ in view.moments} == set(SIGNALS[:count])


def scores_by_hand(audit, player, without):
    """LiRA on a player, by the predicted answers of models on other training sets than those rows'."""
    left_out = {row // 2 for row in (player, *without)}
    rows = [row for row in ALL if row // 2 not in left_out]
    chosen = [row for row in QUANTIZED if row in rows][:COUNT]
    view = attack_view(
        target=audit.moved[player].signals,
        references=np.stack([audit.full[row].signals for row in rows]),
        member=audit.splits.member[rows],
        use=np.ones((len(rows), RECORDS), bool),
        population_target=audit.moved[player].population_signals,
        population_references=np.stack([audit.full[row].population_signals for row in rows]),
        labels=np.zeros(RECORDS, np.int64),
    )
    part = predicted_view(
        view,
        [rows.index(row) for row in chosen],
        np.stack([audit.moved[row].signals for row in chosen]),
        np.stack([audit.moved[row].population_signals for row in chosen]),
    )
    return LiRA()(part.view)


def test_rates_are_means_over_the_players_by_references_on_other_training_sets(audit):
    played = play_partly(audit)
    assert played.attacks == ("lira-online-shrunk",)
    for group, players in enumerate(PLAYERS):
        rates = []
        for player in players:
            scores = scores_by_hand(audit, player, GROUPS[group])
            rates.append(player_rates(scores[None], audit.splits.member[player], FPR).value[0])
        assert played.rates[group, 0] == pytest.approx(np.mean(rates))
    assert played.players == (4, 4)


def test_answers_and_membership_of_a_target_have_no_part_in_its_choice(audit):
    before = play_partly(audit)
    other = SimpleNamespace(**vars(audit))
    member = audit.splits.member.copy()
    member[0] = np.random.default_rng(7).permutation(member[0])
    member[1] = ~member[0]
    other.splits = replace(audit.splits, member=member)
    other.moved = (audit.moved[9], audit.moved[8], *audit.moved[2:])
    after = play_partly(other)
    np.testing.assert_array_equal(before.rates[0], after.rates[0])
    np.testing.assert_array_equal(before.changes[0], after.changes[0])
    assert (before.rates[1] != after.rates[1]).any()


def test_with_too_few_quantized_models_left_there_is_no_rate_but_a_reason(audit):
    step = PlayPartlyQuantized(ATTACKS, GROUPS, ((2, 3), (0, 1)), ALL, QUANTIZED[:6], 4, FPR, 0)
    played = run(step, audit, references=audit.full, quantized=some(audit.moved, QUANTIZED[:6]))
    assert np.isnan(played.rates).all()
    assert (
        "needs 4 quantized references, and 2 are left; raise `quantized`"
        in played.refused[ATTACKS[0]]
    )


def test_thresholds_are_those_of_a_player_that_is_neither_the_target_nor_its_complement(audit):
    step = ChoosePartlyThresholds(ATTACKS, TARGETS, ALL, QUANTIZED, COUNT, (FPR,), 0)
    chosen = run(step, audit, **partly_inputs(audit))
    assert chosen.attacks == ("lira-online-shrunk",)
    for place, target in enumerate(TARGETS):
        possible = []
        for player in QUANTIZED:
            if player // 2 != target // 2:
                scores = scores_by_hand(audit, player, [target])
                possible.append(thresholds_for(scores[~audit.splits.member[player]], [FPR])[0])
        assert chosen.thresholds[0, place, 0] in np.array(possible)
    other = SimpleNamespace(**vars(audit))
    other.moved = (audit.moved[9], audit.moved[8], *audit.moved[2:])
    again = run(step, other, **partly_inputs(other))
    assert again.thresholds[0, 0, 0] == chosen.thresholds[0, 0, 0]


def attack_all(audit, answers):
    step = AttackTargets(ATTACKS, False, False, TARGETS, ALL, 0)
    return run(step, audit, targets=some(answers, TARGETS), references=audit.full)


def play_all(audit, answers):
    step = PlayTargets(ATTACKS, False, GROUPS, PLAYERS, ALL, FPR, 0)
    return run(step, audit, players=some(answers, step.rows), references=audit.full)


def test_the_strongest_pair_may_have_them_and_is_compared_with_full_precision_under_their_handicap(
    audit,
):
    at_full = MeasureStrongest(
        "fp32", "", None, ("fp32",), "lira-online-shrunk", "matched-6", (FPR,), 0
    )
    full = run(
        at_full,
        audit,
        scores=(attack_all(audit, audit.full),),
        played=(play_all(audit, audit.full),),
    )
    step = AttackPartlyQuantized(ATTACKS, TARGETS, ALL, QUANTIZED, COUNT, 0)
    predicted = run(step, audit, targets=some(audit.moved, TARGETS), **partly_inputs(audit))
    alike = run(
        AttackFullAlike(ATTACKS, TARGETS, ALL, ALL, 0),
        audit,
        targets=some(audit.full, TARGETS),
        references=audit.full,
        predicted=predicted,
    )
    variant = run(
        replace(
            at_full, variant="rtn-2", quantizer="rtn", levels=4, references=("fp32", "matched-6")
        ),
        audit,
        scores=(attack_all(audit, audit.moved), predicted),
        played=(play_all(audit, audit.moved), play_partly(audit)),
        baseline=StrongestFigures.read(full.artifacts()),
        alike=(alike,),
    )
    for place, target in enumerate(TARGETS):
        (row,) = [
            row for row in variant.table.rows if (row.metric, row.target) == ("auc", str(target))
        ]
        assert row.measure.chosen == "lira-online-shrunk/matched-6"
        areas = [
            area(of.of(ATTACKS[0])[place], audit.splits.member[target]) for of in (predicted, alike)
        ]
        assert row.measure.value == pytest.approx(areas[0])
        assert row.measure.difference == pytest.approx(areas[0] - areas[1])
        everything = area(
            attack_all(audit, audit.full).of(ATTACKS[0])[place], audit.splits.member[target]
        )
        assert areas[1] != everything


def area(scores, member):
    inside, outside = scores[member][:, None], scores[~member]
    return float((inside > outside).mean() + (inside == outside).mean() / 2)


def test_a_pair_is_read_as_it_is_written():
    for pair in (Pair("lira-online-shrunk", "matched-8"), Pair("threshold", "")):
        assert Pair.parse(str(pair)) == Pair.parse(f"{pair} (named)") == pair
