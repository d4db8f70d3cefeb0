"""Estimators that a caller handed over, with their rows, for tasks of this process.

A plan names both by a digest. Nothing of a fitted estimator is stored but its probabilities, so
nothing is ever unpickled.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from bitleak.core.errors import DataError, ModelError

LARGEST_SEED = 2**32 - 1
"""Seeds of scikit-learn are below this number."""


@dataclass(frozen=True)
class EstimatorWork:
    """Rows, and a way to estimators of them.

    Attributes:
        make: Returns an unfitted estimator.
        rows: An array or a data frame, a row per record.
        labels: Labels as the estimator takes them.
        class_values: Classes in the order of the answers.
    """

    make: Callable[[], Any]
    rows: Any
    labels: np.ndarray
    class_values: Sequence[Any]

    def taken(self, chosen: Int64[np.ndarray, "chosen"]) -> Any:
        """Return these rows, of the type that they came in."""
        return self.rows.iloc[chosen] if hasattr(self.rows, "iloc") else self.rows[chosen]

    def probabilities(
        self,
        trained: Int64[np.ndarray, "trained"],
        evaluated: Int64[np.ndarray, "evaluated"],
        *,
        seed: int,
    ) -> Float64[np.ndarray, "evaluated classes"]:
        """Fit an estimator on some records, and return its probabilities of others.

        Seeds among its parameters that are None are set; a class that no training record has gets
        the probability 0.

        Args:
            trained: Records that it is fitted on.
            evaluated: Records whose probabilities are returned.
            seed: Seed of the fit.

        Raises:
            ModelError: It answers with other shapes, or not with probabilities.
        """
        estimator = seeded(self.make(), seed % LARGEST_SEED)
        estimator.fit(self.taken(trained), self.labels[trained])
        answers = np.asarray(estimator.predict_proba(self.taken(evaluated)), np.float64)
        known = list(np.asarray(estimator.classes_).tolist())
        if answers.shape != (len(evaluated), len(known)) or not np.isfinite(answers).all():
            raise ModelError(
                f"{type(estimator).__name__}.predict_proba must answer {len(evaluated):,} rows with finite numbers of "
                f"shape ({len(evaluated)}, {len(known)}), got {answers.shape}"
            )
        result = np.zeros((len(evaluated), len(self.class_values)))
        places = {value: place for place, value in enumerate(self.class_values)}
        for column, value in enumerate(known):
            result[:, places[value]] = answers[:, column]
        return result


_GIVEN: dict[str, EstimatorWork] = {}


def seeded(estimator: Any, seed: int) -> Any:
    """Return the estimator with every parameter `random_state` that is None set to the seed."""
    params: Mapping[str, Any] = {}
    if hasattr(estimator, "get_params"):
        params = estimator.get_params(deep=True)
    for name, value in params.items():
        if name.rpartition("__")[2] == "random_state" and value is None:
            estimator.set_params(**{name: seed})
    return estimator


def hold_estimator(work: EstimatorWork) -> str:
    """Keep the work for this process, and return its digest."""
    import sklearn

    estimator = work.make()
    params = estimator.get_params(deep=True) if hasattr(estimator, "get_params") else {}
    kind = type(estimator)
    text = f"{kind.__module__}:{kind.__qualname__} {sorted(params.items(), key=str)!r}"
    content = hashlib.sha256(f"{text} {sklearn.__version__} ".encode())
    for part in _contents(work.rows):
        content.update(part)
    content.update(repr(work.labels.tolist()).encode())
    digest = content.hexdigest()
    _GIVEN[digest] = work
    return digest


def _contents(rows: Any) -> Iterator[bytes]:
    """Yield the content of rows exactly as an estimator sees them: missing values and categories too."""
    columns = {"": rows}
    if hasattr(rows, "iloc"):
        columns = {str(name): rows.iloc[:, place] for place, name in enumerate(rows.columns)}
    for name, column in columns.items():
        values = np.asarray(column)
        yield f"{name} {values.dtype} {values.shape} ".encode()
        is_number = values.dtype.kind in "biufmM"
        yield (
            np.ascontiguousarray(values).tobytes() if is_number else repr(values.tolist()).encode()
        )


def held(digest: str) -> EstimatorWork:
    """Return the work with this digest.

    Raises:
        DataError: This process was not given it.
    """
    if digest not in _GIVEN:
        raise DataError(
            "estimators and rows that were given in Python are known to the process of audit_model alone; call it again"
        )
    return _GIVEN[digest]
