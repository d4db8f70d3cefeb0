"""Loads the stages where it is imported: in the process that workers are forked from.

What it loads is kept out of the garbage collector's sight, which would touch, and so copy, the shared pages.
A module that cannot be loaded is left to the workers, which say what is wrong with it.
"""

import contextlib
import gc
import importlib
import os

from bitleak.engine.executors.fork_server import STAGES_VARIABLE

with contextlib.suppress(Exception):
    importlib.import_module(os.environ[STAGES_VARIABLE])
gc.freeze()
