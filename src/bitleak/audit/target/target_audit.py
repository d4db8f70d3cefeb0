"""The result of an audit of one target: rows, a data frame, sentences, and the report."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Bool, Float64, Int64

from bitleak.attacks.threshold import GAP_ATTACK
from bitleak.audit.target.audit_presentation import (
    data_frame,
    named_figure,
    summary_html,
    summary_text,
)
from bitleak.audit.target.blind_baseline import BlindBaseline
from bitleak.audit.target.release_rows import AttackSettings
from bitleak.core.output_folder import check_out
from bitleak.core.seeds import seed_for
from bitleak.core.types import Measure, Row
from bitleak.core.variants import BLIND, CONTROL, FULL
from bitleak.metrics import adjust_verdicts, headline_fpr
from bitleak.report import (
    FileSummary,
    RecordResults,
    RocCurve,
    Summary,
    exposed,
    headline,
    headline_key,
    in_headline,
    tabulate,
    variant_records,
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
        files: Versions that are files in their runtimes.
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
    files: tuple[FileSummary, ...] = ()


@dataclass(frozen=True)
class ScoredRecords:
    """Scores of single records by attacks that compare each with references.

    Attributes:
        records: Numbers of the evaluated records.
        labels: Their classes.
        member: True for the target's members.
        scores: Scores by variant, kind of references and attack.
        class_names: Names by label; empty if the classes have none.
    """

    records: Int64[np.ndarray, "records"]
    labels: Int64[np.ndarray, "records"]
    member: Bool[np.ndarray, "records"]
    scores: Mapping[tuple[str, str, str], Float64[np.ndarray, "records"]]
    class_names: tuple[str, ...] = ()

    def exposures(self, attack: str, reference: str, seed: int) -> RecordResults | None:
        """Return every record's exposure under each release; None if the attack uses no references.

        Args:
            attack: Name of the attack.
            reference: Preferred kind of references; a release without it has another one.
            seed: Root of all draws.
        """
        variants = []
        for variant in dict.fromkeys(name for name, _, _ in self.scores if name != CONTROL):
            kinds = [kind for name, kind, of in self.scores if (name, of) == (variant, attack)]
            if not any(kinds):
                return None
            kind = reference if reference in kinds else kinds[0]
            entry = variant_records(
                (variant, kind),
                self.scores[variant, kind, attack][None],
                self.member[None],
                memorised=None,
                seed=seed_for(seed, "reliability"),
            )
            variants.append(entry)
        return RecordResults(attack, self.records, self.labels, tuple(variants), self.class_names)


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
        scored: Scores of single records; None without references.
    """

    tier: Tier
    rows: tuple[Row, ...]
    curves: tuple[RocCurve, ...]
    facts: TargetFacts
    settings: AttackSettings
    baseline: BlindBaseline
    evaluable: bool
    scored: ScoredRecords | None = None

    @property
    def table(self) -> "pandas.DataFrame":
        """Every figure with its interval as a data frame: a line per release, attack and metric.

        Columns as in results.csv, docs/results.md, without the target's number.
        """
        return data_frame(self.rows)

    def figure(self, metric: str, *, attack: str = "", variant: str = FULL) -> Measure:
        """Return one figure with its interval.

        Args:
            metric: Such as `auc`.
            attack: Name of the attack; empty for the accuracies.
            variant: Name of the release.

        Raises:
            KeyError: There is none; the message has the attacks that there are.
        """
        return named_figure(self.rows, metric, attack=attack, variant=variant)

    def summary(self) -> str:
        """Return the result in sentences: tier, limits, baseline, verdicts and warnings."""
        return summary_text(self._summary, self._adjusted if self.evaluable else ())

    def report(self, path: str | Path) -> Path:
        """Write tables, figures and page into a folder, which is made if it does not exist.

        Returns:
            The page, `report.html`.

        Raises:
            StoreError: The folder cannot be written to.
        """
        folder = Path(path)
        check_out(folder)
        write_all(self._adjusted, self.curves, self._summary, folder, records=self._exposures)
        return folder / "report.html"

    def _repr_html_(self) -> str:
        """Return the result for a notebook."""
        return summary_html(self._summary, self._adjusted if self.evaluable else ())

    @cached_property
    def _adjusted(self) -> list[Row]:
        """Rows with verdicts that are corrected over the whole table."""
        record = self._summary
        key, fpr = headline_key(tabulate(self.rows), record), record.headline_fpr
        return adjust_verdicts(list(self.rows), planned=lambda row: in_headline(row, key, fpr))

    @cached_property
    def _exposures(self) -> RecordResults | None:
        """Exposure of every record under the headline attack; None without references."""
        attack, reference = self._headline
        if self.scored is None or not self.evaluable:
            return None
        return self.scored.exposures(attack, reference, self.settings.seed)

    @cached_property
    def _headline(self) -> tuple[str, str]:
        """Attack and kind of references of the headline."""
        # The label alone ties nearly all records, so it is no headline next to other attacks.
        by_confidence = [row for row in self.rows if row.attack != GAP]
        return headline(by_confidence if self.evaluable else self.rows)

    @cached_property
    def _summary(self) -> Summary:
        facts, settings = self.facts, self.settings
        attack, reference = self._headline
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
            exposed=None if self._exposures is None else exposed(self._exposures),
            files=facts.files,
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
