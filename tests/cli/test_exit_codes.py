"""How a command ends that does not end by itself: a line, an exit code, and nothing left behind."""

import errno
import os
import signal
import subprocess
import sys
import time

import pytest

from bitleak.cli import main
from bitleak.core import interrupts
from bitleak.core.errors import ExecutionError, StoreError
from bitleak.core.interrupts import Ended, raise_on_signals, uninterrupted


@pytest.fixture(autouse=True)
def signals_arrive():
    """A job that a shell starts in the background ignores SIGINT, and so would its tests."""
    before = {number: signal.getsignal(number) for number in interrupts.END_SIGNALS}
    for number in before:
        heard = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, heard)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def ended_with(monkeypatch, capfd, error, *arguments):
    def stop(*args, **options):
        raise error

    monkeypatch.setattr("bitleak.report.write_report", stop)
    code = main([*(arguments or ("report", "out"))])
    return code, capfd.readouterr().err


AGAIN = "the same command starts again: nothing was written"
EARLY = "error: something that was read from ended too early"
FULL = OSError(errno.ENOSPC, "No space left on device", "/x/y")


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (KeyboardInterrupt(), 130, f"interrupted; {AGAIN}"),
        (Ended(signal.SIGTERM), 143, f"ended by SIGTERM; {AGAIN}"),
        (Ended(signal.SIGHUP), 129, f"ended by SIGHUP; {AGAIN}"),
        (EOFError(), 4, f"{EARLY} (EOFError: no more data)"),
        (EOFError("unexpected EOF"), 4, f"{EARLY} (EOFError: unexpected EOF)"),
        (
            BrokenPipeError(32, "x"),
            4,
            "error: whoever read the output, or a helper process, has gone (broken pipe)",
        ),
        (BlockingIOError(11, "Try again"), 4, "error: Try again (BlockingIOError)"),
        (
            MemoryError(),
            4,
            "error: out of memory (an array is too large); fewer --workers, or --memory, need less",
        ),
        (
            FULL,
            2,
            "error: /x/y: No space left on device; free some space or give another folder, and run it again",
        ),
        (StoreError("no"), 2, "error: no"),
        (ExecutionError("no workers"), 4, "error: no workers"),
    ],
)
def test_every_end_has_a_line_and_a_code(monkeypatch, capfd, error, code, line):
    assert ended_with(monkeypatch, capfd, error) == (code, f"{line}\n")


def test_an_audit_that_is_interrupted_goes_on(monkeypatch, capfd):
    monkeypatch.setattr(
        "bitleak.cli.audit_command._run", lambda *_: os.kill(os.getpid(), signal.SIGTERM)
    )
    assert main(["audit", "x.yaml"]) == 143
    assert capfd.readouterr().err == "ended by SIGTERM; the same command goes on\n"
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_what_fails_while_an_interrupt_cleans_up_does_not_hide_it(monkeypatch, capfd):
    error = OSError(errno.EIO, "the terminal has gone")
    error.__context__ = Ended(signal.SIGHUP)
    assert ended_with(monkeypatch, capfd, error)[0] == 129


@pytest.mark.parametrize("number", interrupts.END_SIGNALS)
def test_a_second_signal_does_not_disturb_the_cleaning_up(number):
    cleaned = []

    def clean_up():
        try:
            os.kill(os.getpid(), number)
            time.sleep(1)
        finally:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)
            cleaned.append(True)

    with raise_on_signals(), pytest.raises(Ended) as ended:
        clean_up()
    assert ended.value.code == 128 + number
    assert cleaned == [True]


def test_a_signal_that_a_library_swallows_is_followed_by_the_next():
    def swallow():
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
        except BaseException:
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)

    with raise_on_signals(), pytest.raises(Ended, match="SIGTERM"):
        swallow()


def test_a_signal_waits_for_what_belongs_together():
    done = []

    def steps():
        with uninterrupted():
            os.kill(os.getpid(), signal.SIGTERM)
            done.append("first")
            with uninterrupted():
                done.append("second")
            done.append("third")
        done.append("never")

    with raise_on_signals(), pytest.raises(Ended):
        steps()
    assert done == ["first", "second", "third"]


def test_a_signal_that_was_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    try:
        with raise_on_signals():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_process_ended_by_a_signal_leaves_nothing_in_the_temporary_folder(tmp_path):
    code = (
        "import os, signal, time\n"
        "import bitleak.__main__, bitleak.cli.audit_command\n"
        "from bitleak.engine.executors.fork_server import open_fork_server\n"
        "def run(*_):\n"
        "    open_fork_server('json')\n"
        "    print(*os.listdir(os.environ['TMPDIR']), flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
        "bitleak.cli.audit_command._run = run\n"
        "import sys; sys.argv = ['bitleak', 'audit', 'x']\n"
        "bitleak.__main__.run_command()\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert (found.returncode, found.stderr) == (129, "ended by SIGHUP; the same command goes on\n")
    assert found.stdout.startswith("bitleak-")
    assert list(tmp_path.iterdir()) == []


def entered(prelude, *arguments):
    """Code and messages of the command, run by a process that first runs a prelude."""
    code = f"import os, runpy, signal, sys\n{prelude}\nsys.argv = ['bitleak', *{arguments!r}]\n"
    code += "runpy.run_module('bitleak', run_name='__main__', alter_sys=True)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return ended.returncode, ended.stderr


KILL = "os.kill(os.getpid(), signal.SIG{0})"
WHILE_LOADED = f"""
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "typer":
            {KILL}
sys.meta_path.insert(0, Finder())
"""
WHILE_PARSED = f"""
import bitleak.cli
bitleak.cli.CommandGroup.parse_args = lambda *_: {KILL}
"""
WHILE_REPORTED = f"""
import bitleak.cli
bitleak.cli.print_error = lambda text: {KILL}
"""
AT_EXIT = f"""
import atexit
atexit.register(lambda: {KILL})
"""


@pytest.mark.parametrize(("name", "number"), [("TERM", 143), ("INT", 130), ("HUP", 129)])
@pytest.mark.parametrize(
    "moment",
    [WHILE_LOADED, WHILE_PARSED, WHILE_REPORTED],
    ids=["loaded", "parsed", "reported"],
)
def test_a_signal_has_its_line_also_while_the_command_is_loaded_or_ends(moment, name, number):
    code, err = entered(moment.format(name), "audit", "" if moment == WHILE_REPORTED else "x")
    said = "interrupted" if name == "INT" else f"ended by SIG{name}"
    assert (code, err) == (number, f"{said}; the same command goes on\n")


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP"])
def test_a_signal_after_the_end_changes_nothing(name):
    assert entered(AT_EXIT.format(name), "--version") == (0, "")


@pytest.mark.parametrize("number", interrupts.END_SIGNALS)
def test_a_signal_inside_a_destructor_is_raised_a_moment_later(number):
    class Closing:
        def __del__(self):
            os.kill(os.getpid(), number)
            time.sleep(0)

    def drop():
        Closing()
        time.sleep(5)

    with raise_on_signals(), pytest.raises(Ended) as ended:
        drop()
    assert ended.value.code == 128 + number


def test_the_first_of_two_signals_counts_also_while_it_is_reported(monkeypatch, capfd):
    from bitleak.core import command_end

    def run(*_):
        os.kill(os.getpid(), signal.SIGTERM)

    def print_late(text, told=command_end.print_error):
        told(text)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("bitleak.cli.audit_command._run", run)
    monkeypatch.setattr(command_end, "print_error", print_late)
    assert main(["audit", "x.yaml"]) == 143
    assert capfd.readouterr().err == "ended by SIGTERM; the same command goes on\n"
