"""Errors that bitleak raises on purpose.

```
BitleakError
├── InputError            something handed in is wrong: exit code 2, nothing was computed
│   ├── ConfigError       the config, a `--set`, a name or a number in it
│   ├── DataError         a data set: names the file and the row
│   ├── ModelError        a model that cannot be built or does not fit the data
│   │   └── NotFinite      a file answers with NaN or infinite numbers
│   └── StoreError        a store or an output folder that cannot be used
│       └── BrokenResult  a result in a store that is not as it was written: names it
├── TrainingError         a model diverged: names the epoch and the learning rate
├── QuantizationError     a layer cannot be quantized: names the layer
└── ExecutionError        a task or a worker failed: names the task and its log
```

Misuse of a library function (a wrong type, a number out of range) is a plain
`ValueError` or `TypeError`. Two kinds of it have names, because callers go on without the attack:

```
ValueError
└── UnfitView             an attack cannot use the answers that it was given: not finite, or too few
    └── TooFewForAttack   a record has too few references, or there are too few population records
```

Only explicit checks raise these. NumPy's own `ValueError`, such as that of shapes that do not
fit, is none of them: it is a bug, and ends the task.
"""


def printable(text: str) -> str:
    r"""Return the text with every letter that cannot be printed written as its escape.

    For names from elsewhere, such as names of files, in messages.

    Example:
        >>> print(printable(f"a{chr(7)}b"))
        a\x07b
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


LONGEST_LINE = 1600
"""Largest number of letters of a message's line; the middle of a longer line is left out."""


def shown(line: str) -> str:
    r"""Return a line of a message as it can be printed.

    Example:
        >>> print(shown("a" + chr(7)), len(shown("a" * 9999)))
        a\x07 1607
    """
    text = printable(line)
    return (
        text if len(text) <= LONGEST_LINE else f"{text[: LONGEST_LINE - 400]} [...] {text[-400:]}"
    )


class BitleakError(Exception):
    """Base of bitleak's errors; its text is printable even if names in it came from a file."""

    def __str__(self) -> str:
        return "\n".join(shown(line) for line in super().__str__().split("\n"))


class InputError(BitleakError):
    """Wrong input; the message states the expected value and the given one."""


class ConfigError(InputError):
    """Mistakes in a config, at least one; the message lists all of them, one per line."""


class DataError(InputError):
    """A data set that cannot be read as it should be."""


class ModelError(InputError):
    """A model that cannot be built, or that does not fit the data."""


class NotFinite(ModelError):
    """A file whose answers are NaN or infinite."""


class StoreError(InputError):
    """A store or an output folder that cannot be used."""


class BrokenResult(StoreError):
    """A result in a store that is not as it was written.

    Args:
        message: Name of the file and its damage.
        key: The key of the task that made it.
    """

    def __init__(self, message: str, key: str) -> None:
        super().__init__(message, key)
        self.key = key

    def __str__(self) -> str:
        return shown(str(self.args[0]))


class TrainingError(BitleakError):
    """A model whose training went wrong."""


class QuantizationError(BitleakError):
    """A layer that cannot be quantized."""


class AttackError(BitleakError):
    """An attack or a metric from outside that fails, or whose answer cannot be used."""


class ExecutionError(BitleakError):
    """A task or a worker that failed."""


class UnfitView(ValueError):
    """Answers that an attack cannot use; raised by explicit checks only."""


class TooFewForAttack(UnfitView):
    """Fewer references of a record, or fewer population records, than an attack needs."""
