"""Attacking answers that come from anywhere: no model, no training, no torch.

```
request = Request(scores=Path("answers.npz"), targets="0,1")
with Scratch(out) as scratch:
    prepared, expected = tried(prepare(request, scratch))     # what will be done, and how long it should take
    attack(prepared, out, scratch)                            # results.csv, report.html, ...
```

`answers` says what is read, `reading` and its formats (`arrays`, `parquet`, `experiments`) how; `signals` turns it into
what attacks look at, `design` and `views` decide who serves whom as a reference, `run` attacks, `results` reports.
docs/scores.md shows every format by example.
"""

from dataclasses import replace
from pathlib import Path

from bitleak.answers.answer_files import read
from bitleak.answers.attack_preparation import Prepared, Request, prepare
from bitleak.answers.attack_results import rows_and_curves, summarize
from bitleak.answers.attack_run import Attacked, Expected, OnStep, attacked, tried
from bitleak.answers.attack_statistics import records_of
from bitleak.answers.model_answers import Answers
from bitleak.core.spill import Scratch
from bitleak.metrics import adjust_verdicts
from bitleak.report import exposed, in_headline, write_all

__all__ = [
    "Answers",
    "Attacked",
    "Expected",
    "Prepared",
    "Request",
    "Scratch",
    "attack",
    "attacked",
    "prepare",
    "read",
    "tried",
]


def _silent(done: float, what: str) -> None:
    """Shows nothing."""


def attack(prepared: Prepared, out: Path, scratch: Scratch, on_step: OnStep = _silent) -> None:
    """Runs the attacks and writes tables, curves, figures and page.

    Args:
        prepared: After `tried`.
        out: Folder for the results; exists.
        scratch: Where large arrays go.
        on_step: Called with the fraction done of a stage, and its name.

    Raises:
        DataError: An answer is not finite or otherwise cannot be, or a target's answers cannot be attacked.
        StoreError: `out` cannot be written to, or the disk is too small.
    """
    found = attacked(prepared, scratch, on_step)
    rows, curves = rows_and_curves(prepared, found, lambda done: on_step(done, "measuring"))
    summary = summarize(prepared, rows)
    summary = replace(summary, warnings=(*summary.warnings, *prepared.doubts, *found.doubts))
    records = records_of(prepared, found.scores, found.memorised, summary)
    summary = replace(summary, exposed=exposed(records))
    rows = adjust_verdicts(rows, planned=lambda row: in_headline(row, summary))
    write_all(rows, curves, summary, out, records=records, powered=found.power)
