"""Loads the stages where it is imported: in the process that workers are forked from.

Loaded objects are hidden from the garbage collector, which would touch, and so copy, the shared
pages. A module that cannot be loaded is left to the workers, which report the error.
"""

import contextlib
import gc
import importlib
import os

from bitleak.engine.executors.fork_server import STAGES_VARIABLE

with contextlib.suppress(Exception):
    importlib.import_module(os.environ[STAGES_VARIABLE])
    for name in ("scipy.optimize", "scipy.stats"):  # which stages import when they need them
        importlib.import_module(name)
gc.freeze()
