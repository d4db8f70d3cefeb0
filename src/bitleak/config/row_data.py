"""Configs of tables: defaults without augmentation, and options that are for images only."""

from collections.abc import Mapping
from typing import Any

from bitleak import registry
from bitleak.config.schema import DataConfig

IDENTITY = "identity"
"""The only query that a row of a table has."""


def is_table(data: DataConfig | None) -> bool:
    """Return whether the records of a data set are rows of numbers."""
    if data is None:
        return False
    kind = registry.resolve(registry.DATASETS, data.name, kind="data set")
    return bool(getattr(kind, "is_table", False))


def with_row_defaults(raw: Mapping[str, Any], data: DataConfig | None) -> Mapping[str, Any]:
    """Return the raw config with the defaults of a table, if its data is one: nothing is augmented."""
    if not is_table(data):
        return raw
    filled = dict(raw)
    for name, augment in (("train", []), ("query", [IDENTITY])):
        given = raw.get(name) or {}
        if isinstance(given, Mapping):
            filled[name] = {"augment": augment, **given}
    return filled


def check_rows(config: Mapping[str, Any], errors: list[str]) -> None:
    """Refuse options for images if the data is a table."""
    if not is_table(config["data"]):
        return
    reason = "is for images, and the data is a table"
    if config["train"].augment:
        names = ", ".join(config["train"].augment)
        errors.append(f"train.augment: {names} {reason}; leave it out")
    if config["query"].augment != (IDENTITY,):
        names = ", ".join(name for name in config["query"].augment if name != IDENTITY)
        errors.append(
            f"query.augment: {names} {reason}, whose rows are evaluated as they are; leave it out"
        )
    for entry in config["quantize"]:
        if entry.calibration.augment:
            names = ", ".join(entry.calibration.augment)
            errors.append(f"calibration.augment: {entry.variant}: {names} {reason}; leave it out")
    network, options = config["model"]
    factory = str(options.get("factory", ""))
    if (network and network not in registry.TABLE_MODELS) or factory.startswith("timm:"):
        errors.append(
            f"model.name: {factory or network} {reason}; use {{name: mlp, hidden: [128]}}, or a network of your own, "
            "{name: external, factory: package.module:make}, which is given (records, columns)"
        )
