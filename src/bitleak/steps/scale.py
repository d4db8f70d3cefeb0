"""How many records, models and weights an audit comes to."""

from dataclasses import dataclass

from bitleak.config import Config
from bitleak.core.errors import ConfigError
from bitleak.core.types import Description


@dataclass(frozen=True)
class NetworkSize:
    """What a plan needs to know of the network.

    Attributes:
        parameters: Number of parameters.
        multiply_adds: Per image of the data set, forward.
        layers: Output channels and columns (input channels per group times kernel area) of every
            quantizable layer.
        made_by: Distribution and version of the code that makes it; empty for this package's own and for local code.
    """

    parameters: int
    multiply_adds: int
    layers: tuple[tuple[int, int], ...]
    made_by: str = ""


@dataclass(frozen=True)
class Sizes:
    """How many records of each kind a config comes to.

    Attributes:
        pool: Records that models are trained on.
        members: Members of each model.
        calibration: Held-out records for calibration.
        population: Held-out records for the adversary.
        test: Held-out records for the accuracy.
    """

    pool: int
    members: int
    calibration: int
    population: int
    test: int


def sizes_of(config: Config, description: Description) -> Sizes:
    """The numbers of records that the splits will have.

    Raises:
        ConfigError: They do not fit; says the numbers.
    """
    split, data = config.split, config.data
    own = description.held_out
    total = description.records - own
    total = min(total, data.limit) if data.limit else total
    held_out = (min(own, data.held_out) if data.held_out else own) if own else round(total * split.held_out)
    pool = (total if own else total - held_out) // 2 * 2
    members = pool // 2
    test = held_out - split.calibration - split.population if split.test is None else split.test
    errors = []
    if test < 1 or split.calibration + split.population + test > held_out:
        errors.append(
            f"split: calibration {split.calibration} + population {split.population} + test "
            f"{'the rest' if split.test is None else split.test} do not fit into {held_out} held-out records"
        )
    if members < 2:
        errors.append(f"data: {total} records give models {members} members each; at least 2 are needed")
    for entry in config.quantize:
        if entry.calibration.source == "members" and entry.calibration.records > members:
            errors.append(
                f"calibration.records: {entry.variant} asks for {entry.calibration.records} members, "
                f"but each model has {members}; lower it to at most {members}"
            )
    if errors:
        raise ConfigError("\n".join(dict.fromkeys(errors)))
    return Sizes(pool, members, split.calibration, split.population, test)


def target_rows(config: Config) -> tuple[int, ...]:
    """Rows of the attacked models: of a population the first of every pair, then their complements."""
    if config.split.mode == "dedicated":
        return tuple(range(config.split.targets))
    rows = [*range(0, config.split.models, 2), *range(1, config.split.models, 2)]
    return tuple(sorted(rows[: config.split.targets]))


def reference_rows(config: Config) -> tuple[int, ...]:
    """Rows of the models that serve as references of some target."""
    if config.split.mode == "dedicated":
        return tuple(range(config.split.targets, config.split.targets + config.split.shadows))
    return tuple(range(config.split.models))
