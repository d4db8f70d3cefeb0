"""The positive control: its known strength, what attacks reach of it, and references that show nothing."""

import numpy as np
import pytest
from scipy.stats import rankdata

from bitleak.attacks import (
    STRENGTH,
    LiRA,
    attack_view,
    perfect_auc,
    perfect_tpr,
    positive_control,
    two_class_signals,
)
from bitleak.attacks.threshold import Threshold
from bitleak.core.types import SIGNALS, Measure, Row
from bitleak.core.variants import Variant, question_of
from bitleak.report.memorising_target import judge_positive_control
from bitleak.report.results_table import tabulate

RECORDS, REFERENCES = 4000, 16
LOGIT_SCALED = SIGNALS.index("logit_scaled")
OFFLINE, ONLINE = LiRA(mode="offline", variance="fixed"), LiRA(mode="online", variance="fixed")


def area(scores, member):
    ranks = rankdata(scores)
    members, others = int(member.sum()), int((~member).sum())
    return (ranks[member].sum() - members * (members + 1) / 2) / (members * others)


def view_of(*, effect=1.0, spread=1.0, difficulty=1.5, target=None, seed=0):
    """References with `effect` on their members; the target's answers are never looked at."""
    rng = np.random.default_rng(seed)
    inside = np.arange(REFERENCES)[:, None] % 2 == np.arange(RECORDS) % 2
    hard = difficulty * rng.normal(size=RECORDS)
    answers = hard + effect * inside + spread * rng.normal(size=inside.shape)
    outside = spread * rng.normal(size=(REFERENCES, 50, 1))
    own = np.zeros(RECORDS) if target is None else target
    return attack_view(
        target=two_class_signals(own[:, None]),
        references=two_class_signals(answers[..., None]),
        member=inside,
        use=np.ones_like(inside),
        population_target=two_class_signals(outside[0]),
        population_references=two_class_signals(outside),
        labels=np.zeros(RECORDS, np.int64),
    )


@pytest.fixture
def member():
    return np.random.default_rng(9).random(RECORDS) < 0.5


def control(view, member, **options):
    return positive_control(view, member, np.random.default_rng(1), **options)


def test_an_attack_that_knows_non_members_finds_what_the_strength_says(member):
    found = area(OFFLINE(control(view_of(), member)), member)
    known_mean = STRENGTH / np.sqrt(1 + 1 / (REFERENCES // 2))
    assert found == pytest.approx(perfect_auc(known_mean), abs=0.012)
    assert found < perfect_auc() + 0.005


def test_the_strength_has_the_figures_of_shifted_normals(member):
    noise = np.random.default_rng(0).normal(size=400_000)
    inside = np.arange(len(noise)) % 2 == 0
    scores = noise + STRENGTH * inside
    assert area(scores, inside) == pytest.approx(perfect_auc(), abs=0.002)
    above = scores > np.quantile(scores[~inside], 0.99)
    assert above[inside].mean() == pytest.approx(perfect_tpr(0.01), abs=0.01)


def test_no_strength_is_found_nowhere(member):
    view = control(view_of(), member, strength=0.0)
    assert area(OFFLINE(view), member) == pytest.approx(0.5, abs=0.03)
    assert area(ONLINE(view), member) == pytest.approx(0.5, abs=0.03)


def test_a_threshold_that_ignores_difficulty_finds_less(member):
    view = control(view_of(difficulty=3.0), member)
    assert 0.55 < area(Threshold()(view), member) < area(OFFLINE(view), member) - 0.1


def test_references_without_an_effect_show_an_online_attack_nothing(member):
    view = control(view_of(effect=0.0), member)
    assert area(ONLINE(view), member) < 0.65
    assert area(OFFLINE(view), member) > 0.85


def test_the_targets_own_answers_play_no_part(member):
    first = control(view_of(), member)
    second = control(view_of(target=np.full(RECORDS, 7.0)), member)
    assert (first.target == second.target).all()


def test_a_constant_classifier_shows_its_attacks_to_be_blind(member):
    view = control(view_of(effect=0.0, spread=0.0, difficulty=0.0), member)
    assert area(ONLINE(view), member) == pytest.approx(0.5, abs=0.03)
    assert area(Threshold()(view), member) > 0.85


def test_a_lookup_table_is_found(member):
    view = control(view_of(effect=40.0, spread=0.0, difficulty=0.0), member)
    assert area(ONLINE(view), member) > 0.85


def test_without_references_the_deviation_is_that_of_the_answers(member):
    own = 3.0 * np.random.default_rng(2).normal(size=RECORDS)
    view = view_of(target=own)
    alone = attack_view(
        target=view.target,
        references=view.references[:0],
        member=np.empty((0, RECORDS), bool),
        use=np.empty((0, RECORDS), bool),
        population_target=view.population_target,
        population_references=view.population_references[:0],
        labels=view.labels,
    )
    made = control(alone, member).target[:, 0, LOGIT_SCALED]
    assert made[member].mean() - made[~member].mean() == pytest.approx(
        STRENGTH * own.std(), rel=0.05
    )


def judged(value, low, *, attack="lira-online-fixed"):
    row = Row(
        "positive_control",
        "",
        None,
        attack,
        "fp32",
        "all",
        "auc",
        Measure(value, low, value + 0.02),
    )
    return judge_positive_control(tabulate([row]), "lira-online-fixed", "matched", 0.01)


@pytest.mark.parametrize(
    ("value", "low", "status", "words"),
    [
        (0.91, 0.88, "found", "a target that memorises by as much would have shown"),
        (0.60, 0.56, "partly found", "less than half of the leak"),
        (0.51, 0.48, "not found", "no evidence of privacy"),
    ],
)
def test_the_report_says_what_a_target_that_memorises_would_have_shown(value, low, status, words):
    verdict = judged(value, low)
    assert verdict.status == status
    assert words in verdict.sentence
    assert f"AUC {value:.3f}" in verdict.sentence
    assert "has AUC 0.921" in verdict.sentence


def control_row(attack, value, low):
    reference = "" if attack == "threshold" else "fp32"
    measure = Measure(value, low, value + 0.02)
    return Row("positive_control", "", None, attack, reference, "all", "auc", measure)


@pytest.mark.parametrize(
    ("headline", "others", "words"),
    [
        (0.56, {"lira-offline-one_sided-fixed": 0.91, "threshold": 0.8}, "lira-offline-one_sided-"),
        (0.50, {"threshold": 0.65}, "threshold finds most of it: AUC 0.650"),
    ],
)
def test_the_attack_that_finds_most_of_the_control_is_named(headline, others, words):
    rows = [control_row("lira-online-fixed", headline, headline - 0.02)]
    rows += [control_row(attack, value, value - 0.02) for attack, value in others.items()]
    sentence = judge_positive_control(tabulate(rows), "lira-online-fixed", "fp32", 0.01).sentence
    assert words in sentence
    best = max(others.values())
    ending = "would show in the rows of that attack" if best > 0.8 else "no attack here shows more"
    assert ending in sentence


@pytest.mark.parametrize(("headline", "other"), [(0.91, 0.95), (0.56, 0.52), (0.50, 0.51)])
def test_no_other_attack_is_named_if_the_control_is_found_or_nothing_finds_more(headline, other):
    rows = [
        control_row("lira-online-fixed", headline, headline - 0.02),
        control_row("threshold", other, other - 0.02),
    ]
    sentence = judge_positive_control(tabulate(rows), "lira-online-fixed", "fp32", 0.01).sentence
    assert sentence.startswith("Positive control")
    assert "threshold" not in sentence


def test_an_offline_attack_finds_what_references_that_hardly_memorise_hide(member):
    """Effects of a fifth of a deviation: the control is the same, and only online attacks miss it."""
    view = control(view_of(effect=0.1), member)
    assert 0.5 < area(ONLINE(view), member) < 0.7
    assert area(OFFLINE(view), member) > 0.88


def test_a_table_without_the_control_says_nothing():
    assert judged(0.9, 0.8, attack="threshold") == judge_positive_control(
        tabulate([]), "lira-online-fixed", "fp32", 0.01
    )


def test_the_control_is_a_question_of_its_own():
    assert Variant.parse("positive_control").kind == "positive"
    assert question_of("positive_control", "threshold") == "positive"
    assert question_of("control", "threshold") == "control"
