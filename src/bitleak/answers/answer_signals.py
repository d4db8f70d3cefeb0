"""From answers to signals, in blocks of records, with every number checked on the way.

The confidence of probabilities is log p_y - log(sum of the others), or log(1 - p_y) where they are rounded to an even
grid; 0 and 1 are read at half a step of the file's resolution (`resolution`), and values beyond are tied. Scores are
taken as confidences of two classes (`bitleak.attacks.two_class_signals`).

Signals are kept plane by plane, `[signals models records queries]`, so that an attack reads only
the signals that it uses, and only the first ones if no attack looks at others. Logits may be
divided by the temperature of their variant (`variant_scales`); accuracies and memorisation are
those of the answers as they came. Cost: O(models records queries classes); memory beyond the
result: one block.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64

from bitleak.answers.model_answers import AnswerKind, Answers
from bitleak.answers.variant_scales import AS_THEY_CAME, VariantScale
from bitleak.attacks import RECALIBRATED_SIGNALS, two_class_signals
from bitleak.core.errors import DataError
from bitleak.core.probability_resolution import (
    BLOCK_NUMBERS,
    SUM_TOLERANCE,
    Resolution,
    of_dtype,
    resolution_of,
)
from bitleak.core.signals import probability_signals, signal_planes
from bitleak.core.spill import Scratch, release
from bitleak.core.types import SIGNALS

LARGEST = 1e100
"""Largest answer in size: squares of larger ones are not finite."""


@dataclass(frozen=True)
class AnswerSignals:
    """The signals of some models.

    Attributes:
        names: Names of the models, in the order of the rows.
        pool: First signals of the audited records; for scores only `RECALIBRATED_SIGNALS`, the first of `SIGNALS`.
        population: Signals of the records outside every model; zero records if there are none.
        log_probability: That of the true class at the first query, from answers as they came.
        correct: Whether the true class has the largest answer at the first query; no records for scores.
        population_correct: Correctness likewise, on the population.
        resolution: How far apart the probabilities of the source are; None for logits and scores.
    """

    names: tuple[str, ...]
    pool: Float64[np.ndarray, "signals models records queries"]
    population: Float64[np.ndarray, "signals models population queries"]
    log_probability: Float64[np.ndarray, "models records"]
    correct: Bool[np.ndarray, "models classified"]
    population_correct: Bool[np.ndarray, "models classified_population"]
    resolution: Resolution | None = None

    def of(self, row: int) -> Float64[np.ndarray, "records queries signals"]:
        """Return one model's signals of the audited records, as attacks take them."""
        return np.moveaxis(self.pool[:, row], 0, -1)

    def population_of(self, row: int) -> Float64[np.ndarray, "population queries signals"]:
        """Return one model's signals of the population records."""
        return np.moveaxis(self.population[:, row], 0, -1)


def signals_of(
    answers: Answers,
    records: Int64[np.ndarray, "records"],
    scratch: Scratch,
    on_step: Callable[[float], None],
    *,
    count: int = len(SIGNALS),
    scale: VariantScale = AS_THEY_CAME,
) -> AnswerSignals:
    """Return the signals of all models of a source.

    Args:
        answers: Answers of the source.
        records: Positions of the records to take, ascending.
        scratch: Where large arrays go.
        on_step: Called with the fraction done.
        count: Number of signals, from the first on: 2 or all.
        scale: Scale of the variant; logits are divided by its temperature.

    Raises:
        DataError: A number is not finite, or probabilities are negative or do not sum to 1.
    """
    # Arrays of all models; a copy of the probabilities only where the signals are to be others.
    models, queries = len(answers.pool), answers.queries
    planes = len(RECALIBRATED_SIGNALS) if answers.kind == "scores" else count
    outside = np.arange(answers.population_records)
    classified = answers.kind != "scores"
    pool = scratch.allocate((planes, models, len(records), queries))
    population = scratch.allocate((planes, models, len(outside), queries))
    as_they_came = pool[0, :, :, 0]
    if scale.temperature is not None:
        as_they_came = scratch.allocate((models, len(records)))
    correct = np.zeros((models, len(records) * classified), bool)
    population_correct = np.zeros((models, len(outside) * classified), bool)

    # Model by model, block by block.
    resolution = (
        resolution_of((*answers.pool, *answers.population))
        if answers.kind == "probabilities"
        else None
    )
    for row in range(models):
        _fill(
            ModelPlanes(pool[:, row], as_they_came[row], correct[row]),
            answers,
            row,
            records,
            resolution,
            scale,
            part="",
        )
        if answers.population:
            nowhere = np.empty(len(outside))
            _fill(
                ModelPlanes(population[:, row], nowhere, population_correct[row]),
                answers,
                row,
                outside,
                resolution,
                scale,
                part="population_",
            )
        on_step((row + 1) / models)
    return AnswerSignals(
        answers.names, pool, population, as_they_came, correct, population_correct, resolution
    )


def check_population(answers: Answers) -> None:
    """Refuse answers about the population that are not finite.

    Raises:
        DataError: There is one; names the first.
    """
    outside = np.arange(answers.population_records)
    for row, source in enumerate(answers.population):
        for block in _blocks(source, outside):
            _check(np.array(source[block]), answers, row, outside[block], None, "population_")
            release(source)


def row_signals(
    answers: Answers,
    row: int,
    records: Int64[np.ndarray, "records"] | None,
    count: int,
    scale: VariantScale,
) -> Float64[np.ndarray, "records queries signals"]:
    """Return the first signals of one model on a scale, from logits that are known to be sound.

    Args:
        answers: Logits.
        row: The model.
        records: Positions of the audited records; None takes the population.
        count: Number of signals.
        scale: A temperature.
    """
    source = answers.population[row] if records is None else answers.pool[row]
    labels = answers.population_labels if records is None else answers.labels
    assert labels is not None  # logits have labels
    positions = np.arange(len(source)) if records is None else records
    planes = np.empty((count, len(positions), answers.queries))
    for block in _blocks(source, positions):
        at = positions[block]
        planes[:, block] = block_planes(
            np.array(source[at]), "logits", labels[at], None, count, scale
        )
        release(source)
    return np.moveaxis(planes, 0, -1)


def block_signals(
    values: np.ndarray,
    kind: AnswerKind,
    labels: Int64[np.ndarray, "records"] | None,
    resolution: Resolution | None = None,
) -> Float64[np.ndarray, "records queries signals"]:
    """Return the signals of one block of one model's answers, which are known to be sound.

    Args:
        values: The answers.
        kind: Kind of the answers.
        labels: True classes; None for scores.
        resolution: That of the file of probabilities; None takes that of the dtype.

    Example:
        >>> half = block_signals(np.array([[[0.5, 0.25, 0.25]]]), "probabilities", np.array([0]))
        >>> bool(abs(half[0, 0, SIGNALS.index("logit_scaled")]) < 1e-15)
        True
    """
    planes = block_planes(values, kind, labels, resolution, len(SIGNALS), AS_THEY_CAME)
    return np.moveaxis(planes, 0, -1)


def block_planes(
    values: np.ndarray,
    kind: AnswerKind,
    labels: Int64[np.ndarray, "records"] | None,
    resolution: Resolution | None,
    count: int,
    scale: VariantScale,
) -> Float64[np.ndarray, "signals records queries"]:
    """Return the first signals of a block, plane by plane.

    Args:
        values: The answers.
        kind: Kind of the answers.
        labels: True classes; None for scores.
        resolution: As of `block_signals`.
        count: Number of signals, 2 or all; scores have 2.
        scale: Logits are divided by its temperature.
    """
    if kind == "scores" or labels is None:
        found = two_class_signals(values.astype(np.float64), len(RECALIBRATED_SIGNALS))
        return np.moveaxis(found, -1, 0)
    records, queries, classes = values.shape
    flat, asked = values.reshape(-1, classes), np.repeat(labels, queries)
    if kind == "probabilities":
        known = resolution or of_dtype(values.dtype)
        found = probability_signals(flat, asked, floor=known.floor, complement=known.complement)
        planes = found.T[:count]
    else:
        temperature = 1.0 if scale.temperature is None else scale.temperature.value
        planes = signal_planes(flat, asked, count, temperature=temperature)
    return planes.reshape(count, records, queries)


class ModelPlanes(NamedTuple):
    """Arrays of one model to be filled, see `AnswerSignals`."""

    planes: Float64[np.ndarray, "signals records queries"]
    log_probability: Float64[np.ndarray, "records"]
    correct: Bool[np.ndarray, "classified"]


def _fill(
    filled: ModelPlanes,
    answers: Answers,
    row: int,
    records: Int64[np.ndarray, "records"],
    resolution: Resolution | None,
    scale: VariantScale,
    *,
    part: str,
) -> None:
    source, labels = (
        (answers.population[row], answers.population_labels)
        if part
        else (answers.pool[row], answers.labels)
    )
    whole = len(records) == len(source)
    # By blocks, since a file may be larger than memory.
    for block in _blocks(source, records):
        at = block if whole else records[block]
        values = np.array(source[at])
        release(source)
        _check(values, answers, row, records[block], resolution, part)
        asked = None if labels is None else labels[at]
        filled.planes[:, block] = block_planes(
            values, answers.kind, asked, resolution, len(filled.planes), scale
        )
        if asked is None or answers.kind == "scores":
            continue
        filled.correct[block] = values[:, 0].argmax(axis=1) == asked
        if scale.temperature is not None:
            raw = signal_planes(values[:, 0], asked, len(RECALIBRATED_SIGNALS))
            filled.log_probability[block] = raw[0]


def _blocks(source: np.ndarray, records: Int64[np.ndarray, "records"]) -> Iterator[slice]:
    """Yield slices of the records, of about `BLOCK_NUMBERS` numbers each."""
    step = max(1, BLOCK_NUMBERS // int(np.prod(source.shape[1:])))
    for start in range(0, len(records), step):
        yield slice(start, min(start + step, len(records)))


def _check(
    values: np.ndarray,
    answers: Answers,
    row: int,
    records: Int64[np.ndarray, "block"],
    resolution: Resolution | None,
    part: str,
) -> None:
    """Refuse a block with a number that cannot be, by model, record and query."""
    # Finite numbers, in every kind of file.
    bad = ~(np.abs(values) <= min(LARGEST, float(np.finfo(values.dtype).max)))
    if bad.any():
        at = np.unravel_index(int(bad.argmax()), bad.shape)
        value = values[at]
        remedy = (
            "; for a class that is left out, write a finite number far below the others, or leave the class out"
            if answers.kind == "logits" and value == -np.inf
            else ""
        )
        if np.isfinite(value):
            raise DataError(
                f"{_where(answers, row, records, part, at)}: must be from -{LARGEST:g} to {LARGEST:g}, got "
                f"{value:.3g}, as numpy.nan_to_num writes for an infinity; write a number not far beyond the others"
            )
        raise DataError(
            f"{_where(answers, row, records, part, at)}: must be finite, got {value}{remedy}"
        )
    if resolution is None:
        return
    # Probabilities alone have a resolution: each from 0 to 1, with the sum 1 up to rounding.
    total = values.sum(axis=2, dtype=np.float64)
    tolerance = SUM_TOLERANCE + answers.classes * resolution.step / 2
    wrong = (
        (values < 0).any(axis=2)
        | (values > 1 + SUM_TOLERANCE).any(axis=2)
        | (np.abs(total - 1) > tolerance)
    )
    if wrong.any():
        at = np.unravel_index(int(wrong.argmax()), wrong.shape)
        shown = np.array2string(values[at][:4].astype(np.float64), precision=3, separator=", ")
        raise DataError(
            f"{_where(answers, row, records, part, at)}: must be from 0 to 1 and sum to 1, got the sum "
            f"{total[at]:.4g} ({shown}...); {_instead(values[at].astype(np.float64))}"
        )


def _instead(row: Float64[np.ndarray, "classes"]) -> str:
    """Return the likely nature of a row that is no probabilities, with the remedy."""
    total = float(row.sum())
    if (row <= 0).all() and abs(float(np.logaddexp.reduce(row))) < SUM_TOLERANCE:
        return "these are log-probabilities: name them logits, which is exact"
    if (row >= 0).all() and abs(float(np.logaddexp.reduce(-row))) < SUM_TOLERANCE:
        return "these are negative log-probabilities: change their sign and name them logits, which is exact"
    for whole, unit in ((100, "percent"), (255, "255ths"), (256, "256ths")):
        if (row >= 0).all() and abs(total / whole - 1) < SUM_TOLERANCE:
            return f"these are {unit}: divide them by {whole}"
    if (row >= 0).all() and total < 1:
        return "if only the largest classes were kept, keep all"
    return "if these are logits, name them logits"


def _where(
    answers: Answers, row: int, records: Int64[np.ndarray, "block"], part: str, at: tuple
) -> str:
    """Return the place of an answer, with the numbers that the source has."""
    numbered = answers.numbered_outside if part else answers.numbered
    record, query = numbered(records[at[0] : at[0] + 1])[0], answers.query_number(int(at[1]))
    return f"{answers.source}: {part}{answers.kind} of model {answers.names[row]}, record {record}, query {query}"
