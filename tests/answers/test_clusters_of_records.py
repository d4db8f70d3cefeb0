"""Clusters of records in files of answers: read, checked, counted in the intervals, and reported."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bitleak.answers import AttackRequest, Scratch, prepare_attack, run_attacks, try_attacks
from bitleak.answers.answer_correspondence import copy_doubts
from bitleak.answers.answer_files import read_answers
from bitleak.answers.attack_results import rows_and_curves, summarize
from bitleak.core.errors import DataError
from bitleak.report.record_dependence import dependence

ATTACKS = ("lira-online-fixed", "threshold")
COPIES = 3


def copied(arrays):
    """Every record of the pool several times."""
    axes = {"logits": 1, "member": 1, "labels": 0}
    records = len(arrays["labels"])
    every = {
        name: np.repeat(array, COPIES, axes[name]) if name in axes else array
        for name, array in arrays.items()
    }
    return every, np.repeat(np.arange(records), COPIES)


def figures(lab, folder, arrays, name, **options):
    path = lab.write["npz"](folder, arrays, name)
    request = AttackRequest(
        path, attacks=ATTACKS, fprs=(0.05, 0.2), targets="0,1", power=False, **options
    )
    with Scratch(folder) as scratch:
        prepared, _ = try_attacks(prepare_attack(request, scratch))
        outcome = run_attacks(prepared, scratch, lambda *_: None)
        rows, _ = rows_and_curves(prepared, outcome, lambda _: None)
        summary = summarize(prepared, rows)
    table = {}
    for row in rows:
        if row.variant not in ("control", "positive_control"):
            key = (row.attack, row.reference, row.target, row.metric)
            table[key] = (row.measure.value, row.measure.low, row.measure.high)
    return table, summary


def test_copies_with_clusters_have_the_figures_and_intervals_of_the_distinct_records(lab, tmp_path):
    arrays = lab.made(models=8, records=80, population=20)
    distinct, alone = figures(lab, tmp_path, arrays, "distinct.npz")
    every, clusters = copied(arrays)
    together, counted = figures(lab, tmp_path, {**every, "clusters": clusters}, "together.npz")
    assert together.keys() == distinct.keys()
    for key, expected in distinct.items():
        if key[3] != "epsilon":  # halved at random
            assert together[key] == pytest.approx(expected, rel=1e-6, abs=1e-9), key
    assert (alone.clusters, counted.clusters) == (None, 80)
    assert "80 clusters of dependent records in place of 240 records" in dependence(counted)
    assert "take the records for independent" in dependence(alone)


def test_numbers_in_a_file_of_their_own_count_and_numbers_without_repetition_change_nothing(
    lab, tmp_path
):
    arrays = lab.made(models=8, records=60, population=0)
    plain, _ = figures(lab, tmp_path, arrays, "plain.npz")
    np.save(tmp_path / "single.npy", np.arange(60) * 2)
    np.save(tmp_path / "pairs.npy", np.arange(60) // 2)
    assert figures(lab, tmp_path, arrays, "plain.npz", clusters=tmp_path / "single.npy")[0] == plain
    paired, summary = figures(lab, tmp_path, arrays, "plain.npz", clusters=tmp_path / "pairs.npy")
    assert summary.clusters == 30
    key = ("threshold", "", "0", "auc")
    assert paired[key][0] == plain[key][0]
    assert paired[key][1:] != plain[key][1:]


def test_a_parquet_file_has_clusters_in_a_column(tmp_path):
    rows = {"model": [], "record": [], "member": [], "cluster": [], "score": []}
    rng = np.random.default_rng(0)
    for model in range(4):
        for record in range(6):
            rows["model"].append(model)
            rows["record"].append(record)
            rows["member"].append(None if record == 5 else bool((model + record) % 2))
            rows["cluster"].append(record // 2)
            rows["score"].append(float(rng.normal()))
    pq.write_table(pa.table(rows), tmp_path / "a.parquet")
    with Scratch(tmp_path) as scratch:
        answers = read_answers(tmp_path / "a.parquet", scratch)
        assert answers.clusters.tolist() == [0, 0, 1, 1, 2]
        rows["cluster"][0] = 9
        pq.write_table(pa.table(rows), tmp_path / "b.parquet")
        with pytest.raises(DataError, match=r"cluster of record . differs between rows"):
            read_answers(tmp_path / "b.parquet", scratch)


@pytest.mark.parametrize(
    ("clusters", "message"),
    [
        (np.zeros(59, int), "clusters must be one number per audited record, 60, got 59"),
        (np.zeros(60), "clusters must be integers .* got float64"),
        (np.array(["a"] * 60), r"write numpy.unique\(names, return_inverse=True\)"),
    ],
)
def test_clusters_that_do_not_fit_are_refused(lab, tmp_path, clusters, message):
    arrays = lab.made(models=8, records=60, population=0)
    with Scratch(tmp_path) as scratch, pytest.raises(DataError, match=message):
        read_answers(lab.write["npz"](tmp_path, {**arrays, "clusters": clusters}), scratch)


def test_a_missing_file_of_clusters_is_named(lab, tmp_path):
    path = lab.write["npz"](tmp_path, lab.made(models=8, records=60, population=0))
    with Scratch(tmp_path) as scratch, pytest.raises(DataError, match=r"--clusters .*no such file"):
        read_answers(path, scratch, clusters=tmp_path / "none.npy")


def test_a_quantized_file_cannot_have_clusters_of_its_own(lab, tmp_path):
    arrays = lab.made(models=8, records=60, population=0)
    clusters = np.arange(60) // 2
    plain, other = lab.write["npz"](tmp_path, arrays, "a.npz"), {**arrays, "clusters": clusters}
    with Scratch(tmp_path) as scratch:
        request = AttackRequest(plain, quantized=lab.write["npz"](tmp_path, other, "b.npz"))
        with pytest.raises(
            DataError, match=r"clusters are missing in .*a\.npz, whose clusters count"
        ):
            prepare_attack(request, scratch)


def test_copies_in_one_cluster_raise_no_doubt():
    confidence = np.random.default_rng(0).normal(size=(12, 100, 2))
    pool = np.concatenate([confidence, confidence[:, :20]], axis=1)
    outside, clusters = np.empty((12, 0, 2)), np.arange(120) % 100
    (doubt,) = copy_doubts(pool, outside)
    assert doubt.startswith("20 records of 120")
    assert "the same number in `clusters`" in doubt
    assert copy_doubts(pool, outside, clusters) == []
    clusters[100:110] = np.arange(200, 210)
    assert copy_doubts(pool, outside, clusters)[0].startswith("10 records of 120")
