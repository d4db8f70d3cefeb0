"""Who may do a task: one owner at a time, until it is done, or its owner dead."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bitleak.core.errors import StoreError
from bitleak.engine import claims as module
from bitleak.engine.claims import CLAIMS_FOLDER, Claims

KEY = "k" * 64

OWNER = """
import sys, time
from bitleak.engine.claims import Claims
claims = Claims(sys.argv[1])
print(claims.take(sys.argv[2]), flush=True)
time.sleep(60)
"""


@pytest.fixture
def make(tmp_path):
    """Makes the claims of one run after the other, and closes them."""
    made = []

    def new(**options):
        made.append(Claims(tmp_path, **options))
        return made[-1]

    yield new
    for claims in made:
        claims.close()


def foreign(root: Path, **changes) -> Path:
    """The claim of an owner on another machine."""
    path = root / CLAIMS_FOLDER / KEY
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"owner": "x", "machine": "elsewhere", "locked": True, **changes}))
    return path


def test_one_at_a_time_has_a_task(make):
    first, second = make(), make()
    assert first.take(KEY)
    assert not second.take(KEY)
    assert second.take("other")
    first.release(KEY)
    assert second.take(KEY)
    assert not first.take(KEY)


def test_closing_gives_everything_back_and_leaves_no_file(make, tmp_path):
    first, second = make(), make()
    assert first.take(KEY)
    assert first.take("other")
    first.close()
    first.close()
    assert list((tmp_path / CLAIMS_FOLDER).iterdir()) == []
    assert second.take(KEY)


def test_an_owner_that_is_killed_is_noticed_at_once(make, tmp_path):
    claims = make()
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, tmp_path, KEY], stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout.readline() == "True\n"
    assert not claims.take(KEY)
    owner.kill()
    owner.wait()
    start = time.monotonic()
    assert claims.take(KEY)
    assert time.monotonic() - start < 1
    assert [path.name for path in (tmp_path / CLAIMS_FOLDER).iterdir()] == [KEY]


def test_a_process_number_that_is_used_again_revives_nobody(make, tmp_path):
    foreign(tmp_path, machine=module.machine(), process=os.getpid())
    assert make().take(KEY)


@pytest.mark.parametrize("changes", [{}, {"machine": module.machine(), "locked": False}])
def test_an_owner_elsewhere_is_dead_after_a_lease_without_a_sign_of_life(make, tmp_path, changes):
    path = foreign(tmp_path, **changes)
    os.utime(path, (0, 0))  # its clock is wrong by half a century: nobody minds
    claims = make(lease=0.2)
    assert not claims.take(KEY)
    time.sleep(0.15)
    os.utime(path, (7, 7))  # it lives
    assert not claims.take(KEY)
    time.sleep(0.15)
    assert not claims.take(KEY)
    time.sleep(0.1)
    assert claims.take(KEY)
    assert json.loads(path.read_text())["machine"] == module.machine()


def test_owners_give_signs_of_life(make, tmp_path):
    make(beat=0.02).take(KEY)
    path = tmp_path / CLAIMS_FOLDER / KEY
    os.utime(path, (7, 7))
    deadline = time.monotonic() + 5
    while path.stat().st_mtime == 7:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_without_locks_the_lease_decides(make, tmp_path, monkeypatch):
    def unsupported(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(module.fcntl, "flock", unsupported)
    first, second = make(), make(lease=0.05)
    assert first.take(KEY)
    assert json.loads((tmp_path / CLAIMS_FOLDER / KEY).read_text())["locked"] is False
    assert not second.take(KEY)
    time.sleep(0.1)
    assert second.take(KEY)
    first.release(KEY)  # what it held is another's now, and stays
    assert (tmp_path / CLAIMS_FOLDER / KEY).exists()


def test_two_who_come_at_once_do_not_both_get_it(make, tmp_path, monkeypatch):
    first, second = make(), make()
    link = os.link

    def overtaken(*arguments):
        monkeypatch.setattr(module.os, "link", link)
        assert second.take(KEY)
        link(*arguments)

    monkeypatch.setattr(module.os, "link", overtaken)
    assert not first.take(KEY)
    assert [path.name for path in (tmp_path / CLAIMS_FOLDER).iterdir()] == [KEY]


def test_a_store_that_cannot_be_written_to_is_a_store_error(make, monkeypatch):
    def refused(*_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(module.os, "link", refused)
    with pytest.raises(StoreError, match="cannot be written to: Read-only file system"):
        make().take(KEY)


def test_sweeping_takes_only_the_dead(make, tmp_path):
    alive = make()
    alive.take("alive")
    foreign(tmp_path, machine=module.machine())
    (tmp_path / CLAIMS_FOLDER / ".left.over").write_text(
        json.dumps({"machine": module.machine(), "locked": True})
    )
    (tmp_path / CLAIMS_FOLDER / "elsewhere").write_text(
        json.dumps({"machine": "elsewhere", "locked": True})
    )
    assert make().sweep() == 2
    assert sorted(path.name for path in (tmp_path / CLAIMS_FOLDER).iterdir()) == [
        "alive",
        "elsewhere",
    ]
