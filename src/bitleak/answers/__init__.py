"""Attacking answers that come from anywhere: no model, no training, no torch.

```
request = AttackRequest(scores=Path("answers.npz"), targets="0,1")
with Scratch(out) as scratch:
    prepared, expected = try_attacks(prepare_attack(request, scratch))     # the attacks that can be run, and their time
    write_attack(prepared, out, scratch)                                   # results.csv, report.html, ...
```

`model_answers` describes answers, which `answer_files` reads in every format (`array_answers`, `parquet_answers`,
`experiment_folders`); `answer_signals` turns them into the signals that attacks look at, `attack_design` and
`serving_models` choose the references of each target, `attack_run` attacks, and `attack_results` measures with the
steps of an audit. docs/scores.md shows every format by example.
"""

from dataclasses import replace
from pathlib import Path

from bitleak.answers.answer_files import read_answers
from bitleak.answers.answer_influences import answer_influences
from bitleak.answers.attack_forecast import ExpectedSeconds, try_attacks
from bitleak.answers.attack_preparation import AttackRequest, PreparedAttack, prepare_attack
from bitleak.answers.attack_results import (
    not_computed,
    power_curve,
    record_results,
    rows_and_curves,
    summarize,
)
from bitleak.answers.attack_run import AttackOutcome, run_attacks
from bitleak.answers.model_answers import Answers
from bitleak.answers.scaled_views import ShowStep
from bitleak.answers.strongest_pairs import strongest_rows
from bitleak.core.spill import Scratch
from bitleak.metrics import adjust_verdicts
from bitleak.report import exposed, headline, headline_key, in_headline, tabulate, write_all

__all__ = [
    "Answers",
    "AttackOutcome",
    "AttackRequest",
    "ExpectedSeconds",
    "PreparedAttack",
    "Scratch",
    "prepare_attack",
    "read_answers",
    "run_attacks",
    "try_attacks",
    "write_attack",
]


def _silent(done: float, stage: str) -> None:
    """Show nothing."""


def write_attack(
    prepared: PreparedAttack, out: Path, scratch: Scratch, on_step: ShowStep = _silent
) -> None:
    """Run the attacks, and write tables, curves, figures and page.

    Args:
        prepared: After `try_attacks`.
        out: Folder for the results; exists.
        scratch: Where large arrays go.
        on_step: Called with the fraction done of a stage, and its name.

    Raises:
        DataError: An answer is not finite or otherwise impossible, or a target's answers cannot be attacked.
        StoreError: `out` cannot be written to, or the disk is too small.
    """
    # Rows and curves of every attack, then those of the strongest pairs, which players choose.
    outcome = run_attacks(prepared, scratch, on_step)
    rows, curves = rows_and_curves(prepared, outcome, lambda done: on_step(done, "measuring"))
    strongest, more_curves = strongest_rows(prepared, outcome.scores, outcome.rates, headline(rows))
    rows, curves = rows + strongest, curves + more_curves
    # The summary needs the rows, the exposure of records needs the summary's headline.
    summary = summarize(prepared, rows)
    records = record_results(prepared, outcome, summary)
    summary = replace(
        summary,
        exposed=exposed(records),
        notes=(*summary.notes, outcome.scale, *not_computed(outcome)),
        warnings=(*summary.warnings, *prepared.doubts, *outcome.doubts),
    )
    # All rows are corrected together, so verdicts come last.
    key = headline_key(tabulate(rows), summary)
    rows = adjust_verdicts(rows, planned=lambda row: in_headline(row, key, summary.headline_fpr))
    write_all(
        rows,
        curves,
        summary,
        out,
        records=records,
        powered=power_curve(outcome),
        influences=answer_influences(prepared, outcome, rows, summary),
    )
