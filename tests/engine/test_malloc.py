"""A worker's malloc keeps what is freed: fewer pages to clear."""

import subprocess
import sys

import pytest

from bitleak.engine.malloc import keep_freed_memory

CODE = """
import resource, sys
from bitleak.engine.malloc import keep_freed_memory
if sys.argv[1] == "kept" and not keep_freed_memory():
    sys.exit(3)
step = lambda: len([b"x" * (8 << 20) for _ in range(4)])  # what a training step takes and frees
step()  # the first time, the pages are new either way
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", CODE, how], capture_output=True, text=True)
    if done.returncode == 3:
        pytest.skip("this C library has no mallopt")
    return int(done.stdout)


def test_memory_that_was_freed_is_used_again_without_page_faults():
    assert page_faults("kept") < 200
    assert page_faults("given back") > 20 * 2048


def test_a_c_library_without_the_setting_is_left_alone(monkeypatch):
    class Library:
        pass

    monkeypatch.setattr("bitleak.engine.malloc.ctypes.CDLL", lambda name: Library())
    assert keep_freed_memory() is False
