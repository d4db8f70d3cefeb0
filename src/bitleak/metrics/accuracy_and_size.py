"""What a variant is still good for: accuracy on test and training records, agreement with fp32.

Shares of records with the same treatment as the attacks' metrics: Wilson's interval for a target, records
resampled over a population's targets (which share the test records), t over dedicated targets.
"""

import numpy as np
from jaxtyping import Bool, Float64, Int64

from bitleak.core.types import SplitMode
from bitleak.metrics.measures import Measures, summarize
from bitleak.metrics.proportion import proportion


def accuracy_on_test(
    predictions: Int64[np.ndarray, "targets test"],
    labels: Int64[np.ndarray, "test"],
    *,
    mode: SplitMode = "population",
    baseline: Int64[np.ndarray, "targets test"] | None = None,
) -> Measures:
    """The metric `test_accuracy`: share of test records whose predicted class is the true one.

    Args:
        predictions: Predicted classes of each target.
        labels: True classes.
        mode: See `measure`.
        baseline: Predictions of the same targets at fp32.

    Example:
        >>> labels = np.arange(200) % 2
        >>> accuracy_on_test(np.zeros((1, 200), np.int64), labels).aggregate["test_accuracy"].value
        0.5
    """
    figures = {"test_accuracy": tuple(proportion(row == labels) for row in predictions)}
    base = None if baseline is None else {"test_accuracy": tuple(proportion(row == labels) for row in baseline)}
    return summarize(figures, mode=mode, baseline=base)


def accuracy_on_members(
    correct: Float64[np.ndarray, "targets records"],
    member: Bool[np.ndarray, "targets records"],
    *,
    mode: SplitMode = "population",
    baseline: Float64[np.ndarray, "targets records"] | None = None,
) -> Measures:
    """The metric `train_accuracy`: share of each target's own members that it classifies correctly.

    Args:
        correct: The signal `correct` of one query, the identity: 1.0 or 0.0.
        member: True for the target's members.
        mode: See `measure`.
        baseline: The same signal of the same targets at fp32.
    """
    pairs = zip(correct > 0.5, member, strict=True)
    figures = {"train_accuracy": tuple(proportion(right, counted) for right, counted in pairs)}
    if baseline is None:
        return summarize(figures, mode=mode)
    pairs = zip(baseline > 0.5, member, strict=True)
    base = {"train_accuracy": tuple(proportion(right, counted) for right, counted in pairs)}
    return summarize(figures, mode=mode, baseline=base)


def agreement(
    predictions: Int64[np.ndarray, "targets test"],
    full_precision: Int64[np.ndarray, "targets test"],
    *,
    mode: SplitMode = "population",
) -> Measures:
    """The metric `agreement`: share of test records on which a target and itself at fp32 agree.

    Args:
        predictions: Predicted classes of each target.
        full_precision: Those of the same targets at fp32.
        mode: See `measure`.
    """
    pairs = zip(predictions, full_precision, strict=True)
    return summarize({"agreement": tuple(proportion(one == other) for one, other in pairs)}, mode=mode)
