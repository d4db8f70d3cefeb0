"""The command line: one file per verb, each a few lines over the library.

Exit codes: 0 done, 1 a task failed, 2 bad input or a full disk, 3 time was up before all was done,
4 something outside broke (see `exit_codes`), 5 to 7 outcomes of `check`, 128 + signal for a signal.
Nothing heavy is imported before a verb runs, so `--help` answers at once.
"""

import signal
import sys
from typing import Annotated, Any

import typer

from bitleak.cli import (
    ask_command,
    attack_command,
    audit_command,
    check_command,
    compare_command,
    export_command,
    list_command,
    quantize_command,
    store_command,
)
from bitleak.cli.exit_codes import OUTSIDE, SIGNALLED, CommandGroup, Stopped, report_stop
from bitleak.core.command_end import print_error, report_signal
from bitleak.core.errors import BitleakError, ExecutionError, InputError
from bitleak.core.interrupts import last_signal, raise_on_signals

app = typer.Typer(
    cls=CommandGroup,
    help="How much does a classifier leak about who was in its training set, and what does quantizing it change?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(requested: bool) -> bool:
    if requested:
        import bitleak

        print(f"bitleak {bitleak.__version__}")
        raise typer.Exit
    return requested


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """How much does your classifier leak, and what does quantizing it change?"""


app.command("demo")(audit_command.demo)
app.command("audit")(audit_command.run_audit)
app.command("plan")(audit_command.show_plan)
app.command("quantize")(quantize_command.quantize_network)
app.command("export")(export_command.export_weights_file)
app.command("ask")(ask_command.ask_networks)
app.command("attack")(attack_command.attack_answers)
app.command("check")(check_command.check_run)
app.command("compare")(compare_command.compare_two_runs)
app.command("report")(audit_command.write_report_again)
app.command("list")(list_command.list_names)
app.add_typer(store_command.store_app, name="store")

# Typer brings a click of its own since 0.2x; this is the right base class with either.
UsageError: Any = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "UsageError")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        arguments: Arguments without the program's name; None takes those of the process.
    """
    if arguments is None:
        arguments = sys.argv[1:]
    empty = _empty_value(arguments)
    if empty is not None:
        print_error(f"error: {empty}: got an empty value; is a shell variable unset?")
        return 2
    # Signals are raised as errors, so that they end a verb as other errors do, with its cleaning
    # up.
    with raise_on_signals():
        try:
            code = app(args=arguments, standalone_mode=False)
            if code == SIGNALLED + signal.SIGINT:
                # Typer turns a signal that comes before a verb has begun into this code, silently
                return report_signal(last_signal(), arguments)
        except typer.Exit as exit_:
            return exit_.exit_code
        except Stopped as stopped:
            return report_stop(stopped, arguments)
        except (typer.Abort, KeyboardInterrupt) as error:  # before a verb has begun
            return report_stop(Stopped(error), arguments)
        except UsageError as error:
            error.show()
            return 2
        except InputError as error:
            print_error(f"error: {error}".replace("\n", "\nerror: "))
            return 2
        except ExecutionError as error:
            print_error(f"error: {error}")
            return OUTSIDE
        except BitleakError as error:
            print_error(f"error: {error}")
            return 1
    return code if isinstance(code, int) else 0


def _empty_value(arguments: list[str]) -> str | None:
    """Return the option, or the position of the argument, that has an empty value; None if none
    has.

    An empty path would be the current folder, so that `--out "$OUT"` would write over its
    files.

    Example:
        >>> _empty_value(["audit", "my.yaml", "--out", ""]), _empty_value(["audit", "", "--store=x"])
        ('--out', 'argument 2')
    """
    for index, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if equals and name.startswith("--") and not value.strip():
            return name
        if not argument.strip():
            before = arguments[index - 1] if index else ""
            return before if before.startswith("-") else f"argument {index + 1}"
    return None


def entry() -> None:
    """Run the console script of an earlier installation."""
    from bitleak.__main__ import run_command

    run_command()
