"""Tables: the right numbers from CSV and Parquet, and every mistake with its place."""

import gzip
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from bitleak.core.errors import DataError
from bitleak.core.types import Images, ModelSpec
from bitleak.data import limited, make_splits
from bitleak.data.array_images import channel_statistics
from bitleak.data.augment import Standard, apply_query
from bitleak.data.data_notes import data_lines
from bitleak.data.digits import Digits
from bitleak.data.image_copies import find_copies
from bitleak.data.table import TableFile
from bitleak.models import load
from bitleak.query import outputs
from bitleak.train.fit import fit
from bitleak.train.recipe import Recipe

PEOPLE = """age,member,town,income,target
30,true,Ulm,1.5,yes
41,false,Bonn,-2,no
30,true,Ulm,1.5,no
52,true,Köln,0.25,yes
"""
ROWS = [[30, 1, 0, 0, 1, 1.5], [41, 0, 1, 0, 0, -2], [30, 1, 0, 0, 1, 1.5], [52, 1, 0, 1, 0, 0.25]]
COLUMNS = ("age", "member", "town=Bonn", "town=Köln", "town=Ulm", "income")


def written(folder, text, name="people.csv"):
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


def test_numbers_truth_values_and_categories_become_columns(tmp_path):
    table = TableFile(written(tmp_path, PEOPLE), categorical=("town",))
    rows = table.load(None)
    assert rows.pixels.dtype == np.float32
    assert rows.pixels.tolist() == ROWS
    assert (rows.columns, rows.class_names) == (COLUMNS, ("no", "yes"))
    assert rows.labels.tolist() == [1, 0, 0, 1]
    assert not rows.held_out.any()
    assert (rows.channels, rows.size) == (6, 0)


def test_the_description_says_how_it_was_read_and_counts_classes(tmp_path):
    table = TableFile(written(tmp_path, PEOPLE), categorical=("town",), drop=("income",))
    assert data_lines(table.describe(None)) == [
        "labels from column 'target', 5 columns of features",
        "truth values are 0 and 1 in 'member'",
        "a column of 0 and 1 per category of 'town'",
        "columns that are left out: 'income'",
        "labels are text or truth values from no to yes; sorted, they are classes 0 to 1",
        "4 rows, 2 classes ('no': 2, 'yes': 2)",
    ]


def test_parquet_and_packed_csv_hold_the_same_rows(tmp_path):
    plain = TableFile(written(tmp_path, PEOPLE), categorical=("town",)).load(None)
    (tmp_path / "people.csv.gz").write_bytes(gzip.compress(PEOPLE.encode()))
    columns = {
        "age": [30, 41, 30, 52],
        "member": [True, False, True, True],
        "town": pa.array(["Ulm", "Bonn", "Ulm", "Köln"]).dictionary_encode(),
        "income": pa.array([1.5, -2, 1.5, 0.25], pa.float32()),
        "target": ["yes", "no", "no", "yes"],
    }
    pq.write_table(pa.table(columns), tmp_path / "people.parquet")
    for name in ("people.csv.gz", "people.parquet"):
        other = TableFile(str(tmp_path / name), categorical=("town",)).load(None)
        assert np.array_equal(other.pixels, plain.pixels)
        assert np.array_equal(other.labels, plain.labels)
        assert (other.columns, other.class_names) == (plain.columns, plain.class_names)


def test_a_second_file_is_held_out_and_its_columns_may_stand_in_another_order(tmp_path):
    path = written(tmp_path, "a,b,label\n1,2,0\n3,4,1\n")
    written(tmp_path, "label,b,a\n1,6,5\n", "more.csv")
    rows = TableFile(path, test="more.csv").load(None)
    assert rows.pixels.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert rows.labels.tolist() == [0, 1, 1]
    assert rows.held_out.tolist() == [False, False, True]


def test_the_layout_of_purchase_100_needs_its_label_column_and_no_header(tmp_path):
    rng = np.random.default_rng(0)
    features, labels = rng.integers(0, 2, (300, 600)), np.arange(300) % 100 + 1
    lines = [",".join(map(str, [label, *row])) for label, row in zip(labels, features, strict=True)]
    path = written(tmp_path, "\n".join(lines))
    rows = TableFile(path, label=0, header=False).load(None)
    assert np.array_equal(rows.pixels, features)
    assert np.array_equal(rows.labels, labels - 1)
    assert rows.class_names[:2] == ("1", "2")
    with pytest.raises(
        DataError, match=r"the first line holds numbers and no names .*header: false"
    ):
        TableFile(path, label=0).load(None)


def test_classes_may_be_minus_one_and_one(tmp_path):
    rows = TableFile(written(tmp_path, "a,y\n1,-1\n2,1\n4,-1\n")).load(None)
    assert (rows.labels.tolist(), rows.class_names) == ([0, 1, 0], ("-1", "1"))


def test_another_content_has_another_fingerprint_and_the_limit_keeps_the_columns(tmp_path):
    path = written(tmp_path, PEOPLE)
    table = TableFile(path, categorical=("town",))
    before = table.describe(None).fingerprint
    assert limited(table.load(None), 2, seed=0).columns == COLUMNS
    written(tmp_path, PEOPLE.replace("0.25", "0.26"))
    assert table.describe(None).fingerprint != before


MANY = "a,label\n" + "".join(f"{n},{n % 2}\n" for n in range(40))
MISTAKES = {
    "text": (
        PEOPLE,
        {},
        r"column 'town' holds text, such as 'Ulm': .* categorical: \[town\], or leave it out, drop: \[town\]",
    ),
    "a mark among numbers": (
        "a,label\n1,0\n?,1\n3,0\n",
        {},
        r"row 1: column 'a' must hold numbers, got '\?' \(1 of 3 rows hold no number\)",
    ),
    "missing": ("a,b,label\n1,1,0\n2,,1\n", {}, r"row 1: column 'b' has no value \(1 of 2 rows"),
    "missing category": (
        "a,b,label\n1,x,0\n2,,1\n",
        {"categorical": ("b",)},
        r"row 1: column 'b' has no category; write one, such as 'unknown'",
    ),
    "missing label": ("a,label\n1,0\n2,\n", {}, r"row 1: label is missing in column 'label'"),
    "infinite": ("a,label\n1.5,0\ninf,1\n", {}, r"row 1: column 'a' must hold finite numbers, got inf"),
    "date": ("a,label\n2024-01-01,0\n2024-01-02,1\n", {}, r"column 'a' holds date32"),
    "row numbers": (MANY, {}, r"column 'a' holds the numbers of the rows, 0 to 39, .*drop: \['a'\]"),
    "names": (
        "a,b,label\n" + "".join(f"n{n},{n % 3},{n % 2}\n" for n in range(40)),
        {"categorical": ("a",)},
        r"categorical column 'a' has 40 different values in 40 rows",
    ),
    "rounded by float32": (
        "a,label\n1700000001,0\n1700000004,1\n1700000003,0\n",
        {},
        r"column 'a' has values up to 1.7e\+09, which float32 rounds by .*subtract a number",
    ),
    "no label": ("a,b\n1,0\n2,1\n", {}, r"no column is called like labels; name one of them, such as label: b"),
    "two labels": ("a,y,label\n1,0,1\n", {}, r"several columns are called like labels; .* 'y', 'label'"),
    "unknown label": (PEOPLE, {"label": "tarket"}, r"unknown label 'tarket': did you mean 'target'\?"),
    "unknown column": (PEOPLE, {"drop": ("towm",)}, r"unknown column 'towm': did you mean 'town'\?"),
    "numbers to predict": (
        "a,label\n" + "".join(f"{n % 7},{n / 8}\n" for n in range(40)),
        {},
        r"label column 'label' has 40 different values in 40 rows, which are no classes",
    ),
    "separator": ("a;label\n1;0\n2;1\n", {}, r"got one column, 'a;label'; give separator: ';'"),
    "names twice": ("a,a,label\n1,1,0\n2,2,1\n", {}, r"several columns are called 'a'; rename them"),
    "one class": ("a,label\n1,0\n2,0\n", {}, r"at least 2 classes are needed"),
    "no rows": ("a,label\n", {}, r"no row of values"),
    "ragged": ("a,label\n1,0\n2,1,3\n", {}, r"not a readable CSV file"),
    "only a label": ("a,label\n1,0\n2,1\n", {"drop": ("a",)}, r"no column is left for the features"),
    "no such test": (PEOPLE, {"test": "rest.csv"}, r"no such file or folder: .*rest.csv"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_refused_with_its_place_and_the_remedy(tmp_path, name):
    text, options, message = MISTAKES[name]
    table = TableFile(written(tmp_path, text), **options)
    with pytest.raises(DataError, match=message) as caught:
        table.describe(None)
    assert str(tmp_path) in str(caught.value)


def test_a_pickle_is_never_opened(tmp_path):
    (tmp_path / "t.pkl").write_bytes(pickle.dumps(print))
    with pytest.raises(DataError, match="nothing is unpickled; write it with `to_parquet`"):
        TableFile(str(tmp_path / "t.pkl")).describe(None)


def test_a_test_file_of_other_columns_is_refused(tmp_path):
    path = written(tmp_path, PEOPLE)
    written(tmp_path, "age,town,income,target\n1,Ulm,2,no\n", "more.csv")
    with pytest.raises(DataError, match=r"must be those of people.csv, but it lacks 'member'"):
        TableFile(path, test="more.csv").describe(None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": ""}, "path must be a Parquet or CSV file"),
        ({"path": "a.csv", "test": "b/c.csv"}, "test must be the name of a file"),
        ({"path": "a.csv", "separator": ", "}, "separator must be one sign"),
        ({"path": "a.csv", "classes": 1}, "classes must be an integer from 2"),
    ],
)
def test_an_option_out_of_range_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        TableFile(**options)


def rows_of(values):
    features = np.array(values, np.float32)
    names = tuple(f"c{index}" for index in range(features.shape[1]))
    labels = np.arange(len(features)) % 2
    return Images(features, labels, ("a", "b"), np.zeros(len(features), bool), names)


def test_columns_are_standardised_by_the_pool_and_constant_ones_become_zero():
    rng = np.random.default_rng(0)
    values = np.column_stack([rng.normal(1e4, 3, 5000), rng.random(5000) < 0.1, np.full(5000, 7.0)])
    table, pool = rows_of(values), np.arange(0, 5000, 2)
    mean, std = channel_statistics(table, pool)
    exact = table.pixels[pool].astype(np.float64)
    assert np.allclose(mean, exact.mean(axis=0), rtol=1e-12)
    assert np.allclose(std, [*exact.std(axis=0)[:2], 1], rtol=1e-12)
    inputs = Standard.on("cpu", mean, std)(torch.from_numpy(table.pixels[pool])).numpy()
    assert np.allclose(inputs.mean(axis=0), 0, atol=1e-3)
    assert np.allclose(inputs.std(axis=0), [1, 1, 0], atol=1e-3)
    with pytest.raises(ValueError, match="every column of 2500 rows has one value"):
        channel_statistics(rows_of(np.ones((5000, 2))), pool)


def test_equal_rows_are_counted_as_copies_and_near_ones_are_not():
    table = rows_of([[1, 2], [1, 2], [1, 2.001], [5, 6], [7, 8], [5, 6], [0, 0], [-0.0, 0]])
    copies = find_copies(table.pixels, table.labels, np.arange(5), np.arange(5, 6))
    assert (copies.exact, copies.near, copies.held_out, copies.contradicting) == (2, 0, 1, 2)
    assert len(set(copies.groups.tolist())) == 4


def test_a_query_for_images_is_refused():
    with pytest.raises(ValueError, match="query 'flip' is for images"):
        apply_query(torch.zeros(2, 3), "flip")


def test_digits_as_a_table_train_the_same_network_and_get_the_same_answers(tmp_path):
    """One channel, so that the standardisation of the pixels is that of every column."""
    images = limited(Digits().load(None), 300, seed=0)
    values = (images.pixels.reshape(300, 64) / np.float32(255)).astype(np.float32)
    columns = {f"p{index}": values[:, index] for index in range(64)}
    pq.write_table(pa.table({**columns, "label": images.labels}), tmp_path / "digits.parquet")
    table = TableFile(str(tmp_path / "digits.parquet")).load(None)
    assert np.array_equal(table.pixels, values)

    splits = make_splits(
        images, mode="population", models=2, targets=1, calibration=0, population=20, seed=0
    )
    members = splits.pool[splits.member[0]]
    answers = []
    for data, channels, size in ((images, 1, 8), (table, 64, 0)):
        spec = ModelSpec(
            "mlp", {"hidden": [16]}, 10, channels, size, (0.3,) * channels, (0.4,) * channels
        )
        recipe = Recipe(epochs=3, batch=32, augment=())
        weights = fit(data, members, recipe, spec=spec, seed=5)
        answers.append(outputs(load(weights), data, splits, spec=spec, queries=["identity"]))
    assert np.array_equal(answers[0].signals, answers[1].signals)
    assert np.array_equal(answers[0].test_predictions, answers[1].test_predictions)
    assert answers[0].signals.std() > 0.1
