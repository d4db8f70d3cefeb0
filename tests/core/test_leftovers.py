"""Whose a temporary file is, and whether its owner lives."""

import os
import subprocess
import sys
import tempfile

from bitleak.core import leftovers


def test_a_process_is_dead_when_it_has_gone_and_not_before():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    name = leftovers.owner(process.pid)
    assert not leftovers.is_dead(name)
    process.stdin.close()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert leftovers.is_dead(name)  # nobody has asked for its exit code yet
    process.wait()
    assert leftovers.is_dead(name)


def test_of_others_nothing_is_said():
    place, number, started = leftovers.owner().split(".")
    ended = subprocess.Popen([sys.executable, "-c", "pass"])
    dead = leftovers.owner(ended.pid).split(".")[1]
    ended.wait()
    assert leftovers.is_dead(f"{place}.{dead}.1")
    for other in (
        f"elsewhere.{dead}.1",
        f"{place}.{dead}",
        f"{place}.0.1",
        f"{place}.x.1",
        f"{place}.-1.1",
        "",
    ):
        assert not leftovers.is_dead(other)
    assert not leftovers.is_dead(f"{place}.{number}.{started}")
    assert leftovers.is_dead(f"{place}.{number}.{int(started) - 1}")  # its number is another's now


def test_sweeping_removes_files_and_folders_of_the_dead_alone(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", "pass"])
    dead = leftovers.owner(ended.pid)
    ended.wait()
    (tmp_path / f".tmp.{dead}.folder").mkdir()
    (tmp_path / f".tmp.{dead}.folder" / "file").write_text("x")
    (tmp_path / f".tmp.{dead}.file").write_text("x")
    kept = [f".tmp.{leftovers.owner()}.x", ".tmp.machine.x", f"other.{dead}.x"]
    for name in kept:
        (tmp_path / name).write_text("x")
    assert leftovers.sweep(tmp_path, ".tmp.") == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)
    assert leftovers.sweep(tmp_path / "missing", ".tmp.") == 0


def test_a_temporary_folder_ends_with_its_block_and_takes_those_of_killed_processes_along(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code = "import os; from bitleak.core.leftovers import temporary_folder\n"
    code += "with temporary_folder('a-') as folder: (folder / 'x').write_text('x'); os.kill(os.getpid(), 9)"
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == -9
    (left,) = tmp_path.iterdir()
    assert (left / "x").read_text() == "x"
    with leftovers.temporary_folder("a-") as first, leftovers.temporary_folder("a-") as second:
        (first / "y").write_text("y")
        assert {first, second} == set(tmp_path.iterdir())
        assert first.stat().st_mode & 0o777 == 0o700
    assert not list(tmp_path.iterdir())
