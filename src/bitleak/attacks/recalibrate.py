"""Recalibration of the target, for an adversary who has only full-precision references.

Quantizing rescales and shifts a network's confidence on every record, trained on or not, and an
attack with full-precision references takes that for evidence. The population records have no
members, so the adversary can see the shift there. With f the logit-scaled confidence,

    f' = mean_ref + std_ref (f - mean_target) / std_target,

where mean and std are taken over the population records and queries, and those of the references
are averaged over references: the average *single* reference. Moments are matched instead of
regressing references on the target, because a regression attenuates even where nothing has shifted.
Without a shift f' = f within error.

The mean and the deviation of P population records have errors of 1 / sqrt(P) and 1 / sqrt(2 P)
deviations for normal f, which target and references share in part, and all f' of a target are off
alike. The intervals of `recalibrated` rows resample the audited records and do not include this error.
Simulated, it adds 1 % to an interval's width at 100 population records; at 30 the interval covers 92 %
instead of 94 (docs/intervals.md). `few_population_records` is the sentence for reports.

`log_probability` follows as log sigmoid(f'). The other signals do not follow from the confidence
and are set to NaN, which attacks refuse.
"""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float64

from bitleak.core.errors import TooFewForAttack, UnfitView
from bitleak.core.types import LOG_PROBABILITY, LOGIT_SCALED, AttackView

ENOUGH_POPULATION = 100
"""Population records from which on the error of the map is small against that of the audited records."""


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
    shift = mean - scale * float(confidence.mean())
    target = _mapped(view.target, scale, shift)
    return view.of_target(target, _mapped(view.population_target, scale, shift))


def few_population_records(references: Iterable[str], population: int) -> tuple[str, ...]:
    """Return a sentence if the map's error matters for intervals that do not include it.

    Args:
        references: Kinds of references of the rows.
        population: Number of population records.

    Example:
        >>> few_population_records(["fp32", "recalibrated"], 100)
        ()
    """
    if population >= ENOUGH_POPULATION or "recalibrated" not in references:
        return ()
    return (
        f"The map of recalibrated references was fitted to {population} population records, and no interval includes "
        f"its error: those of the recalibrated rows are too narrow. {ENOUGH_POPULATION} records or more make it "
        "negligible.",
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


def _mapped(
    signals: Float64[np.ndarray, "*axes signals"], scale: float, shift: float
) -> np.ndarray:
    result = np.full_like(signals, np.nan)
    result[..., LOGIT_SCALED] = scale * signals[..., LOGIT_SCALED] + shift
    result[..., LOG_PROBABILITY] = -np.logaddexp(0.0, -result[..., LOGIT_SCALED])
    return result
