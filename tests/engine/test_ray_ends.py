"""Every end of the process that talks to Ray has its word, and leaves nothing; Ray is not needed for that."""

import os
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import toy_ray

from bitleak.core import interrupts
from bitleak.core.errors import ExecutionError
from bitleak.core.interrupts import Ended, raise_on_signals
from bitleak.engine.execution import run_tasks
from bitleak.engine.executors import ray
from bitleak.engine.executors.process_ends import end_session, members
from bitleak.engine.graph import Graph
from bitleak.engine.keys import Task
from bitleak.engine.store import Store
from bitleak.engine.worker import Runtime

TASK = Task("draw", "1", {"seed": 0})


@pytest.fixture(autouse=True)
def signals_arrive():
    """A job that a shell starts in the background ignores SIGINT, and so would its tests."""
    before = {number: signal.getsignal(number) for number in interrupts.END_SIGNALS}
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a task with a stand-in for the process that talks to Ray."""

    def run_with(stand_in):
        monkeypatch.setattr(ray, "find_spec", lambda name: True)
        monkeypatch.setattr(ray, "serve_ray", stand_in)
        store = Store(tmp_path)
        with raise_on_signals():
            executor = ray.Ray(store.location, Runtime(), 1)
            run_tasks(Graph([TASK]), store, executor)

    return run_with


def nothing_is_left(folder: Path) -> bool:
    """Whether there is no claim, no log, and no process of the cluster."""
    server = int((folder / "server").read_text())
    try:
        state = Path(f"/proc/{server}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        state = "gone"
    files = [*(folder / ".claims").glob("*"), *(folder / "logs").glob("*")]
    return state in ("Z", "gone") and not files


def test_a_cluster_that_goes_away_without_a_word_is_told_in_one_line(run, tmp_path):
    with pytest.raises(ExecutionError) as gone:
        run(toy_ray.vanish)
    assert str(gone.value) == (
        "the Ray cluster at head:6379 has gone: the process that talks to it ended with exit code 1, "
        "after 'rpc_client.h:204: GCS may have been killed.'; as soon as the cluster can be reached, "
        "the same command goes on from the results in the store"
    )
    assert nothing_is_left(tmp_path)


def test_a_signal_to_all_processes_is_the_reason_and_not_the_lost_cluster(run, tmp_path):
    with pytest.raises(Ended, match="ended by SIGTERM"):
        run(toy_ray.vanish_with_the_job)
    assert nothing_is_left(tmp_path)


def test_a_signal_while_a_cluster_starts_ends_the_run_and_the_start(run, tmp_path):
    start = time.monotonic()
    with pytest.raises(Ended, match="ended by SIGTERM"):
        run(toy_ray.start_for_ever)
    assert time.monotonic() - start < 30
    assert nothing_is_left(tmp_path)


def test_a_cluster_that_says_nothing_is_given_up(run, tmp_path, monkeypatch):
    monkeypatch.setattr(ray, "SILENCE", 5.0)
    start = time.monotonic()
    with pytest.raises(ExecutionError) as silent:
        run(toy_ray.start_in_silence)
    assert str(silent.value) == (
        "the Ray cluster has not answered for 5 seconds; the same command goes on from the results in the store"
    )
    assert time.monotonic() - start < 30
    assert nothing_is_left(tmp_path)


def test_a_cluster_that_the_program_has_joined_is_used_with_its_environment(monkeypatch):
    context = SimpleNamespace(gcs_address="head:1", runtime_env={"pip": ["x"]})
    stand_in = SimpleNamespace(is_initialized=lambda: True, get_runtime_context=lambda: context)
    monkeypatch.setitem(sys.modules, "ray", stand_in)
    runtime, environment = ray._with_callers_cluster(Runtime(address="other:2"))
    assert (runtime.address, environment) == ("head:1", {"pip": ["x"]})
    stand_in.is_initialized = lambda: False
    assert ray._with_callers_cluster(Runtime(address="other:2"))[0].address == "other:2"


SERVERS = {  # part of the command line, and the end of the message's first half
    "/raylet/raylet ": r"its raylet was ended by SIGKILL \(out of memory\?\)",
    "/gcs_server ": r"its GCS server was ended by SIGKILL \(out of memory\?\)",
    "ray::RuntimeEnvAgent": "its raylet ended with exit code 0, as it does when one of its agents is killed",
}


@pytest.mark.slow
@pytest.mark.parametrize("server", SERVERS)
def test_a_killed_server_of_a_real_cluster_is_named_and_the_rest_of_it_ends(
    server, tmp_path, monkeypatch
):
    pytest.importorskip("ray", reason="the executor ray needs the package ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    # where workers look for modules
    places = [str(Path(__file__).parent), *sys.path]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(places))
    store = Store(tmp_path)
    executor = ray.Ray(store.location, Runtime(stages="toy_stages", data=str(tmp_path)), 1)
    session = executor._process.pid
    killed = []

    def kill_once(event):
        if event.kind == "progress" and not killed:
            for number in members(session):
                command = Path(f"/proc/{number}/cmdline").read_bytes().replace(b"\0", b" ").decode()
                if server in command + " ":
                    killed.append(number)
                    os.kill(number, signal.SIGKILL)

    task = Task("rest", "1", {"seconds": 60.0, "name": "a"})
    with pytest.raises(ExecutionError, match=f"of this run has gone: {SERVERS[server]}; the same"):
        run_tasks(Graph([task]), store, executor, on_event=kill_once)
    assert len(killed) == 1
    assert not list(members(session))
    assert not [*(tmp_path / ".claims").glob("*"), *(tmp_path / "logs").glob("*")]


def test_all_of_a_session_end_but_the_one_that_is_spared():
    gates = [os.pipe() for _ in range(3)]
    leader = os.fork()
    if leader == 0:  # pragma: no cover - another process
        os.setsid()
        for _, write in gates:
            if os.fork() == 0:
                os.setpgid(0, 0)
                os.write(write, b"x")
                time.sleep(60)
                os._exit(0)
        for _, write in gates:
            os.close(write)
        time.sleep(60)
        os._exit(0)
    for read, write in gates:
        os.close(write)
        assert os.read(read, 1) == b"x"
    end_session(leader, spare=leader)
    assert [os.read(read, 1) for read, _ in gates] == [b""] * 3  # no writer is left
    assert os.waitpid(leader, os.WNOHANG) == (0, 0)
    end_session(leader)
    assert os.waitstatus_to_exitcode(os.waitpid(leader, 0)[1]) == -signal.SIGKILL
    for read, _ in gates:
        os.close(read)
