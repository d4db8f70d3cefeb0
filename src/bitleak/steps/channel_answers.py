"""Answers that come through a channel, and their reading by an adversary.

A channel (`core.channel_names`) is a function of the logits z, with p = softmax(z) in float64:

    logits         z
    temperature-T  softmax(z / T), unrounded, so that z / T is known up to a constant
    round-D        rint(10^D p) / 10^D of every class
    int8-softmax   min(rint(256 p), 255) / 256 of every class, as LiteRT's 8-bit softmax
    top1           the class c with the largest logit, and p_c as a float32
    label          the class c alone

**Reading.** z and z / T are read as logits. The others are read as probabilities of a limited
resolution, by the rule for rounded files of `bitleak attack` (`core.signals.probability_signals`):
with h half a step of the channel,

    f = log max(q_y, h) - log max(1 - q_y, h),

where q are the released probabilities. A rounded value stands for an interval of one step; a 0 and a
1 are read at half a step from the end, inside of it. A label is a distribution with the step 1, so
that h = 1/2 and f = log 2 for a right and -log 2 for a wrong one. Of `top1` the other classes are not
released: the rest 1 - p_c is spread evenly over them, the distribution of largest entropy that
agrees with the answer. A p_c of 1 is read half a spacing of float32 below it, 2^-25.

**Scale.** As everywhere (`steps.answer_scale`), the scale is that of the references: a temperature
if logits are known up to a factor, else the mean and the deviation of the confidences.

**Temperature.** With references that answer through the same channel, T is divided out with the
scale, so that `temperature-T` and `logits` have the same scores but for rounding. As they came, the
confidences differ with more than two classes: with m = z_y and the K - 1 others o,

    T f_T = z_y - T logsumexp(o / T),   f - T f_T = integral from 1 to T of H(softmax(o / t)) dt,

H being the entropy in nats, so that 0 <= f - T f_T <= (T - 1) log(K - 1) for T >= 1.

**Ties.** Two records with equal answers in another order of the queries must tie. Coarse confidences
are therefore rounded to float32, so that their sums over queries are exact in float64.

Cost: O(models records queries classes).
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from jaxtyping import Float, Float64, Int64

from bitleak.core.channel_names import Channel
from bitleak.core.probability_resolution import Resolution
from bitleak.core.signals import BLOCK_NUMBERS, probability_signals
from bitleak.core.types import CORRECT, LOG_PROBABILITY, LOGIT_SCALED, SIGNALS, Outputs
from bitleak.steps.answer_scale import (
    AnswerScale,
    Labels,
    PoolAndPopulation,
    ScaledAnswers,
    kept_logits,
    on_scale,
    stored_outputs,
)

INT8_STEP = 1 / 256
"""Distance between neighbouring probabilities of `int8-softmax`; the largest is one step below 1."""

TOP1_FLOOR = 2.0**-25
"""Rest that is read where `top1` releases a probability of 1: half the spacing of float32 below 1."""


def channel_scale(channel: Channel) -> AnswerScale:
    """Return the scale on which answers through a channel are compared."""
    return "standardised" if channel.is_coarse else "temperature"


def scaled_through(
    channel: Channel,
    targets: Sequence[Outputs],
    references: Sequence[Outputs],
    labels: Labels,
    *,
    adapted: bool,
) -> ScaledAnswers:
    """Return the answers of targets through a channel, and of references, on the references' scale.

    Args:
        channel: The channel.
        targets: Answers of the targets, with logits.
        references: Answers of the references, with logits.
        labels: Classes of the records.
        adapted: Whether the references answer through the channel too; if not, they answer by
            logits.

    Raises:
        ConfigError: Logits were not kept.
    """
    compared = through_channel(channel, references, labels) if adapted else list(references)
    answering = through_channel(channel, targets, labels)
    scaled = on_scale(channel_scale(channel), answering, compared, labels)
    if not channel.is_coarse:
        return scaled
    # Equal answers must tie after sums over queries in any order.
    rounded = stored_outputs([*scaled.targets, *scaled.references], _in_float32)
    count = len(targets)
    return ScaledAnswers(tuple(rounded[:count]), tuple(rounded[count:]), scaled.facts)


def through_channel(channel: Channel, outputs: Sequence[Outputs], labels: Labels) -> list[Outputs]:
    """Return the answers of models as they come through a channel.

    Of a channel that is not coarse the logits are changed and the signals are not, since a
    temperature makes them anew; of a coarse one the signals are its own, and there are no logits.

    Args:
        channel: The channel.
        outputs: Answers with logits.
        labels: Classes of the records.

    Raises:
        ConfigError: Logits were not kept.
    """
    if channel.is_coarse:
        return stored_outputs(outputs, partial(_read_answers, channel=channel, labels=labels))
    if channel.number == 1:
        return list(outputs)
    softened = []
    divisor = np.float32(channel.number)
    for output in outputs:
        pool = kept_logits(output.logits) / divisor
        population = kept_logits(output.population_logits) / divisor
        softened.append(replace(output, logits=pool, population_logits=population))
    return softened


def channel_signals(
    channel: Channel,
    logits: Float[np.ndarray, "records queries classes"],
    labels: Int64[np.ndarray, "records"],
) -> Float64[np.ndarray, "records queries signals"]:
    """Return the signals that an adversary reads from answers through a coarse channel.

    Args:
        channel: A coarse channel.
        logits: The model's logits, finite.
        labels: True classes.
    """
    records, queries, classes = logits.shape
    flat, true = logits.reshape(-1, classes), np.repeat(labels, queries)
    read = np.empty((len(flat), len(SIGNALS)))
    step = max(1, BLOCK_NUMBERS // classes)
    for start in range(0, len(flat), step):
        block = slice(start, start + step)
        released, resolution = released_probabilities(channel, flat[block])
        read[block] = probability_signals(
            released, true[block], floor=resolution.floor, complement=resolution.complement
        )
        if channel.kind == "top1":  # the class is released beside the probability
            read[block, CORRECT] = flat[block].argmax(axis=1) == true[block]
    return read.reshape(records, queries, len(SIGNALS))


def released_probabilities(
    channel: Channel, logits: Float[np.ndarray, "answers classes"]
) -> tuple[Float64[np.ndarray, "answers classes"], Resolution]:
    """Return the probabilities of a coarse channel as they are read, and their resolution.

    Raises:
        ValueError: The channel is not coarse.

    Example:
        >>> logits = np.log([[0.123, 0.877]])
        >>> released_probabilities(Channel.parse("round-2"), logits)[0].tolist()
        [[0.12, 0.88]]
        >>> released_probabilities(Channel.parse("int8-softmax"), 9 * logits)[0].tolist()
        [[0.0, 0.99609375]]
    """
    if not channel.is_coarse:
        raise ValueError(f"channel must be coarse, got {channel.name}")
    p = _softmax(logits)
    rows, predicted = np.arange(len(p)), np.asarray(logits).argmax(axis=1)
    if channel.kind == "round":
        scale = 10.0**channel.number
        return np.rint(scale * p) / scale, _even(channel, 1 / scale)
    if channel.kind == "int8-softmax":
        codes = np.minimum(np.rint(p / INT8_STEP), 1 / INT8_STEP - 1)
        return codes * INT8_STEP, _even(channel, INT8_STEP)
    released = np.zeros_like(p)
    if channel.kind == "label":
        released[rows, predicted] = 1.0
        return released, _even(channel, 1.0)
    # The rest of 1 is spread over the classes that are not released.
    largest = np.float64(np.float32(p[rows, predicted]))
    rest = np.maximum(1.0 - largest, TOP1_FLOOR)
    released += (rest / (p.shape[1] - 1))[:, None]
    released[rows, predicted] = 1.0 - rest
    smallest = float(np.finfo(np.float64).tiny)
    return released, Resolution(channel.name, 0.0, smallest)


def _even(channel: Channel, step: float) -> Resolution:
    return Resolution(channel.name, step, step / 2, complement=True)


def _softmax(
    logits: Float[np.ndarray, "answers classes"],
) -> Float64[np.ndarray, "answers classes"]:
    z = np.array(logits, np.float64)
    z -= z.max(axis=1, keepdims=True)
    np.exp(z, out=z)
    z /= z.sum(axis=1, keepdims=True)
    return z


def _read_answers(output: Outputs, channel: Channel, labels: Labels) -> PoolAndPopulation:
    return (
        channel_signals(channel, kept_logits(output.logits), labels.pool),
        channel_signals(channel, kept_logits(output.population_logits), labels.population),
    )


def _in_float32(output: Outputs) -> PoolAndPopulation:
    rounded = []
    for signals in (output.signals, output.population_signals):
        copy = np.array(signals)
        for place in (LOG_PROBABILITY, LOGIT_SCALED):
            copy[..., place] = copy[..., place].astype(np.float32)
        rounded.append(copy)
    return rounded[0], rounded[1]
