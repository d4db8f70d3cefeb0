"""Does anything but the model tell members from others? A guess at membership without the model.

Where members and others differ by themselves, in time, source, class or brightness, an attack may
score well without any leak: it recognises the difference and not the membership (Das, Zhang and
Tramer 2024, arXiv 2406.16201; Meeus et al. 2024, arXiv 2406.17975). So two classifiers, gradient
boosting and a linear one, learn to tell members from others by the records alone
(`image_features`), on one half of them, and are tested on the other half. Neither sees the model.

Each is significant if its AUC exceeds 1/2 with p < 0.005 (one-sided, by the variance under no
difference, (m + n + 1) / (12 m n)). The records are *separable* if a significant one has an AUC whose
95 % interval lies above `SEPARABLE`, or a TPR whose interval lies above twice the FPR: then figures of
attacks say nothing about the model.

Cost: a fraction of a second per 1,000 records, at most `MOST_RECORDS` of them.
"""

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64
from scipy.special import ndtr

from bitleak.audit.target.image_features import Features
from bitleak.core.seeds import seed_for
from bitleak.metrics import estimate_auc, estimate_tpr, headline_fpr, roc, why_unmeasurable
from bitleak.metrics.estimates import Estimate

LEVEL = 0.005
"""Level of the test of each classifier."""

SEPARABLE = 0.55
"""AUC that the lower end of the interval must exceed."""

MOST_RECORDS = 20_000
"""Records that the classifiers are fitted and tested on, as many of each kind as there are."""

PLANTED = 0.3
"""Shift in deviations whose detection measures the baseline's power."""

POWER_RUNS = 20
"""Random splits that the power is measured on."""

STIFFNESS = 0.003
"""Inverse penalty of the linear classifier. So strong a penalty adds up features that move together,
as all measures of brightness do, which finds small shifts with few records."""

MOST_CATEGORIES = 200
"""Classes that are taken as categories; more are taken as a number."""


@dataclass(frozen=True)
class BlindBaseline:
    """The better one of two guesses at membership without the model.

    Attributes:
        classifier: `gradient boosting` or `linear`.
        auc: Its AUC on the records that it was not fitted on.
        auc_low: Lower end of the 95 % interval.
        auc_high: Upper end.
        p_value: One-sided p-value of no difference.
        fpr: FPR of `tpr`; None if too few records were tested.
        tpr: TPR at that FPR.
        tpr_low: Lower end of its interval.
        tested: Members and others that were tested.
        power: Chance of finding a shift of brightness by `PLANTED` deviations.
        groups: Groups of features.
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
    separable: bool

    @property
    def is_significant(self) -> bool:
        """Whether members and others differ at all, by this guess."""
        return self.p_value < LEVEL

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
    """Fit both classifiers on one half of the records and test them on the other.

    Args:
        features: Features of the records.
        member: True for members.
        fprs: FPRs at which attacks are measured.
        seed: Seed of the halves.
    """
    generator = np.random.default_rng(seed_for(seed, "blind baseline"))
    fitted, tested = [], []
    for side in (True, False):
        drawn = generator.permutation(np.flatnonzero(member == side))[: MOST_RECORDS // 2]
        fitted.append(drawn[: len(drawn) // 2])
        tested.append(drawn[len(drawn) // 2 :])
    train, test = np.concatenate(fitted), np.concatenate(tested)
    counts = (len(tested[0]), len(tested[1]))
    null = _null_deviation(counts)

    # The larger AUC is shown; each classifier has a test of its own.
    results = []
    for name, scores in _guesses(features, member, train, test).items():
        curve = roc(scores, member[test])
        area = estimate_auc(curve)
        p_value = float(ndtr(-(area.value - 0.5) / null))
        rate = _rate(curve, fprs, counts[1])
        is_above = area.low > SEPARABLE or (rate is not None and rate[1].low > 2 * rate[0])
        results.append((area.value, name, area, p_value, rate, p_value < LEVEL and is_above))
    _, name, area, p_value, rate, _ = max(results, key=lambda result: result[0])
    low, high = max(0.0, area.low), min(1.0, area.high)
    return BlindBaseline(
        classifier=name,
        auc=area.value,
        auc_low=low,
        auc_high=high,
        p_value=p_value,
        fpr=None if rate is None else rate[0],
        tpr=None if rate is None else rate[1].value,
        tpr_low=None if rate is None else max(0.0, rate[1].low),
        tested=counts,
        power=planted_power(features, counts, seed=seed_for(seed, "planted")),
        groups=features.groups,
        separable=any(result[-1] for result in results),
    )


def planted_power(
    features: Features, counts: tuple[int, int], *, shift: float = PLANTED, seed: int = 0
) -> float:
    """Return the share of random splits in which the linear classifier finds a planted shift.

    Half of the records, drawn at random, get a larger brightness (the means of all channels, or the
    first component of a table), by so many of its deviations. The components of images stay as they
    are, and gradient boosting, which might find more, is left out.

    Args:
        features: Features of the records.
        counts: Tested members and others; as many are fitted on.
        shift: The shift in deviations.
        seed: Seed of the splits.
    """
    moved = [place for place, name in enumerate(features.names) if name.startswith("mean ")]
    moved = moved or [0]
    null = _null_deviation(counts)
    generator, found = np.random.default_rng(seed), 0
    for _ in range(POWER_RUNS):
        order = generator.permutation(len(features.numbers))[: 2 * sum(counts)]
        member = np.arange(len(order)) % sum(counts) < counts[0]
        numbers = features.numbers[order].copy()
        for column in moved:
            numbers[member, column] += shift * numbers[:, column].std()
        half = len(order) // 2
        scores = _linear_scores(numbers, member, np.arange(half), np.arange(half, len(order)))
        area = estimate_auc(roc(scores, member[half:])).value
        found += float(ndtr(-(area - 0.5) / null)) < LEVEL
    return found / POWER_RUNS


def _null_deviation(counts: tuple[int, int]) -> float:
    """Return the deviation of an AUC of scores that say nothing."""
    return math.sqrt((sum(counts) + 1) / (12 * counts[0] * counts[1]))


def _rate(curve: Any, fprs: tuple[float, ...], non_members: int) -> tuple[float, Estimate] | None:
    fpr = headline_fpr(fprs, non_members)
    if why_unmeasurable(fpr, non_members) is not None:
        return None
    estimate = estimate_tpr(curve, fpr)
    return None if estimate.is_step else (fpr, estimate)


def _guesses(
    features: Features,
    member: Bool[np.ndarray, "records"],
    train: np.ndarray,
    test: np.ndarray,
) -> dict[str, Float64[np.ndarray, "test"]]:
    """Return the scores of the tested records by both classifiers."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    numbers, labels = features.numbers, features.labels
    categories = int(labels.max()) + 1
    is_category = categories <= MOST_CATEGORIES
    # Without weights of the classes: an order needs none, and scikit-learn's binning takes a
    # hundred times as long with weights (seen in 1.9).
    boosting = HistGradientBoostingClassifier(
        max_iter=60,
        learning_rate=0.1,
        max_leaf_nodes=15,
        min_samples_leaf=20,
        l2_regularization=1.0,
        early_stopping=False,
        categorical_features=[numbers.shape[1]] if is_category else None,
        random_state=0,
    )
    with_label = np.concatenate([numbers, labels[:, None].astype(np.float32)], axis=1)
    boosting.fit(with_label[train], member[train])

    # The linear one sees classes as indicators.
    indicators = np.zeros((len(labels), categories if is_category else 0), np.float32)
    if is_category:
        indicators[np.arange(len(labels)), labels] = 1
    columns = np.concatenate([numbers, indicators], axis=1)
    return {
        "gradient boosting": boosting.decision_function(with_label[test]).astype(np.float64),
        "linear": _linear_scores(columns, member, train, test),
    }


def _linear_scores(
    columns: Float32[np.ndarray, "records columns"],
    member: Bool[np.ndarray, "records"],
    train: np.ndarray,
    test: np.ndarray,
) -> Float64[np.ndarray, "test"]:
    """Return the scores of the tested records by a linear classifier."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    centre, deviation = columns[train].mean(axis=0), columns[train].std(axis=0)
    standard = (columns - centre) / np.where(deviation > 1e-9, deviation, 1)
    linear = LogisticRegression(C=STIFFNESS, max_iter=200, class_weight="balanced")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        linear.fit(standard[train], member[train])
    return linear.decision_function(standard[test]).astype(np.float64)
