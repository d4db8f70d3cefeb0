"""`bitleak audit CONFIG --tier N` for a config with a target: a model that was trained elsewhere."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bitleak.audit import Prepared
    from bitleak.config import Config


def run_target(config: "Config", tier: int, out: Path, *, data: Path | None, device: str) -> int:
    """Audit the target of a config, write its folder, and print the result.

    Args:
        config: A validated config.
        tier: 0 or 1.
        out: Output folder.
        data: Local folder or file that overrides the data set.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        InputError: The target cannot be read or audited.
    """
    from bitleak.audit.target import audited_target, read_config_target
    from bitleak.cli.terminal import StageBars, print_results
    from bitleak.report import check_out

    target = read_config_target(config, 1 if tier else 0, data=data, device=device)
    check_out(out)
    with StageBars() as bars:
        result = audited_target(target, bars.show)
    result.report(out)
    print_results(out)
    return 0


def prepare_population(config: "Config", *, data: Path | None, device: str) -> "Prepared":
    """Check the target of a config, and prepare the audit of tier 2 around it.

    Args:
        config: A validated config.
        data: Local folder or file that overrides the data set.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        InputError: The target cannot be read or audited.
    """
    from bitleak.audit import prepare
    from bitleak.audit.graph import population_config
    from bitleak.audit.target import checked_lead, planned_target, read_config_target

    target = read_config_target(config, 2, data=data, device=device)
    planned = planned_target(config, target)
    lead = checked_lead(config, target)
    return prepare(population_config(config), data=data, device=device, target=planned, lead=lead)
