"""What a run leaves in its output folder appears as one, and what others put there stays."""

import os
import subprocess
import sys

import pytest

from bitleak.core import leftovers
from bitleak.core import output_folder as module
from bitleak.core.errors import StoreError
from bitleak.core.output_folder import as_one, check_out
from bitleak.report.audit_files import audit_files

FIRST = {
    "config.yaml": "1",
    "results.csv": "1",
    "records.parquet": "1",
    "figures/roc.svg": "1",
    "gallery/7.png": "1",
}
SECOND = {"config.yaml": "2", "results.csv": "2", "figures/roc.svg": "2", "gallery/8.png": "2"}
OWN = {
    "notes.txt": "own",
    "figures/mine.png": "own",
    "gallery/2024-cat.png": "own",
    "results.csv.bak": "own",
}


def write(folder, contents):
    for name, text in contents.items():
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_text(text)


def run(out, contents, error=None):
    with as_one(out, replaced=audit_files()) as folder:
        write(folder, contents)
        if error:
            raise error


def held(out):
    return {
        path.relative_to(out).as_posix(): path.read_text()
        for path in out.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def out(tmp_path):
    run(tmp_path / "out", FIRST)
    write(tmp_path / "out", OWN)
    return tmp_path / "out"


def test_a_run_takes_the_place_of_the_one_before_and_of_nothing_else(out):
    assert held(out) == FIRST | OWN
    run(out, SECOND)
    assert held(out) == SECOND | OWN
    assert not list(out.rglob(".*"))


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), KeyboardInterrupt(), ValueError("x")]
)
def test_a_run_that_does_not_end_changes_nothing(out, error):
    with pytest.raises(StoreError if isinstance(error, OSError) else type(error)) as raised:
        run(out, SECOND, error)
    assert held(out) == FIRST | OWN
    assert not list(out.rglob(".*"))
    if isinstance(error, OSError):
        assert str(raised.value) == (
            f"{out}: cannot be written (No space left on device), what was in it is as it was; free some space or "
            "give another folder"
        )


def test_an_error_inside_names_the_folder_that_was_asked_for(out):
    with (
        pytest.raises(StoreError, match=f"^{out}/results.csv: cannot") as raised,
        as_one(out) as folder,
    ):
        raise StoreError(f"{folder}/results.csv: cannot")
    assert ".new." not in str(raised.value)


@pytest.mark.parametrize("moved", range(4))
def test_whoever_is_killed_between_two_renames_has_the_rest_done_by_the_next(
    out, monkeypatch, moved
):
    count = []

    def replace(source, target, *, real=os.replace):
        if len(count) == moved:
            raise SystemExit
        count.append(target)
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(module.os, "replace", replace)
        with pytest.raises(SystemExit):
            run(out, SECOND)
    assert not (out / "config.yaml").exists()  # what is there is no run yet
    check_out(out)
    assert held(out) == SECOND | OWN
    assert not list(out.rglob(".*"))


def test_what_the_dead_left_unfinished_goes_and_what_the_living_write_stays(out):
    ended = subprocess.Popen([sys.executable, "-c", "pass"])
    dead = leftovers.owner(ended.pid)
    ended.wait()
    for name in (dead, leftovers.owner(os.getppid())):
        write(out / f".new.{name}.abc", SECOND)
    check_out(out)
    assert [path.name for path in out.glob(".new.*")] == [
        f".new.{leftovers.owner(os.getppid())}.abc"
    ]
    assert {
        name: text for name, text in held(out).items() if not name.startswith(".")
    } == FIRST | OWN


def test_a_folder_of_the_name_of_a_file_is_found_before_anything_is_moved(out):
    (out / "report.html").mkdir()
    with pytest.raises(
        StoreError, match=r"report.html: expected a file or nothing, got a folder; move it away"
    ):
        run(out, {**SECOND, "report.html": "2"})
    assert held(out) == FIRST | OWN
