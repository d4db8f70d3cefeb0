"""The console script, and `python -m bitleak`.

From the first line on, a signal that ends the command is reported in one line: also while the
command is still being loaded, and while its end is reported. When its exit code is certain, signals
no longer change it.
"""

import sys

from bitleak.core.command_end import exit_now, report_signal
from bitleak.core.interrupts import hear_signals, ignore_signals, interrupt_in


def run_command() -> None:
    """Run the command line and end this process with its exit code."""
    hear_signals()
    try:
        from bitleak.cli import main
        from bitleak.cli.exit_codes import OUTSIDE, SIGNALLED

        code = main()
        ignore_signals()
    except BaseException as error:
        interrupt = interrupt_in(error)
        if interrupt is None:
            raise
        exit_now(report_signal(interrupt, sys.argv[1:]))
    if code >= SIGNALLED or code == OUTSIDE:
        # Python may have noted an interrupt inside a library, and would end by that signal instead.
        # And an output stream that can no longer be flushed would change the code.
        exit_now(code)
    sys.exit(code)


if __name__ == "__main__":
    run_command()
