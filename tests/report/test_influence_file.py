"""Influences of records as a file: what comes back, the error of a choice, damage."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bitleak.core.errors import StoreError
from bitleak.core.types import Measure
from bitleak.metrics import estimate_metrics, measures_from
from bitleak.report import (
    Influences,
    cluster_digests,
    figure_columns,
    read_influences,
    record_digests,
    write_influences,
)
from bitleak.report.influence_file import as_reported

MEMBER = np.stack([np.arange(200) % 2 == 0, np.arange(200) % 4 < 2])
DIGESTS = record_digests([str(number).encode() for number in range(200)])


def columns(seed, mode="population", targets=2):
    member = np.resize(MEMBER, (targets, 200))
    scores = np.random.default_rng(seed).normal(size=member.shape) + member
    estimates = estimate_metrics(scores, member, fprs=(0.1,), balanced=False)
    measures = measures_from(estimates, mode=mode)
    made = {}
    for metric, figures in estimates.items():
        by_target = dict(zip(map(str, range(targets)), measures.targets[metric], strict=True))
        by_target["all"] = measures.aggregate[metric]
        made |= figure_columns(
            ("rtn-2", "lira", "matched"), metric, figures, by_target,
            targets=range(targets), mode=mode,
        )  # fmt: skip
    return made


def influences(**options):
    records = {"pool": DIGESTS, "test": record_digests([b"a", b"b", b"c"])}
    return Influences("records", ("m0", "m1"), records, columns(0, **options))


def test_figures_come_back_with_their_influences_to_single_precision(tmp_path):
    written = influences()
    write_influences(written, tmp_path)
    back = read_influences(tmp_path)
    assert (back.about, back.models, back.records) == (
        written.about,
        written.models,
        written.records,
    )
    assert list(back.figures) == list(written.figures)
    for key, estimate in written.figures.items():
        read = back.figures[key]
        assert (read.centre, read.low, read.high) == (estimate.centre, estimate.low, estimate.high)
        np.testing.assert_array_equal(read.influence, estimate.influence.astype(np.float32))


def test_equal_figures_make_equal_bytes(tmp_path):
    contents = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_influences(influences(), tmp_path / name)
        contents.append((tmp_path / name / "influences.parquet").read_bytes())
    assert contents[0] == contents[1]


def test_a_population_has_a_column_per_figure_and_new_trainings_have_one_per_target():
    assert [str(key) for key in columns(0)] == [
        "rtn-2 lira matched auc all",
        "rtn-2 lira matched tpr@0.1 all",
    ]
    keys = columns(0, mode="dedicated", targets=5)
    assert {key.target for key in keys} == {"0", "1", "2", "3", "4"}


def test_a_wider_reported_interval_is_the_variance_of_a_choice():
    ((_, estimate), *_) = columns(0).items()
    own = estimate.high - estimate.low
    measure = Measure(estimate.value, low=estimate.low - own / 4, high=estimate.high + own / 4)
    wider = as_reported(estimate, measure)
    assert (wider.low, wider.high) == (measure.low, measure.high)
    variance = estimate.influence @ estimate.influence
    # 1.5 times the width is 2.25 times the variance
    assert wider.choice_variance == pytest.approx(1.25 * variance)
    cut = replace(measure, low=0.0)
    assert as_reported(estimate, cut) is estimate


def test_a_cluster_is_the_same_whatever_the_order_of_its_records():
    first = cluster_digests(["a", "b", "c"], np.array([0, 0, 1]))
    second = cluster_digests(["c", "b", "a"], np.array([1, 0, 0]))
    assert first == second
    assert cluster_digests(["a", "b", "d"], np.array([0, 0, 1]))[1] != first[1]
    assert cluster_digests(["a"], None) == ("a",)


def test_an_earlier_run_has_no_such_file(tmp_path):
    assert read_influences(tmp_path) is None


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:-9], "not a readable Parquet file"),
        (lambda content: content.replace(b'"version": 1', b'"version": 9'), "version must be 1"),
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path, damage, message):
    write_influences(influences(), tmp_path)
    path = tmp_path / "influences.parquet"
    changed = damage(path.read_bytes())
    assert changed != path.read_bytes()
    path.write_bytes(changed)
    with pytest.raises(StoreError, match=r"influences\.parquet: .*" + message):
        read_influences(tmp_path)


def test_a_figure_without_its_numbers_is_refused(tmp_path):
    path = tmp_path / "influences.parquet"
    table = pa.table({"part": ["pool"], "record": ["00"], "x": pa.array([0.5], pa.float32())})
    pq.write_table(table.replace_schema_metadata({"run": '{"version": 1}'}), path)
    with pytest.raises(StoreError, match=r"influences\.parquet: cannot be used"):
        read_influences(tmp_path)
