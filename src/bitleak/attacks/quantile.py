"""Quantile regression: how confident is the target on a non-member that looks like this record?

On population records, none of them a member, the distribution of the target's confidence is
regressed on the references' answers about a record. An audited record's score is its place in the
distribution predicted for it, as a normal score:

    u(x) = (mean over queries of f(x) - centre(x)) / deviation(x)
    normal    score(x) = (u(x) - m(x)) / s(x), m the regressed mean of u and s of its deviation
    pinball   score(x) = z at u(x) on the line through the points (q_k(x), z_k), its ends prolonged,
              q_k being the regressed alpha_k-quantile of u and z_k the alpha_k-quantile of the normal

Bertran et al. 2023 (arXiv 2307.03694): one model of non-members' scores, so that the test has the
same false-positive rate for all kinds of records; they regress a normal's mean and log deviation,
or quantiles by the pinball loss, on the image itself and need no references. Deviations: the
regressor is scikit-learn's gradient boosting on features of the OUT references' answers: centre and
deviation of the confidence (Student's, `attacks.shrink`), mean entropy, mean correctness. The trees
regress u, so that trees without a split are already the offline LiRA, in its variance form
`shrunk`, calibrated on the population; labels of population records are not known to an attack. The
deviation of a normal is regressed as the log of the squared residuals, whose mean is log s^2 -
1.27. The references of a population record are all OUT, twice as many as those of an audited one;
`deviation` counts that in. Crossed quantiles are sorted, and are at least `LEAST_GAP` apart.

`normal` finds more at low false-positive rates where the population is small: 100 records do not
place the highest quantiles. A target with another calibration than its references, such as a
quantized one, shifts the regression with it: this attack needs no recalibration.

Misleading where the population is small or unlike the audited records: the regression then
extrapolates, and 50 records are the fewest that it is run on, not a number that it works well on.

Cost: O(refs records queries), and 2 (`pinball`: one per level) times `TREES` boosting steps over
the population and predictions for all records.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Bool, Float64
from scipy.special import digamma, ndtri

from bitleak.attacks.attack import reference_signal, refuse_small_population, signal_of
from bitleak.attacks.reference_sums import query_means, refuse_few, sums
from bitleak.attacks.shrink import predictive
from bitleak.core.checks import number_in, one_of
from bitleak.core.types import AttackView, Scores, SignalName

TREES = 40
LEAVES = 8
SMALLEST_LEAF = 20
RATE = {"normal": 0.05, "pinball": 0.1}
"""Learning rates."""
LOG_SQUARE_OF_NORMAL = float(digamma(0.5) + np.log(2))
"""Mean of the log of a squared standard normal, -1.27."""
LEAST_SQUARE = 1e-3
"""Added to squared residuals before the log."""
LEAST_GAP = 0.05
"""Least distance of neighbouring quantiles, in units of u per unit of z."""


@dataclass(frozen=True)
class Quantile:
    """The confidence's place in the distribution predicted for a non-member.

    Attributes:
        form: Prediction of the distribution: `normal` by mean and deviation, `pinball` by
            quantiles.
        levels: Levels of the quantiles, at least two, ascending, in (0, 1); `normal` ignores them.

    Example:
        >>> Quantile().name
        'quantile-normal'
    """

    form: Literal["normal", "pinball"] = "normal"
    levels: tuple[float, ...] = (0.25, 0.5, 0.75, 0.9, 0.97)

    outside_only: ClassVar[bool] = True
    further_signals: ClassVar[tuple[SignalName, ...]] = ("entropy", "correct")

    def __post_init__(self) -> None:
        one_of("form", self.form, RATE)
        for level in self.levels:
            number_in("levels", level, 0, 1, ends="()")
        if len(self.levels) < 2 or list(self.levels) != sorted(set(self.levels)):
            raise ValueError(
                f"levels must be at least two, ascending and different, got {self.levels}"
            )

    @property
    def name(self) -> str:
        """Name with the form."""
        return f"quantile-{self.form}"

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
        """50: fewer records cannot fill two leaves of a tree, nor resolve the highest quantile."""
        return 50

    def __call__(self, view: AttackView) -> Scores:
        """Return the normal score of every record's confidence in the predicted distribution.

        Raises:
            ValueError: There are too few population records, a record has fewer than 2 usable OUT
                references, or a signal is not finite.
        """
        refuse_small_population(view.population_target, self.fewest_population, self.name)
        out = view.outside
        refuse_few(out, 2, self.name, side="OUT")
        everyone = np.ones(view.population_references.shape[:2], bool)
        features, u = _standardized(view.target, partial(reference_signal, view), out)
        references_on_population = partial(signal_of, view.population_references)
        population, population_u = _standardized(
            view.population_target, references_on_population, everyone
        )

        # E[log residual^2] = log s^2 + E[log of a squared standard normal]
        if self.form == "normal":
            mean = _trees(self.form).fit(population, population_u)
            squares = (population_u - mean.predict(population)) ** 2 + LEAST_SQUARE
            log_squares = _trees(self.form).fit(population, np.log(squares)).predict(features)
            return (u - mean.predict(features)) * np.exp(-(log_squares - LOG_SQUARE_OF_NORMAL) / 2)

        quantiles = []
        for level in self.levels:
            trees = _trees(self.form, loss="quantile", quantile=level).fit(population, population_u)
            quantiles.append(trees.predict(features))
        return normal_score(u, np.stack(quantiles), ndtri(np.array(self.levels)))


QUANTILE_FORMS = (Quantile("normal"), Quantile("pinball"))
"""Both ways to predict the distribution."""


def _trees(form: str, **loss: Any) -> Any:
    from sklearn.ensemble import (
        HistGradientBoostingRegressor,
    )  # a second to import: only where it is used

    return HistGradientBoostingRegressor(
        **loss,
        learning_rate=RATE[form],
        max_iter=TREES,
        max_leaf_nodes=LEAVES,
        min_samples_leaf=SMALLEST_LEAF,
        early_stopping=False,
        random_state=0,
    )


def normal_score(
    value: Float64[np.ndarray, "records"],
    quantiles: Float64[np.ndarray, "levels records"],
    at: Float64[np.ndarray, "levels"],
) -> Float64[np.ndarray, "records"]:
    """Return the place of a value on the line through its quantiles at the given normal scores.

    Example:
        >>> quantiles = np.array([[0.0], [1.0], [3.0]])
        >>> at = np.array([0.0, 1.0, 2.0])
        >>> [float(normal_score(np.array([v]), quantiles, at)[0]) for v in (0.5, 2.0, 5.0)]
        [0.5, 1.5, 3.0]
    """
    spacing = np.diff(at)[:, None]

    # crossed quantiles are sorted and moved up until each is `LEAST_GAP` above the one before
    ascending = np.sort(quantiles, axis=0)
    gaps = np.maximum(np.diff(ascending, axis=0), LEAST_GAP * spacing)
    knots = np.concatenate([ascending[:1], ascending[:1] + np.cumsum(gaps, axis=0)])

    # the first and the last segment are prolonged
    segment = np.clip((value >= knots).sum(axis=0) - 1, 0, len(at) - 2)[None]
    start, gap = np.take_along_axis(knots, segment, 0)[0], np.take_along_axis(gaps, segment, 0)[0]
    return at[segment[0]] + (value - start) / gap * spacing[segment[0], 0]


def _standardized(
    target: Float64[np.ndarray, "records queries signals"],
    references: Callable[[SignalName], Float64[np.ndarray, "refs records queries"]],
    used: Bool[np.ndarray, "refs records"],
) -> tuple[Float64[np.ndarray, "records features"], Float64[np.ndarray, "records"]]:
    """Return features from the used references' answers, and u."""
    confidence = query_means(references("logit_scaled"))[:, :, None]
    student = predictive(sums(confidence, used))
    means = [sums(references(name), used).mean.mean(axis=1) for name in Quantile.further_signals]
    centre, deviation = student.centre[:, 0], student.deviation[:, 0]
    value = signal_of(target, "logit_scaled").mean(axis=1)
    return np.column_stack([centre, deviation, *means]), (value - centre) / deviation
