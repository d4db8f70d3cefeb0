"""Quantile regression: how confident is the target on a non-member that looks like this record?

On population records, of which nobody is a member, the quantiles of the target's confidence are regressed on what the
references say of a record. An audited record's score is where its confidence lies between the quantiles predicted for
it, on a normal scale:

    u(x) = (mean over queries of f(x) - centre(x)) / deviation(x)
    q_k(x) = the predicted alpha_k-quantile of u for a non-member,      z_k = the alpha_k-quantile of the normal
    score(x) = z at u(x) on the line through the points (q_k, z_k), its ends prolonged

Bertran et al. 2023 (arXiv 2307.03694), sections 2 and 3: one model of non-members' scores, so that the test has the
same false-positive rate for all kinds of records. They regress on the image itself and need no references. Deviations:
the regressor is scikit-learn's gradient boosting with the pinball loss (one per level) on features of the OUT
references' answers: centre and deviation of the confidence (Student's, `attacks.shrink`), mean entropy, mean
correctness. What is regressed is u, so that a tree without a split is already the offline LiRA, in its variance form
`shrunk`, calibrated on the population; labels of population records are not known to an attack. The references of a
population record are all OUT, twice as many as those of an audited one; `deviation` counts that in. Crossed quantiles
are sorted, and are at least `GAP` apart.

A target that is differently calibrated than its references, as a quantized one, shifts the quantiles along: this
attack needs no recalibration.

Cost: O(refs records queries), and levels x `TREES` boosting steps over the population and predictions for all records.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64
from scipy.special import ndtri

from bitleak.attacks.attack import refuse_small_population, signal_of
from bitleak.attacks.shrink import predictive
from bitleak.attacks.sides import refuse_few, sums
from bitleak.core.checks import number_in
from bitleak.core.types import AttackView, Scores, SignalName

TREES = 40
LEAVES = 8
SMALLEST_LEAF = 20
GAP = 0.05
"""Least distance of neighbouring quantiles, in units of u per unit of z."""


@dataclass(frozen=True)
class Quantile:
    """The confidence between the predicted quantiles of a non-member's.

    Attributes:
        levels: Of the quantiles, ascending, in (0, 1); at least two.

    Example:
        >>> Quantile().name
        'quantile'
    """

    levels: tuple[float, ...] = (0.25, 0.5, 0.75, 0.9, 0.97)

    def __post_init__(self) -> None:
        for level in self.levels:
            number_in("levels", level, 0, 1, ends="()")
        if len(self.levels) < 2 or list(self.levels) != sorted(set(self.levels)):
            raise ValueError(f"levels must be at least two, ascending and different, got {self.levels}")

    @property
    def name(self) -> str:
        """`quantile`."""
        return "quantile"

    @property
    def signal(self) -> SignalName:
        """The logit-scaled confidence."""
        return "logit_scaled"

    @property
    def uses_references(self) -> bool:
        """True."""
        return True

    @property
    def fewest_population(self) -> int:
        """50: two records above the highest quantile are too few to place it."""
        return 50

    def __call__(self, view: AttackView) -> Scores:
        """The normal score of every record's confidence under the predicted quantiles.

        Raises:
            ValueError: There are too few population records, a record has fewer than 2 usable OUT references, or a
                signal is not finite.
        """
        from sklearn.ensemble import HistGradientBoostingRegressor  # a second to import: only where it is used

        refuse_small_population(view.population_target, self.fewest_population, self.name)
        out = view.use & ~view.member
        refuse_few(out, 2, self.name, side="OUT")
        everyone = np.ones(view.population_references.shape[:2], bool)
        seen, of_x = _standardized(view.target, view.references, out)
        known, of_z = _standardized(view.population_target, view.population_references, everyone)
        predicted = np.empty((len(self.levels), len(of_x)))
        for row, level in enumerate(self.levels):
            model = HistGradientBoostingRegressor(
                loss="quantile",
                quantile=level,
                max_iter=TREES,
                max_leaf_nodes=LEAVES,
                min_samples_leaf=SMALLEST_LEAF,
                early_stopping=False,
                random_state=0,
            )
            predicted[row] = model.fit(known, of_z).predict(seen)
        return normal_score(of_x, predicted, ndtri(np.array(self.levels)))


def normal_score(
    value: Float64[np.ndarray, "records"],
    quantiles: Float64[np.ndarray, "levels records"],
    at: Float64[np.ndarray, "levels"],
) -> Float64[np.ndarray, "records"]:
    """Where a value lies on the line through its quantiles at the given normal scores.

    Example:
        >>> quantiles = np.array([[0.0], [1.0], [3.0]])
        >>> at = np.array([0.0, 1.0, 2.0])
        >>> [float(normal_score(np.array([v]), quantiles, at)[0]) for v in (0.5, 2.0, 5.0)]
        [0.5, 1.5, 3.0]
    """
    apart = np.diff(at)[:, None]
    ascending = np.sort(quantiles, axis=0)
    gaps = np.maximum(np.diff(ascending, axis=0), GAP * apart)
    knots = np.concatenate([ascending[:1], ascending[:1] + np.cumsum(gaps, axis=0)])
    segment = np.clip((value >= knots).sum(axis=0) - 1, 0, len(at) - 2)[None]
    start, gap = np.take_along_axis(knots, segment, 0)[0], np.take_along_axis(gaps, segment, 0)[0]
    return at[segment[0]] + (value - start) / gap * apart[segment[0], 0]


def _standardized(
    target: Float64[np.ndarray, "records queries signals"],
    references: Float64[np.ndarray, "refs records queries signals"],
    used: Bool[np.ndarray, "refs records"],
) -> tuple[Float64[np.ndarray, "records features"], Float64[np.ndarray, "records"]]:
    """Features from the used references' answers, and u."""
    confidence = signal_of(references, "logit_scaled").mean(axis=2)[:, :, None]
    of = predictive(sums(confidence, used))
    others = [sums(signal_of(references, name), used).mean.mean(axis=1) for name in ("entropy", "correct")]
    centre, deviation = of.centre[:, 0], of.deviation[:, 0]
    value = signal_of(target, "logit_scaled").mean(axis=1)
    return np.column_stack([centre, deviation, *others]), (value - centre) / deviation
