import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import norm

from bitleak.attacks import LiRA, expand
from bitleak.core.types import SIGNALS

CONFIDENCE = SIGNALS.index("logit_scaled")
FORMS = [
    LiRA(mode, variance, side)
    for mode, variance, side in itertools.product(
        ("online", "offline"),
        ("shrunk", "per_record", "fixed", "paper"),
        ("one_sided", "two_sided"),
    )
]


def slow_scores(attack, view, slow):
    """LiRA record by record and query by query, with scipy's normal distribution."""
    target, references = (of[..., CONFIDENCE] for of in (view.target, view.references))
    records, queries = target.shape
    sides = slow["sides"](references, view.member, view.use)
    if attack.variance == "shrunk":
        return slow["shrunk"](attack, target, sides)
    moments = {side: slow_moments(attack.variance, rows, queries) for side, rows in sides.items()}
    if attack.variance == "paper" and attack.mode == "online":
        moments["out"] = (moments["out"][0], moments["in"][1])
    scores = np.zeros(records)
    for record, query in itertools.product(range(records), range(queries)):
        value = target[record, query]
        inside, outside = (
            (moments[s][0][record, query], moments[s][1][record, query]) for s in ("in", "out")
        )
        if attack.mode == "online":
            scores[record] += norm.logpdf(value, *inside) - norm.logpdf(value, *outside)
        elif attack.side == "one_sided":
            scores[record] += -norm.logsf(value, *outside)
        else:  # the constant log sqrt(2 pi) is left out
            scores[record] += -norm.logpdf(value, *outside) - 0.5 * np.log(2 * np.pi)
    return scores / queries


def slow_moments(variance, rows, queries):
    means = np.array([np.mean(row, axis=0) for row in rows])
    residuals = np.concatenate(
        [np.array(row) - mean for row, mean in zip(rows, means, strict=True)]
    )
    pooled = np.sqrt((residuals**2).sum(axis=0) / (len(residuals) - len(rows)))
    if variance == "paper":
        raw = np.std(np.concatenate(rows))
        return np.array([np.median(row, axis=0) for row in rows]), np.full(
            (len(rows), queries), raw
        )
    if variance == "fixed":
        return means, np.maximum(np.tile(pooled, (len(rows), 1)), 1e-6)
    own = np.array([np.std(row, axis=0, ddof=1) for row in rows])
    return means, np.maximum(own, np.maximum(1e-3 * pooled, 1e-6))


@pytest.mark.parametrize("attack", FORMS, ids=lambda attack: f"{attack.name}-{attack.side}")
def test_scores_equal_a_loop_over_records(edge, slow, attack):
    np.testing.assert_allclose(attack(edge), slow_scores(attack, edge, slow), rtol=1e-9, atol=1e-12)


def test_a_large_view_is_handled_in_blocks_without_a_seam(worlds, monkeypatch):
    rng = np.random.default_rng(2)
    member = worlds["pairs"](rng, 8, 501)
    view = worlds["view"](rng.normal(size=(501, 2)), rng.normal(size=(8, 501, 2)), member)
    whole = [attack(view) for attack in FORMS]
    monkeypatch.setattr("bitleak.attacks.attack.SCORE_BLOCK", 8 * 2 * 7)
    for attack, expected in zip(FORMS, whole, strict=True):
        np.testing.assert_allclose(attack(view), expected, rtol=1e-12)


def test_unused_references_have_no_influence(worlds):
    rng = np.random.default_rng(3)
    member = worlds["pairs"](rng, 12, 50)
    references, target = rng.normal(size=(12, 50, 2)), rng.normal(size=(50, 2))
    use = np.ones((12, 50), bool)
    use[4:6] = False
    for attack in FORMS:
        without = attack(
            worlds["view"](target, np.delete(references, [4, 5], 0), np.delete(member, [4, 5], 0))
        )
        np.testing.assert_allclose(
            attack(worlds["view"](target, references, member, use)), without, rtol=1e-12
        )


def test_an_answer_far_from_all_references_keeps_its_rank(worlds):
    member = np.array([[True], [True], [False], [False]])
    references = np.array([1.0, 1.1, 0.0, 0.1])[:, None, None]
    scores = [
        LiRA("offline", "per_record")(worlds["view"](np.array([[value]]), references, member))[0]
        for value in (10.0, 50.0, 300.0)
    ]
    assert np.isfinite(scores).all()
    assert scores[0] < scores[1] < scores[2]


def test_one_sided_does_not_call_a_very_low_confidence_a_member(worlds):
    rng = np.random.default_rng(4)
    member = worlds["pairs"](rng, 16, 2)
    references = rng.normal(size=(16, 2, 1))
    view = worlds["view"](np.array([[-20.0], [2.0]]), references, member)
    one, two = (
        LiRA("offline", "fixed", "one_sided")(view),
        LiRA("offline", "fixed", "two_sided")(view),
    )
    assert one[0] < one[1]
    assert two[0] > two[1]


@pytest.mark.parametrize(
    ("variance", "models", "allowed"),
    [("shrunk", 2, False), ("per_record", 2, False), ("fixed", 2, False), ("paper", 2, True)],
)
def test_one_reference_a_side_has_no_deviation(worlds, variance, models, allowed):
    rng = np.random.default_rng(5)
    member = worlds["pairs"](rng, models, 10)
    view = worlds["view"](rng.normal(size=(10, 1)), rng.normal(size=(models, 10, 1)), member)
    if allowed:
        assert np.isfinite(LiRA("online", variance)(view)).all()
    else:
        with pytest.raises(
            ValueError,
            match="at least 2 usable OUT references for every record, got 1 for record 0",
        ):
            LiRA("online", variance)(view)


def test_a_record_short_of_references_is_named(worlds):
    rng = np.random.default_rng(6)
    member = worlds["pairs"](rng, 8, 10)
    use = np.ones((8, 10), bool)
    use[np.flatnonzero(member[:, 7])[:3], 7] = False
    view = worlds["view"](rng.normal(size=(10, 1)), rng.normal(size=(8, 10, 1)), member, use)
    with pytest.raises(
        ValueError, match="usable IN references for every record, got 1 for record 7"
    ):
        LiRA("online", "per_record")(view)
    assert np.isfinite(LiRA("offline", "per_record")(view)).all()


def test_entropy_is_read_the_other_way_round(gaussian_world):
    view, member = gaussian_world(0, records=1000)
    scores = LiRA("offline", signal="entropy")(view)
    assert scores[member].mean() > scores[~member].mean()


@pytest.mark.parametrize(
    ("field", "value"),
    [("mode", "onlin"), ("variance", "shared"), ("side", "two"), ("signal", "x")],
)
def test_a_wrong_choice_is_refused_by_name(field, value):
    fields = {
        "mode": "online",
        "variance": "fixed",
        "side": "one_sided",
        "signal": "hinge",
        field: value,
    }
    with pytest.raises(ValueError, match=f"unknown {field} '{value}'"):
        LiRA.__post_init__(
            SimpleNamespace(**fields)
        )  # the types of the call itself are checked in tests


def test_the_forms_of_the_config_word_have_the_names_of_the_table():
    assert [attack.name for attack in expand("lira")] == [
        "lira-online-shrunk",
        "lira-online-per_record",
        "lira-online-fixed",
        "lira-online-paper",
        "lira-offline-one_sided-shrunk",
        "lira-offline-one_sided-per_record",
        "lira-offline-one_sided-fixed",
        "lira-offline-two_sided-shrunk",
        "lira-offline-two_sided-per_record",
        "lira-offline-two_sided-fixed",
        "lira-offline-one_sided-paper",
        "lira-offline-two_sided-paper",
    ]
    assert LiRA(signal="hinge").name == "lira-online-shrunk-hinge"
    assert "hinge" in SIGNALS


def test_an_unknown_word_names_the_nearest():
    with pytest.raises(ValueError, match="unknown attack 'lirra': did you mean 'lira'"):
        expand("lirra")


def test_attacks_on_one_view_share_sums_and_say_what_they_say_alone(gaussian_world):
    from dataclasses import replace

    from bitleak.attacks import expand

    view, _ = gaussian_world(0, records=60, models=12)
    forms = (*expand("lira"), *expand("calibrated"))
    together = [attack(view) for attack in forms]
    computed = {key[:2] for key in view.shared if key[0] not in ("finite", "fewest")}
    assert computed == {
        ("sums", "logit_scaled"),
        ("median", "logit_scaled"),
        ("sums", "log_probability"),
        ("predictive", "logit_scaled"),
        ("predictive pair", "logit_scaled"),
    }
    for attack, scores in zip(forms, together, strict=True):
        np.testing.assert_array_equal(attack(replace(view)), scores)
    assert replace(view).shared == {}
