"""Recalibration of the target, for an adversary who has only full-precision references.

Quantizing rescales and shifts a network's confidence on every record, trained on or not, and an
attack with full-precision references takes that for evidence. The population records have no
members, so the adversary can see the shift there. With f the logit-scaled confidence,

    f' = mean_ref + std_ref (f - mean_target) / std_target,

where mean and std are taken over the population records and queries, and those of the references
are averaged over references: the average *single* reference. Moments are matched instead of
regressing references on the target, because a regression attenuates even where nothing has shifted.
Without a shift f' = f within error.

*The map's error.* The moments of P population records are off, and all f' of a target with them:

    d f' = [d mean_ref - scale d mean_target] + (f' - mean_ref) [d std_ref / std_ref - d std_target / std_target],

with scale = std_ref / std_target. The influence of population record i on a mean is (f_i - mean) / P, on a
deviation ((f_i - mean)^2 - std^2) / (2 std P), averaged over queries and over references, so that the errors
which target and references share cancel. `moved_maps` has the views with shift and scale off by one
standard error each; the change of a figure between them, times a record's influence, is that record's
influence on the figure (`metrics.map_error`). Two more runs of an attack, on the same sums over references.
The error of a figure is that of P population records against that of N audited ones; above P = N / 16
it adds about 2 % to the interval of an AUC and 5 % to that of a TPR in the worlds of docs/intervals.md,
and is left out (`map_error_counts`).

`log_probability` follows as log sigmoid(f'). The other signals do not follow from the confidence
and are set to NaN, which attacks refuse.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from bitleak.core.errors import TooFewForAttack, UnfitView
from bitleak.core.types import LOG_PROBABILITY, LOGIT_SCALED, AttackView

ENOUGH_POPULATION = 30
"""Population records from which on the error of the map is near enough to its first order."""

_EXACT = 1e-12
"""Error of a map, in deviations of the confidence, that rounding makes."""

NEGLIGIBLE_SHARE = 1 / 16
"""Population records per audited record from which on the map's error is left out of the intervals."""


class MovedMaps(NamedTuple):
    """Views under maps that are off by a standard error, and the records that this error comes from.

    Attributes:
        views: View with a larger shift, and view with a larger scale.
        influence: Influence of every population record on shift and scale, in their standard errors.
    """

    views: tuple[AttackView, AttackView]
    influence: Float64[np.ndarray, "2 population"]


def recalibrated(view: AttackView) -> AttackView:
    """Return the view with the target's confidence mapped to the references' calibration.

    Args:
        view: With at least two population records.

    Returns:
        A view whose target has the signals `RECALIBRATED_SIGNALS` and NaN for the others.

    Raises:
        UnfitView: The target's confidence does not vary on the population records.
        TooFewForAttack: There are fewer than two.
    """
    confidence = view.population_target[..., LOGIT_SCALED]
    if confidence.shape[0] < 2:
        raise TooFewForAttack(
            f"recalibration needs at least 2 population records, got {confidence.shape[0]}"
        )
    spread = float(confidence.std())
    if not spread > 0:
        raise UnfitView(
            f"the target's confidence must vary on the population records, got deviation {spread}"
        )
    mean, std = average_reference(view)
    scale = std / spread
    return _mapped_view(view, scale, mean - scale * float(confidence.mean()))


def map_error_counts(population: int, records: int) -> bool:
    """Return whether intervals of `recalibrated` rows need the error of the map.

    Args:
        population: Number of population records.
        records: Number of audited records.

    Example:
        >>> map_error_counts(100, 1600), map_error_counts(100, 1601)
        (False, True)
    """
    return population < NEGLIGIBLE_SHARE * records


def moved_maps(view: AttackView) -> MovedMaps:
    """Return the recalibrated view with the map's shift, and its scale, off by one standard error.

    Args:
        view: Not yet recalibrated; as for `recalibrated`.
    """
    mapped = recalibrated(view)
    of_target = _moment_influences(view.population_target[None, ..., LOGIT_SCALED])
    of_references = _moment_influences(view.population_references[..., LOGIT_SCALED])
    mean, std = average_reference(view)
    scale = std / float(view.population_target[..., LOGIT_SCALED].std())

    # the errors of shift and relative scale: module docstring, with both deviations relative
    target_std = std / scale
    influence = np.stack(
        [
            of_references[0] - scale * of_target[0],
            of_references[1] / std - of_target[1] / target_std,
        ]
    )
    errors = np.linalg.norm(influence, axis=1)
    errors[errors < _EXACT * np.array([std, 1.0])] = 0.0  # rounding
    moved = (
        _mapped_view(mapped, 1.0, float(errors[0])),
        _mapped_view(mapped, 1.0 + float(errors[1]), -float(errors[1]) * mean),
    )
    units = np.divide(1.0, errors, out=np.zeros(2), where=errors > 0)
    return MovedMaps(moved, influence * units[:, None])


def few_population_records(references: Iterable[str], population: int) -> tuple[str, ...]:
    """Return a sentence if intervals with the map's error are no more than a rough guide.

    Args:
        references: Kinds of references of the rows.
        population: Number of population records.

    Example:
        >>> few_population_records(["fp32", "recalibrated"], 30)
        ()
    """
    if population >= ENOUGH_POPULATION or "recalibrated" not in references:
        return ()
    return (
        f"The map of recalibrated references was fitted to {population} population records. The intervals of the "
        "recalibrated rows include its error to first order only, and such a map makes the attacks weaker: with "
        f"fewer than {ENOUGH_POPULATION} records both are a rough guide.",
    )


def average_reference(view: AttackView) -> tuple[float, float]:
    """Return mean and deviation of the population confidences, averaged over references."""
    confidence = view.population_references[..., LOGIT_SCALED]
    finite = np.isfinite(confidence)
    # audited records may stand in the population's place, and some references be hidden for some of
    # them
    if not finite.all():
        means, deviations = [], []
        for answers, shown in zip(confidence, finite, strict=True):
            if shown.any():
                means.append(answers[shown].mean())
                deviations.append(answers[shown].std())
        return float(np.mean(means)), float(np.mean(deviations))
    return float(confidence.mean(axis=(1, 2)).mean()), float(confidence.std(axis=(1, 2)).mean())


def _moment_influences(
    confidence: Float64[np.ndarray, "models population queries"],
) -> Float64[np.ndarray, "2 population"]:
    """Return the influence of every record on mean and deviation, averaged over models with answers."""
    influences = []
    for answers in confidence:
        shown = np.isfinite(answers)
        count = shown.sum()
        if count:
            values = np.where(shown, answers, 0.0)
            offs = np.where(shown, values - values.sum() / count, 0.0)
            variance = (offs**2).sum() / count
            squares = np.where(shown, offs**2 - variance, 0.0) / (2 * np.sqrt(variance))
            influences.append(np.stack([offs, squares]).sum(axis=2) / count)
    return np.mean(influences, axis=0)


def _mapped_view(view: AttackView, scale: float, shift: float) -> AttackView:
    target = _mapped(view.target, scale, shift)
    return view.of_target(target, _mapped(view.population_target, scale, shift))


def _mapped(
    signals: Float64[np.ndarray, "*axes signals"], scale: float, shift: float
) -> np.ndarray:
    result = np.full_like(signals, np.nan)
    result[..., LOGIT_SCALED] = scale * signals[..., LOGIT_SCALED] + shift
    result[..., LOG_PROBABILITY] = -np.logaddexp(0.0, -result[..., LOGIT_SCALED])
    return result
