"""Every kind of bad input: exit code 2, no traceback, and a message that says what to do."""

import json

import numpy as np
import pytest
from PIL import Image


def refused(result, *words):
    code, out, err = result
    assert code == 2, (code, out, err)
    assert "Traceback" not in out + err
    for word in words:
        assert word in err, err


CONFIG = [
    (["train"], {"epochs": 0}, ("train.epochs", "at least 1", "got 0")),
    (["train"], {"epochs": "many"}, ("train.epochs", "a whole number", "'many'")),
    (["train"], {"learning_rat": 0.1}, ("train.learning_rat", "did you mean 'learning_rate'")),
    (["train"], {"augment": ["spin"]}, ("train.augment", "'flip'", "'spin'")),
    (["train"], {"autocast": "int8"}, ("train.autocast", "'none'", "'int8'")),
    (["train"], {"epochs": True}, ("train.epochs", "a whole number", "True")),
    (["split"], {"models": 7}, ("split.models", "even", "got 7")),
    (["split"], {"targets": 9}, ("split.targets", "from 1 to 6", "got 9")),
    (["split"], {"mode": "pairs"}, ("split.mode", "'population'", "'pairs'")),
    (["split"], {"population": 10_000}, ("10000", "held-out records")),
    (["model"], {"name": "resnet19"}, ("model.name", "did you mean 'resnet18'")),
    (["model"], {"widht": 4}, ("model", "did you mean 'width'")),
    (
        ["data"],
        {"name": "mnist"},
        ("data.name", "Known: arrays, digits, hub, table, tiny_imagenet"),
    ),
    (["data"], {"limit": 1}, ("data.limit", "at least 2", "got 1")),
    (["quantize", 0], {"levels": [4, 300]}, ("quantize.0.levels", "from 2 to 256", "got 300")),
    (["quantize", 0], {"bits": [2]}, ("quantize.0", "one of levels", "bits")),
    (["quantize", 0], {"name": "adarond"}, ("quantize.0.name", "did you mean 'adaround'")),
    (["quantize", 0], {"preset": "fast"}, ("quantize.0.preset", "quick")),
    (["quantize", 0], {"layers": {"head*": 16}}, ("head*", "matches no layer")),
    (
        ["quantize", 0],
        {"calibration": {"source": "holdout"}},
        ("split.calibration", "32 held-out records"),
    ),
    (["calibration"], {"records": 5_000}, ("calibration.records", "5000", "each model has")),
    (["query"], {"augment": ["flip"]}, ("query.augment", "'identity'")),
    (
        ["query"],
        {"augment": ["identity", "shift:1"]},
        ("query.augment", "shift:DX,DY", "'shift:1'"),
    ),
    ([], {"limits": {"max": {"tpr@0.3": 0.1}}}, ("limits.max", "tpr@0.3 is not measured")),
    ([], {"fpr": [0.1, 2]}, ("fpr", "between 0 and 1", "2")),
    ([], {"references": ["matchd"]}, ("references", "did you mean 'matched'")),
    ([], {"attacks": ["lra"]}, ("attacks", "did you mean 'lira'")),
    ([], {"attacks": ["rmia-onlin"]}, ("attacks", "did you mean 'rmia-online'")),
    ([], {"title": "a\nb"}, ("title must be printable text", r"'\n'")),
    ([], {"title": "\ud800"}, ("title must be printable text", r"'\ud800'")),
    ([], {"title": "\u202egnp.exe"}, ("title must be printable text", r"'\u202e'")),
    ([], {"title": "x" * 61}, ("title must have at most 60 letters, got 61",)),
    ([], {"title": "=1+1"}, ("title must not begin with '='", "spreadsheets")),
    (
        ["quantize", 0],
        {"label": "@x"},
        ("quantize.0.label must not begin with '@'", "spreadsheets"),
    ),
    (["quantize", 0], {"label": "a\tb"}, ("quantize.0.label must be printable text", r"'\t'")),
    (["quantize", 0], {"label": "l" * 61}, ("quantize.0.label must have at most 60 letters",)),
    (["quantize", 0], {"layers": {"*\x1b[2J": 16}}, ("quantize must be printable text", r"'\x1b'")),
    ([], {"sead": 1}, ("sead", "did you mean 'seed'")),
    ([], {"quantize": {"name": "rtn"}}, ("quantize", "expected a list")),
    (
        [],
        {"quantize": [{"name": "rtn", "levels": 4}, {"name": "rtn", "levels": 4}]},
        ("rtn-2", "twice", "label"),
    ),
]


@pytest.mark.parametrize(
    ("where", "change", "words"), CONFIG, ids=[str(change) for _, change, _ in CONFIG]
)
def test_a_mistake_in_the_config_is_refused(bitleak, tiny, where, change, words):
    target = tiny
    for step in where:
        target = target[step]
    target.update(change)
    refused(bitleak("audit", "config.yaml", config=tiny), *words)


def test_several_mistakes_are_told_together(bitleak, tiny):
    tiny["train"]["epochs"] = -1
    tiny["model"]["name"] = "cnnn"
    tiny["seed"] = "zero"
    tiny["quantize"][0]["levels"] = [1]
    refused(
        bitleak("audit", "config.yaml", config=tiny),
        "train.epochs",
        "model.name",
        "seed",
        "quantize.0.levels",
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data: [unclosed", ("config.yaml", "not valid YAML")),
        ("- a\n- b\n", ("config.yaml", "expected a mapping")),
        ("seed: 1\nseed: 2\n", ("config.yaml", "'seed' is given twice", "line 2")),
        (b"\xff\xfe\x00", ("config.yaml", "UTF-8")),
        ("seed: !!python/object/apply:os.system [ls]\n", ("config.yaml", "not valid YAML")),
        ("{}", ("data: missing", "model: missing")),
    ],
)
def test_a_file_that_is_no_config_is_refused(bitleak, text, words):
    refused(bitleak("audit", "config.yaml", config=text), *words)


def test_a_missing_config_is_refused(bitleak):
    refused(bitleak("audit", "nowhere.yaml"), "nowhere.yaml", "cannot be read")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "train.epochs"], ("--set", "KEY=VALUE", "'train.epochs'")),
        (["--set", "train.epoch=3"], ("train.epoch", "did you mean 'epochs'")),
        (["--set", "quantize.5.levels=3"], ("quantize.5.levels", "index below 1")),
        (["--device", "tpu"], ("--device", "auto, cpu, cuda", "'tpu'")),
        (["--device", "cuda:77"], ("--device cuda:77", "CUDA devices")),
        (["--executor", "threads"], ("--executor", "Known: processes, ray, serial")),
        (["--workers", "0"], ("--workers",)),
        (["--data", "somewhere"], ("digits", "somewhere")),
    ],
)
def test_a_mistake_on_the_command_line_is_refused(bitleak, tiny, arguments, words):
    refused(bitleak("audit", "config.yaml", *arguments, config=tiny), *words)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["audit", "config.yaml", "--out", ""], "--out"),
        (["audit", "config.yaml", "--out="], "--out"),
        (["audit", "config.yaml", "--store", " "], "--store"),
        (["store", "gc", "--store", ""], "--store"),
        (["attack", ""], "argument 2"),
        (["report", "  "], "argument 2"),
    ],
)
def test_an_empty_path_is_refused(bitleak, tiny, arguments, name):
    refused(
        bitleak(*arguments, config=tiny),
        f"error: {name}: got an empty value; is a shell variable unset?",
    )


def test_a_verb_or_option_that_does_not_exist_is_refused(bitleak, tiny):
    refused(bitleak("audti"), "audti")
    refused(bitleak("audit", "config.yaml", "--fast", config=tiny), "--fast")


def test_a_store_that_is_a_file_is_refused(bitleak, tiny, tmp_path):
    (tmp_path / "taken").write_text("x")
    refused(bitleak("audit", "config.yaml", "--store", "taken", config=tiny), "taken", "folder")


def test_a_store_of_a_newer_format_is_refused(bitleak, tiny, tmp_path):
    (tmp_path / "newer").mkdir()
    (tmp_path / "newer" / "format.json").write_text(json.dumps({"format": 99}))
    refused(bitleak("audit", "config.yaml", "--store", "newer", config=tiny), "99", "newer bitleak")


def test_an_output_folder_that_is_a_file_is_refused_before_any_work(bitleak, tiny, tmp_path):
    (tmp_path / "taken").write_text("x")
    refused(bitleak("audit", "config.yaml", "--out", "taken", config=tiny), "--out taken", "folder")
    assert not (tmp_path / "bitleak-store" / "train").exists()


def test_a_disk_that_is_too_small_is_refused(bitleak, tiny, monkeypatch):
    import shutil
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1000, 999, 1))
    refused(
        bitleak("audit", "config.yaml", "--executor", "serial", config=tiny),
        "GB are free",
        "--store",
    )


def test_a_report_of_nothing_is_refused(bitleak, tmp_path):
    (tmp_path / "empty").mkdir()
    refused(bitleak("report", "empty"), "results.parquet", "bitleak audit")


def arrays(path, **changes):
    rng = np.random.default_rng(0)
    content = {
        "pixels": rng.integers(0, 256, (60, 1, 8, 8)).astype(np.uint8),
        "labels": rng.integers(0, 3, 60),
    }
    np.savez(path, **{**content, **changes})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": np.zeros(60, np.int64)}, ("at least 2 classes", "data.npz")),
        ({"labels": np.arange(59) % 3}, ("data.npz", "59")),
        ({"labels": np.arange(60) % 3 - 1}, ("data.npz", "-1")),
        ({"pixels": np.zeros((60, 1, 8, 8))}, ("data.npz", "pixels", "uint8")),
        ({"pixels": np.zeros((60, 1, 8, 6), np.uint8)}, ("data.npz", "square")),
        ({"labels": np.array([{}] * 60, dtype=object)}, ("data.npz", "pickles are never loaded")),
    ],
    ids=["one class", "lengths differ", "negative label", "floats", "not square", "a pickle"],
)
def test_arrays_that_cannot_be_used_are_refused(bitleak, tiny, tmp_path, changes, words):
    arrays(tmp_path / "data.npz", **changes)
    tiny["data"] = {"name": "arrays", "path": "data.npz"}
    refused(bitleak("audit", "config.yaml", "--executor", "serial", config=tiny), *words)


def test_a_file_that_is_no_archive_is_refused(bitleak, tiny, tmp_path):
    (tmp_path / "data.npz").write_bytes(b"PK not really")
    tiny["data"] = {"name": "arrays", "path": "data.npz"}
    refused(bitleak("audit", "config.yaml", config=tiny), "data.npz")


def folder(root, records=40, size=8):
    for split in ("train", "test"):
        for record in range(records):
            path = root / split / f"class{record % 2}" / f"{record}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((size, size), record, np.uint8)).save(path)


def test_an_image_that_cannot_be_decoded_is_named(bitleak, tiny, tmp_path):
    folder(tmp_path / "images")
    (tmp_path / "images" / "train" / "class1" / "7.png").write_bytes(b"no image")
    tiny["data"] = {"name": "hub", "path": "images"}
    tiny["calibration"] = {"records": 10}
    tiny["split"]["test"] = 10
    refused(bitleak("audit", "config.yaml", "--workers", "1", config=tiny), "7.png")


def test_an_image_of_another_size_is_named(bitleak, tiny, tmp_path):
    folder(tmp_path / "images")
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(
        tmp_path / "images" / "train" / "class1" / "9.png"
    )
    tiny["data"] = {"name": "hub", "path": "images"}
    tiny["calibration"] = {"records": 10}
    refused(bitleak("audit", "config.yaml", "--executor", "serial", config=tiny), "9.png", "9x9")


def test_an_empty_folder_is_refused(bitleak, tiny, tmp_path):
    (tmp_path / "images").mkdir()
    tiny["data"] = {"name": "hub", "path": "images"}
    refused(bitleak("audit", "config.yaml", config=tiny), "images")


def test_a_column_that_is_not_there_is_named(bitleak, tiny, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "set").mkdir()
    pq.write_table(
        pa.table({"picture": [1, 2], "label": [0, 1]}),
        tmp_path / "set" / "train-00000-of-00001.parquet",
    )
    tiny["data"] = {"name": "hub", "path": "set", "image": "img"}
    refused(
        bitleak("audit", "config.yaml", config=tiny),
        "img",
        "picture",
        "train-00000-of-00001.parquet",
    )
