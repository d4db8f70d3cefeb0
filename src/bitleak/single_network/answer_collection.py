"""Answers of networks to the records of a data set, as the folder of arrays that `bitleak attack` reads.

| file | content |
|---|---|
| `logits.npy` | float32 `[models records queries classes]` |
| `labels.npy`, `member.npy` | int64 `[records]`, bool `[models records]` |
| `population_logits.npy`, `population_labels.npy` | likewise, if there are population records |
| `answers.json` | the request, digests of weights and answers, accuracies, numbers of the records |

The logits are those of an audit: float32, in evaluation mode, batch norms folded in networks of
this package. While networks are left, the arrays have the suffix `.part`, and `answers.json` lists
the rows that are done; the same request goes on after the last of them, another one is refused.

Cost: one forward pass per network, record and query.
"""

import functools
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64, Int64

from bitleak import registry
from bitleak.core.errors import DataError, ModelError, StoreError
from bitleak.core.output_folder import write_atomically
from bitleak.core.types import Images, ModelSpec, Weights
from bitleak.data import limited
from bitleak.data.data_notes import data_lines, numbering_hint
from bitleak.engine.codecs import encode_spec
from bitleak.registry import CHECKPOINT_SUFFIXES
from bitleak.runtimes.fixed_batches import file_answers
from bitleak.runtimes.runtime import open_network
from bitleak.single_network.answer_request import (
    AnswerRequest,
    AskedRecords,
    CheckedAnswerRequest,
    asked_records,
    check_answer_request,
)
from bitleak.single_network.file_answers import is_network_file, read_network_file
from bitleak.single_network.spec_of_data import spec_for_data

STATE = "answers.json"
PART = ".part"
"""Suffix of arrays that have rows to come."""

CHANCE_ERRORS = 3.0
"""Standard errors above the share of the largest class from which an accuracy is better than guessing."""


@dataclass(frozen=True)
class AnswerJob:
    """Networks and the records on which they are evaluated, all checked.

    Attributes:
        checked: The request.
        images: The data set.
        records: Audited and population records, and membership.
        specs: Network of each file.
        digests: SHA-256 over each network's tensors.
        fingerprint: Fingerprint of the data set.
        notes: How files were read.
    """

    checked: CheckedAnswerRequest
    images: Images
    records: AskedRecords
    specs: tuple[ModelSpec, ...]
    digests: tuple[str, ...]
    fingerprint: str
    notes: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Path of each network's file, for people."""
        return tuple(str(path) for path in self.checked.files)


@dataclass(frozen=True)
class NetworkAccuracy:
    """Accuracy of one network on the records that it was asked about.

    Attributes:
        name: Path of its file.
        members: Share of its audited members that it has right; None if membership is not known.
        others: Share of the other audited records; of all of them if membership is not known.
        population: Share of the population records; None without any.
    """

    name: str
    members: float | None
    others: float | None
    population: float | None


def prepare_answers(request: AnswerRequest) -> AnswerJob:
    """Check request, data, membership and every file of weights; no record is evaluated.

    Raises:
        InputError: Something does not fit; the message names the option.
    """
    checked = check_answer_request(request)
    images = _images(checked)
    records = asked_records(checked, images)
    description = checked.dataset.describe(None)
    hint = numbering_hint(description)
    notes = [f"data: {line}" for line in data_lines(description)]

    # Every file in its network, before the first forward pass.
    specs: list[ModelSpec] = []
    digests: list[str] = []
    for path in checked.files:
        if is_network_file(path):
            file = read_network_file(
                path,
                checked.standardisation,
                images,
                hint,
                checked.runtime,
                shown=records.pool,
            )
            specs.append(file.spec)
            _add_digest(file.digest, digests, path, checked)
            continue
        weights, renamed = _fitted(checked, path, images, hint)
        if weights.spec is not None:
            specs.append(weights.spec)
        if renamed and f"weights: {renamed}" not in notes:
            notes.append(f"weights: {renamed}")
        _add_digest(_digest(weights), digests, path, checked)
    notes += _notes_on_network(specs[0])
    return AnswerJob(
        checked,
        images,
        records,
        tuple(specs),
        tuple(digests),
        description.fingerprint,
        tuple(notes),
    )


@runtime_checkable
class LoadsChosen(Protocol):
    """A data set that can decode some of its records alone, see `bitleak.data.hub.Hub`."""

    def load_chosen(
        self, root: Path | None, choose: Callable[[Images], Int64[np.ndarray, "chosen"]]
    ) -> Images:
        """Return all labels, and the pixels of the records that `choose` returns."""


def _images(checked: CheckedAnswerRequest) -> Images:
    """Return the data set; pixels of records that no network sees are 0 if the reader can omit them."""
    dataset, part = checked.dataset, checked.part
    drawn = part.limit is not None or part.held_out is not None
    # without a mean and a deviation, those of the training part are computed from its pixels
    if drawn or checked.standardisation is None or not isinstance(dataset, LoadsChosen):
        seed = checked.request.seed
        return limited(dataset.load(None), part.limit, seed, held_out=part.held_out)

    def seen(outline: Images) -> Int64[np.ndarray, "chosen"]:
        records = asked_records(checked, outline)
        return np.concatenate([records.pool, records.population])

    return dataset.load_chosen(None, seen)


def collect_answers(
    job: AnswerJob, out: Path, on_step: Callable[[float, str], None]
) -> tuple[list[NetworkAccuracy], int]:
    """Evaluate the networks whose rows are missing, and write the folder.

    Args:
        job: The job.
        out: Folder; it exists.
        on_step: Called with the fraction of a network's records that is done, and its name.

    Returns:
        Accuracy of each network, and how many of them were there already.

    Raises:
        DataError: The folder holds the answers to another request.
        ModelError: A logit is not finite; with the file.
        StoreError: The folder cannot be written to.
    """
    # A folder of the same request is continued.
    request = _request_facts(job)
    state = _state(out, request)
    finished: list[dict[str, Any]] = state["models"]
    before = len(finished)
    parts = {"logits": job.records.pool}
    if len(job.records.population):
        parts["population_logits"] = job.records.population
    try:
        if not (out / "logits.npy").exists():
            arrays = {
                name: _opened(out / f"{name}.npy{PART}", job, records, fresh=not before)
                for name, records in parts.items()
            }
            _check_rows(arrays, finished, out)
            for row in range(before, len(job.specs)):
                finished.append(_answered(job, row, arrays, on_step))
                write_atomically(out / STATE, _json({**state, "models": finished}))
            _complete(job, out, list(parts))
    except OSError as error:
        raise StoreError(f"--out {out}: cannot be written ({error.strerror or error})") from error
    accuracies = []
    for name, facts in zip(job.names, finished, strict=True):
        shares = (facts[key] for key in ("members", "others", "population"))
        accuracies.append(NetworkAccuracy(name, *shares))
    return accuracies, before


def why_at_chance(job: AnswerJob, accuracies: list[NetworkAccuracy]) -> str:
    """Return a reason to doubt the networks whose accuracy is that of guessing; empty if none is."""
    truth = job.images.labels[job.records.pool]
    share = float(np.bincount(truth).max() / len(truth))
    error = float(np.sqrt(share * (1 - share) / len(truth)))
    guessing = []
    for entry in accuracies:
        best = max(value for value in (entry.members, entry.others, 0.0) if value is not None)
        if best <= share + CHANCE_ERRORS * error:
            guessing.append(entry.name)
    if not guessing:
        return ""
    return (
        f"{len(guessing)} of {len(accuracies)} networks, such as {guessing[0]}, are not clearly above the share of the "
        f"most frequent class, {100 * share:.1f} %: are these the data and the --mean and --std that they were trained "
        "with, and are their outputs in the order of the data's classes?"
    )


def _notes_on_network(spec: ModelSpec) -> list[str]:
    """Return notes on an outside network, which is tried in this process and in a new one.

    Raises:
        ModelError: It answers otherwise there.
    """
    if spec.name in registry.RUNTIMES:
        return []
    from bitleak.models.external import trial_of
    from bitleak.models.new_process import check_in_new_process

    try:
        outside = trial_of(spec)
        check_in_new_process(spec)
    except ModelError as error:
        raise ModelError(f"--model: {error}") from None
    return [] if outside is None else [f"model: {note}" for note in outside.notes]


def _fitted(
    checked: CheckedAnswerRequest, path: Path, images: Images, hint: str
) -> tuple[Weights, str]:
    from bitleak.models import load
    from bitleak.single_network.weights_in_network import fitted_weights, model_of_weights, placed

    weights, nested = _read(path)
    model = model_of_weights(checked.model, weights)
    spec = spec_for_data(model, checked.standardisation, weights, images, hint)
    try:
        fitted, renamed = fitted_weights(weights, spec)
        load(fitted, allow_external=True)
    except ModelError as error:
        raise ModelError(placed(error, path, weights, spec) + hint) from None
    return fitted, "; ".join(filter(None, (nested, renamed)))


def _add_digest(digest: str, digests: list[str], path: Path, checked: CheckedAnswerRequest) -> None:
    """Add a network's digest, or refuse a network that was read before."""
    if digest in digests:
        twin = checked.files[digests.index(digest)]
        raise ModelError(
            f"--weights {path}: holds the same numbers as {twin}; a model would be its own reference"
        )
    digests.append(digest)


def asker(job: AnswerJob, row: int) -> tuple[Callable[..., list[np.ndarray]], dict[str, Any]]:
    """Return the function that evaluates a row's network, by its runtime or by PyTorch, and the runtime's facts."""
    path, spec = job.checked.files[row], job.specs[row]
    if is_network_file(path):
        # Its sessions were compared when the job was prepared.
        file = read_network_file(
            path, (spec.mean, spec.std), job.images, options=job.checked.runtime
        )
        if file.digest != job.digests[row]:
            raise ModelError(f"--weights {path}: has changed since it was checked")
        opened = open_network(file)
        return functools.partial(file_answers, opened), {"runtime": dict(opened.facts)}
    from bitleak.models import load
    from bitleak.models.fused_network import fused_by_spec
    from bitleak.query import answers
    from bitleak.single_network.weights_in_network import fitted_weights

    weights, _ = fitted_weights(_read(path)[0], spec)
    network = load(weights, allow_external=True)
    # As in an audit: an outside forward may do more than its graph.
    network = network.eval() if spec.name == "external" else fused_by_spec(network, spec)
    return functools.partial(answers, network, device=job.checked.request.device), {}


def _read(path: Path) -> tuple[Weights, str]:
    """Return the weights of a file or result, and how a checkpoint of `torch.save` was read."""
    if path.suffix in CHECKPOINT_SUFFIXES and path.is_file():
        from bitleak.models.checkpoint import read_checkpoint

        checkpoint = read_checkpoint(path, "--weights")
        return Weights(checkpoint.tensors), "; ".join(checkpoint.notes)
    from bitleak.single_network.weights_files import read_weights

    return read_weights(path), ""


def _digest(weights: Weights) -> str:
    total = hashlib.sha256()
    for name in sorted(weights.tensors):
        array = np.ascontiguousarray(weights.tensors[name])
        total.update(f"{len(name.encode())}:{name}:{array.dtype.str}:{array.shape}:".encode())
        total.update(array.tobytes())
    return total.hexdigest()


def _request_facts(job: AnswerJob) -> dict[str, Any]:
    """Return everything that decides the answers, as JSON."""
    member, runtime = job.records.member, job.checked.runtime
    return {
        **({"runtime": dict(runtime)} if runtime else {}),
        "networks": [encode_spec(spec) for spec in job.specs],
        "weights": list(job.digests),
        "data": job.fingerprint,
        "records": _array_digest(job.records.pool),
        "population": _array_digest(job.records.population),
        "members": None if member is None else _array_digest(member),
        "queries": list(job.checked.queries),
        "batch": job.checked.request.batch,
        "device": job.checked.request.device.partition(":")[0],
    }


def _array_digest(array: np.ndarray) -> str:
    content = f"{array.dtype.str}:{array.shape}:".encode() + np.ascontiguousarray(array).tobytes()
    return hashlib.sha256(content).hexdigest()


def _state(out: Path, request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state of the folder; a new one if it holds no answers.

    Raises:
        DataError: It holds other arrays, or the answers to another request.
    """
    request = json.loads(json.dumps(request))
    path = out / STATE
    if not path.exists():
        others = sorted(file.name for file in out.glob("*.npy"))
        if others:
            raise DataError(
                f"--out {out}: holds {others[0]}, which is not of `bitleak ask`; give another folder"
            )
        return {"bitleak": metadata.version("bitleak"), "request": request, "models": []}
    try:
        state: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        differing = [key for key in request if state["request"][key] != request[key]]
        state["models"] = list(state["models"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"--out {out}: {STATE} cannot be read ({error}); give another folder"
        ) from None
    if differing:
        raise DataError(
            f"--out {out}: holds the answers to another request, which differs in {', '.join(differing)}; give another "
            "folder"
        )
    return state


def _opened(
    path: Path, job: AnswerJob, records: Int64[np.ndarray, "records"], *, fresh: bool
) -> np.memmap:
    """Return the array of all networks in its file, for reading and writing."""
    shape = (len(job.specs), len(records), len(job.checked.queries), job.specs[0].classes)
    if fresh:
        return np.lib.format.open_memmap(path, "w+", np.float32, shape)
    if not path.exists():
        raise DataError(f"{path}: is missing, though {STATE} names rows of it; remove the folder")
    try:
        array = np.lib.format.open_memmap(path, "r+")
    except ValueError as error:
        raise DataError(f"{path}: cannot be read ({error}); remove the folder") from None
    if array.shape != shape or array.dtype != np.float32:
        raise DataError(f"{path}: must be float32 {shape}, got {array.dtype} {array.shape}")
    return array


def _check_rows(
    arrays: Mapping[str, np.ndarray], finished: list[dict[str, Any]], out: Path
) -> None:
    """Refuse finished rows that changed since they were written."""
    for row, facts in enumerate(finished):
        for name, array in arrays.items():
            if _array_digest(np.asarray(array[row])) != facts[name]:
                raise DataError(
                    f"--out {out}: row {row} of {name} has changed since it was written; remove the folder"
                )


def _answered(
    job: AnswerJob,
    row: int,
    arrays: Mapping[str, np.memmap],
    on_step: Callable[[float, str], None],
) -> dict[str, Any]:
    """Evaluate one network, write its rows, and return their digests and its accuracies."""
    path, spec = job.checked.files[row], job.specs[row]
    ask, runtime = asker(job, row)
    records = {"logits": job.records.pool, "population_logits": job.records.population}
    queries = job.checked.queries
    total = sum(len(records[name]) for name in arrays) * len(queries)
    done = 0

    def count(images_done: int) -> None:
        nonlocal done
        done += images_done
        on_step(done / total, f"{path.name} ({row + 1} of {len(job.specs)})")

    facts: dict[str, Any] = {"weights": str(path), **runtime}
    right: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        try:
            logits = ask(
                job.images,
                records[name],
                spec=spec,
                queries=queries,
                batch=job.checked.request.batch,
                on_batch=count,
            )
        except ValueError as error:
            raise ModelError(f"--weights {path}: {error}") from None
        array[row] = np.stack(logits, axis=1)
        array.flush()
        facts[name] = _array_digest(np.asarray(array[row]))
        right[name] = _is_right(logits[0], job.images.labels[records[name]])
    member = None if job.records.member is None else job.records.member[row]
    pool = right["logits"]
    facts["members"] = None if member is None else _share(pool[member])
    facts["others"] = _share(pool if member is None else pool[~member])
    facts["population"] = _share(right.get("population_logits", pool[:0]))
    return facts


def _is_right(logits: Float64[np.ndarray, "records classes"], labels: np.ndarray) -> np.ndarray:
    right: np.ndarray = logits.argmax(axis=1) == labels
    return right


def _share(right: np.ndarray) -> float | None:
    return float(right.mean()) if len(right) else None


def _complete(job: AnswerJob, out: Path, parts: list[str]) -> None:
    """Write labels and membership, and give the arrays their names, the logits last."""
    labels, records = job.images.labels, job.records
    if records.member is not None:
        _write_array(out / "member.npy", records.member)
    _write_array(out / "labels.npy", labels[records.pool])
    if len(parts) > 1:
        _write_array(out / "population_labels.npy", labels[records.population])
    for name in reversed(parts):
        os.replace(out / f"{name}.npy{PART}", out / f"{name}.npy")


def _write_array(path: Path, array: np.ndarray) -> None:
    temporary = path.with_name(f"{path.name}{PART}")
    with temporary.open("wb") as stream:
        np.lib.format.write_array(stream, array, allow_pickle=False)
    os.replace(temporary, path)


def _json(state: Mapping[str, Any]) -> bytes:
    return (json.dumps(state, indent=1) + "\n").encode()
