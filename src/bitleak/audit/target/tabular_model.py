"""Models of rows with `predict_proba`: scikit-learn's, and everything that answers in its way.

The model is evaluated once on all records whose membership is known, with the rows as they came
(a data frame stays one). Its probabilities may be coarse: a forest of 100 trees answers in steps of
0.01, and many of its answers are exactly 0 or 1. As in `bitleak attack`, the resolution of the
answers is determined first, a 0 is read as half a step, and a sentence says how many records are
tied. Classes are those of the model (`classes_`), labels of any type.

Cost: one call of `predict_proba` per `ROWS` rows.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, Int64
from torch import nn

from bitleak import registry
from bitleak.audit.target.record_lists import Known
from bitleak.core.errors import ConfigError, ModelError
from bitleak.core.probability_resolution import SUM_TOLERANCE, Resolution, resolution_of
from bitleak.core.signals import probability_signals
from bitleak.core.types import SIGNALS

ROWS = 1 << 14
"""Rows of a call."""

NEXT = (
    "Next, tier 1: offline attacks, which compare each record with estimators that were not fitted on it. It fits 10 "
    "clones: audit_model(..., tier=1)."
)

OnStep = Callable[[float, str], None]
"""Takes the fraction done of a stage, and the name of the stage."""


@dataclass(frozen=True)
class StoredProbabilities:
    """The stored probabilities of one model.

    Attributes:
        name: Class of the model, for people.
        values: NaN for records that it was not evaluated on.
        resolution: Distance between its values, and the reading of a 0.
    """

    name: str
    values: Float64[np.ndarray, "records classes"]
    resolution: Resolution

    def logits(self, chosen: Int64[np.ndarray, "chosen"]) -> Float64[np.ndarray, "chosen classes"]:
        """Return the logarithms of these records' probabilities, a 0 at its floor."""
        return np.log(np.maximum(self.values[chosen], self.resolution.floor))

    def signals(
        self, labels: Int64[np.ndarray, "records"], chosen: Int64[np.ndarray, "chosen"]
    ) -> Float64[np.ndarray, "chosen signals"]:
        """Return the `SIGNALS` of these records."""
        return probability_signals(
            self.values[chosen],
            labels[chosen],
            floor=self.resolution.floor,
            complement=self.resolution.complement,
        )

    def sentence(self, labels: Int64[np.ndarray, "records"]) -> str:
        """Return the resolution of the answers, and how many records are tied by it."""
        known = np.flatnonzero(np.isfinite(self.values[:, 0]))
        confidence = self.signals(labels, known)[:, SIGNALS.index("logit_scaled")]
        _, counts = np.unique(confidence, return_counts=True)
        tied, zeros = int(counts[counts > 1].sum()), self.resolution.zeros
        steps = (
            f"in steps of {self.resolution.step:.4g}"
            if self.resolution.step
            else f"as {self.resolution.name}"
        )
        reading = ""
        if zeros:
            half = "half a step" if self.resolution.step else "half of the smallest positive one"
            share = 100 * zeros / self.resolution.numbers
            reading = f" {share:.1f} % of the probabilities are exactly 0, which is read as {half}."
        ties = ""
        if tied:
            ties = (
                f" {tied:,} of {len(known):,} records share their confidence with another, the largest group has "
                f"{counts.max():,}: within such a group nothing can be ranked, and a TPR at an FPR inside of it is "
                "given as a range."
            )
        return f"{self.name} answers {steps}.{reading}{ties}"


@dataclass(frozen=True)
class TabularRecords:
    """Records as rows of a model with `predict_proba`.

    Attributes:
        rows: As they came: an array, or a data frame.
        numbers: Rows for the blind baseline: categories numbered, missing values 0.
        labels: Positions of the labels among `class_values`.
        class_values: Classes of the model.
    """

    rows: Any
    numbers: Float32[np.ndarray, "records columns"]
    labels: Int64[np.ndarray, "records"]
    class_values: tuple[Any, ...]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Classes as text."""
        return tuple(map(str, self.class_values))

    def with_answers(
        self, models: Mapping[str, Any], known: Known, on_step: OnStep
    ) -> tuple[dict[str, Any], tuple[str, ...]]:
        """Evaluate every model with `predict_proba`; others are returned as they are.

        Args:
            models: Models by name.
            known: Records to evaluate.
            on_step: Called with the fraction done of a stage, and its name.

        Returns:
            The models by name, and a sentence on each one's resolution.

        Raises:
            ModelError: Answers are not probabilities of the classes.
        """
        chosen = np.sort(np.concatenate([known.members, known.others]))
        answered: dict[str, Any] = dict(models)
        sentences = []
        for name, model in models.items():
            if isinstance(model, nn.Module) or not hasattr(model, "predict_proba"):
                continue
            probabilities = self._probabilities(model, name, chosen, on_step)
            values = np.full((len(self.labels), len(self.class_values)), np.nan)
            values[chosen] = probabilities
            stored = StoredProbabilities(
                type(model).__name__, values, resolution_of([probabilities])
            )
            answered[name] = stored
            sentences.append(f"{name}: {stored.sentence(self.labels)}")
        return answered, tuple(sentences)

    def _probabilities(
        self, model: Any, name: str, chosen: np.ndarray, on_step: OnStep
    ) -> Float64[np.ndarray, "chosen classes"]:
        kind = type(model).__name__
        parts = []
        for start in range(0, len(chosen), ROWS):
            batch = chosen[start : start + ROWS]
            rows = self.rows.iloc[batch] if hasattr(self.rows, "iloc") else self.rows[batch]
            try:
                answer = predicted(model, rows)
            except ModelError as error:
                raise ModelError(f"{name}: {error}") from None
            if isinstance(answer, list | tuple):
                raise ModelError(
                    f"{name}: {kind}.predict_proba answers with {len(answer)} arrays, one per output; one classifier "
                    "of one label is audited at a time"
                )
            parts.append(self._ordered(np.asarray(answer, np.float64), model, name, len(batch)))
            on_step((start + len(batch)) / len(chosen), f"asking {name}")
        return np.concatenate(parts)

    def _ordered(self, answer: np.ndarray, model: Any, name: str, records: int) -> np.ndarray:
        """Return checked probabilities in the order of `class_values`."""
        kind = type(model).__name__
        values = list(_values(getattr(model, "classes_", self.class_values)))
        if answer.shape != (records, len(values)):
            raise ModelError(
                f"{name}: {kind}.predict_proba must answer {records:,} rows with shape ({records}, {len(values)}), "
                f"got {answer.shape}"
            )
        if values != list(self.class_values):
            if set(values) != set(self.class_values):
                raise ModelError(
                    f"{name}: {kind} knows the classes {_shown(values)}, and the audited model "
                    f"{_shown(self.class_values)}; releases answer about the same classes"
                )
            answer = answer[:, [values.index(value) for value in self.class_values]]
        wrong = ~np.isfinite(answer).all(axis=1) | (answer < 0).any(axis=1)
        wrong |= np.abs(answer.sum(axis=1) - 1) > SUM_TOLERANCE
        if wrong.any():
            row = int(np.argmax(wrong))
            raise ModelError(
                f"{name}: {kind}.predict_proba must answer with probabilities that sum to 1, got "
                f"{np.array2string(answer[row][:4], precision=3)} for {int(wrong.sum()):,} of {records:,} rows"
            )
        return answer


def predicted(model: Any, rows: Any) -> Any:
    """Return the answer of `predict_proba`.

    Raises:
        ModelError: It raises an error, such as one of a model that is not fitted.
    """
    try:
        return model.predict_proba(rows)
    except Exception as error:  # foreign code may raise anything
        reason = str(error).strip().partition("\n")[0]
        raise ModelError(
            f"{type(model).__name__}.predict_proba does not take rows of shape {tuple(rows.shape)}: "
            f"{type(error).__name__}: {reason}"
        ) from error


def takes_rows(network: Any, images: Any) -> bool:
    """Return whether a model is evaluated on rows by `predict_proba`.

    Raises:
        ConfigError: It is neither a network nor a classifier with probabilities.
    """
    if isinstance(network, nn.Module):
        return False
    if isinstance(network, type):
        raise ConfigError(
            f"network: expected a trained model, got the class {network.__name__}; give an instance of it"
        )
    if not hasattr(network, "predict_proba"):
        hint = "scikit-learn's SVC has it with probability=True, other classifiers within CalibratedClassifierCV"
        if isinstance(network, str | Path):
            suffixes = ", ".join(registry.RUNTIME_OF_SUFFIX)
            hint = (
                f"a file must be one that a runtime answers ({suffixes}), got {str(network)!r}; load weights into "
                "their network first"
            )
        elif isinstance(network, Mapping):
            hint = "load the weights into their network first"
        raise ConfigError(
            f"network: expected a torch.nn.Module or a classifier with predict_proba, got {type(network).__name__}; "
            f"{hint}"
        )
    return len(getattr(images, "shape", np.shape(images))) == 2


def tabular_records(network: Any, rows: Any, labels: Any) -> TabularRecords:
    """Return rows and labels as a model with `predict_proba` has them.

    Args:
        network: The model; its `classes_`, if it has them, are the classes.
        rows: An array or a data frame, a row per record.
        labels: A label per record, of any type.

    Raises:
        ConfigError: The rows are sparse, or a label is none of the model's classes.

    Example:
        >>> from types import SimpleNamespace
        >>> model = SimpleNamespace(classes_=["no", "yes"])
        >>> tabular_records(model, np.zeros((3, 2)), ["yes", "no", "yes"]).labels
        array([1, 0, 1])
    """
    if hasattr(rows, "toarray"):
        raise ConfigError(
            "images: rows must be an array or a data frame, got a sparse matrix; give rows.toarray()"
        )
    plain = rows if hasattr(rows, "iloc") else np.asarray(rows)
    given = np.asarray(labels)
    if given.shape != (len(plain),):
        raise ConfigError(
            f"labels: expected one per record ({len(plain):,}), got shape {given.shape}"
        )
    values = tuple(_values(getattr(network, "classes_", np.unique(given))))
    places = {value: place for place, value in enumerate(values)}
    numbers = np.empty(len(given), np.int64)
    for record, value in enumerate(_values(given)):
        if value not in places:
            raise ConfigError(
                f"labels: record {record} has the label {value!r}, which is none of the model's classes: "
                f"{_shown(values)}"
            )
        numbers[record] = places[value]
    return TabularRecords(plain, _numbers(plain), numbers, values)


def _values(values: Any) -> list[Any]:
    return list(np.asarray(values).tolist())


def _shown(values: Any) -> str:
    shown = ", ".join(map(str, list(values)[:8]))
    return f"{shown}, ..." if len(values) > 8 else shown


def _numbers(rows: Any) -> Float32[np.ndarray, "records columns"]:
    """Return the rows as numbers: categories by their position among the sorted ones, missing values as 0."""
    names = list(rows.columns) if hasattr(rows, "iloc") else range(rows.shape[1])
    columns = []
    for place, _ in enumerate(names):
        column = np.asarray(rows.iloc[:, place] if hasattr(rows, "iloc") else rows[:, place])
        if column.dtype.kind not in "biuf":
            _, column = np.unique(column.astype(str), return_inverse=True)
        columns.append(np.nan_to_num(column.astype(np.float32), posinf=0, neginf=0))
    return np.stack(columns, axis=1)
