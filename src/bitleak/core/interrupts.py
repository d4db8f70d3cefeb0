"""Signals that end a command: Ctrl-C, a scheduler's SIGTERM, the SIGHUP of a terminal that closes.

All three are raised in the main thread as `Ended`, once: a second signal does not disturb the
cleaning up after the first. A signal that comes `CLEANUP_SECONDS` seconds later, while the cleaning
up still lasts, ends the process at once. A signal that the process was started to ignore (`nohup`,
a shell's background job) stays ignored. A signal that comes inside a destructor or a callback of the
garbage collector, where Python drops all errors, is raised a moment later.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

END_SIGNALS = tuple(
    signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
CLEANUP_SECONDS = 20.0
"""Seconds of cleaning up during which further signals are ignored."""


_AGAIN_SECONDS = 0.05
"""Seconds until a signal is raised again whose error Python has dropped."""


class Ended(KeyboardInterrupt):
    """A signal has ended the command.

    Args:
        number: Number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    @property
    def code(self) -> int:
        """The exit code: 128 + signal."""
        return 128 + self.number

    def __str__(self) -> str:
        return (
            "interrupted"
            if self.number == signal.SIGINT
            else f"ended by {signal.Signals(self.number).name}"
        )


class _State:
    """Depth of this process in `uninterrupted`, the delayed signal, and the signal that was raised
    last with its time.
    """

    depth = 0
    waiting: int | None = None
    since: float | None = None
    raised: int = signal.SIGINT


@contextmanager
def raise_on_signals() -> Iterator[None]:
    """Raise `Ended` on the signals that end a command; without effect outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in END_SIGNALS}
    hook = sys.unraisablehook
    try:
        hear_signals()
        yield
    finally:
        sys.unraisablehook = hook
        for number, old in before.items():
            signal.signal(number, signal.SIG_DFL if old is None else old)


def hear_signals() -> None:
    """Raise `Ended` on the signals that end a command, from now on.

    For a process that runs a command and nothing else; `raise_on_signals` is for all others.
    """
    _State.since = _State.waiting = None
    for number in END_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _on_signal)
    hook = sys.unraisablehook

    def keep(dropped: Any) -> None:
        if isinstance(dropped.exc_value, Ended):
            _raise_later(dropped.exc_value.number)
        else:
            hook(dropped)

    sys.unraisablehook = keep


def ignore_signals() -> None:
    """Ignore the signals that end a command, from now on: its end is certain."""
    if threading.current_thread() is threading.main_thread():
        for number in END_SIGNALS:
            signal.signal(number, signal.SIG_IGN)


@contextmanager
def keep_handlers() -> Iterator[None]:
    """Restore the handlers of the ending signals after a library has changed them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in END_SIGNALS}
    try:
        yield
    finally:
        for number, old in before.items():
            if old is not None:
                signal.signal(number, old)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Delay the signals that end a command until a few steps are done together."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _State.depth += 1
    try:
        yield
    finally:
        _State.depth -= 1
        # only the outermost block delivers the delayed signal
        if _State.depth == 0 and _State.waiting is not None:
            number, _State.waiting = _State.waiting, None
            _end(number)


def last_signal() -> Ended:
    """Return the signal that was raised last, for a library that has swallowed it."""
    return Ended(_State.raised)


def interrupt_in(error: BaseException | None) -> KeyboardInterrupt | None:
    """Return the interrupt in the chain of causes of an error, or None."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, KeyboardInterrupt):
            return error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


def _raise_later(number: int) -> None:
    main = threading.main_thread().ident
    assert main is not None
    # sent to the main thread, so that a system call in which it waits ends
    timer = threading.Timer(_AGAIN_SECONDS, signal.pthread_kill, (main, number))
    timer.daemon = True
    timer.start()


def _on_signal(number: int, frame: FrameType | None) -> None:
    if _State.depth:
        _State.waiting = number if _State.waiting is None else _State.waiting
        return
    _end(number)


def _end(number: int) -> None:
    if (
        interrupt_in(sys.exception()) is None
    ):  # the first, or one before it that a library has swallowed
        _State.since = time.monotonic()
        _State.raised = number
        raise Ended(number)
    if _State.since is not None and time.monotonic() - _State.since > CLEANUP_SECONDS:
        os._exit(128 + number)
