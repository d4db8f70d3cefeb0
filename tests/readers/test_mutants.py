"""Damaged files: every reader gives a result or one line that says what is wrong, in bounded time and memory.

Each test takes small valid files and changes them by a seeded generator: bits, cuts, numbers in headers, swapped and
repeated ranges. Where a checksum would hide what is behind it, the content is changed before it is packed.
"""

import contextlib
import hashlib
import io
import json
import re
import resource
import signal
import tarfile
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.numpy
from PIL import Image

from bitleak.answers import Scratch, read_answers
from bitleak.config import read_config, validate
from bitleak.core.errors import BitleakError, ConfigError, StoreError
from bitleak.core.types import Measure, ModelSpec, QuantizedLayer, QuantizedWeights, Row
from bitleak.data.array_files import Arrays
from bitleak.data.hub import Hub
from bitleak.data.tiny_imagenet import TinyImageNet
from bitleak.engine.keys import Task
from bitleak.engine.store import Store
from bitleak.engine.transfer import export_results, import_results
from bitleak.report import (
    PowerRow,
    RocCurve,
    read_curves,
    read_power,
    read_rows,
    read_summary,
    write_curves,
    write_rows,
)
from bitleak.report.power_file import write_power
from bitleak.single_network import load_quantized, save_quantized
from bitleak.single_network.weights_files import read_weights

MUTANTS = 200
SECONDS = 5
MEMORY = 768 << 20
"""Bytes that a reader may take beyond those the process has."""

NUMBERS = (
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    1 << 40,
    (1 << 63) - 1,
)
WORDS = (
    "-1",
    "0",
    "99999999999",
    "1e999",
    "NaN",
    "null",
    "[",
    "{",
    "]",
    "(",
    "\0",
    '"',
    "'",
    "\\ud800",
    "true",
)
TAGS = (
    "2001-99-99",
    "!!python/none",
    "!!int a",
    "!!timestamp a",
    "&a ",
    "*a",
    "\n",
    "[" * 3000,
    "{'a':" * 1500,
)
TEXTS = (b"\xff\xfe", *(word.encode() for word in (*WORDS, *TAGS)))


def flipped(data, rng):
    changed = bytearray(data)
    for _ in range(rng.integers(1, 9)):
        changed[rng.integers(len(changed))] ^= 1 << rng.integers(8)
    return bytes(changed)


def cut(data, rng):
    return data[: rng.integers(len(data))]


def shortened(data, rng):
    start = rng.integers(len(data))
    return data[:start] + data[start + rng.integers(1, 40) :]


def repeated(data, rng):
    start = rng.integers(len(data))
    stop = start + rng.integers(1, 40)
    return data[:stop] + data[start:stop] + data[stop:]


def swapped(data, rng):
    size = int(rng.integers(1, max(2, min(9, len(data) // 3))))
    first, second = sorted(rng.integers(0, max(1, len(data) - size), 2))
    changed = bytearray(data)
    changed[first : first + size], changed[second : second + size] = (
        data[second : second + size],
        data[first : first + size],
    )
    return bytes(changed)


def numbered(data, rng):
    """A number of 1 to 8 bytes becomes one of those at the edge."""
    size, value = int(rng.choice([1, 2, 4, 8])), int(rng.choice(NUMBERS))
    start = rng.integers(max(1, len(data) - size))
    raw = (value & ((1 << 8 * size) - 1)).to_bytes(size, str(rng.choice(["little", "big"])))
    return data[:start] + raw + data[start + size :]


def worded(data, rng):
    """A word or number of a text becomes another, or gets one."""
    words = list(re.finditer(rb"[-+\w.]+|[^\w\s]", data))
    word = words[rng.integers(len(words))].span() if words else (0, 0)
    stop = word[rng.integers(2)]
    return data[: word[0]] + TEXTS[rng.integers(len(TEXTS))] + data[stop:]


KINDS = (flipped, cut, shortened, repeated, swapped, numbered, numbered, worded)


def mutant(data, rng):
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        data = KINDS[rng.integers(len(KINDS))](data, rng) if data else data
    return data


@contextlib.contextmanager
def bounded():
    """Errors of memory and time beyond the bounds, and every warning, are no `BitleakError`."""

    def late(number, frame):
        raise AssertionError(f"more than {SECONDS} s")

    held = 1024 * int(re.search(r"VmData:\s*(\d+)", Path("/proc/self/status").read_text())[1])
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    resource.setrlimit(resource.RLIMIT_DATA, (held + MEMORY, hard))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def survive(attempts, read, *, expected=BitleakError, lines=False):
    """Read all mutants; an error is one line, or has a mistake per line. Returns the messages."""
    refused, done = [], 0
    for attempt in attempts:
        attempt()
        error = error_of(read)
        if error is not None:
            assert isinstance(error, expected)
            said = str(error)
            for line in said.split("\n") if lines else [said]:
                assert line.strip()
                assert line.isprintable(), ascii(line)
                assert len(line) < 2000
            refused.append(said)
        done += 1
    assert done == MUTANTS
    assert len(refused) >= MUTANTS // 10
    return refused


def error_of(read):
    """The error on purpose; any other error passes."""
    with bounded():
        try:
            read()
        except BitleakError as error:
            return error
    return None


def changes(files, seed, *, mutants=MUTANTS, packed=None):
    """Functions, each of which changes one of the files and puts back the one before."""
    rng = np.random.default_rng(seed)
    whole = {file: file.read_bytes() for file in files}

    def change(file, content):
        def act():
            for other, data in whole.items():
                if other.read_bytes() != data:
                    other.write_bytes(data)
            file.write_bytes(content)

        return act

    for number in range(mutants):
        file = files[number % len(files)]
        data = whole[file]
        content = mutant(data, rng) if packed is None or number % 3 == 0 else packed(data, rng)
        yield change(file, content)


def repacked(data, rng):
    """One array of an archive is changed before it is packed, in one of the four ways of packing."""
    way = int(
        rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    )
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        arrays = {name: archive.read(name) for name in archive.namelist()}
    broken = list(arrays)[rng.integers(len(arrays))]
    inside = rng.integers(3)
    if inside:  # most of an array is numbers, which are right whatever they are
        head = arrays[broken][:128]
        arrays[broken] = mutant(head, rng) + arrays[broken][128:]
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", way) as archive:
        for name, content in arrays.items():
            archive.writestr(name, content)
    return stream.getvalue() if inside else mutant(stream.getvalue(), rng)


def small_images(count=12):
    return np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), np.uint8)


def test_a_damaged_config_is_refused_or_read(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_bytes((Path(__file__).parents[2] / "src/bitleak/demo.yaml").read_bytes())
    survive(
        changes([file], 1), lambda: validate(read_config(file)), expected=ConfigError, lines=True
    )


def test_a_damaged_file_of_arrays_is_refused_or_read(tmp_path):
    file = tmp_path / "a.npz"
    names = np.array(["cat", "dog"])
    np.savez(file, pixels=small_images()[..., :1], labels=np.arange(12) % 2, class_names=names)
    survive(changes([file], 2, packed=repacked), lambda: Arrays(str(file)).load(None))


def hub_table(count=4):
    images = []
    for pixels in small_images(count):
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "PNG")
        images.append({"bytes": stream.getvalue(), "path": "a.png"})
    features = {
        "img": {"_type": "Image"},
        "label": {"names": ["cat", "dog"], "_type": "ClassLabel"},
    }
    table = pa.table({"img": images, "label": np.arange(count) % 2})
    return table.replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )


def edited_metadata(data, rng):
    """The features that describe the columns are changed before the table is written."""
    table = pq.read_table(io.BytesIO(data))
    features = mutant(table.schema.metadata[b"huggingface"], rng)
    stream = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({b"huggingface": features}), stream)
    return stream.getvalue()


@pytest.mark.parametrize("checksums", [True, False])
def test_a_damaged_table_of_images_is_refused_or_read(tmp_path, checksums):
    file = tmp_path / "train.parquet"
    pq.write_table(hub_table(), file, write_page_checksum=checksums)
    survive(
        changes([file], 3 + checksums, packed=edited_metadata),
        lambda: Hub(str(tmp_path)).load(None),
    )


FORMATS = {
    "png": {},
    "jpg": {},
    "webp": {},
    "bmp": {},
    "gif": {},
    "tif": {"compression": "tiff_lzw"},
    "ppm": {},
}


def test_a_damaged_picture_is_refused_or_read(tmp_path):
    files = []
    for number, (suffix, options) in enumerate(FORMATS.items()):
        file = tmp_path / "train" / "ab"[number % 2] / f"{number}.{suffix}"
        file.parent.mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        exif[0x0112] = 3
        Image.fromarray(small_images()[number]).save(
            file, **options, **({} if suffix in ("ppm", "bmp", "gif") else {"exif": exif})
        )
        files.append(file)

    survive(changes(files, 5), lambda: Hub(str(tmp_path)).load(None))


def test_a_damaged_tiny_imagenet_is_refused_or_read(tmp_path):
    for number in range(6):
        part = (
            tmp_path / "train" / f"n0{number % 2}" / "images"
            if number < 4
            else tmp_path / "val" / "images"
        )
        part.mkdir(parents=True, exist_ok=True)
        Image.fromarray(small_images()[number]).save(part / f"{number}.JPEG")
    (tmp_path / "wnids.txt").write_text("n00\nn01\n")
    (tmp_path / "words.txt").write_text("n00\tgoldfish, Carassius auratus\nn01\tant\n")
    annotations = tmp_path / "val" / "val_annotations.txt"
    annotations.write_text("4.JPEG\tn00\t0\t0\t7\t7\n5.JPEG\tn01\t0\t0\t7\t7\n")
    files = [tmp_path / "wnids.txt", tmp_path / "words.txt", annotations]
    survive(changes(files, 6), lambda: TinyImageNet(str(tmp_path)).load(None))


def answers(models=4, records=6):
    rng = np.random.default_rng(0)
    return {
        "logits": rng.normal(size=(models, records, 1, 3)).astype(np.float32),
        "member": np.arange(models * records).reshape(models, records) % 2 == 0,
        "labels": np.arange(records) % 3,
    }


def read_all(path, scratch):
    """The answers with their numbers, which are mapped until they are used."""
    with Scratch(scratch) as room:
        found = read_answers(path, room)
        return [np.array(array) for array in found.pool]


def test_a_damaged_archive_of_answers_is_refused_or_read(tmp_path):
    file = tmp_path / "answers.npz"
    np.savez(file, **answers())
    survive(changes([file], 7, packed=repacked), lambda: read_all(file, tmp_path))


def edited_header(data, rng):
    return mutant(data[:128], rng) + data[128:]


def test_a_damaged_folder_of_answers_is_refused_or_read(tmp_path):
    files = []
    for name, array in answers().items():
        files.append(tmp_path / "answers" / f"{name}.npy")
        files[-1].parent.mkdir(exist_ok=True)
        np.save(files[-1], array)
    survive(
        changes(files, 8, packed=edited_header), lambda: read_all(tmp_path / "answers", tmp_path)
    )


def test_a_damaged_folder_of_experiments_is_refused_or_read(tmp_path):
    made, files = answers(), [tmp_path / "runs" / "y_train.npy"]
    for model in range(2):
        folder = tmp_path / "runs" / f"experiment-{model}_2"
        (folder / "logits").mkdir(parents=True)
        np.save(folder / "keep.npy", made["member"][model])
        np.save(folder / "logits" / "0000000100.npy", made["logits"][model])
        files += [folder / "keep.npy", folder / "logits" / "0000000100.npy"]
    np.save(files[0], made["labels"])
    survive(changes(files, 9, packed=edited_header), lambda: read_all(tmp_path / "runs", tmp_path))


@pytest.mark.parametrize("checksums", [True, False])
def test_a_damaged_table_of_answers_is_refused_or_read(tmp_path, checksums):
    made = answers()
    model, record = np.indices(made["member"].shape).reshape(2, -1)
    columns = {
        "model": model,
        "record": record,
        "member": made["member"].ravel(),
        "label": made["labels"][record],
    }
    file = tmp_path / "answers.parquet"
    table = pa.table({**columns, "logits": list(made["logits"].reshape(-1, 3))})
    pq.write_table(table, file, write_page_checksum=checksums)
    survive(changes([file], 10 + checksums), lambda: read_all(file, tmp_path))


def test_damaged_weights_are_refused_or_read(tmp_path):
    file = tmp_path / "net.safetensors"
    tensors = {
        "a.weight": np.ones((3, 4), np.float32),
        "a.bias": np.ones(3, np.float16),
        "n": np.array(3),
    }
    file.write_bytes(safetensors.numpy.save(tensors, {"made": "by a test"}))
    survive(
        changes([file], 12, packed=lambda data, rng: mutant(data[:200], rng) + data[200:]),
        lambda: read_weights(file),
    )


SPEC = ModelSpec("cnn", {"width": 4}, 10, 1, 8, (0.5,), (0.2,))


def test_damaged_quantized_weights_are_refused_or_read(tmp_path):
    layer = QuantizedLayer(
        np.ones((3, 4), np.uint8), np.ones(3, np.float32), np.ones(3, np.float32), 4
    )
    quantized = QuantizedWeights(
        {"a": layer}, {"a.bias": np.ones(3, np.float32)}, SPEC, {"a": {"damping": 0.1}}
    )
    files = save_quantized(quantized, tmp_path / "rtn-4")
    survive(changes(list(files[1:]), 13), lambda: load_quantized(tmp_path / "rtn-4"))


def a_store(root):
    store = Store(root)
    weights = {
        "tensors": {"w": np.ones((2, 3), np.float32)},
        "about": {"kind": "weights", "names": ["w"], "spec": None},
    }
    task = Task("train", "1", {"n": 1}, label="train 1")
    store.write(task, weights, {"device": "cpu", "seconds": 1.5, "peak_memory": 10})
    other = Task("query", "1", {"n": 2}, label="query 2")
    store.write(
        other, {"x": np.arange(9.0), "about": {"note": "été"}}, {"device": "cpu", "seconds": 0.5}
    )
    return store, task, other


def test_a_damaged_store_is_named_and_the_rest_is_listed(tmp_path):
    store, task, other = a_store(tmp_path / "store")
    folder, neighbour = store.path(task), store.path(other)
    files = sorted(Path(folder).glob("*"))

    def use():
        listed = [entry.key for entry in store.ls()]
        assert other.key in listed
        for problem in store.verify():
            assert problem.place == folder
        assert (Path(neighbour) / "x.npy").exists()
        store.read(task)
        read_weights(Path(folder))

    survive(changes(files, 14), use)


def test_results_whose_digests_fit_damaged_files_are_refused_or_read(tmp_path):
    """A manifest that was written again says nothing about the files."""
    store, task, _ = a_store(tmp_path / "store")
    folder = Path(store.path(task))

    def honest(files):
        manifest = json.loads((folder / "manifest.json").read_text())
        for name in manifest["files"]:
            data = (folder / name).read_bytes()
            manifest["files"][name] = {
                "size": len(data),
                "sha256": hashlib.sha256(data).hexdigest(),
            }
        (folder / "manifest.json").write_text(json.dumps(manifest))

    files = [folder / "tensors.safetensors", folder / "about.json"]

    def attempts():
        for change in changes(files, 15):

            def act(change=change):
                change()
                honest(files)

            yield act

    survive(attempts(), lambda: read_weights(folder))


def test_a_damaged_import_takes_nothing(tmp_path):
    store, _, _ = a_store(tmp_path / "store")
    (file,) = export_results(store, tmp_path / "all.tar")
    there = Store(tmp_path / "there")

    def take():
        try:
            import_results(there, [file])
        except BitleakError:
            assert there.ls() == []
            raise
        for entry in there.ls():
            there.remove(entry.path)

    survive(changes([file], 16, packed=edited_member), take, expected=StoreError)


def edited_member(data, rng):
    """A member is changed before the archive is written, in one of the formats of tar."""
    kind = int(rng.choice([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
    stream = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(data)) as archive,
        tarfile.open(fileobj=stream, mode="w", format=kind) as new,
    ):
        members = [(member, archive.extractfile(member).read()) for member in archive]
        broken = rng.integers(len(members))
        for number, (member, content) in enumerate(members):
            if number == broken:
                content = mutant(content, rng) if rng.integers(2) else content
                member.name = (
                    mutant(member.name.encode(), rng).decode("latin-1")
                    if rng.integers(4) == 0
                    else member.name
                )
                member.size = len(content)
            with contextlib.suppress(ValueError):
                new.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def test_a_damaged_results_folder_is_refused_or_read(tmp_path):
    row = Row(
        "fp32",
        "",
        None,
        "lira",
        "fp32",
        "all",
        "auc",
        Measure(0.6, low=0.5, high=0.7, std=0.1, interval="records"),
    )
    write_rows([row], tmp_path)
    write_curves(
        [RocCurve("fp32", "", None, "lira", "fp32", "all", np.array([[0.0, 0.1], [1.0, 1.0]]))],
        tmp_path,
    )
    write_power([PowerRow("fp32", "lira", "fp32", 4, "all", "auc", row.measure)], tmp_path)
    (tmp_path / "summary.json").write_text(json.dumps(SUMMARY))
    files = [
        tmp_path / name
        for name in ("results.parquet", "roc.parquet", "power.parquet", "summary.json")
    ]

    def use():
        read_rows(tmp_path, target="all")
        read_curves(tmp_path)
        read_power(tmp_path)
        read_summary(tmp_path)

    survive(changes(files, 17), use, expected=StoreError)


SUMMARY = {
    "title": "a", "dataset": "digits", "records": 10, "members": 5, "non_members": 5, "population_records": 0,
    "test_records": 2, "classes": 2, "models": 4, "mode": "population", "targets": 1, "references": 1, "network": "cnn",
    "parameters": 9, "training": "sgd", "calibration": "members", "calibration_records": 3, "fprs": [0.1],
    "headline_attack": "lira", "headline_reference": "fp32", "headline_fpr": 0.1, "expected_false_positives": 1.0,
    "presets": [], "queries": 1, "interval": "", "versions": {"bitleak": "1"}, "machine": "", "seeds": {"root": 0},
    "variants": [{"name": "fp32", "quantizer": "", "levels": None, "bits_per_weight": 32.0, "bytes": 36}],
}  # fmt: skip
