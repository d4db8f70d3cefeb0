"""Is the target right on its own members? The first check, before any attack.

A network that was given its inputs in another spelling than in its training still answers, and
attacks on such answers find little: a figure that is too low. So a sample of the members is
classified first. If another usual spelling of the inputs, or another order of the classes, makes
more of them right, the audit ends with that spelling; so does one of a network that does no better
on its members than guessing. If as many of them are right, but their loss is clearly smaller under
another spelling, a warning names it.

Cost: up to `SAMPLE` forward passes, and those of `preparation_search`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from bitleak.audit.target.network_answers import Records, logits_of
from bitleak.audit.target.preparation_search import (
    Candidate,
    PreparationFit,
    Search,
    fit_of,
    fit_of_logits,
    paired_deviations,
    searched,
)
from bitleak.audit.target.tabular_model import StoredProbabilities
from bitleak.core.errors import ConfigError
from bitleak.core.seeds import seed_for

SAMPLE = 1000
"""Members that are classified."""

SOUND = 0.98
"""Accuracy on members from which the audit goes on, though another spelling may be mentioned."""

SMALLEST_GAIN = 0.02
"""Gain of accuracy from which another spelling is proposed."""

SMALLEST_LOSS_GAIN = 0.005
"""Gain of the members' mean loss from which another spelling is mentioned."""

_CERTAIN_LOSS = 6.0
"""Deviations of the paired difference by which that gain must differ from 0."""

_CERTAIN = 4.0
"""Deviations by which the gain of accuracy must differ from 0, or an accuracy from guessing."""


@dataclass(frozen=True)
class MemberCheck:
    """The target on a sample of its members.

    Attributes:
        accuracy: Share of them that it classifies right.
        records: Size of the sample.
        is_squashed: Whether all answers are numbers from 0 to 1, as of a sigmoid.
        inputs_doubt: Why the inputs may be prepared otherwise than in the training; empty if there
            is no reason.
    """

    accuracy: float
    records: int
    is_squashed: bool = False
    inputs_doubt: str = ""

    @property
    def warnings(self) -> tuple[str, ...]:
        """Reasons to doubt the answers."""
        squashed = (
            "All answers of the target are numbers from 0 to 1, as of a sigmoid; attacks take them for logits, whose "
            "softmax is then nearly flat: leave out the last activation."
        )
        doubts = (squashed if self.is_squashed else "", self.inputs_doubt)
        return tuple(doubt for doubt in doubts if doubt)

    @property
    def sentence(self) -> str:
        """The result for people."""
        return f"The target is right on {100 * self.accuracy:.1f} % of {self.records:,} of its members."


def check_on_members(
    model: Any,
    records: Records,
    members: Int64[np.ndarray, "members"],
    *,
    seed: int,
    class_names: Sequence[str] = (),
    where: str = "",
) -> MemberCheck:
    """Classify a sample of the members; refuse a target that another spelling makes better.

    Args:
        model: The target.
        records: All records, with the given spelling.
        members: The target's members.
        seed: Seed of the sample.
        class_names: Names by label, for the message.
        where: Put before names of fields in messages, such as `target.`.

    Raises:
        ConfigError: Another spelling or order of the classes is better, with the spelling; or the
            target does no better than guessing under all of them.
    """
    generator = np.random.default_rng(seed_for(seed, "member check"))
    sample = np.sort(generator.permutation(members)[:SAMPLE])
    labels = records.labels[sample]
    logits = logits_of(model, records, sample)
    given = fit_of_logits(logits, labels)
    right, accuracy = given.right, given.key[0]
    is_squashed = bool(logits.min() >= 0 and logits.max() <= 1)
    is_image = records.images.ndim == 4
    search = searched(model, records, sample, given) if is_image else Search(None, None)
    check = MemberCheck(
        accuracy,
        len(sample),
        is_squashed and not isinstance(model, StoredProbabilities),
        _surer_inputs(search.surest, records, sample, given, where),
    )
    if accuracy >= SOUND:
        return check
    # Compared with the constant answer of the most frequent class.
    guess = float(np.bincount(labels).max() / len(labels))
    limit = guess + _CERTAIN * math.sqrt(guess * (1 - guess) / len(labels))
    order = _class_order(logits, labels, right)
    if order is not None and order.accuracy < limit:
        order = None  # from worse than guessing to guessing
    best = search.most_right
    better = None if best is None else fit_of(best, records, sample)
    if best is not None and better is not None:
        share = better.key[0]
        is_better = _is_better(better.right, right) and (share >= limit or guess == 1)
        if is_better and (order is None or share >= order.accuracy):
            raise ConfigError(_wrong_inputs(best, accuracy, share, where))
    if order is not None:
        raise ConfigError(_wrong_order(order, accuracy, class_names, where))
    if accuracy < limit and guess < 1:
        raise ConfigError(
            f"{where}weights: the target is right on {100 * accuracy:.1f} % of {len(sample):,} of its own "
            f"members, no better than guessing ({100 * guess:.1f} %), under every spelling of the inputs "
            "that was tried (0 to 1, 0 to 255, ImageNet's, CIFAR's, channels or sides exchanged) and every "
            "order of the classes. The weights may be untrained or another network's, the labels those of "
            f"other records, or the inputs prepared in another way ({where}mean, deviation, scale)"
            f"{_too_wide(records)}"
        )
    return check


def _is_better(after: np.ndarray, before: np.ndarray) -> bool:
    """Whether more records are right, by McNemar's test."""
    gained, lost = int((after & ~before).sum()), int((before & ~after).sum())
    enough = gained - lost >= SMALLEST_GAIN * len(after)
    return enough and gained - lost >= _CERTAIN * math.sqrt(gained + lost)


def _wrong_inputs(best: Candidate, before: float, after: float, where: str) -> str:
    return (
        f"{best.field(where)}: the target is right on {100 * before:.1f} % of its own members, but on "
        f"{100 * after:.1f} % with {best.title}: write {best.advice(where)}, or the numbers of the training if they "
        "are known. Attacks on answers to other inputs would find too little"
    )


def _surer_inputs(
    best: Candidate | None, records: Records, sample: Any, given: PreparationFit, where: str
) -> str:
    """Return a warning if the members' loss is clearly smaller under a candidate, else empty text."""
    fit = None if best is None else fit_of(best, records, sample)
    if best is None or fit is None:
        return ""
    losses = -given.key[1], -fit.key[1]
    deviations = paired_deviations(fit, given)
    if losses[0] - losses[1] < SMALLEST_LOSS_GAIN or deviations < _CERTAIN_LOSS:
        return ""
    return (
        f"{best.field(where)}: the target fits its own members better with {best.title}: their mean loss, at one size "
        f"of the logits, is {losses[1]:.3g} instead of {losses[0]:.3g} ({deviations:.0f} deviations of the paired "
        f"difference). If it was trained so, write {best.advice(where)}: attacks on answers to other inputs find "
        "too little."
    )


def _too_wide(records: Records) -> str:
    """Return a hint for answers that are wider than the labels, else empty text."""
    known = int(records.labels.max()) + 1
    if records.classes <= 2 * known:
        return ""
    return (
        f". The network answers with {records.classes:,} numbers, and the labels have {known:,} classes: are these "
        "features, before the last layer?"
    )


class _ClassOrder(NamedTuple):
    """An order of the classes under which more members are right.

    Attributes:
        labels: Label that each output stands for.
        accuracy: Share of the members that are right, by members that had no part in its choice.
    """

    labels: Int64[np.ndarray, "classes"]
    accuracy: float


def _class_order(
    logits: Float64[np.ndarray, "sample classes"], labels: Int64[np.ndarray, "sample"], right: Any
) -> _ClassOrder | None:
    """Return a better order of the classes; None if there is none.

    The best of all orders is better than the given one also by chance, so half of the members
    choose it, and the other half judge it.
    """
    from scipy.optimize import linear_sum_assignment  # here, since it takes long

    predicted, half = logits.argmax(axis=1), np.arange(len(labels)) % 2 == 0
    counts = np.zeros((logits.shape[1], logits.shape[1]), np.int64)
    np.add.at(counts, (predicted[half], labels[half]), 1)
    outputs, true = linear_sum_assignment(-counts)
    order = np.arange(logits.shape[1])
    order[outputs] = true
    after = order[predicted[~half]] == labels[~half]
    return _ClassOrder(order, float(after.mean())) if _is_better(after, right[~half]) else None


def _wrong_order(order: _ClassOrder, before: float, class_names: Sequence[str], where: str) -> str:
    classes = len(order.labels)
    moved = [output for output in range(classes) if order.labels[output] != output]
    names = class_names if len(class_names) == classes else [str(label) for label in range(classes)]
    pairs = ", ".join(f"{output} is {names[order.labels[output]]}" for output in moved[:6])
    return (
        f"{where}labels: the target's classes are in another order than the labels: right on "
        f"{100 * before:.1f} % of its own members as they are numbered, on {100 * order.accuracy:.1f} % "
        f"once outputs are renumbered ({pairs}{', ...' if len(moved) > 6 else ''}); give the labels in the "
        "order of the network's outputs"
    )
