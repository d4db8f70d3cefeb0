"""How far one set of scores finds more than others do, on the same targets and records.

For every metric the best of the others is the set with the largest mean over the targets. Since it
is chosen on the data that is then reported, it looks a little better than it is, so the excess over
it is a little too small, never too large. The difference is paired, by `difference_over_records`
(`difference_over_trainings` if the targets are dedicated).
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float64

from bitleak.core.types import Measure, SplitMode
from bitleak.metrics.estimates import Estimate, Estimates
from bitleak.metrics.measures import Measures, estimate_metrics, measures_from


def excess(
    scores: Float64[np.ndarray, "targets records"],
    rivals: Sequence[Float64[np.ndarray, "targets records"]],
    member: Bool[np.ndarray, "targets records"],
    *,
    fprs: Sequence[float],
    mode: SplitMode = "population",
    seed: int = 0,
) -> Measures:
    """Return every metric of `measure` as its excess over the best of the rivals.

    Args:
        scores: Larger = more likely a member; finite.
        rivals: Other scores of the same targets and records; at least one.
        member: The truth.
        fprs: As in `measure`.
        mode: As in `measure`.
        seed: As in `measure`.

    Returns:
        Measures whose `value` is the difference, and whose `verdict` is `higher` if the scores find
        more.

    Raises:
        ValueError: There are no rivals, or as in `measure`.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> member = np.arange(2000)[None] % 2 == 0
        >>> weak, strong = (rng.normal(size=(1, 2000)) + shift * member for shift in (0.5, 1.5))
        >>> area = excess(strong, [weak], member, fprs=(0.01,)).aggregate["auc"]
        >>> area.value == area.difference, area.verdict
        (True, 'higher')
    """
    if not rivals:
        raise ValueError("a comparison needs at least one other set of scores, got none")
    estimates = estimate_metrics(scores, member, fprs=fprs, seed=seed)
    rival_estimates = [estimate_metrics(rival, member, fprs=fprs, seed=seed) for rival in rivals]
    return excess_over_best(estimates, rival_estimates, mode=mode)


def excess_over_best(
    estimates: Estimates,
    rivals: Sequence[Estimates],
    *,
    mode: SplitMode,
) -> Measures:
    """Like `excess`, from estimates; of the metrics that all sets have, and have no step."""
    compared: dict[str, tuple[Estimate, ...]] = {}
    best: dict[str, tuple[Estimate, ...]] = {}
    for metric, figures in estimates.items():
        if all(metric in rival for rival in rivals):
            compared[metric] = figures
            best[metric] = max((rival[metric] for rival in rivals), key=_mean)
        if any(figure.is_step for figure in (*compared.get(metric, ()), *best.get(metric, ()))):
            del compared[metric]  # a step of the ROC is compared with nothing
    measures = measures_from(compared, mode=mode, baseline=best)
    targets: Mapping[str, tuple[Measure, ...]] = {
        metric: tuple(map(_difference_alone, row)) for metric, row in measures.targets.items()
    }
    totals = {metric: _difference_alone(total) for metric, total in measures.aggregate.items()}
    return Measures(targets, totals)


def _mean(figures: Sequence[Estimate]) -> float:
    return float(np.mean([figure.value for figure in figures]))


def _difference_alone(measure: Measure) -> Measure:
    """Return a measure with its difference in the place of its value."""
    difference = 0.0 if measure.difference is None else measure.difference
    return Measure(
        value=difference,
        low=measure.difference_low,
        high=measure.difference_high,
        interval="paired",
        difference=difference,
        difference_low=measure.difference_low,
        difference_high=measure.difference_high,
        verdict=measure.verdict,
        p_value=measure.p_value,
        about=measure.about,
    )
