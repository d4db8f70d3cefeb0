"""Tier 2 from Python: a population around a network that was handed over, and its result."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from bitleak.audit import Prepared, prepare, run_prepared
from bitleak.audit.audit_results import AuditTables, audit_tables
from bitleak.audit.graph import population_config
from bitleak.audit.target.audit_presentation import (
    data_frame,
    named_figure,
    summary_html,
    summary_text,
)
from bitleak.audit.target.given_model import (
    device_of,
    given_config,
    given_data,
    opened_store,
    quantizer_entry,
    saved_weights,
    task_progress,
)
from bitleak.audit.target.population_audit import checked_lead, planned_target
from bitleak.audit.target.record_lists import Known
from bitleak.audit.target.reference_networks import Make
from bitleak.audit.target.reference_tasks import UnfinishedReferences
from bitleak.audit.target.release_models import is_quantizer, release_model
from bitleak.audit.target.release_rows import OFFLINE_ATTACKS, TIER_0_ATTACKS
from bitleak.audit.target.tabular_model import OnStep
from bitleak.audit.target.target_run import Target
from bitleak.config import Config
from bitleak.core.errors import ConfigError
from bitleak.core.leftovers import temporary_folder
from bitleak.core.output_folder import check_out
from bitleak.core.types import Measure, Row
from bitleak.core.variants import FULL
from bitleak.report import RocCurve
from bitleak.train.recipe import Recipe

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class PopulationAudit:
    """The audit of one target among shadow models.

    Attributes:
        tables: Rows, curves, exposed records and sentences.
    """

    tables: AuditTables

    tier = 2

    @property
    def rows(self) -> tuple[Row, ...]:
        """Rows of the results table."""
        return tuple(self.tables.rows)

    @property
    def curves(self) -> tuple[RocCurve, ...]:
        """ROC curves."""
        return tuple(self.tables.curves)

    @property
    def table(self) -> "pandas.DataFrame":
        """Every figure with its interval as a data frame, as in results.csv, docs/results.md."""
        return data_frame(self.rows)

    def figure(
        self, metric: str, *, attack: str = "", variant: str = FULL, reference: str | None = None
    ) -> Measure:
        """Return one figure with its interval.

        Args:
            metric: Such as `auc`.
            attack: Name of the attack; empty for the accuracies.
            variant: Name of the release.
            reference: Kind of the references; None takes the first.

        Raises:
            KeyError: There is none; the message has the attacks that there are.
        """
        return named_figure(self.rows, metric, attack=attack, variant=variant, reference=reference)

    def summary(self) -> str:
        """Return the result in sentences: tier, limits, baseline, verdicts and warnings."""
        return summary_text(self.tables.summary, self.rows)

    def report(self, path: str | Path) -> Path:
        """Write tables, figures and page into a folder, which is made if it does not exist.

        Returns:
            The page, `report.html`.

        Raises:
            StoreError: The folder cannot be written to.
        """
        folder = Path(path)
        check_out(folder)
        self.tables.write(folder)
        return folder / "report.html"

    def _repr_html_(self) -> str:
        """Return the result for a notebook."""
        return summary_html(self.tables.summary, self.rows)


def audited_population(
    target: Target,
    known: Known,
    make: Make,
    recipe: Recipe,
    *,
    store: str | Path | None,
    on_step: OnStep,
) -> PopulationAudit:
    """Return the audit of a network in tier 2.

    Args:
        target: The target with its records.
        known: Its members and the others.
        make: Returns an untrained network like the target.
        recipe: How shadow models are trained.
        store: Folder for finished tasks; None keeps them until the end.
        on_step: Called with the fraction done of a stage, and its name.

    Raises:
        ConfigError: The target errs on its own members, or members and others differ by themselves.
        ModelError: The factory makes another network than the target.
        UnfinishedReferences: A task failed.
    """
    if not isinstance(target.model, nn.Module):
        raise ConfigError(
            f"tier 2: expected a network or an estimator of rows, got {type(target.model).__name__}"
        )
    data = given_data(target.records)
    with opened_store(store) as opened, temporary_folder() as folder:
        section = {
            "weights": saved_weights(target.model, folder, "target"),
            "members": known.members.tolist(),
            "others": known.others.tolist(),
            "allow_separable": target.allow_separable,
            "releases": _releases(target, folder),
        }
        config = given_config(
            data,
            make,
            recipe,
            fprs=target.settings.fprs,
            seed=target.settings.seed,
            sections=_sections(target, section),
        )
        # The checks take seconds, the trainings after them may take hours.
        on_step(0.0, "checks")
        lead = checked_lead(config, target)
        on_step(1.0, "checks")
        prepared = _prepared(config, replace(target, records=data.records), lead)
        tables: list[AuditTables] = []
        report = run_prepared(
            prepared,
            opened,
            lambda: tables.append(audit_tables(prepared, opened)),
            executor="serial",
            on_event=task_progress(on_step, "population"),
        )
        if report.failed or report.left:
            raise UnfinishedReferences(prepared, report)
        summary = tables[-1].summary
        title = replace(summary, title=target.facts.title, network=target.facts.network)
        return PopulationAudit(replace(tables[-1], summary=title))


def _prepared(config: Config, target: Target, lead: tuple[str, ...]) -> Prepared:
    planned = planned_target(config, target)
    device = device_of(target.model)
    return prepare(population_config(config), device=device, target=planned, lead=lead)


def _sections(target: Target, section: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sections of a config for tier 2: every attack of tiers 0 and 1 with all its forms."""
    population = len(target.parts.population)
    return {
        "split": {"shadows": target.plan.count, "calibration": 0, "population": population},
        "attacks": [*OFFLINE_ATTACKS, *TIER_0_ATTACKS],
        "calibration": {"records": min(target.calibration, max(1, len(target.parts.members) // 2))},
        "target": dict(section),
    }


def _releases(target: Target, folder: Path) -> dict[str, Any]:
    """Return the releases as a config has them: quantizers, and files of weights."""
    releases: dict[str, Any] = {}
    for name, value in target.releases.items():
        if is_quantizer(value):
            releases[name] = quantizer_entry(value)
            continue
        model = release_model(
            name,
            value,
            target.model,
            target.records,
            target.parts.members[:1],
            seed=target.settings.seed,
            where=f"releases.{name}",
        ).model
        releases[name] = saved_weights(model, folder, f"release-{len(releases)}")
    return releases
