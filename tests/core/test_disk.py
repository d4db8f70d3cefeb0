"""Waiting for the disk: a whole file system at once only where that can be relied on, and for many files."""

import errno
import os
import platform
import sys

import pytest

from bitleak.core import disk
from bitleak.core.disk import Barrier, file_system, syncfs

linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux alone has syncfs")


@pytest.fixture
def waits(tmp_path, monkeypatch):
    """A folder with files on a file system that can be waited for, and what was waited for."""
    calls: dict[str, list] = {"each": [], "whole": []}
    monkeypatch.setattr(disk, "file_system", lambda device: "ext4")
    monkeypatch.setattr(disk, "syncfs", lambda: calls["whole"].append)
    monkeypatch.setattr(disk, "flush", calls["each"].append)
    monkeypatch.setattr(disk, "MANY", 3)
    return calls


def test_many_files_are_waited_for_at_once_and_few_one_by_one(tmp_path, waits):
    with Barrier(tmp_path) as barrier:
        barrier.wait(["a", "b"], [str(tmp_path)])
        assert (sorted(waits["each"]), waits["whole"]) == (["a", "b"], [])
        barrier.wait(["a", "b", "c"], [str(tmp_path)])
    assert len(waits["whole"]) == 1
    assert len(waits["each"]) == 2


def test_files_on_other_file_systems_are_waited_for_one_by_one(tmp_path, waits, monkeypatch):
    (tmp_path / "linked").symlink_to("/proc")
    with Barrier(tmp_path) as barrier:
        barrier.wait(["a", "b", "c"], [str(tmp_path), str(tmp_path / "linked")])
    monkeypatch.setattr(disk, "file_system", lambda device: "fuse.sshfs")  # its server is not told
    with Barrier(tmp_path) as barrier:
        barrier.wait(["d", "e", "f"], [str(tmp_path)])
    assert waits["whole"] == []
    assert sorted(waits["each"]) == ["a", "b", "c", "d", "e", "f"]


@linux
@pytest.mark.parametrize(
    ("release", "reliable"),
    [("4.19.0", False), ("5.7.19", False), ("5.8.0-1", True), ("6.1", True)],
)
def test_kernels_that_do_not_report_failed_writes_are_not_relied_on(monkeypatch, release, reliable):
    monkeypatch.setattr(platform, "release", lambda: release)
    assert (syncfs.__wrapped__() is not None) is reliable


@linux
def test_a_wait_that_fails_is_an_error():
    sync = syncfs()
    assert sync is not None
    with pytest.raises(OSError) as caught:  # noqa: PT011 -- the number is compared
        sync(-1)
    assert caught.value.errno == errno.EBADF


@linux
def test_the_type_of_a_file_system_is_known_by_its_device():
    assert file_system(os.stat("/proc").st_dev) == "proc"
    assert file_system(os.makedev(4000, 1)) == ""
