"""Images, labels and options of `audit_model` as people give them, checked before any work."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bitleak.audit.target.input_spelling import InputSpelling, unit_of
from bitleak.core.checks import integer_in
from bitleak.core.errors import ConfigError

SAMPLED = 64
"""Images whose standardised size is looked at."""

_LARGE = 20.0
"""Mean size of standardised pixels that no usual mean and deviation give."""


def image_array(images: Any) -> np.ndarray | Tensor:
    """Return the records as an array or tensor; refuse shapes, types and values that no network takes.

    Raises:
        ConfigError: They are wrong.
    """
    if not isinstance(images, Tensor | np.ndarray | Sequence) and not hasattr(images, "__array__"):
        raise ConfigError(
            f"images: expected an array or a tensor of all records, got {type(images).__name__}; of a data set, "
            "np.stack([image for image, _ in dataset]) has them, in the order of the record numbers"
        )
    try:
        # Batches go to the network's device one by one.
        values = images.detach().cpu() if isinstance(images, Tensor) else np.asarray(images)
    except ValueError:
        raise ConfigError(
            "images: expected records of one shape, got several; resize them as for the network"
        ) from None
    shape = tuple(values.shape)
    if values.ndim not in (2, 4):
        hint = "; images[:, None] has one channel" if values.ndim == 3 else ""
        raise ConfigError(
            "images: expected records, channels, height and width (or records and features), got shape "
            f"{shape}{hint}"
        )
    if values.ndim == 4 and shape[1] not in (1, 3) and shape[3] in (1, 3):
        raise ConfigError(
            f"images: expected channels before height and width, got shape {shape}; "
            "images.transpose(0, 3, 1, 2) has them in this order"
        )
    if isinstance(values, np.ndarray) and values.dtype.kind not in "biuf":
        raise ConfigError(f"images: expected numbers, got {values.dtype}")
    kind = str(values.dtype).removeprefix("torch.")
    if values.ndim == 4 and "int" in kind and kind != "uint8":
        raise ConfigError(
            f"images: got integers as {kind}, which may be 8-bit pixels or numbers as the network takes them; give "
            "8-bit pixels as images.astype('uint8'), others as floats"
        )
    _check_finite(values)
    return values


def label_array(labels: Any, records: int) -> np.ndarray:
    """Return the classes as integers.

    Raises:
        ConfigError: They are not one integer from 0 per record.
    """
    classes = np.asarray(labels.cpu().numpy() if isinstance(labels, Tensor) else labels)
    if classes.shape != (records,):
        hint = ""
        if classes.ndim == 2 and len(classes) == records:
            is_column = classes.shape[1] == 1
            hint = "; labels.ravel() has them" if is_column else "; labels.argmax(axis=1) has them"
        raise ConfigError(
            f"labels: expected one per record ({records:,}), got shape {classes.shape}{hint}"
        )
    if classes.dtype.kind not in "iu":
        hint = ""
        if classes.dtype.kind in "UOST":
            hint = (
                " (text); np.unique(labels, return_inverse=True)[1] numbers classes by the alphabet, which must be "
                "the order of the network's outputs"
            )
        raise ConfigError(f"labels: expected integers from 0, got {classes.dtype}{hint}")
    if classes.min(initial=0) < 0:
        record = int(classes.argmin())
        raise ConfigError(
            f"labels: expected integers from 0, got {classes[record]} for record {record}"
        )
    return classes.astype(np.int64)


def check_same_order(arrays: Mapping[str, Any]) -> None:
    """Refuse series and frames whose rows are in another order than those of another argument.

    Arrays are read by position, and so is an index: a series that was shuffled or sorted on its own
    would give each record another one's membership.

    Args:
        arrays: Arguments by name; those without an index are passed over.

    Raises:
        ConfigError: The indices of two of them differ.
    """
    indexed = {name: value.index for name, value in arrays.items() if hasattr(value, "iloc")}
    if not indexed:
        return
    # Truth values by record number and by position would be two memberships.
    for name in ("members", "others"):
        if list(indexed) == [name] and str(arrays[name].dtype).startswith("bool"):
            index = indexed[name]
            if not index.is_monotonic_increasing and set(index) == set(range(len(index))):
                raise ConfigError(
                    f"{name}: the index has all record numbers in another order, and truth values are read by "
                    f"position; {name}.sort_index() is in the order of the numbers, {name}.to_numpy() leaves out "
                    "the index"
                )
    first = next(iter(indexed))
    for name, index in indexed.items():
        if len(index) == len(indexed[first]) and not index.equals(indexed[first]):
            raise ConfigError(
                f"{name}: the index differs from that of {first}, and rows are read by position; "
                f"{name}.loc[{first}.index] has the same order, {name}.to_numpy() leaves out the index"
            )


def check_units(spelling: InputSpelling, values: np.ndarray | Tensor) -> None:
    """Refuse a mean and deviation of pixels from 0 to 1 for images of larger numbers.

    A network may still be right on its members, and attacks on its answers find too little.

    Raises:
        ConfigError: The standardised pixels would be of no usual size.
    """
    if values.ndim != 4 or unit_of(values) != 1 or spelling.deviation == (1.0,):
        return
    few = torch.as_tensor(values[:SAMPLED])
    largest = float(few.abs().max())
    size = float(spelling.inputs(few, 1.0).abs().mean())
    if largest > 2 and size > _LARGE:
        raise ConfigError(
            f"images: numbers up to {largest:g} that are not 8-bit are standardised as they are, and mean and "
            f"deviation are those of smaller ones (inputs of {size:.0f} on average): give images.astype('uint8'), "
            "or images / 255"
        )


def unit_note(spelling: InputSpelling, values: np.ndarray | Tensor) -> tuple[str, ...]:
    """Return a note on large pixels that go to the network as they are, if they do."""
    if values.ndim != 4 or unit_of(values) != 1 or spelling != InputSpelling():
        return ()
    largest = float(torch.as_tensor(values[:SAMPLED]).abs().max())
    if largest <= _LARGE:
        return ()
    return (
        f"Images are numbers up to {largest:g}, not 8-bit, and go to the network as they are; one that takes 0 to 1 "
        "needs images / 255.",
    )


def check_plain_rows(spelling: InputSpelling, queries: tuple[str, ...]) -> None:
    """Refuse options that rows for `predict_proba` do not have.

    Raises:
        ConfigError: One is set.
    """
    if spelling != InputSpelling():
        raise ConfigError(
            "mean, deviation, scale, channels, layout: rows are given to predict_proba as they are; leave these out, "
            "and put the preparation into the model, as in a pipeline"
        )
    if queries != ("identity",):
        raise ConfigError(f"queries: {', '.join(queries)} are for images, and these are rows")


def check_options(
    *, batch: Any, calibration: Any, references: Any, seed: Any, fpr: Any, queries: Any
) -> tuple[tuple[float, ...], tuple[str, ...]]:
    """Return rates and queries as tuples; refuse options out of range.

    Raises:
        ConfigError: One is.
    """
    try:
        integer_in("batch", batch, 1)
        integer_in("calibration", calibration, 1)
        integer_in("references", references, 1)
        integer_in("seed", seed, 0, 2**62)
    except (ValueError, TypeError) as error:
        raise ConfigError(str(error)) from None
    rates = (fpr,) if np.ndim(fpr) == 0 else tuple(fpr)
    for rate in rates:
        if (
            isinstance(rate, bool)
            or not isinstance(rate, int | float | np.floating)
            or not 0 < rate < 1
        ):
            raise ConfigError(f"fpr: expected rates between 0 and 1, such as 0.01, got {rate!r}")
    if not rates:
        raise ConfigError("fpr: expected at least one rate, such as 0.01")
    names = (queries,) if isinstance(queries, str) else tuple(queries)
    return tuple(sorted({float(rate) for rate in rates})), names


def per_channel(name: str, value: Any) -> tuple[float, ...]:
    """Return a number, or one per channel, as a tuple.

    Raises:
        ConfigError: It is neither.
    """
    try:
        numbers = np.atleast_1d(np.asarray(value, np.float64))
    except (ValueError, TypeError):
        raise ConfigError(f"{name}: expected a number or one per channel, got {value!r}") from None
    if isinstance(value, str) or numbers.ndim != 1:
        raise ConfigError(f"{name}: expected a number or one per channel, got {value!r}")
    return tuple(numbers.tolist())


def single_number(name: str, value: Any) -> float:
    """Return a number that is one for all channels.

    Raises:
        ConfigError: It is none, or several.
    """
    numbers = per_channel(name, value)
    if len(numbers) != 1:
        raise ConfigError(f"{name}: expected one number for all channels, got {value!r}")
    return numbers[0]


def ordered(order: Any, records: int) -> np.ndarray:
    """Return places or dates as numbers.

    Raises:
        ConfigError: They are not one finite number or date per record.
    """
    given = np.asarray(order)
    if given.dtype.kind == "M":
        given = np.where(np.isnat(given), np.nan, given.astype("datetime64[s]").astype(np.float64))
    if given.dtype.kind not in "biuf":
        raise ConfigError(
            f"order: expected a number or a numpy.datetime64 per record, got {given.dtype}"
        )
    values = given.astype(np.float64)
    if values.shape != (records,):
        raise ConfigError(
            f"order: expected one number per record ({records:,}), got shape {values.shape}"
        )
    missing = np.flatnonzero(~np.isfinite(values))
    if len(missing):
        raise ConfigError(
            f"order: {len(missing):,} of {records:,} are missing, such as that of record {missing[0]}"
        )
    return values


def _check_finite(values: np.ndarray | Tensor) -> None:
    """Refuse NaN and infinite pixels: an answer to them would be NaN, or that of a filled-in value."""
    values = np.asarray(values)
    if values.dtype.kind != "f":
        return
    wrong = np.flatnonzero(
        ~np.isfinite(values.reshape(len(values), -1).sum(axis=1, dtype=np.float64))
    )
    if len(wrong):
        raise ConfigError(
            f"images: {len(wrong):,} of {len(values):,} records hold NaN or infinite values, such as record "
            f"{wrong[0]}; fill them in as in the training"
        )
