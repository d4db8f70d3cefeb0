"""The result of an audit of one target: rows, a data frame, sentences, and the report."""

import html
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bitleak.attacks.threshold import GAP_ATTACK
from bitleak.audit.target.blind_baseline import BlindBaseline
from bitleak.audit.target.release_rows import AttackSettings
from bitleak.core.types import Measure, Row
from bitleak.core.variants import BLIND, CONTROL, FULL
from bitleak.metrics import adjust_verdicts, headline_fpr
from bitleak.report import (
    RocCurve,
    Summary,
    check_out,
    compact_table,
    headline,
    headline_key,
    in_headline,
    sentences,
    tabulate,
    write_all,
)

if TYPE_CHECKING:
    import pandas

Tier = Literal[0, 1, 2]

GAP = GAP_ATTACK[0].name
"""Attack that sees the label alone."""

NOT_EVALUABLE = (
    "NOT EVALUABLE: members and others differ by themselves, so attacks would recognise the difference and "
    "not the membership. No attack is reported. Choose others of the same source as the members, or "
    "override this with allow_separable."
)

OVERRIDDEN = (
    "Members and others differ by themselves, and this was overridden (allow_separable): figures of attacks "
    "count that difference as leakage."
)


@dataclass(frozen=True)
class TargetFacts:
    """Facts on a target for its report.

    Attributes:
        title: Heading.
        dataset: Name of the data.
        network: Name of the network.
        parameters: Number of its parameters.
        classes: Number of classes.
        members: Evaluated members.
        non_members: Evaluated non-members.
        population: Records of the adversary.
        references: Number of references; 0 in tier 0.
        training: How references were trained.
        queries: Forms of each record.
        device: Device that answered.
        lead: First lines of the report, after the tier's.
        notes: How the input was read, and which parts were left out.
        warnings: Reasons to doubt the input.
    """

    title: str
    dataset: str
    network: str
    parameters: int
    classes: int
    members: int
    non_members: int
    population: int
    references: int = 0
    training: str = "not known: the target was trained elsewhere"
    queries: int = 1
    device: str = "cpu"
    lead: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class TargetAudit:
    """The audit of one target.

    Attributes:
        tier: 0 without references, 1 with a few references, 2 with a population.
        rows: Rows of the results table; without those of attacks if they are not evaluable.
        curves: ROC curves, likewise.
        facts: Facts on the target.
        settings: Settings of the attacks.
        baseline: The guess at membership without the model.
        evaluable: Whether figures of attacks say something about the model.
    """

    tier: Tier
    rows: tuple[Row, ...]
    curves: tuple[RocCurve, ...]
    facts: TargetFacts
    settings: AttackSettings
    baseline: BlindBaseline
    evaluable: bool

    @property
    def table(self) -> "pandas.DataFrame":
        """Every figure with its interval as a data frame: a line per release, attack and metric.

        Columns as in results.csv, docs/results.md, without the target's number.
        """
        import pandas

        lines = []
        for row in self.rows:
            if row.target == "all":
                names = {
                    "variant": row.variant,
                    "quantizer": row.quantizer,
                    "levels": row.levels,
                    "attack": row.attack,
                    "reference": row.reference,
                    "metric": row.metric,
                }
                lines.append({**names, **asdict(row.measure)})
        return pandas.DataFrame(lines)

    def figure(self, metric: str, *, attack: str = "", variant: str = FULL) -> Measure:
        """Return one figure with its interval.

        Args:
            metric: Such as `auc`.
            attack: Name of the attack; empty for the accuracies.
            variant: Name of the release.

        Raises:
            KeyError: There is none; the message has the attacks that there are.
        """
        for row in self.rows:
            if (row.variant, row.attack, row.metric, row.target) == (
                variant,
                attack,
                metric,
                "all",
            ):
                return row.measure
        known = sorted({row.attack for row in self.rows if row.variant == variant})
        raise KeyError(
            f"no {metric} of attack {attack!r} on {variant!r}; attacks: {', '.join(known)}"
        )

    def summary(self) -> str:
        """Return the result in sentences: tier, limits, baseline, verdicts and warnings."""
        record = self._summary
        lines = [*record.lead, *(f"Warning: {warning}" for warning in record.warnings)]
        if self.evaluable:
            header, *body = compact_table(tabulate(self._adjusted), record)
            lines += ["", *_aligned([header, *body]), ""]
            lines += sentences(tabulate(self._adjusted), record)
        return "\n".join([*lines, *(f"Note: {note}" for note in record.notes)])

    def report(self, path: str | Path) -> Path:
        """Write tables, figures and page into a folder, which is made if it does not exist.

        Returns:
            The page, `report.html`.

        Raises:
            StoreError: The folder cannot be written to.
        """
        folder = Path(path)
        check_out(folder)
        write_all(self._adjusted, self.curves, self._summary, folder)
        return folder / "report.html"

    def _repr_html_(self) -> str:
        """Return the result for a notebook."""
        record = self._summary
        parts = [f"<h4>{html.escape(record.title)}</h4>"]
        for line in (*record.lead, *record.warnings):
            parts.append(f"<p>{html.escape(line)}</p>")
        if self.evaluable:
            header, *body = compact_table(tabulate(self._adjusted), record)
            parts.append("<table><thead><tr>")
            parts += [f"<th>{html.escape(cell)}</th>" for cell in header]
            parts.append("</tr></thead><tbody>")
            for line_ in body:
                cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in line_)
                parts.append(f"<tr>{cells}</tr>")
            parts.append("</tbody></table>")
            for sentence in sentences(tabulate(self._adjusted), record):
                parts.append(f"<p>{html.escape(sentence)}</p>")
        return "".join(parts)

    @cached_property
    def _adjusted(self) -> list[Row]:
        """Rows with verdicts that are corrected over the whole table."""
        record = self._summary
        key, fpr = headline_key(tabulate(self.rows), record), record.headline_fpr
        return adjust_verdicts(list(self.rows), planned=lambda row: in_headline(row, key, fpr))

    @cached_property
    def _summary(self) -> Summary:
        facts, settings = self.facts, self.settings
        # The label alone ties nearly all records, so it is no headline next to other attacks.
        by_confidence = [row for row in self.rows if row.attack != GAP]
        attack, reference = headline(by_confidence if self.evaluable else self.rows)
        fpr = headline_fpr(settings.fprs, facts.non_members)
        state: tuple[str, ...] = (self.baseline.sentence,)
        if not self.evaluable:
            state = (NOT_EVALUABLE, *state)
        elif self.baseline.separable:
            state = (OVERRIDDEN, *state)
        return Summary(
            title=facts.title,
            dataset=facts.dataset,
            records=facts.members + facts.non_members,
            members=facts.members,
            non_members=facts.non_members,
            population_records=facts.population,
            test_records=facts.non_members,
            classes=facts.classes,
            models=1 + facts.references,
            mode="dedicated",
            targets=1,
            references=facts.references,
            network=facts.network,
            parameters=facts.parameters,
            training=facts.training,
            calibration="members of the target",
            calibration_records=0,
            fprs=settings.fprs,
            headline_attack=attack,
            headline_reference=reference,
            headline_fpr=fpr,
            expected_false_positives=fpr * facts.non_members,
            presets=(),
            queries=facts.queries,
            interval="95 % intervals over the records; they are about this one model, never about new trainings",
            versions=current_versions(),
            machine=f"{facts.device}, {platform.machine()}",
            seeds={"root": settings.seed},
            variants=(),
            membership=f"as given: {facts.members:,} members and {facts.non_members:,} others were evaluated",
            notes=facts.notes,
            warnings=facts.warnings,
            priors=settings.priors,
            delta=settings.delta,
            lead=(*facts.lead[:1], *state, *facts.lead[1:]),
        )


def blind_rows(baseline: BlindBaseline) -> list[Row]:
    """Return the baseline as rows of the results, beside every attack."""
    area = Measure(
        baseline.auc,
        baseline.auc_low,
        baseline.auc_high,
        interval="delong",
        about="records",
    )
    figures = {"auc": area}
    if baseline.fpr is not None and baseline.tpr is not None:
        figures[f"tpr@{baseline.fpr:g}"] = Measure(baseline.tpr, about="")
    rows = []
    for metric, measure in figures.items():
        for target in ("all", "0"):
            rows.append(Row(FULL, "", None, BLIND, "", target, metric, measure))
    return rows


def without_attacks(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    """Return the rows that no attack has a part in."""
    return tuple(
        replace(row) for row in rows if row.variant != CONTROL and row.attack in ("", BLIND)
    )


def current_versions() -> Mapping[str, str]:
    """Return the versions of packages that the figures depend on."""
    from bitleak.audit.audit_results import package_versions

    return package_versions()


def _aligned(lines: list[list[str]]) -> list[str]:
    """Return the lines of a table as text, columns of equal width."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    texts = []
    for line in lines:
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        texts.append("  ".join(cells).rstrip())
    return texts
