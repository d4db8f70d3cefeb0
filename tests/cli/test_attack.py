"""`bitleak attack`: from a file to a report, without torch, and every kind of bad file."""

import io
import os
import pickle
import re
import subprocess
import sys
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bitleak.report import read_curves, read_rows, read_summary

MODELS, RECORDS = 8, 120


@pytest.fixture
def good():
    """Arrays of a sound file."""
    rng = np.random.default_rng(0)
    first = rng.random((MODELS // 2, RECORDS)).argsort(axis=1) < RECORDS // 2
    member = np.stack([first, ~first], axis=1).reshape(MODELS, RECORDS)
    labels = rng.integers(0, 3, RECORDS)
    logits = rng.normal(size=(MODELS, RECORDS, 2, 3)).astype(np.float16)
    logits[np.arange(MODELS)[:, None], np.arange(RECORDS), :, labels] += 2 * member[
        ..., None
    ].astype(np.float16)
    others = rng.normal(size=(MODELS, 20, 2, 3)).astype(np.float16)
    return {"logits": logits, "labels": labels, "member": member, "population_logits": others,
            "population_labels": rng.integers(0, 3, 20)}  # fmt: skip


def saved(folder, arrays, name="answers.npz"):
    np.savez(folder / name, **arrays)
    return name


def test_a_file_becomes_a_report(bitleak, tmp_path, good):
    saved(tmp_path, good)
    saved(
        tmp_path,
        good | {"logits": good["logits"] / 2, "population_logits": good["population_logits"] / 2},
        "q.npz",
    )
    code, out, err = bitleak("attack", "answers.npz", "--quantized", "q.npz", "--fpr", "0.1,0.2", "--attacks",
                             "lira-online-fixed,threshold", "--targets", "0,3", "--out", "out")  # fmt: skip
    assert code == 0, err
    for word in (
        "logits of 8 models: 120 records",
        "2 targets, 3 references per side, 2 attacks",
        "expected: ",
        "fp32",
        "quantized",
        "control",
        "report.html",
    ):
        assert word in out
    folder = tmp_path / "out"
    assert sorted(path.name for path in folder.iterdir()) == [
        "figures", "influences.parquet", "power.parquet", "records.parquet", "report.html", "results.csv",
        "results.parquet", "roc.parquet", "summary.json"
    ]  # fmt: skip
    rows = read_rows(folder)
    assert {row.variant for row in rows} == {"fp32", "quantized", "control", "positive_control"}
    assert {row.reference for row in rows if row.variant == "quantized"} == {
        "",
        "fp32",
        "recalibrated",
        "matched",
    }
    assert {row.target for row in rows} == {"0", "3", "all"}
    assert {curve.variant for curve in read_curves(folder)} == {
        "fp32",
        "quantized",
        "control",
        "positive_control",
    }
    summary = read_summary(folder)
    assert summary.source == "answers.npz and, quantized, q.npz (logits)"
    page = (folder / "report.html").read_text()
    page = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    for word in (
        "scores from answers.npz",
        "60 of them",
        "each record was in the training set of 4 of 8 models",
        "the complements of 2 targets were left out",
        "as the file has them",
        "on its own non-members",
    ):
        assert word in page, word
    for word in ("None", "0 parameters", "complementary pairs", "0 images", "config.yaml"):
        assert word not in page, word


def test_scores_alone_become_a_report_without_accuracies(bitleak, tmp_path, good, undrawn):
    scores = np.random.default_rng(0).normal(size=(MODELS, RECORDS)) + good["member"]
    saved(tmp_path, {"scores": scores, "member": good["member"]})
    code, _, err = bitleak("attack", "answers.npz", "--fpr", "0.1")
    assert code == 0, err
    folder = tmp_path / "audits" / "answers"
    assert sorted(path.name for path in (folder / "figures").glob("*.svg")) == [
        "bars.svg",
        "power.svg",
        "roc.svg",
    ]
    assert "test_accuracy" not in {row.metric for row in read_rows(folder)}
    page = (folder / "report.html").read_text()
    assert "0 classes" not in page
    assert "test accuracy of" not in page
    with undrawn():
        assert bitleak("report", folder)[0] == 0


def test_a_report_is_made_without_torch(tmp_path, good):
    saved(tmp_path, good)
    code = (
        "import sys; from bitleak.cli import main; "
        "code = main(['attack', 'answers.npz', '--attacks', 'threshold', '--fpr', '0.1', '--out', 'out']); "
        "sys.exit(code or 10 * ('torch' in sys.modules) or 20 * ('ray' in sys.modules))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, env=os.environ
    )
    assert found.returncode == 0, found.stderr
    assert (tmp_path / "out" / "report.html").is_file()


def test_an_interrupt_ends_with_130_and_leaves_no_scratch(bitleak, tmp_path, good, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("bitleak.answers.run_attacks", interrupted)
    np.savez_compressed(tmp_path / "answers.npz", **good)
    code, out, _ = bitleak("attack", "answers.npz", "--out", "out")
    assert code == 130
    assert "expected: " in out
    assert list((tmp_path / "out").iterdir()) == []


def with_value(array, at, value):
    changed = array.copy()
    changed[at] = value
    return changed


ARRAYS = [
    (
        "nan",
        lambda a: {"logits": with_value(a["logits"], (2, 5, 1, 0), np.nan)},
        ("logits of model 2, record 5, query 1", "must be finite", "nan"),
    ),
    (
        "inf",
        lambda a: {"population_logits": with_value(a["population_logits"], (7, 19, 0, 2), -np.inf)},
        ("population_logits of model 7, record 19, query 0", "must be finite", "-inf"),
    ),
    (
        "member as signs",
        lambda a: {"member": np.where(a["member"], 1, -1)},
        ("member must be True and False, or 1 and 0, got -1", "write member == 1"),
    ),
    (
        "member as text",
        lambda a: {"member": np.where(a["member"], "in", "out")},
        ("member must be True and False, or 1 and 0", "write member =="),
    ),
    (
        "a number at the end of float32",
        lambda a: {"logits": with_value(a["logits"].astype(float), (0, 3, 0, 1), 1.7e308)},
        ("logits of model 0, record 3, query 0", "must be from -1e+100 to 1e+100", "nan_to_num"),
    ),
    (
        "member of a record too few",
        lambda a: {"member": a["member"][:, :-1]},
        ("member must be", "(8, 120)", "(8, 119)"),
    ),
    (
        "member with one axis",
        lambda a: {"member": a["member"][0]},
        ("member must be [models records]", "(120,)"),
    ),
    ("no member", lambda a: {"member": None}, ("member is missing",)),
    (
        "label too large",
        lambda a: {"labels": with_value(a["labels"], 4, 3)},
        ("labels must be from 0 to 2, got 3", "record 4"),
    ),
    (
        "label negative",
        lambda a: {"labels": with_value(a["labels"], 4, -1)},
        ("from 0 to 2, got -1",),
    ),
    (
        "labels as floats",
        lambda a: {"labels": a["labels"] * 1.0},
        ("labels must be integers", "float64", "labels.astype(numpy.int64)"),
    ),
    (
        "labels of another length",
        lambda a: {"labels": a["labels"][1:]},
        ("labels must be one per record, 120, got 119",),
    ),
    ("no labels", lambda a: {"labels": None}, ("labels are missing", "--labels")),
    (
        "no labels of the population",
        lambda a: {"population_labels": None},
        ("population_labels are missing",),
    ),
    (
        "integers",
        lambda a: {"logits": a["logits"].astype(np.int32)},
        ("float16, float32 or float64, got int32",),
    ),
    (
        "complex",
        lambda a: {"logits": a["logits"] * 1j},
        ("float16, float32 or float64, got complex",),
    ),
    (
        "two axes",
        lambda a: {"logits": a["logits"][:, :, 0, 0]},
        ("[models records queries classes]", "(8, 120)"),
    ),
    (
        "one class",
        lambda a: {"logits": a["logits"][..., :1]},
        (
            "at least 2 classes",
            "got 1; write both classes of a network",
            "0 and z, if z is the output for class 1",
        ),
    ),
    ("nothing", lambda a: {"logits": a["logits"][:, :0]}, ("not empty", "(8, 0, 2, 3)")),
    (
        "a typing error",
        lambda a: {"logit": a["logits"], "logits": None},
        ("unknown array 'logit'", "did you mean 'logits'"),
    ),
    (
        "logits and scores",
        lambda a: {"scores": a["logits"][..., 0]},
        ("expected one of", "logits and scores"),
    ),
    (
        "neither",
        lambda a: {"logits": None, "population_logits": None},
        ("expected one of", "got none"),
    ),
    (
        "a population of another kind",
        lambda a: {"population_scores": a["population_logits"][..., 0]},
        ("population_scores beside logits",),
    ),
    (
        "a population of other classes",
        lambda a: {"population_logits": a["population_logits"][..., :2]},
        ("queries and classes of logits", "(2, 3)", "(2, 2)"),
    ),
    (
        "a population of other models",
        lambda a: {"population_logits": a["population_logits"][:3]},
        ("of the same models", "got 3 models beside 8"),
    ),
    (
        "models of another length",
        lambda a: {"models": np.arange(3)},
        ("models must be one integer per model, 8",),
    ),
    (
        "a model twice",
        lambda a: {"models": np.array([0, 1, 2, 3, 4, 5, 6, 6])},
        ("the model 6 occurs twice",),
    ),
    (
        "logits as probabilities",
        lambda a: {
            "probabilities": a["logits"],
            "population_probabilities": a["population_logits"],
            "logits": None,
            "population_logits": None,
        },
        ("probabilities of model 0", "sum to 1", "name them logits"),
    ),
    (
        "objects",
        lambda a: {"labels": np.array([*a["labels"][:-1], None], dtype=object)},
        ("labels.npy", "pickle", "never loaded"),
    ),
]


@pytest.mark.parametrize(
    ("change", "words"), [case[1:] for case in ARRAYS], ids=[case[0] for case in ARRAYS]
)
def test_arrays_that_do_not_fit_are_refused(bitleak, tmp_path, good, change, words):
    arrays = {name: array for name, array in (good | change(good)).items() if array is not None}
    saved(tmp_path, arrays)
    refused(
        bitleak("attack", "answers.npz", "--attacks", "threshold", "--out", "out"),
        "answers.npz",
        *words,
    )
    assert not (tmp_path / "out" / "report.html").exists()


def refused(result, *words):
    code, out, err = result
    assert code == 2, (code, out, err)
    assert "Traceback" not in out + err
    assert err.startswith("error: ")
    for word in words:
        assert word in err, err


def test_a_cut_off_archive_is_refused(bitleak, tmp_path, good):
    saved(tmp_path, good)
    content = (tmp_path / "answers.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(content[: len(content) // 2])
    refused(bitleak("attack", "cut.npz"), "cut.npz", "cut off", "numpy.savez")


def test_an_archive_with_a_flipped_bit_is_refused(bitleak, tmp_path, good):
    saved(tmp_path, good)
    content = bytearray((tmp_path / "answers.npz").read_bytes())
    content[len(content) // 4] ^= 1
    (tmp_path / "flipped.npz").write_bytes(content)
    refused(bitleak("attack", "flipped.npz"), "flipped.npz", "CRC")


def test_an_archive_with_an_array_twice_is_refused(bitleak, tmp_path, good):
    saved(tmp_path, good)
    sink = io.BytesIO()
    np.save(sink, good["labels"])
    with (
        zipfile.ZipFile(tmp_path / "answers.npz", "a") as archive,
        pytest.warns(UserWarning, match="Duplicate name"),
    ):
        archive.writestr("labels.npy", sink.getvalue())
    refused(bitleak("attack", "answers.npz"), "answers.npz", "twice")


def test_an_archive_that_holds_a_pickle_is_refused(bitleak, tmp_path):
    with zipfile.ZipFile(tmp_path / "model.npz", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"logits": 1}))
    refused(bitleak("attack", "model.npz"), "model.npz", "data.pkl", "unpickled")


class Spy:
    """Leaves a trace when it is unpickled."""

    def __reduce__(self):
        return (open, ("unpickled", "w"))


def test_nothing_is_unpickled(bitleak, tmp_path, good):
    (tmp_path / "answers.pkl").write_bytes(pickle.dumps(Spy()))
    refused(bitleak("attack", "answers.pkl"), "answers.pkl", "expected an .npz file", "unpickled")
    saved(tmp_path, good | {"labels": np.array([Spy()], dtype=object)})
    refused(bitleak("attack", "answers.npz"), "pickle")
    assert not (tmp_path / "unpickled").exists()


FILES = [
    ("nowhere.npz", None, ("nowhere.npz", "no such file")),
    ("empty.npz", b"", ("empty.npz", "expected an .npz file")),
    ("text.csv", b"model,record\n0,0\n", ("text.csv", "expected an .npz file", ".parquet")),
    ("broken.parquet", b"PAR1" + b"\0" * 50, ("broken.parquet", "Parquet")),
]


@pytest.mark.parametrize(("name", "content", "words"), FILES, ids=[case[0] for case in FILES])
def test_files_of_no_known_format_are_refused(bitleak, tmp_path, name, content, words):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    refused(bitleak("attack", name), *words)


def test_folders_that_lack_something_are_refused(bitleak, tmp_path, good):
    (tmp_path / "empty").mkdir()
    refused(bitleak("attack", "empty"), "empty", "holds none of them")
    np.save(tmp_path / "empty" / "logits.npy", good["logits"])
    refused(bitleak("attack", "empty/logits.npy"), "logits.npy", "a single array", "folder")
    refused(bitleak("attack", "empty"), "labels are missing")
    content = (tmp_path / "empty" / "logits.npy").read_bytes()
    (tmp_path / "empty" / "logits.npy").write_bytes(content[:-1])
    refused(bitleak("attack", "empty"), "logits.npy", "cut off")


def experiment(folder, keep, **arrays):
    folder.mkdir(parents=True)
    if keep is not None:
        np.save(folder / "keep.npy", keep)
    for kind, array in arrays.items():
        np.save(folder / f"{kind}.npy", array)


EXPERIMENTS = [
    ("no keep", {"keep": None}, ("experiment-1", "keep.npy is missing")),
    (
        "numbers in keep",
        {"keep": np.arange(RECORDS)},
        ("experiment-1", "keep.npy", "True and False, or 1 and 0, got 2"),
    ),
    (
        "numbers of members in keep",
        {"keep": np.arange(RECORDS // 2)},
        ("experiment-1", "keep.npy", "bool [records]", "numpy.isin(numpy.arange(records), keep)"),
    ),
    ("a short keep", {"keep": np.ones(5, bool)}, ("experiment-1", "keep.npy", "(5,)")),
    ("no answers", {"logits": None}, ("experiment-1", "neither logits nor scores")),
    (
        "other records",
        {"logits": np.zeros((5, 2, 3), np.float32), "keep": np.ones(5, bool)},
        ("the same records",),
    ),
    (
        "two rounds",
        {"logits": np.zeros((RECORDS, 2, 2, 3), np.float32)},
        ("experiment-1", "[records queries classes]"),
    ),
]


@pytest.mark.parametrize(
    ("change", "words"), [case[1:] for case in EXPERIMENTS], ids=[case[0] for case in EXPERIMENTS]
)
def test_experiments_that_lack_something_are_refused(bitleak, tmp_path, good, change, words):
    root = tmp_path / "runs"
    experiment(root / "experiment-0", good["member"][0], logits=good["logits"][0])
    arrays = {"keep": good["member"][1], "logits": good["logits"][1]} | change
    experiment(
        root / "experiment-1",
        **{name: one for name, one in arrays.items() if one is not None or name == "keep"},
    )
    np.save(tmp_path / "labels.npy", good["labels"])
    refused(bitleak("attack", "runs", "--labels", "labels.npy", "--attacks", "threshold"), *words)


def test_experiments_without_labels_are_refused(bitleak, tmp_path, good):
    experiment(tmp_path / "runs" / "experiment-0", good["member"][0], logits=good["logits"][0])
    refused(
        bitleak("attack", "runs", "--attacks", "threshold"),
        "runs",
        "labels are missing",
        "--labels",
    )


def rows(**changes):
    """A sound table of 2 models, 3 records and 1 query, with columns changed, or left out where None."""
    columns = {
        "model": [0, 0, 0, 1, 1, 1],
        "record": [0, 1, 2, 0, 1, 2],
        "member": [True, False, None, False, True, None],
        "label": [0, 1, 1, 0, 1, 1],
        "logits": pa.array([[0.0, 1.0]] * 6, pa.list_(pa.float32())),
        **changes,
    }
    return pa.table({name: column for name, column in columns.items() if column is not None})


TABLES = [
    ("no member", {"member": None}, ("member", "missing")),
    ("an unknown column", {"models": [0] * 6}, ("unknown column 'models'", "did you mean 'model'")),
    ("member as text", {"member": ["yes"] * 6}, ("member must be bool, got string", "member == 1")),
    ("records as text", {"record": ["a"] * 6}, ("record must be an integer",)),
    ("no logits", {"logits": None}, ("expected one of the columns", "got none")),
    ("logits and score", {"score": [0.0] * 6}, ("logits and score",)),
    (
        "logits as integers",
        {"logits": pa.array([[0, 1]] * 6)},
        ("logits must be a list of floating-point numbers",),
    ),
    (
        "a missing class",
        {"logits": pa.array([[0.0, 1.0]] * 5 + [[0.0]])},
        ("must all have 2 numbers, got 1: the answer of model 1 about record 2, query 0",),
    ),
    (
        "a null",
        {"logits": pa.array([[0.0, 1.0]] * 4 + [[0.0, None], [0.0, 1.0]])},
        ("hold null in 1 places: class 1 of the answer of model 1 about record 1, query 0",),
    ),
    (
        "an answer that is null",
        {"logits": pa.array([[0.0, 1.0]] * 4 + [None, [0.0, 1.0]])},
        ("is null in 1 rows: the answer of model 1 about record 1, query 0",),
    ),
    ("no label", {"label": None}, ("labels are missing",)),
    (
        "another label",
        {"label": [0, 1, 1, 1, 1, 1]},
        ("label of record 0 differs between rows (one is of model 0)",),
    ),
    (
        "an answer twice",
        {"record": [0, 1, 2, 0, 1, 1], "member": [True, False, None, False, True, True]},
        ("the answer of model 1 about record 1", "twice"),
    ),
    ("an answer too few", {"record": [0, 1, 2, 0, 1, 3]}, ("8 answers, but there are 6 rows",)),
    (
        "a null in some rows",
        {"member": [True, None, None, False, True, None]},
        ("record 1 is null in some rows only",),
    ),
    (
        "nothing but a population",
        {"member": pa.array([None] * 6, pa.bool_())},
        ("no row has a membership",),
    ),
    (
        "nan",
        {"logits": pa.array([[0.0, float("nan")]] + [[0.0, 1.0]] * 5)},
        ("model 0, record 0", "must be finite"),
    ),
]


@pytest.mark.parametrize(
    ("change", "words"), [case[1:] for case in TABLES], ids=[case[0] for case in TABLES]
)
def test_tables_that_do_not_fit_are_refused(bitleak, tmp_path, change, words):
    pq.write_table(rows(**change), tmp_path / "answers.parquet")
    refused(
        bitleak("attack", "answers.parquet", "--attacks", "threshold"), "answers.parquet", *words
    )


OPTIONS = [
    (["--targets", "8"], ("--targets", "from 0 to 7", "'8'")),
    (["--attacks", "lra"], ("--attacks", "did you mean 'lira'")),
    (["--fpr", "0.1,2"], ("--fpr", "between 0 and 1", "2")),
    (["--fpr", "nan"], ("--fpr", "between 0 and 1", "nan")),
    (["--fpr", "low"], ("--fpr", "'low'")),
    (["--labels", "nowhere.npy"], ("--labels nowhere.npy", "no such file")),
    (["--quantized", "nowhere.npz"], ("nowhere.npz", "no such file")),
    (["--out", "answers.npz"], ("--out", "expected a folder, got a file")),
]


@pytest.mark.parametrize(("options", "words"), OPTIONS, ids=[" ".join(case[0]) for case in OPTIONS])
def test_options_that_cannot_be_used_are_refused(bitleak, tmp_path, good, options, words):
    saved(tmp_path, good)
    refused(bitleak("attack", "answers.npz", *options), *words)


QUANTIZED = [
    (
        "other records",
        lambda a: {
            "logits": a["logits"][:, 1:],
            "labels": a["labels"][1:],
            "member": a["member"][:, 1:],
        },
        ("records must be as in answers.npz, 120, got 119",),
    ),
    (
        "other queries",
        lambda a: {
            "logits": a["logits"][:, :, :1],
            "population_logits": a["population_logits"][:, :, :1],
        },
        ("queries must be", "2, got 1"),
    ),
    ("other members", lambda a: {"member": ~a["member"]}, ("member of model 0 differs",)),
    ("other labels", lambda a: {"labels": (a["labels"] + 1) % 3}, ("labels differ",)),
    ("other models", lambda a: {"models": np.arange(1, 9)}, ("model 8 is none of answers.npz",)),
    (
        "another population",
        lambda a: {
            "population_logits": a["population_logits"][:, 1:],
            "population_labels": a["population_labels"][1:],
        },
        ("population must be that of answers.npz, 20", "got 19"),
    ),
]


@pytest.mark.parametrize(
    ("change", "words"), [case[1:] for case in QUANTIZED], ids=[case[0] for case in QUANTIZED]
)
def test_quantized_answers_that_do_not_fit_are_refused(bitleak, tmp_path, good, change, words):
    saved(tmp_path, good)
    saved(tmp_path, good | change(good), "q.npz")
    refused(
        bitleak("attack", "answers.npz", "--quantized", "q.npz", "--attacks", "threshold"),
        "q.npz",
        *words,
    )
