import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from multiprocessing import forkserver
from pathlib import Path

import pytest

from bitleak.core.errors import ExecutionError
from bitleak.engine.executors import fork_server, processes
from bitleak.engine.executors.fork_server import open_fork_server
from bitleak.engine.graph import Batch
from bitleak.engine.keys import Task
from bitleak.engine.store import Store
from bitleak.engine.worker import Runtime

LINUX = pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere each worker is started afresh"
)

SCRIPT = """
import gc, json, multiprocessing, os, sys, time
from multiprocessing import forkserver
from bitleak.engine.executors.fork_server import STAGES_VARIABLE, open_fork_server

def tell(pipe):
    pipe.send([os.getpid(), {module!r} in sys.modules, gc.get_freeze_count() > 0, os.environ.get("OMP_NUM_THREADS")])
    while {waits} and not os.path.exists({end!r}):
        time.sleep(0.02)

if __name__ == "__main__":
    os.environ.pop("OMP_NUM_THREADS", None)
    context = open_fork_server({module!r})
    ours, theirs = multiprocessing.Pipe()
    process = context.Process(target=tell, args=(theirs,), daemon=True)
    process.start()
    left = [name in os.environ for name in (STAGES_VARIABLE, "OMP_NUM_THREADS")]
    print(json.dumps([forkserver._forkserver._forkserver_pid, *ours.recv(), left]), flush=True)
    process.join()
"""


def script(folder: Path, module: str, *, waits: bool = False, **variables: str) -> subprocess.Popen:
    """A caller whose worker ends at once, or when there is a file `end` in the folder."""
    text = SCRIPT.format(module=module, waits=waits, end=str(folder / "end"))
    (folder / "script.py").write_text(text)
    return subprocess.Popen(
        [sys.executable, folder / "script.py"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *sys.path]), **variables},
        stdout=subprocess.PIPE,
        text=True,
    )


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")")[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


@LINUX
def test_a_worker_finds_the_stages_loaded_and_the_caller_its_environment_as_it_was(tmp_path):
    (tmp_path / "some_stages.py").write_text("")
    out, _ = script(tmp_path, "some_stages").communicate(timeout=60)
    _, _, loaded, frozen, threads, left = json.loads(out)
    assert (loaded, frozen, threads, left) == (True, True, "1", [False, False])


@LINUX
def test_stages_that_cannot_be_loaded_are_left_to_the_worker(tmp_path):
    (tmp_path / "some_stages.py").write_text("raise RuntimeError('broken')")
    out, _ = script(tmp_path, "some_stages").communicate(timeout=60)
    assert json.loads(out)[2] is False


@LINUX
def test_nothing_stays_behind_where_the_caller_is_killed(tmp_path):
    (tmp_path / "some_stages.py").write_text("")
    process = script(tmp_path, "some_stages", waits=True)
    server, worker, *_ = json.loads(process.stdout.readline())
    assert not gone(server)
    assert not gone(worker)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (tmp_path / "end").touch()
    deadline = time.monotonic() + 30
    while not (gone(server) and gone(worker)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@LINUX
def test_a_temporary_folder_without_room_for_a_socket_costs_time_only(tmp_path):
    (tmp_path / "some_stages.py").write_text("")
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    out, _ = script(tmp_path, "some_stages", TMPDIR=str(deep)).communicate(timeout=60)
    server, _, loaded, *_ = json.loads(out)
    assert (server, loaded) == (None, False)


def test_workers_of_several_threads_are_started_afresh():
    assert isinstance(
        fork_server.open_fork_server("bitleak.steps.stages", threads=2),
        multiprocessing.context.SpawnContext,
    )


UNGUARDED = """
import sys
from pathlib import Path

folder = {folder!r}
with open(folder + "/started", "a") as file:
    file.write("once ")
sys.path.insert(0, {here!r})

from bitleak.engine.executors.processes import Processes
from bitleak.engine.graph import Graph
from bitleak.engine.keys import Task
from bitleak.engine.execution import run_tasks
from bitleak.engine.store import Store
from bitleak.engine.worker import Runtime

store = Store(folder + "/store")
executor = Processes(store.location, Runtime(stages="toy_stages"), 2)
report = run_tasks(Graph([Task("draw", "1", dict(seed=seed)) for seed in range(4)]), store, executor)
executor.close()
print(len(report.done), len(report.failed), sys.modules["__main__"].__dict__ is globals())
"""


@pytest.mark.parametrize("place", ["file", "standard input"])
def test_a_script_without_a_guard_is_run_once_and_its_tasks_are_done(tmp_path, place):
    text = UNGUARDED.format(folder=str(tmp_path), here=str(Path(__file__).parent))
    (tmp_path / "script.py").write_text(text)
    source, given = (tmp_path / "script.py", None) if place == "file" else ("-", text)
    done = subprocess.run(
        [sys.executable, source], input=given, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "4 0 True\n", done.stderr
    assert (tmp_path / "started").read_text() == "once "


class Lost:
    """A server that is killed while each of its workers starts."""

    started = 0

    def Process(self, **options):
        return self

    def start(self):
        Lost.started += 1
        raise EOFError("unexpected EOF")


def test_a_server_that_is_killed_again_and_again_is_told_and_is_no_interrupt(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "open_fork_server", lambda *_: Lost())
    Store(tmp_path)
    executor = processes.Processes(str(tmp_path), Runtime(), 1)
    with pytest.raises(
        ExecutionError, match=r"a worker cannot be started \(EOFError: unexpected EOF\): .*serial"
    ):
        executor.submit(Batch((Task("train", "1"),)))
    assert Lost.started == 3
    executor.close()


@LINUX
def test_a_server_that_is_killed_once_is_replaced(tmp_path, monkeypatch):
    Store(tmp_path)
    executor = processes.Processes(str(tmp_path), Runtime(stages="json"), 1)
    open_fork_server("json")
    os.kill(forkserver._forkserver._forkserver_pid, signal.SIGKILL)
    executor.submit(Batch((Task("train", "1"),)))
    outcome = executor.next_done(60.0)
    assert "has no stage 'train'" in outcome.text
    executor.close()
