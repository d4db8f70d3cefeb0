"""How many quantized references an audit needs, from the power curve of an earlier one."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bitleak.attacks import FEWEST_QUANTIZED
from bitleak.config import Config, validate
from bitleak.core.errors import ConfigError
from bitleak.core.metric_names import AUC
from bitleak.core.variants import FULL
from bitleak.metrics import Extrapolated, ReferenceCurve, fit_reference_curve
from bitleak.metrics.reference_curve import WIDEST
from bitleak.report import read_power
from bitleak.report.power_file import PowerRow

COUNTS = (FEWEST_QUANTIZED, 8, 16)
"""Numbers of quantized references that are shown, besides all."""


class NeededReferences(NamedTuple):
    """AUC and cost of an attack by a number of quantized references.

    Attributes:
        quantized: Number of quantized references per target; None are all.
        per_side: Quantized references per side of every record.
        area: AUC of the attack by these references alone.
        seconds: Expected seconds of all tasks that are not done, on one worker.
    """

    quantized: int | None
    per_side: int
    area: Extrapolated
    seconds: float


def pilot_curve(folder: Path, attack: str) -> ReferenceCurve:
    """Fit AUC by number of references to the power curve of an earlier audit.

    Args:
        folder: Its output folder.
        attack: Name of the attack.

    Raises:
        ConfigError: The folder has no power curve of the attack, too few targets or numbers of
            references, or the curve's limit is known too badly.
    """
    # The power curve of the attack, by target and number of references.
    rows = [row for row in read_power(folder) if row.metric == str(AUC) and row.target != "all"]
    if not rows:
        raise ConfigError(
            f"--pilot: {folder} has no power.parquet; it is left by an audit with `power: true` and "
            "at least 2 references per side"
        )
    names = list(dict.fromkeys(row.attack for row in rows))
    if attack not in names:
        raise ConfigError(
            f"--pilot: {folder} has no power curve of {attack}; it has {', '.join(names)}. "
            "`headline: {attack: NAME}` names another"
        )
    # A limit that is known too badly would make any number of references look enough.
    counts, areas = _table([row for row in rows if row.attack == attack])
    try:
        curve = fit_reference_curve(counts, areas)
    except ValueError as error:
        raise ConfigError(f"--pilot: {folder}: {error}; run a larger pilot") from None
    limit = curve.limit
    if limit.high - limit.low > WIDEST:
        raise ConfigError(
            f"--pilot: {folder}: the limit of the AUC of {attack} lies between {limit.low:.3f} and "
            f"{limit.high:.3f}, which is wider than {WIDEST:g} and decides nothing; run a pilot with more "
            "targets or more records"
        )
    return curve


def needed_references(
    raw: Mapping[str, Any], curve: ReferenceCurve, seconds: Callable[[Config], float]
) -> list[NeededReferences]:
    """Return AUC and cost by number of quantized references.

    Args:
        raw: The config, as it was read.
        curve: AUC by number of references per side.
        seconds: Expected seconds of a config's tasks that are not done.

    Raises:
        ConfigError: The shadows of dedicated targets are no pairs of complements.
    """
    config = validate(raw)
    split = config.split
    if split.mode == "dedicated" and not split.pairs:
        raise ConfigError(
            "--pilot needs references in pairs: split.mode population, or split.pairs: true of dedicated targets"
        )
    available = split.shadows if split.mode == "dedicated" else split.models - 2
    kinds = [FULL, *(kind for kind in config.references if kind not in (FULL, "matched"))]
    rows = []
    for count in (*(count for count in COUNTS if count < available), None):
        entry = "matched" if count is None else {"kind": "matched", "quantized": count}
        headline = {**raw.get("headline", {}), "adversary": ""}
        changed = validate({**raw, "references": [*kinds, entry], "headline": headline})
        per_side = (available if count is None else count) // 2
        rows.append(NeededReferences(count, per_side, curve.at(per_side), seconds(changed)))
    return rows


def _table(rows: Sequence[PowerRow]) -> tuple[list[int], np.ndarray]:
    """Return the numbers of references for which every target has an AUC, and the AUCs."""
    values = {(row.target, row.references): row.measure.value for row in rows}
    targets = sorted({target for target, _ in values})
    counts = []
    for count in sorted({count for _, count in values}):
        if all((target, count) in values for target in targets):
            counts.append(count)
    areas = [[values[target, count] for count in counts] for target in targets]
    return counts, np.array(areas)
