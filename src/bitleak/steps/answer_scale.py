"""The scale on which one adversary compares answers: the same for a target and its references.

The scale is a property of the references' variant. With their logits it is a temperature (`attacks.temperature`), from
confidences alone their mean and deviation (`attacks.standardise`), both from the population records: neither the
audited records nor a membership play a part. The answers of the target, of the references, and of both about the
population are brought to it. So an adversary with matched references finds the same in a variant and in one whose
logits are all a multiple of it. One with full-precision references does not: a change of scale is evidence to her.

In a population every model is a reference of some target, so the scale of a variant is fitted to all of them, once for
all targets: it is one number that moves no model against another.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int64

from bitleak.attacks import (
    ConfidenceMoments,
    Temperature,
    confidence_moments,
    fit_temperature,
    standardised,
)
from bitleak.core.errors import ConfigError
from bitleak.core.signals import signal_planes
from bitleak.core.spill import new_array
from bitleak.core.types import LOGIT_SCALED, SIGNALS, Images, Outputs, Splits

AnswerScale = Literal["raw", "temperature", "standardised"]
"""Scale of answers: as they came, logits over a temperature, or standardised confidences."""


@dataclass(frozen=True)
class Labels:
    """True classes.

    Attributes:
        pool: Classes of the audited records.
        population: Classes of the population records.
    """

    pool: Int64[np.ndarray, "records"]
    population: Int64[np.ndarray, "population"]

    @classmethod
    def of(cls, images: Images, splits: Splits) -> "Labels":
        """Return the classes of an audit's records."""
        return cls(images.labels[splits.pool], images.labels[splits.population])


class ScaledAnswers(NamedTuple):
    """Answers on the references' scale.

    Attributes:
        targets: Answers of the targets.
        references: Answers of the references.
        facts: The scale as plain values: `temperature` and `limit`, or `mean` and `deviation`; empty if answers are
            as they came.
    """

    targets: tuple[Outputs, ...]
    references: tuple[Outputs, ...]
    facts: dict[str, Any]


def on_scale(
    scale: AnswerScale,
    targets: Sequence[Outputs],
    references: Sequence[Outputs],
    labels: Labels,
) -> ScaledAnswers:
    """Return the answers of targets and references on the references' scale.

    Args:
        scale: Kind of the scale.
        targets: Answers of the targets, in any variant.
        references: Answers of the references.
        labels: Classes of the records, which a temperature and its signals need.

    Raises:
        ConfigError: A temperature is wanted, but logits were not kept.
    """
    if scale == "raw":
        return ScaledAnswers(tuple(targets), tuple(references), {})
    if scale == "standardised":
        moments = confidence_moments(
            [output.population_signals[..., LOGIT_SCALED] for output in references]
        )
        if moments is None:
            return ScaledAnswers(tuple(targets), tuple(references), {})
        scaled = stored_outputs([*targets, *references], partial(_standardised, moments=moments))
        facts: dict[str, Any] = {"mean": moments.mean, "deviation": moments.deviation}
        return ScaledAnswers(tuple(scaled[: len(targets)]), tuple(scaled[len(targets) :]), facts)
    temperature = fit_temperature(
        [kept_logits(output.population_logits) for output in references], labels.population
    )
    cool = partial(_cooled, temperature=temperature, labels=labels)
    cooled = stored_outputs(references, cool)
    # A target that is a reference as well, in the same variant, has its signals already.
    places = [place_among(target, references) for target in targets]
    others = [target for target, place in zip(targets, places, strict=True) if place is None]
    rest = iter(stored_outputs(others, cool))
    return ScaledAnswers(
        tuple(next(rest) if place is None else cooled[place] for place in places),
        tuple(cooled),
        {"temperature": temperature.value, "limit": temperature.limit},
    )


_LIMIT_TEXTS = {
    "": "",
    "all right": ", at the limit for answers that are all right",
    "guesses": ", at the limit for answers that are no better than a guess",
    "constant": ", for logits that do not vary",
}


def limit_text(limit: str) -> str:
    """Return the reason why a temperature is no maximum of the likelihood, as the end of a sentence; empty if it is."""
    return _LIMIT_TEXTS[limit]


def cooled_signals(
    logits: Float[np.ndarray, "records queries classes"],
    labels: Int64[np.ndarray, "records"],
    temperature: Temperature,
) -> Float64[np.ndarray, "records queries signals"]:
    """Return the signals of logits over a temperature."""
    records, queries, classes = logits.shape
    planes = signal_planes(
        logits.reshape(-1, classes), np.repeat(labels, queries), temperature=temperature.value
    )
    return np.moveaxis(planes.reshape(len(SIGNALS), records, queries), 0, -1)


PoolAndPopulation = tuple[np.ndarray, np.ndarray]
"""Signals of one model about the audited records and about the population."""


def stored_outputs(
    outputs: Sequence[Outputs], signals_of: Callable[[Outputs], PoolAndPopulation]
) -> list[Outputs]:
    """Return the outputs with other signals, those of the audited records in a file if they are large.

    Args:
        outputs: Answers of models about the same records.
        signals_of: Returns the signals of one model about the audited records and about the population.
    """
    if not outputs:
        return []
    pool = new_array((len(outputs), *outputs[0].signals.shape), np.dtype(np.float64))
    stored = []
    for row, output in enumerate(outputs):
        pool[row], population = signals_of(output)
        stored.append(Outputs(pool[row], population, output.test_predictions))
    return stored


def _cooled(output: Outputs, temperature: Temperature, labels: Labels) -> PoolAndPopulation:
    pool, population = kept_logits(output.logits), kept_logits(output.population_logits)
    return (
        cooled_signals(pool, labels.pool, temperature),
        cooled_signals(population, labels.population, temperature),
    )


def _standardised(output: Outputs, moments: ConfidenceMoments) -> PoolAndPopulation:
    return standardised(output.signals, moments), standardised(output.population_signals, moments)


def place_among(target: Outputs, references: Sequence[Outputs]) -> int | None:
    """Return the position of the reference that gives the target's answers; None if no reference does."""
    for place, output in enumerate(references):
        if np.array_equal(
            kept_logits(target.population_logits), kept_logits(output.population_logits)
        ) and np.array_equal(kept_logits(target.logits), kept_logits(output.logits)):
            return place
    return None


def kept_logits(logits: np.ndarray | None) -> np.ndarray:
    """Return logits that must have been kept.

    Raises:
        ConfigError: They were not.
    """
    if logits is None:
        raise ConfigError(
            "answers have no logits, which temperatures and channels need; query the models with query.keep: logits"
        )
    return logits
