"""The positive control: a target that memorises by a known amount, which a working attack must find.

The target answers as a model that was not trained on any record, and its members' confidences are
raised by a stated number of deviations:

    f_r = mean of the OUT references on record r + sigma (e_r + strength [r is a member]),

e_r normal with variance 1 + 1 / n for n OUT references (as far as a model deviates from the mean of n
others), one per record for all queries, and sigma the pooled deviation of the OUT references around
their mean. An adversary who knew every record's mean and sigma would have about

    AUC = Phi(strength / sqrt 2),    TPR at alpha = Phi(strength - Phi^-1(1 - alpha)).

The share of it that the attacks reach with the references at hand shows the worth of their figures
on real targets: references that answer alike about every record, or that were not trained on any, show an
online attack nothing, however much the target memorises.

The strength is that of every record alike, and of the pooled deviation. With each record's own deviation
instead attacks find as much: `lira-online-shrunk` on `bitleak demo` .561 for .559. Online attacks
weigh a record by the difference between its IN and OUT references. References that hardly memorise give
it at random, with the wrong sign on up to half of the records, however the control is scaled; an
offline attack finds the same control at .911. A control that is moved by the references' own differences
would be found by every online attack, with references that show nothing too.

The hinge margin is made in the same way, from its own mean and deviation; the other signals follow as
for a network with two classes (`control`). Without OUT references the mean is that of the target's
own answers, and sigma their deviation over records. If all references agree on every record (sigma = 0),
sigma is `SMALLEST_DEVIATION`.

Cost: one pass over the references' confidences.
"""

import numpy as np
from jaxtyping import Bool, Float64
from scipy.special import ndtr, ndtri

from bitleak.attacks.control import two_class_signals
from bitleak.core.types import SIGNALS, AttackView

STRENGTH = 2.0
"""Deviations by which the members' confidences are raised."""

SMALLEST_DEVIATION = 1e-3
"""Deviation, in nats, where the references give none."""

_LOGIT_SCALED, _HINGE = SIGNALS.index("logit_scaled"), SIGNALS.index("hinge")


def positive_control(
    view: AttackView,
    member: Bool[np.ndarray, "records"],
    generator: np.random.Generator,
    *,
    strength: float = STRENGTH,
) -> AttackView:
    """Return the view of a target that memorises its members by a known amount.

    Args:
        view: View of any target.
        member: Membership to be memorised; it is in the answers of the view that is returned, as a
            leak, and nowhere else in it.
        generator: Source of the noise.
        strength: Deviations by which members' confidences are raised.
    """
    noise = generator.standard_normal(len(view.target))
    if len(view.references):
        noise *= np.sqrt(1 + 1 / np.maximum(view.outside.sum(axis=0), 1))
    noise += strength * member
    outside = generator.standard_normal(len(view.population_target))
    signals = view.target.shape[-1]
    target = two_class_signals(_raised(view, _LOGIT_SCALED, noise), signals)
    population = two_class_signals(_raised_outside(view, _LOGIT_SCALED, outside), signals)
    if signals > _HINGE and view.references.shape[-1] > _HINGE:
        target[..., _HINGE] = _raised(view, _HINGE, noise)
        population[..., _HINGE] = _raised_outside(view, _HINGE, outside)
    return view.of_target(target, population)


def perfect_auc(strength: float = STRENGTH) -> float:
    """Return the AUC of an adversary who knows every record's distribution.

    Example:
        >>> round(perfect_auc(2.0), 3), round(perfect_tpr(0.01, 2.0), 3)
        (0.921, 0.372)
    """
    return float(ndtr(strength / np.sqrt(2)))


def perfect_tpr(fpr: float, strength: float = STRENGTH) -> float:
    """Return the TPR of such an adversary at an FPR."""
    return float(ndtr(strength + ndtri(fpr)))


def _raised(
    view: AttackView, signal: int, noise: Float64[np.ndarray, "records"]
) -> Float64[np.ndarray, "records queries"]:
    mean, deviation = _moments(view, signal)
    return mean + deviation * noise[:, None]


def _raised_outside(
    view: AttackView, signal: int, noise: Float64[np.ndarray, "population"]
) -> Float64[np.ndarray, "population queries"]:
    answers = view.population_references[..., signal]
    _, deviation = _moments(view, signal)
    if not len(answers):
        answers = view.population_target[None, ..., signal]
    with np.errstate(invalid="ignore"):
        mean = np.nanmean(answers, axis=0) if answers.size else answers.sum(axis=0)
    return mean + deviation * noise[:, None]


def _moments(view: AttackView, signal: int) -> tuple[Float64[np.ndarray, "records queries"], float]:
    """Return each record's mean over OUT references, and the pooled deviation around it."""
    counts = view.outside.sum(axis=0)[:, None]
    own = view.target[..., signal]
    if not len(view.references) or not counts.all():
        mean = np.full_like(own, own.mean())
        return mean, max(float(own.std()), SMALLEST_DEVIATION)
    total, squares = np.zeros_like(own), 0.0
    for answers, shown in zip(view.references[..., signal], view.outside, strict=True):
        total += np.where(shown[:, None], answers, 0.0)
    mean = total / counts
    for answers, shown in zip(view.references[..., signal], view.outside, strict=True):
        squares += float((np.where(shown[:, None], answers - mean, 0.0) ** 2).sum())
    freedom = own.shape[1] * int((counts - 1).sum())
    deviation = np.sqrt(squares / freedom) if freedom > 0 else float(mean.std())
    return mean, max(float(deviation), SMALLEST_DEVIATION)
