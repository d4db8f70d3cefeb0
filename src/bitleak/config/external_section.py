"""The entry of a network from outside."""

from typing import Any

from bitleak.config.fields import section
from bitleak.config.schema import ExternalConfig


def external_model(
    raw: dict[str, Any], where: str, errors: list[str]
) -> tuple[str, dict[str, Any]] | None:
    """Return name and options of a network from outside; None, with the mistakes, if it is wrong."""
    version = raw.get("version")
    if type(version) in (int, float):  # YAML reads `version: 2` as a number
        raw = {**raw, "version": str(version)}
    external: ExternalConfig | None = section(ExternalConfig, raw, where, errors)
    return None if external is None else ("external", external.entries)
