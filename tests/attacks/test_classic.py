"""The attacks that are one line of arithmetic, each against that line in plain loops."""

import numpy as np
import pytest

from bitleak.attacks import Calibrated, LiRA, Population, Reference, Threshold, masked_view
from bitleak.core.types import SIGNALS
from bitleak.metrics import auc, roc, tpr_at


def view_with_ties(worlds, seed=0, records=30, models=8, queries=2, population=11):
    rng = np.random.default_rng(seed)
    member = worlds["pairs"](rng, models, records)
    confidence = (rng.normal(size=(models, records, queries)) + member[:, :, None]).round(0)
    outside = rng.normal(size=(models, population, queries)).round(0)
    view = worlds["view"](confidence[0], confidence[2:], member[2:], None, outside[0], outside[2:])
    use = view.use.copy()
    use[:2, 4] = False
    return masked_view(view, use), member[0]


def signal(signals, name):
    values = signals[..., SIGNALS.index(name)]
    return -values if "entropy" in name else values


def mid_rank(value, others):
    return (np.sum(others < value) + 0.5 * np.sum(others == value)) / len(others)


@pytest.mark.parametrize("name", ["logit_scaled", "modified_entropy", "correct"])
def test_the_population_attack_is_a_mid_rank_among_population_records(edge, name):
    target, population = signal(edge.target, name), signal(edge.population_target, name)
    queries = range(target.shape[1])
    expected = [np.mean([mid_rank(row[q], population[:, q]) for q in queries]) for row in target]
    np.testing.assert_allclose(Population(name)(edge), expected, rtol=1e-12)


@pytest.mark.parametrize("name", SIGNALS)
def test_the_threshold_attack_is_the_mean_over_the_queries(edge, name):
    expected = [sum(row) / len(row) for row in signal(edge.target, name).tolist()]
    np.testing.assert_allclose(Threshold(name)(edge), expected, rtol=1e-12)


def test_the_population_attacks_score_is_a_p_value(worlds):
    rng = np.random.default_rng(0)
    member = worlds["pairs"](rng, 4, 4000)
    same = rng.normal(3, 2, (4000, 1)), rng.normal(3, 2, (4, 4000, 1)), member
    view = worlds["view"](*same, None, rng.normal(3, 2, (4000, 1)), rng.normal(size=(4, 4000, 1)))
    scores = Population()(view)
    for level in (0.01, 0.1, 0.5):
        assert np.mean(1 - scores <= level) == pytest.approx(level, abs=0.02)


def slow_level(loss, others):
    """The smallest level at which the loss is at most the interpolated quantile; of ties, the middle."""
    losses = np.sort([0.0, *others, 1000.0])
    levels = np.linspace(0, 1, len(losses))
    tied = levels[1:-1][losses[1:-1] == loss]
    if len(tied):
        return tied.mean()
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if np.quantile(losses, middle) >= loss else (middle, high)
    return high


@pytest.mark.parametrize("name", ["logit_scaled", "log_probability", "entropy"])
def test_the_reference_attack_is_interpolated_between_the_sorted_out_losses(edge, name):
    target, references = signal(edge.target, name), signal(edge.references, name)
    if name == "logit_scaled":
        target, references = np.log1p(np.exp(-target)), np.log1p(np.exp(-references))
    else:
        target, references = -target, -references
    out, expected = edge.use & ~edge.member, []
    for record in range(len(target)):
        levels = []
        for query in range(target.shape[1]):
            others = references[out[:, record], record, query]
            levels.append(slow_level(target[record, query], others))
        expected.append(1 - np.mean(levels))
    np.testing.assert_allclose(Reference(name)(edge), expected, atol=1e-9)
    assert len(np.unique(expected)) > len(references) + 1


def test_equal_losses_of_unequal_signals_are_ties(worlds):
    """log(1 + exp(-f)) is 0 for every f above 745."""
    others = np.array([[800.0], [900.0], [-2.0], [700.0], [1.0], [3.0]])[:, :, None]
    member = np.array([[False]] * 4 + [[True]] * 2)
    view = worlds["view"](np.array([[1000.0]]), others, member)
    losses = np.logaddexp(0.0, -others[:4, 0, 0])
    assert Reference()(view)[0] == 1 - 5 * slow_level(0.0, losses) / 5 == 1 - 1.5 / 5


def test_the_reference_attack_reaches_fprs_below_one_in_its_references(worlds):
    """4 OUT references leave steps of a fifth to ranks; Attack-R's interpolation goes below."""
    rng = np.random.default_rng(3)
    trained = worlds["pairs"](rng, 8, 4000)
    member = rng.permutation(4000) < 2000
    confidence = rng.normal(2, 1, (4000, 1)) + 1.5 * member[:, None]
    references = rng.normal(2, 1, (8, 4000, 1)) + 1.5 * trained[..., None]
    population = rng.normal(2, 1, (100, 1)), rng.normal(2, 1, (8, 100, 1))
    curve = roc(
        Reference()(worlds["view"](confidence, references, trained, None, *population)), member
    )
    assert tpr_at(curve, 0.01) == pytest.approx(0.13, abs=0.06)


def test_the_reference_attack_is_handled_in_blocks_without_a_seam(worlds, monkeypatch):
    view, _ = view_with_ties(worlds)
    whole = Reference()(view)
    monkeypatch.setattr("bitleak.attacks.attack.SCORE_BLOCK", 6 * 2 * 7)
    np.testing.assert_array_equal(Reference()(view), whole)


@pytest.mark.parametrize("name", ["log_probability", "logit_scaled", "entropy"])
@pytest.mark.parametrize("mode", ["online", "offline"])
def test_difficulty_calibration_subtracts_the_references_mean(edge, mode, name):
    view = edge
    target, references = signal(view.target, name), signal(view.references, name)
    expected = []
    for record in range(len(target)):
        out = references[(view.use & ~view.member)[:, record], record].mean(axis=0)
        inside = references[(view.use & view.member)[:, record], record].mean(axis=0)
        usual = out if mode == "offline" else (out + inside) / 2
        expected.append((target[record] - usual).mean())
    np.testing.assert_allclose(Calibrated(mode, name)(view), expected, rtol=1e-9, atol=1e-12)


def test_calibrated_confidence_orders_records_as_lira_with_one_deviation(worlds):
    rng = np.random.default_rng(1)
    member = worlds["pairs"](rng, 8, 500)
    view = worlds["view"](rng.normal(size=(500, 1)), rng.normal(size=(8, 500, 1)), member)
    calibrated = Calibrated("offline", "logit_scaled")(view)
    np.testing.assert_array_equal(calibrated.argsort(), LiRA("offline", "fixed")(view).argsort())


def test_calibration_removes_what_a_threshold_takes_for_membership(gaussian_world):
    view, member = gaussian_world(0, records=4000, shift=1.0)
    area = {
        attack.name: auc(roc(attack(view), member))
        for attack in (Threshold(), Calibrated(signal="logit_scaled"))
    }
    assert area["calibrated-offline-logit_scaled"] > area["threshold"] + 0.05


def test_the_gap_attack_has_the_area_of_the_accuracy_gap(worlds):
    rng = np.random.default_rng(2)
    target = np.concatenate([rng.normal(1.0, 1, (500, 1)), rng.normal(0.3, 1, (500, 1))])
    member = np.arange(1000) < 500
    view = worlds["view"](target, rng.normal(size=(4, 1000, 1)), worlds["pairs"](rng, 4, 1000))
    gap = (target[:500] >= 0).mean() - (target[500:] >= 0).mean()
    assert auc(roc(Threshold("correct")(view), member)) == pytest.approx((1 + gap) / 2)


@pytest.mark.parametrize(
    "attack", [Reference(), Calibrated(), Calibrated("online")], ids=lambda attack: attack.name
)
def test_a_record_without_references_is_named(worlds, attack):
    view, _ = view_with_ties(worlds)
    side = view.member if attack.name == "calibrated-online" else view.outside
    use = view.use.copy()
    use[side[:, 9], 9] = False
    with pytest.raises(
        ValueError, match=r"usable (IN|OUT) references? for every record, got 0 for record 9"
    ):
        attack(masked_view(view, use))
