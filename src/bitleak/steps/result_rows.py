"""Rows and curves of the results table, as steps make them and as the store keeps them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from bitleak.core.metric_names import name_of_difference
from bitleak.core.types import Measure, Row
from bitleak.metrics import Measures, TotalAndTargets

ROW_BYTES = 360
"""Mean size of a row in the store, as JSON."""


class Subject(NamedTuple):
    """The first columns of a row: the question that its figures answer.

    Attributes:
        variant: Its name in tables.
        quantizer: Label of the quantizer; empty for full precision and for several releases.
        levels: Grid points; None if not known.
        attack: Name of the attack; empty for figures that no attack has a part in.
        reference: Kind of the references; empty if the attack uses none.
    """

    variant: str
    quantizer: str = ""
    levels: int | None = None
    attack: str = ""
    reference: str = ""


@dataclass(frozen=True)
class ResultTable:
    """Rows and curves of one task.

    Attributes:
        rows: Rows of the results table.
        curves: ROC curves by `attack/reference/target`.
    """

    rows: Sequence[Row]
    curves: Mapping[str, np.ndarray] = field(default_factory=dict)

    def artifacts(self) -> dict[str, Any]:
        """Return the stored rows and curves."""
        # A tenth of the time of dataclasses.asdict, which copies every text.
        rows = [{**vars(row), "measure": dict(vars(row.measure))} for row in self.rows]
        return {"rows": rows, "curves": dict(self.curves)} if self.curves else {"rows": rows}

    @classmethod
    def read(cls, artifacts: Mapping[str, Any]) -> "ResultTable":
        """Return the table that was stored as these artifacts."""
        rows = [
            Row(**{**line, "measure": Measure(**line["measure"])}) for line in artifacts["rows"]
        ]
        return cls(rows, artifacts.get("curves", {}))


def measure_rows(subject: Subject, targets: Sequence[int], measures: Measures) -> list[Row]:
    """Return rows of every metric: the mean over the targets first, then target by target."""
    rows = []
    for metric, aggregate in measures.aggregate.items():
        rows.append(Row(*subject, "all", metric, aggregate))
        pairs = zip(targets, measures.targets[metric], strict=True)
        rows += [Row(*subject, str(target), metric, measure) for target, measure in pairs]
    return rows


def shown_rows(subject: Subject, targets: Sequence[int], shown: TotalAndTargets) -> list[Row]:
    """Return rows of every metric for the aggregate and the targets that have such a figure."""
    names = ["all", *map(str, targets)]
    rows = []
    for metric, measures in shown.items():
        pairs = zip(names, measures, strict=True)
        rows += [
            Row(*subject, target, metric, measure)
            for target, measure in pairs
            if measure is not None
        ]
    return rows


def renamed_measures(measures: Measures, over: str) -> Measures:
    """Return the measures under their names in the table, such as `auc_over_best`."""
    targets = {
        name_of_difference(metric, over): values for metric, values in measures.targets.items()
    }
    aggregate = {
        name_of_difference(metric, over): value for metric, value in measures.aggregate.items()
    }
    return Measures(targets, aggregate)
