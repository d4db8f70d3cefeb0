"""Answers as a Parquet file, or a folder of them: one row per model, record and query, in any order.

| column | type | meaning |
|---|---|---|
| `model`, `record`, `query` | integers | which answer it is; `query` may be missing where there is one |
| `member` | bool | whether the model was trained on the record; null for records outside every model |
| `label` | integer | true class of the record; needed but for scores |
| `cluster` | integer | equal for records that depend on each other, such as copies; optional |
| one of `logits`, `probabilities` | list of numbers | one per class |
| or `score` | number | logit-scaled confidence |

Every model must answer every query about every record once. Models, records and queries are ordered by their numbers,
and the records whose `member` is null are the population. Two passes are made, batch by batch: one for the numbers that
occur, one that lays the answers out as arrays (in the scratch folder where they are large).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int64

from bitleak.answers.model_answers import AnswerKind, Answers
from bitleak.core.checks import unknown_name
from bitleak.core.errors import DataError
from bitleak.core.parquet import opened_parquet, without_index
from bitleak.core.spill import Scratch

_ANSWERS: dict[str, AnswerKind] = {
    "logits": "logits",
    "probabilities": "probabilities",
    "score": "scores",
}
COLUMNS = ("model", "record", "query", "label", "member", "cluster", *_ANSWERS)


@dataclass(frozen=True)
class Layout:
    """The numbers that occur, ascending, and the kind of the answers.

    Attributes:
        source: File or folder.
        column: The column of the answers.
        columns: All columns.
        dtype: Type of the answers.
        models: Numbers of the models.
        pool: Numbers of the records with a membership.
        population: Numbers of those without.
        queries: Numbers of the queries.
        classes: 0 for scores.
    """

    source: str
    column: str
    columns: tuple[str, ...]
    dtype: np.dtype
    models: Int64[np.ndarray, "models"]
    pool: Int64[np.ndarray, "records"]
    population: Int64[np.ndarray, "population"]
    queries: Int64[np.ndarray, "queries"]
    classes: int


def read_parquet(files: list[Path], source: str, scratch: Scratch) -> Answers:
    """Return the answers of one or more Parquet files.

    Raises:
        DataError: A file is broken, a column is missing, unknown or of a wrong type, an answer is missing
            or occurs twice, or rows contradict each other.
    """
    layout = _layout(files, source)
    return _filled(files, layout, scratch)


def _layout(files: list[Path], source: str) -> Layout:
    schema = _schema(files[0])
    columns = _columns(schema, files[0])
    for file in files[1:]:
        if not _schema(file).equals(schema):
            raise DataError(f"{file}: the columns differ from those of {files[0]}")
    column = next(name for name in columns if name in _ANSWERS)

    # Only numbers are kept from this pass: the answers of a large file would not fit into memory.
    models, pool, population, queries = (np.empty(0, np.int64) for _ in range(4))
    rows, classes = 0, 0
    for batch in _batches(files, columns):
        outside = batch["member"].is_null().to_numpy(zero_copy_only=False)
        records = _integers(batch, "record", source)
        models = np.union1d(models, _integers(batch, "model", source))
        pool, population = (
            np.union1d(pool, records[~outside]),
            np.union1d(population, records[outside]),
        )
        queries = np.union1d(
            queries, _integers(batch, "query", source) if "query" in columns else [0]
        )
        classes = classes or (0 if column == "score" else len(batch[column][0].as_py() or ()))
        rows += batch.num_rows

    # A table has no shape of its own: rows that are missing or doubled show in the product.
    both = np.intersect1d(pool, population)
    if len(both):
        raise DataError(
            f"{source}: member of record {both[0]} is null in some rows only; null marks the population"
        )
    if not len(pool):
        raise DataError(f"{source}: no row has a membership, so there is nothing to attack")
    if column != "score" and not classes:
        raise DataError(f"{source}: {column} hold no numbers")
    answers = len(models) * (len(pool) + len(population)) * len(queries)
    if answers != rows:
        raise DataError(
            f"{source}: {len(models)} models, {len(pool) + len(population)} records and {len(queries)} queries occur, "
            f"which makes {answers} answers, but there are {rows} rows; every model must answer every query about "
            "every record once"
        )
    kind = schema.field(column).type
    dtype = np.dtype((kind if column == "score" else kind.value_type).to_pandas_dtype())
    return Layout(
        source, column, columns, dtype, models, pool, population, queries.astype(np.int64), classes
    )


def _columns(schema: pa.Schema, file: Path) -> tuple[str, ...]:
    for name in schema.names:
        if schema.names.count(name) > 1:
            raise DataError(f"{file}: the column {name} occurs twice")
        if name not in COLUMNS:
            raise DataError(f"{file}: {unknown_name('column', name, COLUMNS)}")
    for name in ("model", "record", "member"):
        if name not in schema.names:
            raise DataError(
                f"{file}: the column {name} is missing; found: {', '.join(schema.names)}"
            )

    # With two columns of answers, the one to attack would be a guess.
    answers = [name for name in schema.names if name in _ANSWERS]
    if len(answers) != 1:
        raise DataError(
            f"{file}: expected one of the columns {', '.join(_ANSWERS)}, got {' and '.join(answers) or 'none'}"
        )
    for name in schema.names:
        kind = schema.field(name).type
        if name == "member" and not pa.types.is_boolean(kind):
            raise DataError(
                f"{file}: member must be bool, got {kind}; of numbers, write the column member == 1, with null for "
                "records outside every model"
            )
        if name in ("model", "record", "query", "label", "cluster") and not pa.types.is_integer(
            kind
        ):
            raise DataError(f"{file}: {name} must be an integer, got {kind}")
        if name == "score" and not pa.types.is_floating(kind):
            raise DataError(f"{file}: score must be a floating-point number, got {kind}")
        if name in ("logits", "probabilities") and not (
            _is_list(kind) and pa.types.is_floating(kind.value_type)
        ):
            raise DataError(f"{file}: {name} must be a list of floating-point numbers, got {kind}")
    return tuple(schema.names)


def _is_list(kind: pa.DataType) -> bool:
    return (
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def _schema(file: Path) -> pa.Schema:
    with opened_parquet(file) as opened:
        return without_index(opened.schema)


def _batches(files: list[Path], columns: tuple[str, ...]) -> Iterator[pa.RecordBatch]:
    for file in files:
        with opened_parquet(file) as opened:
            yield from opened.batches(columns)


def _integers(batch: pa.RecordBatch, name: str, source: str) -> np.ndarray:
    column = batch[name]
    if column.null_count:
        raise DataError(f"{source}: {name} is null in {column.null_count} rows")
    return column.to_numpy(zero_copy_only=False).astype(np.int64)


def _filled(files: list[Path], layout: Layout, scratch: Scratch) -> Answers:
    """Return the arrays, from a second pass."""
    records = np.concatenate([layout.pool, layout.population])
    order = np.argsort(records)
    tail = (layout.classes,) if layout.classes else ()
    shape = (len(layout.models), len(records), len(layout.queries))
    answers = scratch.allocate((*shape, *tail), layout.dtype.type)
    seen = np.zeros(shape, bool)
    member = np.full(shape[:2], -1, np.int8)
    labels = np.full(len(records), -1, np.int64)
    clusters = np.full(len(records), -1, np.int64)

    # Rows come in any order and batches; -1 marks places whose value is not known yet.
    for batch in _batches(files, layout.columns):
        model = np.searchsorted(layout.models, _integers(batch, "model", layout.source))
        record = order[
            np.searchsorted(records, _integers(batch, "record", layout.source), sorter=order)
        ]
        query = np.zeros_like(model)
        if "query" in layout.columns:
            query = np.searchsorted(layout.queries, _integers(batch, "query", layout.source))
        at = (model, record, query)
        _once(seen, at, records, layout)
        answers[at] = _values(batch, layout, partial(_which, at, records, layout))
        said = batch["member"].fill_null(False).to_numpy(zero_copy_only=False).astype(np.int8)
        _agree(
            member,
            (model, record),
            said,
            partial(_other_member, at, records, layout),
        )
        if "label" in layout.columns:
            label = _integers(batch, "label", layout.source)
            if (label < 0).any():
                raise DataError(f"{layout.source}: label must be 0 or more, got {label.min()}")
            _agree(labels, record, label, partial(_other_number, "label", at, records, layout))
        if "cluster" in layout.columns:
            cluster = _integers(batch, "cluster", layout.source)
            if (cluster < 0).any():
                raise DataError(f"{layout.source}: cluster must be 0 or more, got {cluster.min()}")
            _agree(
                clusters, record, cluster, partial(_other_number, "cluster", at, records, layout)
            )
    # The product of the axes agreed with the rows, so a missing answer is the cost of a double one.
    _complete(seen, records, layout)
    split = len(layout.pool)
    labelled = "label" in layout.columns
    return Answers(
        source=layout.source,
        kind=_ANSWERS[layout.column],
        names=tuple(str(model) for model in layout.models.tolist()),
        pool=tuple(one[:split] for one in answers),
        member=member[:, :split].astype(bool),
        labels=labels[:split] if labelled else None,
        population=tuple(one[split:] for one in answers) if len(layout.population) else (),
        population_labels=labels[split:] if labelled and len(layout.population) else None,
        record_numbers=layout.pool,
        population_numbers=layout.population,
        query_numbers=layout.queries,
        clusters=clusters[:split] if "cluster" in layout.columns else None,
    )


def _values(batch: pa.RecordBatch, layout: Layout, place: Callable[[int], str]) -> np.ndarray:
    """Return the answers of a batch; `place` names that of a row."""
    column = batch[layout.column]
    if column.null_count:
        row = int(column.is_null().to_numpy(zero_copy_only=False).argmax())
        raise DataError(
            f"{layout.source}: {layout.column} is null in {column.null_count} rows: {place(row)}"
        )
    if not layout.classes:
        return column.to_numpy(zero_copy_only=False)
    values = column.flatten()
    lengths = pc.list_value_length(column).to_numpy(zero_copy_only=False)
    if (lengths != layout.classes).any():
        row = int((lengths != layout.classes).argmax())
        raise DataError(
            f"{layout.source}: {layout.column} must all have {layout.classes} numbers, got {int(lengths[row])}: "
            f"{place(row)}"
        )
    if values.null_count:
        at = int(values.is_null().to_numpy(zero_copy_only=False).argmax())
        raise DataError(
            f"{layout.source}: {layout.column} hold null in {values.null_count} places: class {at % layout.classes} of "
            f"{place(at // layout.classes)}"
        )
    return values.to_numpy(zero_copy_only=False).reshape(-1, layout.classes)


def _once(
    seen: np.ndarray, at: tuple[np.ndarray, ...], records: np.ndarray, layout: Layout
) -> None:
    """Mark the answers as seen, each for the first time."""
    flat = np.ravel_multi_index(at, seen.shape)
    _, first = np.unique(flat, return_index=True)
    again = seen[at]
    again[np.setdiff1d(np.arange(len(flat)), first)] = True
    if again.any():
        raise DataError(
            f"{layout.source}: {_which(at, records, layout, int(again.argmax()))} occurs twice"
        )
    seen[at] = True


def _complete(seen: np.ndarray, records: np.ndarray, layout: Layout) -> None:
    if not seen.all():
        at = np.unravel_index(np.array([int(seen.argmin())]), seen.shape)
        raise DataError(f"{layout.source}: {_which(at, records, layout, 0)} is missing")


def _which(at: tuple[np.ndarray, ...], records: np.ndarray, layout: Layout, index: int) -> str:
    model, record, query = (int(axis[index]) for axis in at)
    return f"the answer of model {layout.models[model]} about record {records[record]}, query {layout.queries[query]}"


def _other_member(
    at: tuple[np.ndarray, ...], records: np.ndarray, layout: Layout, index: int
) -> str:
    model, record = layout.models[at[0][index]], records[at[1][index]]
    return f"{layout.source}: member of model {model} and record {record} differs between rows"


def _other_number(
    column: str, at: tuple[np.ndarray, ...], records: np.ndarray, layout: Layout, index: int
) -> str:
    model, record = layout.models[at[0][index]], records[at[1][index]]
    return f"{layout.source}: {column} of record {record} differs between rows (one is of model {model})"


def _agree(
    known: np.ndarray,
    at: tuple[np.ndarray, ...] | np.ndarray,
    said: np.ndarray,
    message: Callable[[int], str],
) -> None:
    """Write the values of rows, and refuse rows that contradict an earlier one; `message` names a row."""
    before = known[at]
    known[at] = said
    wrong = ((before >= 0) & (before != said)) | (known[at] != said)
    if wrong.any():
        raise DataError(message(int(wrong.argmax())))
