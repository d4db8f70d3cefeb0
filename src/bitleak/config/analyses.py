"""Analyses beyond a single release and its training set: config sections that name variants."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from bitleak import registry
from bitleak.attacks.joint_learned import FEWEST_OF_TARGET
from bitleak.config.canaries_section import check_canaries, read_canaries
from bitleak.config.channels_section import (
    check_channels,
    read_channels,
    resolved_channels,
)
from bitleak.config.fields import (
    checked_value,
    name_list,
    plain_values,
    section,
    typed_value,
    value_text,
)
from bitleak.config.schema import CalibrationInferenceConfig, Config, QuantizeConfig, SplitConfig
from bitleak.core.checks import label_text, unknown_name
from bitleak.core.variants import (
    FULL,
    JOINT,
    JOINT_LEARNED,
    SIGNS,
    canaries_of,
    joined,
    noise_like,
    through,
)

ANALYSES = (
    "joint",
    "joint_attacks",
    "utility_matched",
    "calibration_inference",
    "channels",
    "canaries",
)


def read_analyses(
    raw: Mapping[str, Any], variants: Sequence[str], errors: list[str]
) -> dict[str, Any]:
    """Return the sections as fields of a `Config`.

    Args:
        raw: The whole file.
        variants: Names of the quantized variants.
        errors: Mistakes are added to it.
    """
    raw_inference, inference = raw.get("calibration_inference"), None
    if raw_inference not in (None, False):
        name = "calibration_inference"
        inference = section(CalibrationInferenceConfig, raw_inference, name, errors)
    return {
        "joint": _joint(raw.get("joint"), errors),
        "joint_attacks": name_list(
            raw.get("joint_attacks", [JOINT]), "joint_attacks", registry.JOINT_ATTACKS, errors
        ),
        "utility_matched": _variants(raw.get("utility_matched"), variants, errors),
        "calibration_inference": inference,
        "channels": read_channels(raw.get("channels"), variants, errors),
        "canaries": read_canaries(raw.get("canaries"), errors),
    }


def check_analyses(config: Mapping[str, Any], errors: list[str]) -> None:
    """Check the sections against each other and against the rest of the config."""
    entries: Sequence[QuantizeConfig] = config["quantize"]
    variants = [entry.variant for entry in entries]
    # Names of derived variants are made of names and signs (`fp32&rtn-2`), so a name must not hold
    # a sign.
    for variant in variants:
        checked_value(partial(label_text, longest=None), variant, "quantize", errors)
    for sign in SIGNS:
        for variant in variants:
            if sign in variant:
                errors.append(
                    f"quantize: {variant}: a label must not hold {sign!r}, which names of variants are made with"
                )
    # The order of a set's releases does not matter to the attack, so two orders are the same set.
    for index, releases in enumerate(config["joint"]):
        _check_known(releases, [FULL, *variants], f"joint.{index}", errors)
    sets = [frozenset(releases) for releases in config["joint"]]
    for index, releases in enumerate(sets):
        if releases in sets[:index]:
            errors.append(
                f"joint.{index}: {joined(config['joint'][index])} is there twice; give every set once"
            )
    if config["joint"] and "matched" not in config["references"]:
        errors.append(
            "references: joint needs matched references, one release of each per release; add matched"
        )
    if config["joint"] and JOINT_LEARNED in config["joint_attacks"]:
        _check_players(config["split"], errors)
    _check_known(config["utility_matched"], variants, "utility_matched", errors)
    _check_calibration(config["calibration_inference"], entries, config["split"], errors)
    channels = config["channels"]
    if channels is not None:
        _check_known(channels.variants, [FULL, *variants], "channels.variants", errors)
    check_channels(channels, config["query"], config["split"].population, errors)
    check_canaries(config["canaries"], config["target"], errors)


def resolved_analyses(config: Config) -> dict[str, Any]:
    """Return the sections in the form that `read_analyses` reads."""
    inference, channels, canaries = (
        config.calibration_inference,
        config.channels,
        config.canaries,
    )
    return {
        "joint": [list(releases) for releases in config.joint],
        "joint_attacks": list(config.joint_attacks),
        "utility_matched": list(config.utility_matched),
        "calibration_inference": None if inference is None else plain_values(inference),
        **({} if channels is None else {"channels": resolved_channels(channels)}),
        **({} if canaries is None else {"canaries": plain_values(canaries)}),
    }


def analysis_variants(config: Config) -> list[str]:
    """Return the names of the variants that are neither quantized nor full precision, in the order
    of the tables.

    Example:
        >>> from bitleak.config import validate
        >>> quantize = [{"name": "rtn", "levels": [4, 3]}]
        >>> raw = {"data": "digits", "model": "cnn", "quantize": quantize, "joint": [["fp32", "rtn-2"]]}
        >>> analysis_variants(validate({**raw, "utility_matched": True}))
        ['fp32&rtn-2', 'noise@rtn-2', 'noise@rtn-1.58']
    """
    names = [*map(joined, config.joint), *map(noise_like, config.utility_matched)]
    if config.channels is not None:
        for variant in config.channels.variants:
            names += [through(channel, variant) for channel in config.channels.names]
    if config.canaries is not None:
        names += map(canaries_of, [FULL, *(entry.variant for entry in config.quantize)])
    return names


def _joint(raw: Any, errors: list[str]) -> tuple[tuple[str, ...], ...]:
    if raw is None:
        return ()
    expected = "joint: expected a list of lists of variants, such as [[fp32, obc-2]], got"
    if not isinstance(raw, list):
        errors.append(f"{expected} {value_text(raw)}")
        return ()
    for releases in raw:
        if not isinstance(releases, list):
            errors.append(f"{expected} a list with {value_text(releases)}")
            return ()
    sets = []
    for index, releases in enumerate(raw):
        names = typed_value(tuple[str, ...], releases, f"joint.{index}", errors) or ()
        if len(releases) < 2:
            errors.append(f"joint.{index}: expected at least two variants, got {len(releases)}")
        sets.append(names)
    return tuple(sets)


def _check_players(split: SplitConfig, errors: list[str]) -> None:
    """Refuse too few references for a classifier that references in the target's place train."""
    population = split.mode == "population"
    per_side = (split.models - 2) // 2 if population else split.shadows // 2
    if per_side < FEWEST_OF_TARGET:
        more = (
            f"split.models to {2 * FEWEST_OF_TARGET + 2}"
            if population
            else f"split.shadows to {2 * FEWEST_OF_TARGET}"
        )
        errors.append(
            f"joint_attacks: {JOINT_LEARNED} needs at least {FEWEST_OF_TARGET} references per side, "
            f"got {per_side}; raise {more}, or leave it out"
        )


def _variants(raw: Any, variants: Sequence[str], errors: list[str]) -> tuple[str, ...]:
    if raw in (None, False):
        return ()
    if raw is True:
        return tuple(variants)
    if not isinstance(raw, list):
        errors.append(
            f"utility_matched: expected true, false or a list of variants, got {value_text(raw)}"
        )
        return ()
    return typed_value(tuple[str, ...], raw, "utility_matched", errors) or ()


def _check_known(names: Sequence[str], known: Sequence[str], where: str, errors: list[str]) -> None:
    for name in dict.fromkeys(names):
        if name not in known:
            errors.append(f"{where}: {unknown_name('variant', name, known)}")
        if names.count(name) > 1:
            errors.append(f"{where}: {name} is there twice; give every variant once")


def _check_calibration(
    inference: CalibrationInferenceConfig | None,
    entries: Sequence[QuantizeConfig],
    split: SplitConfig,
    errors: list[str],
) -> None:
    if inference is None:
        return
    where = "calibration_inference"
    if not inference.variants:
        errors.append(f"{where}.variants: expected at least one variant, got an empty list")
    _check_known(
        inference.variants, [entry.variant for entry in entries], f"{where}.variants", errors
    )
    if inference.targets > split.targets:
        errors.append(
            f"{where}.targets: expected at most split.targets = {split.targets}, got {inference.targets}"
        )
