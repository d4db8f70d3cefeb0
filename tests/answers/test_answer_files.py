"""The same answers in every format give the same table, and what a file holds is read as it says."""

import shutil

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from bitleak.answers import (
    AttackRequest,
    Scratch,
    prepare_attack,
    read_answers,
    try_attacks,
    write_attack,
)
from bitleak.core.errors import DataError
from bitleak.report import write_rows

FORMATS = ["compressed", "npy", "fortran", "parquet", "shards"]


def csv(lab, folder, path, **request):
    rows, _, _ = lab.rows_of(folder, path, **request)
    write_rows(rows, folder)
    return (folder / "results.csv").read_bytes()


@pytest.fixture(scope="module")
def expected_tables():
    """The table of an archive of the same answers, by the kind of answers; filled by the tests."""
    return {}


def table_of_archive(lab, folder, tables, kind, arrays):
    if kind not in tables:
        tables[kind] = csv(lab, folder, lab.write["npz"](folder, arrays))
    return tables[kind]


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_gives_the_same_results(lab, tmp_path, expected_tables, form):
    arrays = lab.made()
    expected = table_of_archive(lab, tmp_path, expected_tables, "all", arrays)
    assert b"recalibrated" in expected
    assert csv(lab, tmp_path, lab.write[form](tmp_path, arrays)) == expected


@pytest.mark.parametrize("form", ["npy", "parquet", "experiments"])
@pytest.mark.parametrize("kind", ["logits", "scores"])
def test_every_format_gives_the_same_results_without_a_population(
    lab, tmp_path, expected_tables, form, kind
):
    arrays = lab.made(population=0)
    if kind == "scores":
        arrays = {
            "scores": lab.confidence(arrays["logits"], arrays["labels"]),
            "member": arrays["member"],
        }
    expected = table_of_archive(lab, tmp_path, expected_tables, kind, arrays)
    assert csv(lab, tmp_path, lab.write[form](tmp_path, arrays)) == expected


def test_a_missing_query_axis_is_one_query(lab, tmp_path):
    arrays = lab.made(queries=1)
    flat = {
        name: array[:, :, 0] if name.endswith("logits") else array for name, array in arrays.items()
    }
    expected = csv(lab, tmp_path, lab.write["npz"](tmp_path, arrays))
    assert csv(lab, tmp_path, lab.write["npz"](tmp_path, flat, "flat.npz")) == expected
    rows = lab.table(arrays).drop_columns(["query"])
    pq.write_table(rows, tmp_path / "flat.parquet")
    assert csv(lab, tmp_path, tmp_path / "flat.parquet") == expected


def test_a_shuffled_data_frame_of_pandas_needs_no_word_about_its_index(lab, tmp_path):
    arrays = lab.made()
    expected = csv(lab, tmp_path, lab.write["npz"](tmp_path, arrays))
    frame = lab.table(arrays).to_pandas().sample(frac=1, random_state=0)
    frame.to_parquet(tmp_path / "frame.parquet")
    assert "__index_level_0__" in pq.read_schema(tmp_path / "frame.parquet").names
    assert csv(lab, tmp_path, tmp_path / "frame.parquet") == expected


def numbered(lab, tmp_path, name, arrays, add):
    """A Parquet file whose records are numbered from `add` on."""
    rows = lab.table(arrays)
    place = rows.schema.get_field_index("record")
    pq.write_table(rows.set_column(place, "record", pc.add(rows["record"], add)), tmp_path / name)
    return tmp_path / name


def test_a_quantized_file_about_other_records_is_refused_by_the_first_of_them(lab, tmp_path):
    arrays = lab.made(models=6, population=0)
    full = numbered(lab, tmp_path, "full.parquet", arrays, 100)
    with Scratch(tmp_path) as scratch:
        same = prepare_attack(
            AttackRequest(
                scores=full, quantized=numbered(lab, tmp_path, "same.parquet", arrays, 100)
            ),
            scratch,
        )
        assert same.answers.record_numbers[0] == 100
        shifted = numbered(lab, tmp_path, "shifted.parquet", arrays, 101)
        with pytest.raises(
            DataError,
            match=r"shifted.parquet: records must be those of .*; record 100 is in .*full",
        ):
            prepare_attack(AttackRequest(scores=full, quantized=shifted), scratch)


def test_messages_number_records_and_queries_as_the_file_does(lab, tmp_path):
    arrays = lab.made(models=6, population=5)
    arrays["logits"][2, 7, 1, 0] = np.nan
    broken = numbered(lab, tmp_path, "broken.parquet", arrays, 100)
    with pytest.raises(DataError, match=r"logits of model 2, record 107, query 1: must be finite"):
        lab.rows_of(tmp_path, broken)
    arrays = lab.made(models=6, population=5)
    arrays["population_logits"][3, 4, 0, 0] = np.inf
    outside = numbered(lab, tmp_path, "outside.parquet", arrays, 100)
    with pytest.raises(
        DataError, match=r"population_logits of model 3, record 304, query 0: must be finite"
    ):
        lab.rows_of(tmp_path, outside)
    arrays = lab.made(models=6, population=5)
    labels = arrays["labels"].copy()
    labels[9] = 4
    wrong = numbered(lab, tmp_path, "wrong.parquet", arrays | {"labels": labels}, 100)
    with pytest.raises(DataError, match=r"labels must be from 0 to 3, got 4 for record 109"):
        lab.rows_of(tmp_path, wrong)


def test_records_of_the_results_have_the_numbers_of_the_file(lab, tmp_path):
    path = numbered(lab, tmp_path, "answers.parquet", lab.made(models=6, population=0), 100)
    out = tmp_path / "out"
    out.mkdir()
    with Scratch(out) as scratch:
        request = AttackRequest(path, attacks=("threshold",), fprs=(0.1,))
        prepared, _ = try_attacks(prepare_attack(request, scratch))
        write_attack(prepared, out, scratch)
    assert pq.read_table(out / "records.parquet")["record"].to_pylist() == list(range(100, 300))


def test_a_quantized_file_about_another_population_or_other_queries_is_refused(lab, tmp_path):
    arrays = lab.made(models=6, population=20)
    path = lab.write["npz"](tmp_path, arrays)
    fewer = {
        name: array[:, :15] if name == "population_logits" else array
        for name, array in arrays.items()
    }
    fewer["population_labels"] = arrays["population_labels"][:15]
    few = lab.write["npz"](tmp_path, fewer, "few.npz")
    rows = lab.table(arrays)
    pq.write_table(rows, tmp_path / "full.parquet")
    place = rows.schema.get_field_index("query")
    pq.write_table(
        rows.set_column(place, "query", pc.add(rows["query"], 1)), tmp_path / "queries.parquet"
    )
    other = AttackRequest(tmp_path / "full.parquet", quantized=tmp_path / "queries.parquet")
    with Scratch(tmp_path) as scratch:
        with pytest.raises(
            DataError, match=r"few.npz: the population must be that of .*, 20 records, got 15"
        ):
            prepare_attack(AttackRequest(path, quantized=few), scratch)
        with pytest.raises(
            DataError,
            match=r"queries must be those of .*full.parquet; query 0 is in .*full.parquet",
        ):
            prepare_attack(other, scratch)


def test_labels_that_are_given_are_in_the_order_of_the_numbers_of_the_records(lab, tmp_path):
    arrays = lab.made(models=6, population=5)
    np.save(tmp_path / "labels.npy", arrays["labels"])
    path = numbered(
        lab, tmp_path, "answers.parquet", arrays | {"labels": np.zeros(200, np.int64)}, 100
    )
    with Scratch(tmp_path) as scratch:
        answers = read_answers(path, scratch, labels=tmp_path / "labels.npy")
        np.testing.assert_array_equal(answers.labels, arrays["labels"])
        np.testing.assert_array_equal(answers.population_labels, arrays["population_labels"])


def test_targets_of_named_models_are_listed_with_their_rows(lab, tmp_path):
    path = lab.write["experiments"](
        tmp_path, {k: v for k, v in lab.made(models=6).items() if "population" not in k}
    )
    with Scratch(tmp_path) as scratch:
        notes = prepare_attack(AttackRequest(path, targets="experiment-4_6,1"), scratch).notes
        assert (
            "Targets in tables are rows of member: 1 is model experiment-1_6, 4 is model experiment-4_6."
            in notes
        )
        rows = lab.write["npz"](tmp_path, lab.made(models=6))
        assert not any(
            "rows of member" in note for note in prepare_attack(AttackRequest(rows), scratch).notes
        )


def test_scores_of_the_exact_confidence_give_the_results_of_the_logits_as_they_came(lab, tmp_path):
    """Without a population nothing is divided out, of logits or of scores."""
    arrays = {name: array for name, array in lab.made().items() if "population" not in name}
    scores = {
        "scores": lab.confidence(arrays["logits"], arrays["labels"]),
        "member": arrays["member"],
    }
    _, _, expected = lab.rows_of(tmp_path, lab.write["npz"](tmp_path, arrays))
    _, _, found = lab.rows_of(tmp_path, lab.write["npz"](tmp_path, scores, "scores.npz"))
    assert list(found) == list(expected)
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, rtol=1e-9, atol=1e-9)


def test_an_uncompressed_archive_is_mapped_and_a_large_array_is_not_read(lab, tmp_path):
    arrays = lab.made()
    with Scratch(tmp_path) as scratch:
        answers = read_answers(lab.write["npz"](tmp_path, arrays), scratch)
        assert all(
            isinstance(one.base, np.memmap) or isinstance(one, np.memmap) for one in answers.pool
        )
        for one, expected in zip(answers.pool, arrays["logits"], strict=True):
            np.testing.assert_array_equal(one, expected)


def test_models_of_the_lira_code_are_in_the_order_of_their_numbers(lab, tmp_path):
    arrays = lab.made(models=12, population=0)
    with Scratch(tmp_path) as scratch:
        answers = read_answers(lab.write["experiments"](tmp_path, arrays), scratch)
        assert answers.names[2] == "experiment-2_12"
        assert answers.names[10] == "experiment-10_12"
        np.testing.assert_array_equal(answers.member, arrays["member"])
        np.testing.assert_array_equal(answers.pool[10], arrays["logits"][10])


def test_labels_from_a_file_take_the_place_of_those_of_the_source(lab, tmp_path):
    arrays = lab.made(population=0)
    np.save(tmp_path / "labels.npy", arrays["labels"])
    expected = csv(lab, tmp_path, lab.write["npz"](tmp_path, arrays))
    wrong = arrays | {"labels": np.roll(arrays["labels"], 1)}
    path = lab.write["npz"](tmp_path, wrong, "wrong.npz")
    assert csv(lab, tmp_path, path) != expected
    assert csv(lab, tmp_path, path, labels=tmp_path / "labels.npy") == expected


def test_the_population_of_a_parquet_file_is_what_has_no_membership(lab, tmp_path):
    arrays = lab.made(records=40, population=7)
    with Scratch(tmp_path) as scratch:
        answers = read_answers(lab.write["parquet"](tmp_path, arrays), scratch)
        assert (answers.records, answers.population_records) == (40, 7)
        np.testing.assert_array_equal(answers.member, arrays["member"])
        np.testing.assert_array_equal(answers.population_labels, arrays["population_labels"])
        np.testing.assert_array_equal(np.stack(answers.population), arrays["population_logits"])


@pytest.mark.parametrize("way", ["npz", "compressed", "npy", "parquet", "experiments"])
def test_one_label_of_a_million_millions_is_an_error(lab, tmp_path, way):
    arrays = lab.made(population=0)
    logits = arrays.pop("logits")
    arrays["scores"] = logits[..., 0]
    arrays["labels"][3] = 2**40
    path = lab.write[way](tmp_path, arrays)
    with (
        Scratch(tmp_path) as scratch,
        pytest.raises(DataError, match="from 0 to 999999, got 1099511627776 for record 3"),
    ):
        read_answers(path, scratch)


def test_folders_of_models_with_different_kinds_of_answers_are_named(lab, tmp_path):
    arrays = lab.made(models=6, population=0)
    arrays["scores"] = lab.confidence(arrays["logits"], arrays["labels"])
    root = lab.write["experiments"](tmp_path, arrays)
    shutil.rmtree(root / "experiment-1_6" / "scores")
    shutil.rmtree(root / "experiment-4_6" / "logits")
    with Scratch(tmp_path) as scratch:
        with pytest.raises(DataError, match=r"experiment-4_6: has scores alone, .*the same kind"):
            read_answers(root, scratch)
        shutil.rmtree(root / "experiment-1_6" / "logits")
        with pytest.raises(DataError, match=r"experiment-1_6: neither logits nor scores"):
            read_answers(root, scratch)
