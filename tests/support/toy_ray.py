"""Stand-ins for the process that talks to Ray: they take its arguments, and end in the ways that Ray has."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from bitleak.engine.executors.ray_driver import RayState

SERVER = [sys.executable, "-c", "import time; time.sleep(60)"]


def begin(root):
    """A session with a member that has a process group of its own, as Ray's workers have."""
    os.setsid()
    server = subprocess.Popen(SERVER, process_group=0)
    Path(root, "server").write_text(str(server.pid))


def vanish(pipe, start):
    """Ends at the first request as Ray's core does, by `_exit` and with a line in its log."""
    begin(start.root)
    pipe.send(RayState(workers=1, idle=False, address="head:6379"))
    pipe.recv()
    Path(start.log).write_text(
        "first\n[2026-11-29 E 1 2] rpc_client.h:204: GCS may have been killed.\n\n"
    )
    os._exit(1)


def vanish_with_the_job(pipe, start):
    """Is ended by a signal that its parent gets a moment later."""
    begin(start.root)
    pipe.send(RayState(workers=1, idle=False, own=True))
    pipe.recv()
    subprocess.Popen(["sh", "-c", f"sleep 0.1; kill -TERM {os.getppid()}"], start_new_session=True)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)


def start_for_ever(pipe, start):
    """Does not get ready, and its parent gets a signal."""
    begin(start.root)
    os.kill(os.getppid(), signal.SIGTERM)
    time.sleep(60)


def start_in_silence(pipe, start):
    """Does not get ready, and does not say so."""
    begin(start.root)
    time.sleep(60)
