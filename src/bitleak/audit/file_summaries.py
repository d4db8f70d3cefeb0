"""Facts on the variants of an audit that are files in their runtimes, for its report."""

from collections.abc import Mapping
from typing import Any

from bitleak.audit.exposed_records import decoded_result
from bitleak.audit.preparation import Prepared
from bitleak.core.types import NetworkFile
from bitleak.engine.store import Store
from bitleak.report import FileSummary
from bitleak.runtimes.file_network import FileNetwork
from bitleak.runtimes.runtime import open_network
from bitleak.steps.apply_tool import ApplyTool
from bitleak.steps.load_release import LoadRelease


def file_summaries(prepared: Prepared, store: Store) -> tuple[FileSummary, ...]:
    """Return the facts of the first target's files, in the order of the config.

    Args:
        prepared: The audit.
        store: A store in which its tasks are done.
    """
    tasks = {
        task.label: task
        for task in prepared.plan.tasks
        if task.stage in (ApplyTool.STAGE, LoadRelease.STAGE)
    }
    first = prepared.plan.targets[0]
    summaries = []
    for entry in prepared.config.quantize:
        labels = (f"{entry.variant} of the target", f"{entry.variant} of model {first}")
        for task in filter(None, map(tasks.get, labels)):
            result = decoded_result(store, task)
            if isinstance(result, NetworkFile):
                record = result.record
                # A given file is opened when it is queried, and its facts are not stored.
                facts = record.get("runtime") or open_network(result).facts
                summaries.append(FileSummary.of(entry.variant, record, facts, result.size))
    return tuple(summaries)


def opened_summary(name: str, model: Any, facts: Mapping[str, Any]) -> FileSummary | None:
    """Return the facts of a release that answers here; None if it is no file.

    Args:
        name: Its variant.
        model: The release.
        facts: Facts on its layers, and its `bytes`.
    """
    if not isinstance(model, FileNetwork):
        return None
    return FileSummary.of(name, facts, model.opened.facts, facts["bytes"])
