"""Values of the command line's options, with every mistake led by its option."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from bitleak import registry
from bitleak.config import DataConfig
from bitleak.config.fields import section
from bitleak.core.checks import number_in
from bitleak.core.errors import ConfigError
from bitleak.single_network.option_texts import channel_numbers, data_from_text


def dataset_of_text(text: str, errors: list[str]) -> tuple[Any, Any]:
    """Return the data set and its `DataConfig`; None twice, with the mistakes, if it is wrong."""
    name_and_options = collected(errors, lambda: data_from_text(text))
    if name_and_options is None:
        return None, None
    name, options = name_and_options
    limits = {key: options.pop(key) for key in ("limit", "held_out") if key in options}
    kind = registry.find(registry.DATASETS, name, kind="data set")
    dataset = section_of_option(kind, options, "--data", errors, also=("limit", "held_out"))
    stored = {} if dataset is None else asdict(dataset)
    return dataset, section_of_option(
        DataConfig, {"name": name, "options": stored, **limits}, "--data", errors
    )


def standardisation_of_texts(
    mean_text: str | None, std_text: str | None, dataset: Any
) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Return mean and deviation per channel as they were given; None if they were not.

    Raises:
        ConfigError: One of them is missing, or a number is out of range.
    """
    if mean_text is None and std_text is None:
        return None
    if mean_text is None or std_text is None:
        raise ConfigError("--mean and --std go together, and one of them is missing")
    mean, std = channel_numbers(mean_text, "--mean"), channel_numbers(std_text, "--std")
    # Columns of a table have units of their own.
    pixels = not getattr(dataset, "is_table", False)
    try:
        for value in mean if pixels else ():
            number_in("--mean", value, 0, 1)
        for value in std:
            number_in("--std", value, 0, math.inf, ends="(]")
    except ValueError as error:
        raise ConfigError(f"{error} (of pixels from 0 to 1)" if pixels else str(error)) from None
    return mean, std


def section_of_option(
    kind: Any, raw: dict[str, Any], option: str, errors: list[str], *, also: Sequence[str] = ()
) -> Any:
    """Return an instance of the dataclass, or None with the mistakes added to `errors`, as `OPTION
    field: ...`.
    """
    mistakes: list[str] = []
    instance = section(kind, raw, option, mistakes, also=also)
    errors += [mistake.replace(f"{option}.", f"{option} ", 1) for mistake in mistakes]
    return instance


def collected(errors: list[str], make: Callable[[], Any]) -> Any:
    """Call `make` and return its result, or None with the message of its error added to
    `errors`.
    """
    try:
        return make()
    except ConfigError as error:
        errors.append(str(error))
        return None
