"""A note on results of a network whose code has changed since they were made."""

import datetime

from bitleak.audit.preparation import Prepared
from bitleak.engine.store import Store
from bitleak.models.origin import origin


def newer_code(prepared: Prepared, store: Store) -> str:
    """Return a sentence if the code of an outside network is newer than its results in the store,
    else an empty text.

    A key holds the version of the distribution that the code comes from, the factory's options and
    `model.version`. Code that no distribution holds (a local file, an editable install) and that
    has no `version` is not part of the keys. So the times of its files are compared with those of
    the trained models that the plan would take from the store.

    Args:
        prepared: The audit.
        store: The store of its results.
    """
    name, options = prepared.config.model
    if name != "external" or options.get("version"):
        return ""
    code = origin(str(options["factory"]))
    trained = [task for task in prepared.plan.tasks if task.stage == "train"]
    made = [_seconds(manifest.get("created")) for manifest in store.manifests(trained).values()]
    before = [seconds for seconds in made if seconds < int(code.changed)]
    if not before:
        return ""
    newest = max((path for path in code.files if path.exists()), key=lambda path: path.stat().st_mtime)
    changed = datetime.datetime.fromtimestamp(code.changed, datetime.UTC).isoformat(sep=" ", timespec="minutes")
    return (
        f"{newest.name} was changed on {changed[:16]} UTC, after {len(before)} of the trained models in the store were "
        "made, which are used as they are. If the change makes another network, set model.version (such as "
        'version: "2"): it is a part of the keys'
    )


def _seconds(created: object) -> float:
    """Return a manifest's time in seconds since 1970; infinity if it holds none."""
    try:
        return datetime.datetime.fromisoformat(str(created)).timestamp()
    except (ValueError, OverflowError, OSError):
        return float("inf")
