"""Playing the targets, and measuring the strongest pair, as steps of an audit run them."""

import tracemalloc
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from bitleak.attacks import PlayedCase, PlayedScores, PlayerGroup, attack_view, expand
from bitleak.core.types import SIGNALS, Images, Outputs, Splits
from bitleak.engine.worker import Runtime
from bitleak.metrics import player_rates
from bitleak.steps import play_targets
from bitleak.steps.attack_targets import AttackTargets
from bitleak.steps.measure_strongest import MeasureStrongest, Pair, StrongestFigures
from bitleak.steps.play_targets import (
    NO_RATES,
    PlayedRates,
    PlayTargets,
    gathered_rates,
    group_rates,
)

MODELS, RECORDS, FPR = 8, 400, 0.05
GROUPS, PLAYERS = ((0,), (2,), (4,), (6,)), ((2, 3, 6, 7), (0, 1, 4, 5), (0, 1, 6, 7), (2, 3, 4, 5))
ATTACKS = ("lira-online-shrunk", "threshold")


def answers_of(confidence):
    signals = np.zeros((*confidence.shape, 1, len(SIGNALS)))
    signals[..., 0, 0], signals[..., 0, 1] = -np.logaddexp(0, -confidence), confidence
    empty = np.zeros((2, 1, len(SIGNALS)))
    return tuple(Outputs(one, empty, np.zeros(0, np.int64)) for one in signals)


@pytest.fixture
def audit():
    """Answers at full precision, and quantized ones whose confidence is shifted per record."""
    rng = np.random.default_rng(0)
    halves = rng.random((MODELS // 2, RECORDS)).argsort(axis=1) < RECORDS // 2
    member = np.stack([halves, ~halves], axis=1).reshape(MODELS, RECORDS)
    full = 2 * rng.normal(size=RECORDS) + rng.normal(size=member.shape) + 1.5 * member
    shifted = full + 4 * rng.normal(size=RECORDS)
    none = np.zeros(0, np.int64)
    pool = np.arange(RECORDS)
    splits = Splits("population", pool, member, np.arange(0, 8, 2), none, np.arange(2), none)
    images = Images(
        np.zeros((RECORDS, 1, 1, 1), np.uint8),
        np.zeros(RECORDS, np.int64),
        ("a",),
        np.zeros(RECORDS, bool),
    )
    return SimpleNamespace(
        splits=splits, images=images, full=answers_of(full), shifted=answers_of(shifted)
    )


def run(step, **inputs):
    return step.run(step.Inputs(**inputs), Runtime(), lambda done: None)


def play(audit, answers, references, players=PLAYERS):
    rows = tuple(range(MODELS)) if any(players) else ()
    step = PlayTargets(ATTACKS, False, GROUPS, players, rows, FPR, 0)
    return run(
        step,
        players=tuple(answers[row] for row in step.rows),
        references=references if rows else (),
        images=audit.images,
        splits=audit.splits,
    )


def attack(audit, answers, references):
    targets = tuple(range(0, MODELS, 2))
    step = AttackTargets(ATTACKS, False, False, targets, tuple(range(MODELS)), 0)
    return run(
        step,
        targets=tuple(answers[row] for row in targets),
        references=references,
        images=audit.images,
        splits=audit.splits,
    )


def test_a_permuted_membership_of_the_target_leaves_its_choice_the_same(audit):
    before = play(audit, audit.full, audit.full)
    member = audit.splits.member.copy()
    member[0] = np.random.default_rng(7).permutation(member[0])
    member[1] = ~member[0]
    permuted = replace(audit.splits, member=member)
    after = play(SimpleNamespace(splits=permuted, images=audit.images), audit.full, audit.full)
    np.testing.assert_array_equal(before.rates[0], after.rates[0])
    np.testing.assert_array_equal(before.changes[0], after.changes[0])
    assert (before.rates[1:] != after.rates[1:]).any()


def test_answers_of_the_target_have_no_part_in_its_choice(audit):
    noise = list(audit.full)
    noise[0] = noise[1] = audit.shifted[5]
    before, after = (play(audit, answers, answers) for answers in (audit.full, tuple(noise)))
    np.testing.assert_array_equal(before.rates[0], after.rates[0])


def test_rates_come_back_from_the_store_as_they_went(audit):
    rates = play(audit, audit.full, audit.full)
    again = PlayedRates.read(rates.artifacts())
    np.testing.assert_array_equal(again.rates, rates.rates)
    assert (again.attacks, again.groups, again.players) == (ATTACKS, GROUPS, (4, 4, 4, 4))


def measured(audit, players=PLAYERS):
    """The strongest at full precision, and on the shifted variant by fp32 and matched references."""
    at_full = MeasureStrongest(
        "fp32", "", None, ("fp32",), "lira-online-shrunk", "matched", (FPR,), 0
    )
    full = run(
        at_full,
        scores=(attack(audit, audit.full, audit.full),),
        played=(play(audit, audit.full, audit.full, players),),
        splits=audit.splits,
    )
    step = replace(at_full, variant="rtn-2", quantizer="rtn", levels=4)
    step = replace(step, references=("fp32", "matched"))
    kinds = (audit.full, audit.shifted)
    return full, run(
        step,
        scores=tuple(attack(audit, audit.shifted, references) for references in kinds),
        played=tuple(play(audit, audit.shifted, references, players) for references in kinds),
        splits=audit.splits,
        baseline=StrongestFigures.read(full.artifacts()),
    )


def figure(figures, metric, target="all"):
    (row,) = [row for row in figures.table.rows if (row.metric, row.target) == (metric, target)]
    return row.measure


def test_references_that_fit_are_chosen_where_full_precision_ones_do_not(audit):
    """The shift per record moves every model alike, so matched references find what there was."""
    full, variant = measured(audit)
    assert figure(full, "tpr@0.05").chosen == "lira-online-shrunk/fp32"
    rate = figure(variant, "tpr@0.05")
    assert rate.chosen == "lira-online-shrunk/matched"
    assert rate.verdict == "not distinguishable"
    assert rate.value == pytest.approx(figure(full, "tpr@0.05").value, abs=1e-12)
    hidden = figure(variant, "tpr@0.05_over_naive")
    assert hidden.verdict == "higher"
    assert 0 < hidden.low < hidden.value < hidden.high
    assert {row.attack for row in variant.table.rows} == {"strongest"}
    assert {name.split("/")[-1] for name in variant.table.curves} == {"0", "2", "4", "6", "all"}


def test_without_players_the_strongest_is_the_named_pair_and_is_marked(audit):
    full, variant = measured(audit, players=((), (), (), ()))
    assert figure(full, "auc").chosen == "lira-online-shrunk/fp32 (named)"
    assert figure(variant, "auc").chosen == "lira-online-shrunk/matched (named)"


def test_a_named_attack_that_was_not_run_is_refused(audit):
    step = MeasureStrongest("fp32", "", None, ("fp32",), "rmia-online", "fp32", (FPR,), 0)
    with pytest.raises(
        ValueError, match="attack 'rmia-online' was not run on fp32; attacks: lira-"
    ):
        run(
            step,
            scores=(attack(audit, audit.full, audit.full),),
            played=(play(audit, audit.full, audit.full),),
            splits=audit.splits,
        )


def test_an_attack_without_references_is_found_with_whichever_kind_it_was_run():
    step = MeasureStrongest("rtn-2", "rtn", 4, ("fp32", "matched"), "lira", "matched", (FPR,), 0)
    attacks = [["lira"], ["lira", "threshold"]]
    assert step._kind(Pair("threshold", ""), attacks) == 1
    assert step._kind(Pair("lira", "fp32"), attacks) == 0


def test_influences_of_a_groups_players_are_summed_as_they_come(monkeypatch):
    records, attacks = 20_000, expand("lira")[:4]
    names = [attack.name for attack in attacks]
    member = np.arange(records) % 2 == 0
    drawn = [np.random.default_rng(player).normal(size=(4, records)) for player in range(12)]
    signals, outside = np.zeros((records, 1, 2)), np.zeros((0, 1, 2))
    view = attack_view(
        target=signals,
        references=np.zeros((1, records, 1, 2)),
        member=member[None],
        use=np.ones((1, records), bool),
        population_target=outside,
        population_references=outside[None],
        labels=np.zeros(records, np.int64),
    )

    def played(view, players, cases, seed):
        for player in range(len(players)):
            scores = dict(zip(names, drawn[player], strict=True))
            yield (PlayedScores(scores, np.ones(records, bool), member, {names[3]: "late"}),)

    monkeypatch.setattr(play_targets, "played_scores", played)
    peaks = []
    for count in (4, 12):
        players = [(None, (signals, outside), member)] * count
        tracemalloc.start()
        (rates,) = group_rates(view, players, [PlayedCase(attacks, False)], fpr=0.1, seed=0)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert (rates.players, rates.refused) == (count, {names[3]: "late"})
        alone = [player_rates(drawn[player], member, 0.1) for player in range(count)]
        values, influences = (
            [getattr(rate, name) for rate in alone] for name in rates.mean._fields
        )
        np.testing.assert_array_equal(rates.mean.value, np.mean(values, axis=0))
        np.testing.assert_array_equal(rates.mean.influence, np.mean(influences, axis=0))
    assert peaks[1] < 1.1 * peaks[0]


def test_a_group_without_players_has_no_rate():
    gathered = gathered_rates(expand("lira")[:2], [PlayerGroup((0,), ())], [NO_RATES], 50, seed=0)
    assert np.isnan(gathered.rates).all()
    assert gathered.players == (0,)
