"""Is the target right on its own members? The first check, before any attack.

A network that was given its inputs in another spelling than in its training still answers, and
attacks on such answers find little: a figure that is too low. So a sample of the members is
classified first. If another usual spelling of the inputs, or another order of the classes, makes
more of them right, the audit ends with that spelling; so does one of a network that does no better
on its members than guessing.

Cost: up to `SAMPLE` forward passes; if less than `SOUND` of them are right, `TRIED_SAMPLE` for each of
about a dozen spellings, and `SAMPLE` for the best.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from bitleak.audit.target.input_spelling import (
    InputSpelling,
    Proposal,
    in_larger_units,
    standard_proposals,
    unit_of,
    variations,
)
from bitleak.audit.target.network_answers import Records, logits_of
from bitleak.audit.target.tabular_model import StoredProbabilities
from bitleak.core.errors import ConfigError, ModelError
from bitleak.core.seeds import seed_for
from bitleak.core.signals import signals
from bitleak.core.types import LOG_PROBABILITY

SAMPLE = 1000
"""Members that are classified."""

TRIED_SAMPLE = 200
"""Members that are classified under each other spelling."""

SOUND = 0.98
"""Accuracy on members from which no other spelling is tried."""

SMALLEST_GAIN = 0.02
"""Gain of accuracy from which another spelling is proposed."""

NEARLY = 0.01
"""Difference of accuracy up to which two spellings are about equally right."""

_CERTAIN = 4.0
"""Deviations by which the gain of accuracy must differ from 0, or an accuracy from guessing."""


@dataclass(frozen=True)
class MemberCheck:
    """The target on a sample of its members.

    Attributes:
        accuracy: Share of them that it classifies right.
        records: Size of the sample.
        is_squashed: Whether all answers are numbers from 0 to 1, as of a sigmoid.
    """

    accuracy: float
    records: int
    is_squashed: bool = False

    @property
    def warnings(self) -> tuple[str, ...]:
        """Reasons to doubt the answers."""
        if not self.is_squashed:
            return ()
        return (
            "All answers of the target are numbers from 0 to 1, as of a sigmoid; attacks take them for logits, whose "
            "softmax is then nearly flat: leave out the last activation.",
        )

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
    right = logits.argmax(axis=1) == labels
    accuracy = float(right.mean())
    is_squashed = bool(logits.min() >= 0 and logits.max() <= 1)
    check = MemberCheck(
        accuracy, len(sample), is_squashed and not isinstance(model, StoredProbabilities)
    )
    if accuracy >= SOUND:
        return check
    order = _class_order(logits, labels, right)
    best = _best_proposal(model, records, sample) if records.images.ndim == 4 else None
    if best is not None:
        better = logits_of(model, records, sample, spelling=best.spelling).argmax(axis=1) == labels
        share = float(better.mean())
        if _is_better(better, right) and (order is None or share >= order.accuracy):
            raise ConfigError(_wrong_inputs(best, accuracy, share, where))
    if order is not None:
        raise ConfigError(_wrong_order(order, accuracy, class_names, where))
    # Compared with the constant answer of the most frequent class.
    guess = float(np.bincount(labels).max() / len(labels))
    deviation = math.sqrt(guess * (1 - guess) / len(labels))
    if accuracy < guess + _CERTAIN * deviation and guess < 1:
        raise ConfigError(
            f"{where}weights: the target is right on {100 * accuracy:.1f} % of {len(sample):,} of its own "
            f"members, no better than guessing ({100 * guess:.1f} %), under every spelling of the inputs "
            "that was tried (0 to 1, 0 to 255, ImageNet's, CIFAR's, channels or sides exchanged) and every "
            "order of the classes. The weights may be untrained or another network's, the labels those of "
            f"other records, or the inputs prepared in another way ({where}mean, deviation, scale)"
        )
    return check


def _best_proposal(
    model: Any, records: Records, sample: Int64[np.ndarray, "sample"]
) -> Proposal | None:
    """Return the spelling under which most of a few members are right; None if it is the given one."""
    few = np.sort(
        np.random.default_rng(seed_for(0, "spellings")).permutation(sample)[:TRIED_SAMPLE]
    )
    shape = tuple(records.images.shape[1:])
    standard = standard_proposals(shape[0], _statistics(records, few))
    proposals = [*variations(records.spelling, shape), *standard]
    if unit_of(records.images) == 1 and float(records.pixels(few).abs().max()) > 2:
        proposals += [in_larger_units(item) for item in standard if item.spelling.scale == 1]
    proposals = [item for item in proposals if item.spelling != records.spelling]

    def fit(spelling: InputSpelling) -> tuple[float, float]:
        try:
            logits = logits_of(model, records, few, spelling=spelling)
        except ModelError:  # an overflow under a spelling that is not the network's
            return 0.0, -math.inf
        right = float((logits.argmax(axis=1) == records.labels[few]).mean())
        return right, float(signals(logits, records.labels[few])[:, LOG_PROBABILITY].mean())

    start = fit(records.spelling)
    fits = [fit(item.spelling) for item in proposals]
    # Two faults at a time: the best standardisation with channels or sides exchanged.
    first = proposals[fits.index(max(fits))]
    for item in variations(first.spelling, shape):
        proposals.append(Proposal(f"{first.title}, {item.title}", item.spelling, item.rank + 3))
        fits.append(fit(item.spelling))
    best = max(fits)[0]
    if best <= start[0]:
        return None
    # Of about equally right spellings, the smallest change; of standardisations, the likeliest.
    near = [place for place in range(len(fits)) if fits[place][0] >= best - NEARLY]
    return proposals[min(near, key=lambda place: (proposals[place].rank, -fits[place][1]))]


def _statistics(
    records: Records, few: Int64[np.ndarray, "few"]
) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Return mean and deviation per channel of a few records, for pixels from 0 to 1."""
    pixels = np.asarray(records.images[few], np.float64) / unit_of(records.images)
    mean, deviation = pixels.mean(axis=(0, 2, 3)), pixels.std(axis=(0, 2, 3))
    if not (deviation > 0).all():
        return None
    rounded = (tuple(np.round(values, 4).tolist()) for values in (mean, deviation))
    return next(rounded), next(rounded)


def _is_better(after: np.ndarray, before: np.ndarray) -> bool:
    """Whether more records are right, by McNemar's test."""
    gained, lost = int((after & ~before).sum()), int((before & ~after).sum())
    enough = gained - lost >= SMALLEST_GAIN * len(after)
    return enough and gained - lost >= _CERTAIN * math.sqrt(gained + lost)


def _wrong_inputs(best: Proposal, before: float, after: float, where: str) -> str:
    place = f"{where.rstrip('.')} section" if where else "call"
    return (
        f"{where}mean, deviation, scale: the target is right on {100 * before:.1f} % of its own members, but on "
        f"{100 * after:.1f} % with {best.title}: write {best.spelling.as_text(python=not where)} in the {place}, or "
        "the numbers of the training if they are known. Attacks on answers to other inputs would find too little"
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
