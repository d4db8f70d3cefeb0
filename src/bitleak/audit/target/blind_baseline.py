"""Does anything but the model tell members from others? A guess at membership without the model.

Where members and others differ by themselves, in time, source, class or brightness, an attack may
score well without any leak: it recognises the difference and not the membership (Das, Zhang and
Tramer 2024, arXiv 2406.16201; Meeus et al. 2024, arXiv 2406.17975). So two classifiers learn to tell
members from others by the records alone (`image_features`), and neither sees the model:

* *gradient boosting*, fitted on one half of the records and tested on the other; significant if its
  AUC exceeds 1/2 with p < 0.005 (one-sided, by the variance under no difference,
  (m + n + 1) / (12 m n));
* a *linear* one, cross-fitted on all records and tested by permutation (`linear_guess`), which finds
  smaller differences.

The records are *separable* if a significant one has an AUC whose 95 % interval lies above
`SEPARABLE`, or a TPR whose interval lies above twice the FPR: then figures of attacks say nothing
about the model.

Cost: a fraction of a second per 1,000 records, at most `MOST_RECORDS` of them.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int64
from scipy.special import ndtr

from bitleak.audit.target.image_features import Features
from bitleak.audit.target.linear_guess import linear_guess
from bitleak.core.seeds import seed_for
from bitleak.metrics import estimate_auc, estimate_tpr, headline_fpr, roc, why_unmeasurable
from bitleak.metrics.estimates import Estimate

_LEVEL = 0.005
"""Level of the test of each classifier."""

SEPARABLE = 0.55
"""AUC that the lower end of the interval must exceed."""

MOST_RECORDS = 20_000
"""Records that the classifiers are fitted and tested on, as many of each kind as there are."""

PLANTED = 0.3
"""Shift in deviations whose detection measures the baseline's power."""

MOST_CATEGORIES = 200
"""Classes that are taken as categories; more are taken as a number."""


@dataclass(frozen=True)
class BlindBaseline:
    """The better one of two guesses at membership without the model.

    Attributes:
        classifier: `gradient boosting` or `linear`.
        auc: Its AUC; no record is scored by a model that was fitted on it.
        auc_low: Lower end of the 95 % interval.
        auc_high: Upper end.
        p_value: One-sided p-value of no difference.
        fpr: FPR of `tpr`; None if too few records were tested.
        tpr: TPR at that FPR.
        tpr_low: Lower end of its interval.
        tested: Members and others that were tested.
        power: Chance that the linear guess finds a shift of brightness by `PLANTED` deviations;
            gradient boosting may find more.
        groups: Groups of features.
        is_significant: Whether members and others differ at all, by either guess.
        separable: Whether attacks' figures say nothing about the model.
    """

    classifier: str
    auc: float
    auc_low: float
    auc_high: float
    p_value: float
    fpr: float | None
    tpr: float | None
    tpr_low: float | None
    tested: tuple[int, int]
    power: float
    groups: tuple[str, ...]
    is_significant: bool
    separable: bool

    @property
    def sentence(self) -> str:
        """The result for people, beside every figure."""
        text = (
            f"Blind baseline (no model; {', '.join(self.groups)}): AUC {self.auc:.3f} "
            f"({self.auc_low:.3f} to {self.auc_high:.3f}, {self.classifier})"
        )
        if self.separable:
            text += ": members and others differ by themselves"
        elif self.is_significant:
            text += ": members and others differ a little by themselves"
        else:
            text += ": nothing tells members from others"
        subject = "brightness" if any("moments" in group for group in self.groups) else "one column"
        return (
            f"{text}. A shift of {subject} by {PLANTED} deviations would be found in "
            f"{100 * self.power:.0f} % of such splits."
        )


def blind_baseline(
    features: Features,
    member: Bool[np.ndarray, "records"],
    *,
    fprs: tuple[float, ...],
    seed: int,
) -> BlindBaseline:
    """Guess at membership with both classifiers, and test each of them.

    Args:
        features: Features of the records.
        member: True for members.
        fprs: FPRs at which attacks are measured.
        seed: Seed of the halves, the folds and the permutations.
    """
    generator = np.random.default_rng(seed_for(seed, "blind baseline"))
    drawn = []
    for side in (True, False):
        drawn.append(generator.permutation(np.flatnonzero(member == side))[: MOST_RECORDS // 2])
    boosting = _boosting(features, member, drawn, fprs)
    rows = np.concatenate(drawn)
    linear, power = _linear(features, member, rows, fprs, seed_for(seed, "linear guess"))

    # Each has a test of its own; the larger AUC of the significant ones, if any, is shown.
    guesses = (boosting, linear)
    shown = max(guesses, key=lambda guess: (guess.is_significant, guess.auc.value))
    fpr, tpr = shown.rate if shown.rate is not None else (None, None)
    return BlindBaseline(
        classifier=shown.classifier,
        auc=shown.auc.value,
        auc_low=max(0.0, shown.auc.low),
        auc_high=min(1.0, shown.auc.high),
        p_value=shown.p_value,
        fpr=fpr,
        tpr=None if tpr is None else tpr.value,
        tpr_low=None if tpr is None else max(0.0, tpr.low),
        tested=shown.tested,
        power=power,
        groups=features.groups,
        is_significant=any(guess.is_significant for guess in guesses),
        separable=any(guess.separable for guess in guesses),
    )


class _Guess(NamedTuple):
    """One classifier's guess; fields as of `BlindBaseline`.

    Attributes:
        rate: FPR and TPR, or None if too few records were tested.
    """

    classifier: str
    auc: Estimate
    p_value: float
    rate: tuple[float, Estimate] | None
    tested: tuple[int, int]

    @property
    def is_significant(self) -> bool:
        """Whether members and others differ at all, by this guess."""
        return self.p_value < _LEVEL

    @property
    def separable(self) -> bool:
        """Whether they differ too much for attacks to say anything about the model."""
        rate = self.rate
        is_above = self.auc.low > SEPARABLE or (rate is not None and rate[1].low > 2 * rate[0])
        return self.is_significant and is_above


def _boosting(
    features: Features,
    member: Bool[np.ndarray, "records"],
    drawn: list[np.ndarray],
    fprs: tuple[float, ...],
) -> _Guess:
    """Fit gradient boosting on the first half of the drawn members and others, and test it on the rest."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    train = np.concatenate([rows[: len(rows) // 2] for rows in drawn])
    tested = [rows[len(rows) // 2 :] for rows in drawn]
    test, counts = np.concatenate(tested), (len(tested[0]), len(tested[1]))
    numbers, labels = features.numbers, features.labels
    # Without weights of the classes: an order needs none, and scikit-learn's binning takes a
    # hundred times as long with weights (seen in 1.9).
    boosting = HistGradientBoostingClassifier(
        max_iter=60,
        learning_rate=0.1,
        max_leaf_nodes=15,
        min_samples_leaf=20,
        l2_regularization=1.0,
        early_stopping=False,
        categorical_features=[numbers.shape[1]] if _classes(labels) <= MOST_CATEGORIES else None,
        random_state=0,
    )
    with_label = np.concatenate([numbers, labels[:, None].astype(np.float32)], axis=1)
    boosting.fit(with_label[train], member[train])
    curve = roc(boosting.decision_function(with_label[test]).astype(np.float64), member[test])
    area = estimate_auc(curve)

    # The deviation of an AUC of scores that say nothing.
    null = math.sqrt((sum(counts) + 1) / (12 * counts[0] * counts[1]))
    p_value = float(ndtr(-(area.value - 0.5) / null))
    return _Guess("gradient boosting", area, p_value, _rate(curve, fprs, counts[1]), counts)


def _linear(
    features: Features,
    member: Bool[np.ndarray, "records"],
    rows: Int64[np.ndarray, "drawn"],
    fprs: tuple[float, ...],
    seed: int,
) -> tuple[_Guess, float]:
    """Return the cross-fitted linear guess, and its power against a shift of brightness."""
    numbers, labels = features.numbers[rows], features.labels[rows]
    categories = _classes(features.labels)
    # The linear one sees classes as indicators.
    indicators = np.zeros(
        (len(rows), categories if categories <= MOST_CATEGORIES else 0), np.float32
    )
    if indicators.size:
        indicators[np.arange(len(rows)), labels] = 1
    columns = np.concatenate([numbers, indicators], axis=1)
    shift = np.zeros(columns.shape[1], np.float32)
    shift[: numbers.shape[1]] = PLANTED * features.brighter
    inside = member[rows]
    guess = linear_guess(columns, inside, shift, level=_LEVEL, seed=seed)
    curve = roc(guess.scores, inside)
    counts = (int(inside.sum()), int((~inside).sum()))
    area = _widened(estimate_auc(curve), guess.widening)
    rate = _rate(curve, fprs, counts[1])
    return _Guess("linear", area, guess.p_value, rate, counts), guess.power


def _classes(labels: Int64[np.ndarray, "records"]) -> int:
    return int(labels.max()) + 1


def _widened(estimate: Estimate, factor: float) -> Estimate:
    low = estimate.value - factor * (estimate.value - estimate.low)
    return replace(
        estimate, low=low, high=estimate.value + factor * (estimate.high - estimate.value)
    )


def _rate(curve: Any, fprs: tuple[float, ...], non_members: int) -> tuple[float, Estimate] | None:
    fpr = headline_fpr(fprs, non_members)
    if why_unmeasurable(fpr, non_members) is not None:
        return None
    estimate = estimate_tpr(curve, fpr)
    return None if estimate.is_step else (fpr, estimate)
