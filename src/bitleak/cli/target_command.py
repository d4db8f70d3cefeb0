"""`bitleak audit CONFIG --tier N` for a config with a target: a model that was trained elsewhere."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bitleak.config import Config


def run_target(config: "Config", tier: int, out: Path, *, data: Path | None, device: str) -> int:
    """Audit the target of a config, write its folder, and print the result.

    Args:
        config: A validated config.
        tier: 0, 1 or 2.
        out: Output folder.
        data: Local folder or file that overrides the data set.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        InputError: The target cannot be read or audited.
    """
    from bitleak.audit.target import audited_target, read_config_target
    from bitleak.cli.terminal import StageBars, print_results
    from bitleak.core.errors import ConfigError
    from bitleak.report import check_out

    if tier not in (0, 1):
        raise ConfigError(f"--tier: expected 0 or 1, got {tier}")
    target = read_config_target(config, 1 if tier else 0, data=data, device=device)
    check_out(out)
    with StageBars() as bars:
        result = audited_target(target, bars.show)
    result.report(out)
    print_results(out)
    return 0
