"""A small world of answers, and the same answers in every format."""

import json
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bitleak.answers import AttackRequest, Scratch, prepare_attack, run_attacks, try_attacks
from bitleak.answers.attack_results import rows_and_curves

FEW = ("lira-online-fixed", "lira-offline-one_sided-fixed", "threshold")


def pairs(rng, models, records):
    first = rng.random((models // 2, records)).argsort(axis=1).argsort(axis=1) < records // 2
    return np.stack([first, ~first], axis=1).reshape(models, records)


def made(
    models=12, records=200, queries=2, classes=4, population=50, seed=0, effect=2.0, member=None
):
    """Logits whose true class is higher for members; float32."""
    rng = np.random.default_rng(seed)
    member = pairs(rng, models, records) if member is None else member
    labels, outside = rng.integers(0, classes, records), rng.integers(0, classes, population)
    logits = rng.normal(0, 1, (models, records, queries, classes)).astype(np.float32)
    others = rng.normal(0, 1, (models, population, queries, classes)).astype(np.float32)
    hard = rng.normal(1, 1.5, records)
    for model in range(models):
        raised = (hard + effect * member[model]).astype(np.float32)
        logits[model, np.arange(records), :, labels] += raised[:, None]
        others[model, np.arange(population), :, outside] += rng.normal(1, 1.5, population).astype(
            np.float32
        )[:, None]
    found = {"logits": logits, "labels": labels, "member": member}
    return found | (
        {"population_logits": others, "population_labels": outside} if population else {}
    )


def softmax(logits):
    p = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return p / p.sum(axis=-1, keepdims=True)


def confidence(logits, labels):
    """z_y - logsumexp(others), by a loop over the models."""
    found = []
    for one in logits.astype(np.float64):
        true = one[np.arange(len(labels)), :, labels]
        others = one.copy()
        others[np.arange(len(labels)), :, labels] = -np.inf
        found.append(true - np.logaddexp.reduce(others, axis=2))
    return np.stack(found)


def npz(folder, arrays, name="answers.npz"):
    np.savez(folder / name, **arrays)
    return folder / name


def compressed(folder, arrays):
    np.savez_compressed(folder / "compressed.npz", **arrays)
    return folder / "compressed.npz"


def npy(folder, arrays):
    (folder / "npy").mkdir()
    for name, array in arrays.items():
        np.save(folder / "npy" / f"{name}.npy", array)
    return folder / "npy"


def fortran(folder, arrays):
    (folder / "fortran").mkdir()
    for name, array in arrays.items():
        np.save(folder / "fortran" / f"{name}.npy", np.asfortranarray(array))
    return folder / "fortran"


def table(arrays, seed=0):
    """One row per model, record and query, shuffled; population records come after the others."""
    column, kind = ("score", "scores") if "scores" in arrays else ("logits", "logits")
    values = arrays[kind]
    if f"population_{kind}" in arrays:
        values = np.concatenate([values, arrays[f"population_{kind}"]], axis=1)
    pool = arrays[kind].shape[1]
    at = np.indices(values.shape[:3]).reshape(3, -1)
    at = at[:, np.random.default_rng(seed).permutation(at.shape[1])]
    flat = values[tuple(at)]
    columns = {
        "model": at[0],
        "record": at[1],
        "query": at[2],
        "member": pa.array(
            [
                bool(arrays["member"][m, r]) if r < pool else None
                for m, r in zip(at[0], at[1], strict=True)
            ]
        ),
        column: pa.array(list(flat)) if flat.ndim == 2 else flat,
    }
    if "labels" in arrays:
        labels = np.concatenate(
            [arrays["labels"], arrays.get("population_labels", np.empty(0, np.int64))]
        )
        columns["label"] = labels[at[1]]
    return pa.table(columns)


def parquet(folder, arrays):
    pq.write_table(table(arrays), folder / "answers.parquet", row_group_size=700)
    return folder / "answers.parquet"


def shards(folder, arrays):
    (folder / "shards").mkdir()
    rows = table(arrays, seed=1)
    cut = rows.num_rows // 3
    pq.write_table(rows.slice(0, cut), folder / "shards" / "a.parquet")
    pq.write_table(rows.slice(cut), folder / "shards" / "b.parquet")
    return folder / "shards"


def experiments(folder, arrays):
    """As the public LiRA code: an older epoch beside the last one, and an axis of length 1 in the logits."""
    root = folder / "experiments"
    for model, member in enumerate(arrays["member"]):
        own = root / f"experiment-{model}_{len(arrays['member'])}"
        own.mkdir(parents=True)
        np.save(own / "keep.npy", member)
        (own / "hparams.json").write_text(json.dumps({"seed": model}))
        for kind in ("logits", "scores"):
            if kind in arrays:
                (own / kind).mkdir()
                values = arrays[kind][model]
                np.save(own / kind / "0000000009.npy", np.zeros_like(values))
                np.save(
                    own / kind / "0000000100.npy", values[:, None] if kind == "logits" else values
                )
    if "labels" in arrays:
        np.save(root / "y_train.npy", arrays["labels"])
    return root


def rows_of(folder, path, *, in_memory=1 << 29, **request):
    """The rows of a run, without its report."""
    request = {"attacks": FEW, "fprs": (0.1,), **request}
    with Scratch(folder, in_memory=in_memory) as scratch:
        prepared, _ = try_attacks(prepare_attack(AttackRequest(scores=path, **request), scratch))
        found = run_attacks(prepared, scratch, lambda done, stage: None)
        rows, _ = rows_and_curves(prepared, found, lambda done: None)
        scores = {}
        for case, of_case in found.scores.items():
            for label in of_case.attacks:
                scores[case, label.name] = np.array(of_case.of(label.name))
        return rows, prepared, scores


@pytest.fixture
def lab():
    """What the tests of this folder share."""
    writers = (npz, compressed, npy, fortran, parquet, shards, experiments)
    return SimpleNamespace(
        made=made,
        pairs=pairs,
        softmax=softmax,
        confidence=confidence,
        table=table,
        rows_of=rows_of,
        few=FEW,
        write={writer.__name__: writer for writer in writers},
    )
