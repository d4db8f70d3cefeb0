"""Answers as the public LiRA code leaves them: one folder per model.

```
experiments/
  y_train.npy or labels.npy                 labels of the records, unless they are given apart
  experiment-0_64/keep.npy                  bool [records]: the membership
                  logits/0000000100.npy     [records queries classes] or [records 1 queries classes]
                  scores/0000000100.npy     [records queries]
```

(Carlini et al. 2022, arXiv 2112.03570; the layout of its code's `inference.py`, `score.py` and `plot.py`.) Instead of
the folders there may be `logits.npy` and `scores.npy`. Models are in the order of the numbers in their names; of
several files in a folder the last in that order counts. Logits are taken where there are labels, else scores. Folders
with neither `keep.npy` nor answers are passed over.
"""

import re
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from bitleak.answers.array_answers import load_npy
from bitleak.answers.model_answers import AnswerKind, Answers, checked_labels, of_one_model
from bitleak.core.checks import truth_array
from bitleak.core.errors import DataError
from bitleak.report.format import count

LABELS = ("labels.npy", "y_train.npy")
ANSWER_KINDS: tuple[AnswerKind, ...] = ("logits", "scores")
"""Kinds of answers, by the names of their folders."""


def looks_like_experiments(folder: Path) -> bool:
    """Whether a subfolder has a `keep.npy`."""
    return any(folder.glob("*/keep.npy"))


def read_experiments(
    folder: Path,
    given: Int64[np.ndarray, "records"] | None,
    known: Int64[np.ndarray, "records"] | None,
) -> Answers:
    """Return the answers of all experiments of a folder.

    Args:
        folder: Holds one folder per model.
        given: Labels of the records; None takes those of the folder.
        known: Labels where neither says them; None if they are not known.

    Raises:
        DataError: A model lacks its membership or its answers, or an array is of a wrong type or shape.
    """
    models = [
        one for one in sorted(folder.iterdir(), key=_natural) if one.is_dir() and _is_model(one)
    ]
    for model in models:
        if not (model / "keep.npy").is_file():
            raise DataError(
                f"{model}: keep.npy is missing, which says who was in this model's training set"
            )
    # Labels that were handed in are newer than those that the code stored next to its experiments.
    labels = given if given is not None else _own_labels(folder)
    labels = known if labels is None else labels

    # Logits are preferred, but without labels only scores can be attacked.
    kind = _kind(models, labelled=labels is not None)
    pool = tuple(_answers(model, kind) for model in models)
    member = [_keep(model, len(one)) for model, one in zip(models, pool, strict=True)]
    if len({len(one) for one in member}) > 1:
        lengths = sorted({len(one) for one in member})
        raise DataError(
            f"{folder}: all models must answer the same records, got {lengths[0]} and {lengths[-1]}"
        )
    return Answers(
        source=str(folder),
        kind=kind,
        names=tuple(model.name for model in models),
        pool=pool,
        member=np.stack(member),
        labels=labels,
        doubts=_mixed_files(models, kind),
    )


def _mixed_files(models: list[Path], kind: AnswerKind) -> tuple[str, ...]:
    """A sentence if the last files of the models have different names, which are those of epochs."""
    by_file: dict[str, list[str]] = {}
    for model in models:
        file = _file(model, kind)
        if file is not None:
            by_file.setdefault(file.name, []).append(model.name)
    if len(by_file) < 2:
        return ()
    usual = max(by_file, key=lambda name: len(by_file[name]))
    unusual: list[str] = []
    for name, group in by_file.items():
        if name != usual:
            unusual += [f"{model} ({name})" for model in group]
    return (
        f"The last {kind} of most models are {usual}, those of {count(len(unusual), 'model')} are not: "
        f"{', '.join(unusual[:5])}{', ...' if len(unusual) > 5 else ''}. Did their training or evaluation end early? "
        "Such models leak otherwise than the rest.",
    )


def _own_labels(folder: Path) -> Int64[np.ndarray, "records"] | None:
    file = next((folder / name for name in LABELS if (folder / name).is_file()), None)
    return None if file is None else checked_labels(load_npy(file), str(file))


def _is_model(folder: Path) -> bool:
    return (folder / "keep.npy").is_file() or bool(_kinds(folder))


def _kinds(folder: Path) -> list[AnswerKind]:
    """Return the kinds of answers that the folder of a model has."""
    return [kind for kind in ANSWER_KINDS if _file(folder, kind) is not None]


def _kind(models: list[Path], *, labelled: bool) -> AnswerKind:
    """Return the kind of answers that all models have; logits, if they have both and labels."""
    shared = list(ANSWER_KINDS)
    for model in models:
        kinds = _kinds(model)
        if not kinds:
            raise DataError(
                f"{model}: neither logits nor scores; every model needs logits/*.npy or scores/*.npy"
            )
        shared = [kind for kind in shared if kind in kinds]
        if not shared:
            raise DataError(
                f"{model}: has {kinds[0]} alone, which other models of the folder have not; every model "
                "needs the same kind of answers"
            )
    return shared[0] if labelled or shared == ["logits"] else "scores"


def _answers(model: Path, kind: AnswerKind) -> np.ndarray:
    file = _file(model, kind)
    if file is None:
        raise DataError(f"{model}: {kind} are missing, which other models of the folder have")
    array = load_npy(file)
    if kind == "logits" and array.ndim == 4 and array.shape[1] == 1:
        array = array[:, 0]
    return of_one_model(array, kind, str(file))


def _keep(model: Path, records: int) -> np.ndarray:
    keep = load_npy(model / "keep.npy")
    if keep.shape != (records,):
        raise DataError(
            f"{model / 'keep.npy'}: expected bool [records], here {records}, got {keep.dtype} {keep.shape}; of numbers "
            "of records, write numpy.isin(numpy.arange(records), keep)"
        )
    try:
        return np.array(truth_array("keep", keep))
    except ValueError as error:
        raise DataError(f"{model / 'keep.npy'}: {error}") from None


def _file(model: Path, kind: str) -> Path | None:
    """The file of a model's answers: the last of the folder, or the one beside it."""
    inside = sorted((model / kind).glob("*.npy"), key=_natural)
    single = model / f"{kind}.npy"
    return inside[-1] if inside else single if single.is_file() else None


def _natural(path: Path) -> list[tuple[int, str]]:
    """Order by the numbers in a name, not by their digits."""
    return [
        (int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", path.name)
    ]
