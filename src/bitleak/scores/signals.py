"""From answers to signals, in blocks of records, with every number checked on the way.

Of probabilities the logarithms are taken as logits, so that the confidence is log p_y - log(sum of the others): no
1 - p is formed. A probability of zero is read as the smallest number of the file's dtype, which ends confidences at
about 16.6 (float16), 103 (float32) or 744 (float64) and ties what lies beyond. Scores are taken as confidences of two
classes (`bitleak.attacks.two_class_signals`).

Signals are kept plane by plane, `[signals models records queries]`, so that an attack reads only what it looks at.
Cost: O(models records queries classes); memory beyond the result: one block.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from bitleak.attacks import two_class_signals
from bitleak.core.errors import DataError
from bitleak.core.signals import signals
from bitleak.core.types import SIGNALS
from bitleak.scores.answers import Answers, Kind
from bitleak.scores.scratch import Scratch

BLOCK = 1 << 19
"""Numbers of the source handled at a time."""

SUM_TOLERANCE = 1e-2
"""How far probabilities may be from summing to 1. Rounding to float16 takes 0.0005; logits are further off."""


@dataclass(frozen=True)
class Signals:
    """The signals of some models.

    Attributes:
        names: Of the models, in the order of the rows.
        pool: Of the audited records.
        population: Of the records outside every model; with zero records where there are none.
    """

    names: tuple[str, ...]
    pool: Float64[np.ndarray, "signals models records queries"]
    population: Float64[np.ndarray, "signals models population queries"]

    def of(self, row: int) -> Float64[np.ndarray, "records queries signals"]:
        """One model's signals of the audited records, as attacks take them."""
        return np.moveaxis(self.pool[:, row], 0, -1)

    def population_of(self, row: int) -> Float64[np.ndarray, "population queries signals"]:
        """The same of the population."""
        return np.moveaxis(self.population[:, row], 0, -1)


def signals_of(
    answers: Answers,
    records: Int64[np.ndarray, "records"],
    scratch: Scratch,
    on_step: Callable[[float], None],
) -> Signals:
    """The signals of all models of a source.

    Args:
        answers: What the source holds.
        records: Positions of the records to take, ascending.
        scratch: Where large arrays go.
        on_step: Called with the fraction done.

    Raises:
        DataError: A number is not finite, or probabilities are negative or do not sum to 1.
    """
    models, queries = len(answers.pool), answers.queries
    pool = scratch.allocate((len(SIGNALS), models, len(records), queries))
    population = scratch.allocate((len(SIGNALS), models, answers.population_records, queries))
    outside = np.arange(answers.population_records)
    for row in range(models):
        _fill(pool[:, row], answers, row, records, part="")
        if answers.population:
            _fill(population[:, row], answers, row, outside, part="population_")
        on_step((row + 1) / models)
    return Signals(answers.names, pool, population)


def block_signals(
    values: np.ndarray, kind: Kind, labels: Int64[np.ndarray, "records"] | None
) -> Float64[np.ndarray, "records queries signals"]:
    """The signals of one block of one model's answers, which are known to be sound.

    Example:
        >>> half = block_signals(np.array([[[0.5, 0.25, 0.25]]]), "probabilities", np.array([0]))
        >>> bool(abs(half[0, 0, SIGNALS.index("logit_scaled")]) < 1e-15)
        True
    """
    if kind == "scores" or labels is None:
        return two_class_signals(values.astype(np.float64))
    records, queries, classes = values.shape
    logits = values.reshape(-1, classes)
    if kind == "probabilities":
        logits = np.log(np.maximum(logits.astype(np.float64), float(np.finfo(values.dtype).smallest_subnormal)))
    return signals(logits, np.repeat(labels, queries)).reshape(records, queries, len(SIGNALS))


def _fill(
    planes: Float64[np.ndarray, "signals records queries"],
    answers: Answers,
    row: int,
    records: Int64[np.ndarray, "records"],
    *,
    part: str,
) -> None:
    source, labels = (
        (answers.population[row], answers.population_labels) if part else (answers.pool[row], answers.labels)
    )
    step = max(1, BLOCK // int(np.prod(source.shape[1:])))
    whole = len(records) == len(source)
    for start in range(0, len(records), step):
        stop = min(start + step, len(records))
        at = slice(start, stop) if whole else records[start:stop]
        values = np.ascontiguousarray(source[at])
        _check(values, answers, row, records[start:stop], part)
        found = block_signals(values, answers.kind, None if labels is None else labels[at])
        planes[:, start:stop] = np.moveaxis(found, -1, 0)


def _check(values: np.ndarray, answers: Answers, row: int, records: Sequence[int] | np.ndarray, part: str) -> None:
    """Refuses a block with a number that cannot be, by model, record and query."""
    bad = ~np.isfinite(values)
    if bad.any():
        at = np.unravel_index(int(bad.argmax()), bad.shape)
        raise DataError(f"{_where(answers, row, records, part, at)}: must be finite, got {values[at]}")
    if answers.kind != "probabilities":
        return
    total = values.sum(axis=2, dtype=np.float64)
    wrong = (values < 0).any(axis=2) | (np.abs(total - 1) > SUM_TOLERANCE)
    if wrong.any():
        at = np.unravel_index(int(wrong.argmax()), wrong.shape)
        shown = np.array2string(values[at][:4].astype(np.float64), precision=3, separator=", ")
        raise DataError(
            f"{_where(answers, row, records, part, at)}: must be from 0 to 1 and sum to 1, got the sum "
            f"{total[at]:.4g} ({shown}...); if these are logits, name them logits"
        )


def _where(answers: Answers, row: int, records: Sequence[int] | np.ndarray, part: str, at: tuple) -> str:
    return (
        f"{answers.source}: {part}{answers.kind} of model {answers.names[row]}, record {records[at[0]]}, query {at[1]}"
    )
