"""From a path to answers: the format follows from the content of the file or folder, not from its name."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from bitleak.answers.array_answers import load_npy, read_folder, read_npz
from bitleak.answers.experiment_folders import looks_like_experiments, read_experiments
from bitleak.answers.model_answers import Answers, checked, checked_clusters, checked_labels
from bitleak.answers.parquet_answers import read_parquet
from bitleak.core.errors import DataError
from bitleak.core.spill import Scratch

ANSWER_FORMATS = (
    "expected an .npz file, a .parquet file, a folder of .npy or .parquet files, or a folder with one folder per model "
    "(keep.npy beside logits or scores); nothing is ever unpickled"
)


def read_answers(
    path: Path,
    scratch: Scratch,
    *,
    labels: Path | None = None,
    known: Answers | None = None,
    clusters: Path | None = None,
) -> Answers:
    """Return the answers of a file or folder of any format, checked as far as it goes without reading them.

    Args:
        path: See `ANSWER_FORMATS`.
        scratch: Where compressed or row-wise answers are laid out.
        labels: An `.npy` file with the true class of every record, in place of those of `path`.
        known: Answers about the same records, whose labels are taken where `path` has none.
        clusters: An `.npy` file with the cluster of every record, in place of those of `path`.

    Raises:
        DataError: There is no such file, its format is unknown, or its arrays do not fit together.
    """
    given = None if labels is None else read_labels(labels)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    found = _folder(path, scratch, given, known) if path.is_dir() else _file(path, scratch)
    labelled_answers = labelled(found, given, known)
    if clusters is not None:
        labelled_answers = replace(labelled_answers, clusters=read_clusters(clusters))
    return checked(labelled_answers)


def labelled(
    answers: Answers, given: Int64[np.ndarray, "records"] | None, known: Answers | None
) -> Answers:
    """Return the answers with the labels that were given, else their own, else those that are known."""
    labels, outside = answers.labels if given is None else given, answers.population_labels
    if known is not None:
        labels = known.labels if labels is None else labels
        outside = known.population_labels if outside is None else outside
    return replace(answers, labels=labels, population_labels=outside)


def read_labels(path: Path) -> Int64[np.ndarray, "records"]:
    """Return the labels of an `.npy` file.

    Raises:
        DataError: It is no such file, or not integers with one axis.
    """
    if not path.is_file():
        raise DataError(f"--labels {path}: no such file")
    return checked_labels(load_npy(path), f"--labels {path}")


def read_clusters(path: Path) -> Int64[np.ndarray, "records"]:
    """Return the clusters of an `.npy` file.

    Raises:
        DataError: It is no such file, or not integers with one axis.
    """
    if not path.is_file():
        raise DataError(f"--clusters {path}: no such file")
    return checked_clusters(load_npy(path), f"--clusters {path}")


def _folder(
    path: Path, scratch: Scratch, given: np.ndarray | None, known: Answers | None
) -> Answers:
    if looks_like_experiments(path):
        return read_experiments(path, given, None if known is None else known.labels)
    if any(path.glob("*.npy")):
        return read_folder(path)
    files = sorted(path.glob("*.parquet"))
    if files:
        return read_parquet(files, str(path), scratch)
    raise DataError(f"{path}: {ANSWER_FORMATS}; this folder holds none of them")


def _file(path: Path, scratch: Scratch) -> Answers:
    try:
        with path.open("rb") as stream:
            start = stream.read(4)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    if start == b"PK\x03\x04":
        return read_npz(path, scratch)
    if start == b"PAR1":
        return read_parquet([path], str(path), scratch)
    if start == b"\x93NUM":
        raise DataError(
            f"{path}: a single array; give the folder that holds it beside member.npy and the rest"
        )
    raise DataError(f"{path}: {ANSWER_FORMATS}")
