"""The section `canaries` of a config: records that are trained on with a wrong label."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bitleak.config.fields import number_list, section
from bitleak.core.checks import integer_in, number_in

FEWEST_CANARIES = 20
"""Canaries below which a share of members says nothing."""


@dataclass(frozen=True)
class CanariesConfig:
    """Mislabelled records.

    Attributes:
        records: Number of canaries, taken from the pool; even.
        fpr: False positive rates at which the true positive rate on canaries is reported.
    """

    records: int = 500
    fpr: tuple[float, ...] = (0.05,)

    def __post_init__(self) -> None:
        if integer_in("records", self.records, FEWEST_CANARIES) % 2:
            raise ValueError(
                f"records must be even (half of the canaries are members), got {self.records}"
            )
        for rate in self.fpr:
            number_in("fpr", rate, 0, 1, ends="()")


def read_canaries(raw: Any, errors: list[str]) -> CanariesConfig | None:
    """Read the section.

    Args:
        raw: A number of records, true for 500, a mapping with the fields of `CanariesConfig`, or None.
        errors: Mistakes are added to it.

    Example:
        >>> read_canaries(600, [])
        CanariesConfig(records=600, fpr=(0.05,))
    """
    if raw in (None, False):
        return None
    if raw is True:
        raw = {}
    if isinstance(raw, int):
        raw = {"records": raw}
    if isinstance(raw, Mapping) and "fpr" in raw:
        raw = {**raw, "fpr": number_list(raw["fpr"], "canaries.fpr", errors)}
    return section(CanariesConfig, raw, "canaries", errors)


def check_canaries(canaries: CanariesConfig | None, target: object, errors: list[str]) -> None:
    """Check the section against the rest of the config.

    Args:
        canaries: The section.
        target: The section `target`, or None.
        errors: Mistakes are added to it.
    """
    if canaries is None:
        return
    if target is not None:
        errors.append(
            "canaries: need models that are trained with them, and the target was trained elsewhere; leave the "
            "section out"
        )
    for rate in canaries.fpr:
        if rate * (canaries.records // 2) < 1:
            errors.append(
                f"canaries.fpr: {rate:g} is less than one of the {canaries.records // 2} canaries that are no "
                f"members; raise canaries.records to at least {2 * math.ceil(1 / rate)}, or the rate"
            )
