"""Whatever goes wrong in the middle of an audit, its table is in the end that of an undisturbed one, byte for byte.

A driver that is killed and started again is in tests/cli/test_audit.py.
"""

import contextlib
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from bitleak import audit as library
from bitleak.cli import main
from bitleak.config import validate
from bitleak.engine.store import Store

pytestmark = pytest.mark.slow

SMALL = {
    "title": "small",
    "data": {"name": "digits", "limit": 200},
    "split": {"mode": "population", "models": 6, "targets": 2, "held_out": 0.3, "population": 20},
    "model": {"name": "cnn", "width": 4},
    "train": {"epochs": 1, "batch": 32, "augment": []},
    "calibration": {"records": 32},
    "quantize": [{"name": "rtn", "levels": 4}],
    "attacks": ["lira", "threshold"],
    "query": {"augment": ["identity"]},
    "fpr": [0.05],
}
KILLS = 20
NOBODY = 65534


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Config, store and output folder of an audit that nobody disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "config.yaml").write_text(yaml.safe_dump(SMALL))
    assert (
        main(["audit", str(folder / "config.yaml"), *places(folder), "--executor", "serial"]) == 0
    )
    return folder


@pytest.fixture(scope="module")
def prepared():
    return library.prepare(validate(SMALL), device="cpu")


def places(folder: Path) -> list[str]:
    return ["--out", str(folder / "out"), "--store", str(folder / "store")]


def same_table(undisturbed: Path, out: Path) -> bool:
    return (out / "results.csv").read_bytes() == (undisturbed / "out" / "results.csv").read_bytes()


def test_twenty_workers_killed_in_one_audit(undisturbed, prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(
        sys.modules["__main__"], "__spec__", None, raising=False
    )  # spares each worker pytest
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    chance, killed, store = random.Random(0), [], Store(tmp_path / "store")

    def kill(event):
        workers = [process.pid for process in multiprocessing.active_children()]
        if (
            event.kind in ("started", "progress")
            and len(killed) < KILLS
            and workers
            and chance.random() < 0.7
        ):
            killed.append(chance.choice(workers))
            os.kill(killed[-1], signal.SIGKILL)

    for _ in range(10):  # a task that loses two workers has failed: the next run does it
        report = library.audit(
            prepared, out=tmp_path / "out", store=store, workers=2, on_event=kill
        )
        assert all(
            "was ended by SIGKILL" in outcome.text and outcome.log for outcome in report.failed
        )
        if not report.failed:
            break
    assert len(killed) == KILLS
    assert same_table(undisturbed, tmp_path / "out")
    assert store.verify() == []
    assert not list(store.root.rglob(".tmp*"))
    assert not list((store.root / ".claims").iterdir())


def test_two_audits_at_once_on_one_store(undisturbed, tmp_path):
    command = [
        sys.executable,
        "-m",
        "bitleak",
        "audit",
        str(undisturbed / "config.yaml"),
        "--workers",
        "1",
    ]
    shared = ["--store", str(tmp_path / "store")]
    outs = [tmp_path / "first", tmp_path / "second"]
    processes = [
        subprocess.Popen([*command, *shared, "--out", str(out)], stdout=subprocess.PIPE, text=True)
        for out in outs
    ]
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    assert all(same_table(undisturbed, out) for out in outs)
    assert Store(tmp_path / "store").verify() == []
    assert not list((tmp_path / "store").rglob(".tmp*"))


def test_truncated_and_flipped_results_are_named_and_made_again(undisturbed, tmp_path, capfd):
    shutil.copytree(undisturbed / "store", tmp_path / "store")
    arguments = [
        "audit",
        str(undisturbed / "config.yaml"),
        *places(tmp_path),
        "--executor",
        "serial",
    ]
    damaged = [
        next((tmp_path / "store").glob(pattern))
        for pattern in (
            "measure/*/*/curves.safetensors",
            "utility/*/*/rows.json",
            "query/*/*/signals.npy",
        )
    ]
    damaged += sorted((tmp_path / "store").glob("attack/*/*/scores.npy"))
    for number, path in enumerate(damaged):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 16
        path.write_bytes(content[:-100] if number % 2 else content)
    assert main(["store", "verify", "--store", str(tmp_path / "store")]) == 1
    said = capfd.readouterr().out
    assert all(str(path) in said for path in damaged)
    assert main(arguments) == 0
    assert same_table(undisturbed, tmp_path / "out")
    needed = [path for path in damaged if path.parts[-4] in ("measure", "utility")]
    assert all(str(path) not in str(Store(tmp_path / "store").verify()) for path in needed)


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a file system cannot be mounted here: that takes root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("after", [3, 20])
def test_a_disk_that_is_full(undisturbed, prepared, tmp_path, after):
    with small_disk(tmp_path / "disk", "16m") as disk:
        store = Store(disk / "store")

        def fill(event):
            if event.kind == "finished" and event.done == after:
                with contextlib.suppress(OSError), (disk / "ballast").open("wb") as file:
                    while True:
                        file.write(bytes(4096))

        first = library.audit(
            prepared, out=tmp_path / "out", store=store, executor="serial", on_event=fill
        )
        assert [outcome.text.split(": ")[-1] for outcome in first.failed] == [
            "No space left on device"
        ]
        assert len(first.done) == after
        assert len(first.not_run) == len(prepared.plan.tasks) - after - 1
        (disk / "ballast").unlink()
        assert store.verify() == []
        second = library.audit(prepared, out=tmp_path / "out", store=store, executor="serial")
        assert len(second.done) == len(prepared.plan.tasks) - after
        assert same_table(undisturbed, tmp_path / "out")


@contextlib.contextmanager
def ordinary_user() -> Iterator[Path]:
    """A folder in which permissions count: root, who may do anything, becomes somebody else."""
    folder = Path(tempfile.mkdtemp(prefix="bitleak-"))
    root = os.geteuid() == 0
    try:
        if root:
            os.chown(folder, NOBODY, NOBODY)
            os.seteuid(NOBODY)
        yield folder
    finally:
        if root:
            os.seteuid(0)
        shutil.rmtree(folder)


def allow_writing(root: Path, allowed: bool) -> None:
    for path in [root, *(path for path in root.rglob("*") if path.is_dir())]:
        path.chmod(0o755 if allowed else 0o555)


def test_a_store_that_turns_read_only(undisturbed, prepared, monkeypatch):
    expected = (
        undisturbed / "out" / "results.csv"
    ).read_bytes()  # now: an ordinary user may not look there
    with ordinary_user() as folder:
        monkeypatch.setenv("MPLCONFIGDIR", str(folder / "matplotlib"))
        store = Store(folder / "store")

        def forbid(event):
            if event.kind == "finished" and event.done == 10:
                allow_writing(store.root, False)

        first = library.audit(
            prepared, out=folder / "out", store=store, executor="serial", on_event=forbid
        )
        assert [outcome.text.split(": ")[-1] for outcome in first.failed] == ["Permission denied"]
        assert len(first.done) == 10
        allow_writing(store.root, True)
        assert store.verify() == []
        library.audit(prepared, out=folder / "out", store=store, executor="serial")
        assert (folder / "out" / "results.csv").read_bytes() == expected
        allow_writing(store.root, False)  # all is done: to read is enough
        again = library.open_store(store.root)
        report = library.audit(prepared, out=folder / "again", store=again, executor="serial")
        assert (report.done, report.failed) == ((), ())
        assert (folder / "again" / "results.csv").read_bytes() == expected
        allow_writing(store.root, True)
