"""Whether freed arrays are used again, by the pages that the kernel clears."""

import resource
import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
import numpy as np
from bitleak.core.reused_memory import reuse_freed_memory

if sys.argv[1] == "reused":
    reuse_freed_memory()

def step():
    arrays = [np.ones(1 << 20, np.float32) for _ in range(3)]  # 4 MiB each

for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's malloc")
def test_freed_arrays_are_used_again():
    def faults(mode):
        command = [sys.executable, "-c", SCRIPT, mode]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return int(done.stdout)

    pages = 20 * 3 * (4 << 20) // resource.getpagesize()
    if faults("plain") < pages / 100:
        pytest.skip("this malloc keeps freed arrays by itself")
    assert faults("reused") < faults("plain") / 20
