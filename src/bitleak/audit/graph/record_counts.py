"""How many records and models an audit comes to."""

from bitleak.attacks import attack_entries
from bitleak.config import Config
from bitleak.core.errors import ConfigError
from bitleak.core.types import Description
from bitleak.steps.scale import NetworkSize, Scale


def scale_of(config: Config, description: Description, network: NetworkSize, rate: float) -> Scale:
    """Return the numbers of records and models that the splits will have.

    Args:
        config: A validated config.
        description: The data set, undecoded.
        network: Size of the network on these images.
        rate: Multiply-adds per second of a forward pass.

    Raises:
        ConfigError: The records do not suffice; the message holds the numbers.
    """
    split, data = config.split, config.data
    # A source with a test part of its own keeps it; from any other, a share is held out. The pool
    # is even, since the two models of a pair share it out.
    test_part = description.held_out
    total = description.records - test_part
    total = min(total, data.limit) if data.limit else total
    if test_part:
        held_out = min(test_part, data.held_out) if data.held_out else test_part
    else:
        held_out = round(total * split.held_out)
    # Canaries are taken from the pool, and every model has half of them.
    canaries = 0 if config.canaries is None else config.canaries.records
    pool = (total if test_part else total - held_out) // 2 * 2 - canaries
    members = pool // 2
    trained = members + canaries // 2
    test = held_out - split.calibration - split.population if split.test is None else split.test
    # All mistakes are reported together, with the numbers that do not fit.
    errors = []
    if test < 1 or split.calibration + split.population + test > held_out:
        errors.append(
            f"split: calibration {split.calibration} + population {split.population} + test "
            f"{'the rest' if split.test is None else split.test} do not fit into {held_out} held-out records"
        )
    if canaries and members < 2:
        errors.append(
            f"canaries.records: {canaries} of {pool + canaries} records of the pool leave {max(pool, 0)} for the "
            "other tables; lower it, or raise data.limit"
        )
    elif members < 2:
        errors.append(
            f"data: {total} records give models {members} members each; at least 2 are needed"
        )
    for entry in config.quantize:
        if entry.is_trained:
            continue
        if entry.calibration.source == "members" and entry.calibration.records > trained:
            errors.append(
                f"calibration.records: {entry.variant} asks for {entry.calibration.records} members, "
                f"but each model has {trained}; lower it to at most {trained}"
            )
    if errors:
        raise ConfigError("\n".join(dict.fromkeys(errors)))
    return Scale(
        images=description.records,
        pixels=description.values,
        value_bytes=1 if description.size else 4,
        pool=pool,
        members=members,
        calibration=split.calibration,
        population=split.population,
        test=test,
        models=split.models if split.mode == "population" else split.targets + split.shadows,
        targets=len(target_rows(config)),
        references=len(reference_rows(config)),
        queries=len(config.query.augment),
        attacks=len(attack_entries(config.attacks)),
        classes=description.classes,
        network=network,
        rate=rate,
        canaries=canaries,
    )


def target_rows(config: Config) -> tuple[int, ...]:
    """Return the rows of targets: the first of every pair, then their complements."""
    if config.split.mode == "dedicated":
        return tuple(range(config.split.targets))
    rows = [*range(0, config.split.models, 2), *range(1, config.split.models, 2)]
    return tuple(sorted(rows[: config.split.targets]))


def reference_rows(config: Config) -> tuple[int, ...]:
    """Return the rows of the models that serve as references of some target."""
    if config.split.mode == "dedicated":
        return tuple(range(config.split.targets, config.split.targets + config.split.shadows))
    return tuple(range(config.split.models))


def references_per_side(config: Config) -> int:
    """Return the number of references per side of every record."""
    split = config.split
    return (split.models - 2) // 2 if split.mode == "population" else split.shadows // 2
