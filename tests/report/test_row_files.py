import csv
import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bitleak.core.errors import StoreError
from bitleak.core.types import Measure, Row
from bitleak.report import RocCurve, read_curves, read_rows, write_curves, write_rows

COLUMNS = (
    "variant,quantizer,levels,attack,reference,target,metric,value,low,high,std,"
    "interval,difference,difference_low,difference_high,verdict,p_value,p_adjusted,about,family,"
    "fpr_obtained,step_fpr,step_value,unbiased,chosen"
)
words = st.text(max_size=12)
numbers = st.floats(allow_nan=False)
measures = st.builds(
    Measure,
    value=numbers,
    low=st.none() | numbers,
    high=st.none() | numbers,
    std=st.none() | numbers,
    interval=words,
    difference=st.none() | numbers,
    difference_low=st.none() | numbers,
    difference_high=st.none() | numbers,
    verdict=words,
    p_value=st.none() | numbers,
    p_adjusted=st.none() | numbers,
    about=st.sampled_from(["", "records", "trainings"]),
    family=words,
    fpr_obtained=st.none() | numbers,
    step_fpr=st.none() | numbers,
    step_value=st.none() | numbers,
    unbiased=st.none() | numbers,
    chosen=words,
)
some_rows = st.lists(
    st.builds(
        Row,
        variant=words,
        quantizer=words,
        levels=st.none() | st.integers(2, 256),
        attack=words,
        reference=words,
        target=words,
        metric=words,
        measure=measures,
    ),
    max_size=5,
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=some_rows)
def test_any_rows_come_back_from_parquet_and_csv_unchanged(tmp_path, rows):
    write_rows(rows, tmp_path)
    assert read_rows(tmp_path) == rows
    lines = list(
        csv.DictReader(io.StringIO((tmp_path / "results.csv").read_bytes().decode(), newline=""))
    )
    assert [line["variant"] for line in lines] == [row.variant for row in rows]
    assert [float(line["value"]) for line in lines] == [row.measure.value for row in rows]
    assert [line["low"] for line in lines if not line["low"]] == [
        "" for row in rows if row.measure.low is None
    ]


def test_the_csv_is_exactly_these_bytes(tmp_path):
    measure = Measure(
        np.float64(0.1) + 0.2,
        low=1.0,
        interval="records",
        verdict="not distinguishable",
        about="trainings",
    )
    rows = [
        Row("rtn-2", "rtn", 4, "threshold", "", "all", "auc", measure),
        Row("fp32", "", None, "", "", "3", "x", Measure(2.0)),
    ]
    write_rows(rows, tmp_path)
    assert (tmp_path / "results.csv").read_bytes().decode() == (
        f"{COLUMNS}\n"
        "rtn-2,rtn,4,threshold,,all,auc,0.30000000000000004,1.0,,,records,,,,not distinguishable,,,trainings,,,,,,\n"
        "fp32,,,,,3,x,2.0,,,,,,,,,,,,,,,,,\n"
    )


def test_the_same_rows_give_the_same_bytes(rows, folder, tmp_path):
    write_rows(rows, tmp_path)
    for name in ("results.csv", "results.parquet"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_parquet_columns_are_typed_and_in_order(folder):
    schema = pq.read_schema(folder / "results.parquet")
    assert ",".join(schema.names) == COLUMNS
    assert schema.field("levels").type == pa.int64()
    assert schema.field("difference").type == pa.float64()
    assert pq.read_schema(folder / "roc.parquet").names == [*COLUMNS.split(",")[:6], "fpr", "tpr"]


def test_curves_come_back_in_order(tmp_path):
    short = np.array([[0.0, 0.25], [1.0, 1.0]])
    long = np.linspace(0, 1, 14).reshape(7, 2)
    curves = [
        RocCurve("fp32", "", None, "a", "fp32", "all", long),
        RocCurve("fp32", "", None, "a", "fp32", "0", short),
        RocCurve("rtn-2", "rtn", 4, "a", "fp32", "0", short),
    ]
    write_curves(curves, tmp_path)
    back = read_curves(tmp_path)
    assert [(curve.variant, curve.levels, curve.target) for curve in back] == [
        (curve.variant, curve.levels, curve.target) for curve in curves
    ]
    for curve, found in zip(curves, back, strict=True):
        np.testing.assert_array_equal(found.points, curve.points)


def test_no_curves_are_a_table_without_lines(tmp_path):
    write_curves([], tmp_path)
    assert read_curves(tmp_path) == []


def test_a_missing_file_is_named_with_what_to_do(tmp_path):
    with pytest.raises(StoreError, match=r"results\.parquet: there is no such file.*bitleak audit"):
        read_rows(tmp_path)


def test_a_truncated_file_is_named(folder, tmp_path):
    content = (folder / "roc.parquet").read_bytes()
    (tmp_path / "roc.parquet").write_bytes(content[: len(content) // 2])
    with pytest.raises(StoreError, match=r"roc\.parquet: not a readable Parquet file"):
        read_curves(tmp_path)


def test_a_missing_column_is_named(folder, tmp_path):
    pq.write_table(
        pq.read_table(folder / "results.parquet").drop_columns(["verdict"]),
        tmp_path / "results.parquet",
    )
    with pytest.raises(
        StoreError, match=r"results\.parquet: expected the columns .* missing verdict"
    ):
        read_rows(tmp_path)


@pytest.mark.parametrize("value", ["much", None])
def test_a_column_of_a_wrong_type_is_refused(folder, tmp_path, value):
    table = pq.read_table(folder / "results.parquet").slice(0, 1)
    place = table.column_names.index("value")
    column = pa.array([value], pa.string() if value else pa.float64())
    pq.write_table(table.set_column(place, "value", column), tmp_path / "results.parquet")
    with pytest.raises(StoreError, match="wrong type"):
        read_rows(tmp_path)


def test_a_folder_that_is_a_file_is_a_store_error(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        write_rows([], tmp_path / "out")
