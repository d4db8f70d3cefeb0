"""How far one set of scores finds more than others do, on the same targets and records.

For every metric the best of the others is the one with the largest mean over the targets. Chosen on the data that is
then reported, it looks a little better than it is, so what is found *over* it is a little too small, never too large.
The difference is paired, by `difference_over_records` (over targets where they are dedicated).
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float64

from bitleak.core.types import Measure, SplitMode
from bitleak.metrics.estimates import Estimate, Estimates
from bitleak.metrics.measures import Measures, estimate_metrics, measures_from


def excess(
    scores: Float64[np.ndarray, "targets records"],
    others: Sequence[Float64[np.ndarray, "targets records"]],
    member: Bool[np.ndarray, "targets records"],
    *,
    fprs: Sequence[float],
    mode: SplitMode = "population",
    seed: int = 0,
) -> Measures:
    """Every metric of `measure` as its excess over the best of the others.

    Args:
        scores: Larger = more likely a member; finite.
        others: At least one, of the same targets and records.
        member: The truth.
        fprs: As in `measure`.
        mode: As in `measure`.
        seed: As in `measure`.

    Returns:
        Measures whose `value` is the difference, so that `verdict` says `higher` where the scores find more.

    Raises:
        ValueError: There are no others, or as in `measure`.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> member = np.arange(2000)[None] % 2 == 0
        >>> weak, strong = (rng.normal(size=(1, 2000)) + shift * member for shift in (0.5, 1.5))
        >>> found = excess(strong, [weak], member, fprs=(0.01,)).aggregate["auc"]
        >>> found.value == found.difference, found.verdict
        (True, 'higher')
    """
    if not others:
        raise ValueError("a comparison needs at least one other set of scores, got none")
    own = estimate_metrics(scores, member, fprs=fprs, seed=seed)
    return excess_over_best(own, [estimate_metrics(other, member, fprs=fprs, seed=seed) for other in others], mode=mode)


def excess_over_best(own: Estimates, others: Sequence[Estimates], *, mode: SplitMode) -> Measures:
    """The same from figures of every target; metrics that all have in common."""
    shared = [name for name in own if all(name in other for other in others)]
    best = {name: max((other[name] for other in others), key=_mean) for name in shared}
    found = measures_from({name: own[name] for name in shared}, mode=mode, baseline=best)
    targets = {name: tuple(_excess(one) for one in measures) for name, measures in found.targets.items()}
    return Measures(targets, {name: _excess(total) for name, total in found.aggregate.items()})


def _mean(figures: Sequence[Estimate]) -> float:
    return float(np.mean([figure.value for figure in figures]))


def _excess(measure: Measure) -> Measure:
    """The difference in the place of the figure."""
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
    )
