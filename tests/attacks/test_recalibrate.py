from dataclasses import replace

import numpy as np
import pytest

from bitleak.attacks import (
    LiRA,
    Threshold,
    few_population_records,
    moved_maps,
    negative_control,
    recalibrated,
    two_class_signals,
)
from bitleak.core.types import SIGNALS
from bitleak.metrics import auc, roc, tpr_at

CONFIDENCE = SIGNALS.index("logit_scaled")
FPR = 0.001
CHANGES = {"scaled": (0.6, 0.0), "shifted": (1.0, -2.0)}


def changed(signals, change):
    scale, shift = CHANGES[change]
    return two_class_signals(scale * signals[..., CONFIDENCE] + shift)


def quantized(view, change):
    target, outside = (
        changed(signals, change) for signals in (view.target, view.population_target)
    )
    return replace(view, target=target, population_target=outside)


def power(view, member):
    return tpr_at(roc(LiRA("online", "per_record")(view), member), FPR)


@pytest.mark.parametrize("change", CHANGES)
def test_a_shift_of_calibration_hides_members_from_fp32_references_only(gaussian_world, change):
    view, member = gaussian_world(0, records=20_000, population=4000, queries=1, models=50)
    shifted = quantized(view, change)
    matched = replace(shifted, references=changed(view.references, change))
    before = power(view, member)
    assert before > 0.4
    assert power(shifted, member) < 0.3 * before
    assert power(matched, member) == pytest.approx(before, abs=1e-3)
    assert power(recalibrated(shifted), member) == pytest.approx(before, abs=0.05)


def test_without_a_shift_recalibration_changes_nothing_but_error(gaussian_world):
    view, member = gaussian_world(1, records=20_000, population=4000, queries=1)
    assert power(recalibrated(view), member) == pytest.approx(power(view, member), abs=0.03)
    moved = recalibrated(view).target[..., CONFIDENCE] - view.target[..., CONFIDENCE]
    assert np.median(np.abs(moved)) < 0.1


def test_the_target_gets_the_average_references_moments(gaussian_world):
    view, _ = gaussian_world(2, records=100, population=300)
    mapped = recalibrated(quantized(view, "scaled")).population_target[..., CONFIDENCE]
    references = view.population_references[..., CONFIDENCE]
    assert mapped.mean() == pytest.approx(np.mean([reference.mean() for reference in references]))
    assert mapped.std() == pytest.approx(np.mean([reference.std() for reference in references]))


def test_the_order_of_the_records_under_one_threshold_stays(gaussian_world):
    view, member = gaussian_world(3, records=1000, queries=1)
    before, after = (auc(roc(Threshold()(seen), member)) for seen in (view, recalibrated(view)))
    assert after == before


def test_the_probability_follows_and_other_signals_are_refused(gaussian_world):
    view, _ = gaussian_world(4, records=100)
    mapped = recalibrated(view)
    probability = 1 / (1 + np.exp(-mapped.target[..., CONFIDENCE]))
    np.testing.assert_allclose(
        np.exp(mapped.target[..., SIGNALS.index("log_probability")]), probability
    )
    with pytest.raises(
        ValueError, match="signal 'hinge' must be finite; a recalibrated view has log_probability"
    ):
        LiRA(signal="hinge")(mapped)


def test_a_target_that_never_varies_cannot_be_recalibrated(gaussian_world):
    view, _ = gaussian_world(5, records=100)
    constant = replace(view, population_target=np.ones_like(view.population_target))
    with pytest.raises(ValueError, match="must vary on the population records"):
        recalibrated(constant)


def test_the_control_has_the_references_moments_and_no_memory(gaussian_world):
    view, _ = gaussian_world(6, records=20_000)
    control = negative_control(view, np.random.default_rng(0))
    confidence = control.target[..., CONFIDENCE]
    references = view.population_references[..., CONFIDENCE]
    assert confidence.mean() == pytest.approx(references.mean(), abs=0.1)
    assert confidence.std() == pytest.approx(references.std(axis=(1, 2)).mean(), abs=0.1)
    assert abs(np.corrcoef(confidence[:, 0], view.target[:, 0, CONFIDENCE])[0, 1]) < 0.03
    assert abs(np.corrcoef(confidence[:, 0], confidence[:, 1])[0, 1]) < 0.03
    np.testing.assert_array_equal(control.references, view.references)


def test_two_class_signals_are_those_of_two_class_logits():
    margin = np.array([-300.0, -1.3, 0.0, 0.7, 300.0])
    signals = dict(zip(SIGNALS, two_class_signals(margin).T, strict=True))
    probability = 1 / (1 + np.exp(-margin[1:4]))
    entropy = -probability * np.log(probability) - (1 - probability) * np.log(1 - probability)
    np.testing.assert_allclose(signals["entropy"][1:4], entropy)
    np.testing.assert_allclose(
        signals["modified_entropy"][1:4], -2 * (1 - probability) * np.log(probability)
    )
    assert all(np.isfinite(values).all() for values in signals.values())
    assert signals["correct"].tolist() == [0, 0, 1, 1, 1]


@pytest.mark.parametrize(
    ("references", "population", "said"),
    [
        (["fp32", "recalibrated"], 29, True),
        (["fp32", "recalibrated"], 30, False),
        (["fp32", "matched", ""], 10, False),
        ([], 0, False),
    ],
)
def test_a_map_from_very_few_population_records_is_said_to_be_rough(references, population, said):
    sentences = few_population_records(references, population)
    assert [f"fitted to {population} population records" in text for text in sentences] == (
        [True] if said else []
    )


def moments_of_map(view):
    """Return the map of a view at the references' mean, and its relative scale, by the two moments."""
    target = view.population_target[..., CONFIDENCE]
    references = view.population_references[..., CONFIDENCE]
    mean, std = references.mean(axis=(1, 2)).mean(), references.std(axis=(1, 2)).mean()
    return mean, target.mean(), std, target.std()


def test_the_error_of_the_map_is_that_of_leaving_out_population_records(gaussian_world):
    """The jackknife by brute force: the map of one record fewer, at the point that the whole map sends to the mean."""
    view, _ = gaussian_world(8, records=20, population=300, queries=2)
    view = quantized(view, "scaled")
    moved = moved_maps(view)
    mean, center, std, spread = moments_of_map(view)
    shifts, scales = [], []
    for record in range(300):
        left = np.arange(300) != record
        fewer = replace(
            view,
            population_target=view.population_target[left],
            population_references=view.population_references[:, left],
        )
        other_mean, other_center, other_std, other_spread = moments_of_map(fewer)
        shifts.append(other_mean + other_std / other_spread * (center - other_center) - mean)
        scales.append(np.log(other_std / other_spread) - np.log(std / spread))
    changes = -299 / 300 * np.array([shifts, scales])  # of adding the record again
    errors = np.linalg.norm(changes, axis=1)
    np.testing.assert_allclose(moved.influence, changes / errors[:, None], atol=0.03)

    # each view is off by one of these errors, the second around the references' mean
    whole = recalibrated(view).target[..., CONFIDENCE]
    larger, wider = (seen.target[..., CONFIDENCE] for seen in moved.views)
    assert (larger - whole).mean() == pytest.approx(errors[0], rel=0.03)
    np.testing.assert_allclose((wider - mean) / (whole - mean) - 1, errors[1], rtol=0.03)


def test_a_target_that_answers_as_its_references_has_a_map_without_error(gaussian_world):
    view, _ = gaussian_world(9, records=20, population=40)
    alike = np.broadcast_to(view.population_target, view.population_references.shape)
    moved = moved_maps(replace(view, population_references=np.array(alike)))
    assert not moved.influence.any()
    for seen in moved.views:
        np.testing.assert_allclose(seen.target[..., CONFIDENCE], view.target[..., CONFIDENCE])


def test_references_that_hide_population_records_count_by_those_they_show(gaussian_world):
    """A target's own records may stand in for the population, and every reference hides some of them."""
    view, _ = gaussian_world(10, records=20, population=40)
    hidden = view.population_references.copy()
    hidden[::2] = np.nan  # a reference that shows nothing counts for nothing
    few = moved_maps(replace(view, population_references=hidden))
    shown = replace(
        view,
        references=view.references[1::2],
        side=view.side[1::2],
        split=view.split[1::2],
        population_references=view.population_references[1::2],
    )
    all_of = moved_maps(shown)
    np.testing.assert_allclose(few.influence, all_of.influence)
