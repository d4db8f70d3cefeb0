"""For tests and doctests alike: every call of the package is compared with its annotations."""

import os
import sys

import call_checks

call_checks.install("bitleak")

# dozens of processes of tests import the package: with bytecode, each saves the time to compile it
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
