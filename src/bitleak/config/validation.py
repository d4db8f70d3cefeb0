"""Validation of a config: every mistake is reported at once, before any work."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from bitleak import registry
from bitleak.attacks import expand, forms_by_word, known_names
from bitleak.config.analyses import ANALYSES, check_analyses, read_analyses, resolved_analyses
from bitleak.config.external_section import external_model
from bitleak.config.fields import (
    checked_value,
    entry_class,
    label_value,
    name_and_rest,
    name_list,
    number_list,
    plain_values,
    section,
    typed_value,
    value_text,
)
from bitleak.config.headline_pair import settled_headline
from bitleak.config.preset_references import check_presets
from bitleak.config.quantizer_entries import read_quantizer, read_quantizers, resolved_quantizer
from bitleak.config.reference_kinds import (
    check_others,
    check_quantized,
    read_references,
    resolved_references,
)
from bitleak.config.release_limits_section import (
    check_limit_figures,
    read_limits,
    resolved_limits,
)
from bitleak.config.row_data import check_rows, with_row_defaults
from bitleak.config.schema import (
    COPIES,
    FILE,
    CalibrationConfig,
    Config,
    DataConfig,
    HeadlineConfig,
    QuantizeConfig,
    QueryConfig,
    SplitConfig,
)
from bitleak.config.target_section import read_target, resolved_target
from bitleak.core.checks import integer_in, unknown_name
from bitleak.core.errors import ConfigError
from bitleak.core.limits import MOST_RATES, MOST_VARIANTS, why_too_many
from bitleak.core.outside import parse_outside
from bitleak.core.variants import partly_kind
from bitleak.metrics import DELTA, PRIORS, load_metric
from bitleak.train.recipe import Recipe

SECTIONS = (
    "title", "data", "split", "model", "train", "quantize", "attacks", "metrics", "figures", "references", "fpr",
    "priors", "delta", "power", "calibration", "query", "headline", "limits", "seed", "clusters", "target", *ANALYSES,
)  # fmt: skip

NO_NETWORK: tuple[str, dict[str, Any]] = ("", {})
"""Name and options of the network of a config whose target is a file and which has no section `model`."""


def validate(raw: Mapping[str, Any]) -> Config:
    """Return the checked config.

    Raises:
        ConfigError: With every mistake found, one per line, each with the field's dotted name,
            the expected and the given value.
    """
    errors: list[str] = []
    # Sections that are unknown, or missing without a default.
    for key in raw:
        if key not in SECTIONS:
            errors.append(unknown_name("section", key, SECTIONS))
    if "data" not in raw:
        errors.append("data: missing; name a data set, such as {name: digits}")
    if "model" not in raw and not _is_file_target(raw):
        errors.append("model: missing; name a network, such as {name: cnn, width: 16}")
    # Each section by itself; the top-level `calibration` is the default of every quantizer's.
    calibration = section(CalibrationConfig, raw.get("calibration"), "calibration", errors)
    fpr = number_list(raw.get("fpr", [0.001, 0.01]), "fpr", errors)
    quantize = read_quantizers(raw.get("quantize"), calibration, errors)
    data = _data(raw.get("data"), errors)
    given = raw.get("train")
    train_given = tuple(map(str, given)) if isinstance(given, Mapping) else ()
    raw = with_row_defaults(raw, data)
    config = {
        "title": label_value(raw.get("title", ""), "title", errors),
        "data": data,
        "split": section(SplitConfig, raw.get("split"), "split", errors),
        "model": _model(raw.get("model"), errors) or NO_NETWORK,
        "train": section(Recipe, raw.get("train"), "train", errors),
        "train_given": train_given,
        "quantize": quantize,
        "attacks": _attacks(raw.get("attacks", ["lira", "threshold"]), errors),
        "metrics": _metrics(raw.get("metrics", []), errors),
        "figures": _figures(raw.get("figures", []), errors),
        "references": (read := read_references(raw.get("references"), errors)).kinds,
        "partly_quantized": read.partly_quantized,
        "other_references": read.others,
        "other_presets": read.presets,
        "fpr": tuple(sorted(fpr)),
        "priors": tuple(number_list(raw.get("priors", list(PRIORS)), "priors", errors)),
        "delta": _delta(raw.get("delta", DELTA), errors),
        "power": typed_value(bool, raw.get("power", True), "power", errors),
        "query": section(QueryConfig, raw.get("query"), "query", errors),
        "headline": section(HeadlineConfig, raw.get("headline"), "headline", errors),
        "limits": read_limits(raw.get("limits"), errors),
        "seed": checked_value(integer_in, raw.get("seed", 0), "seed", errors, 0, 2**62),
        "clusters": _clusters(raw.get("clusters"), errors),
        **read_analyses(raw, [entry.variant for entry in quantize], errors),
    }
    config["target"] = read_target(
        raw.get("target"),
        config["data"],
        lambda entry, where, found: read_quantizer(entry, where, calibration, found),
        errors,
    )
    _check_rates(config, errors)
    _check_target_split(config, errors)
    if errors:
        raise ConfigError("\n".join(errors))
    # Sections against each other, which needs all of them to be right by themselves.
    _check_across(config, errors)
    _check_clusters(config, errors)
    if errors:
        raise ConfigError("\n".join(errors))
    return Config(**config)


def _check_target_split(config: Mapping[str, Any], errors: list[str]) -> None:
    """Refuse counts of models that a target's population does not have."""
    split = config["split"]
    if config["target"] is None or split is None:
        return
    for name in ("models", "targets", "held_out", "pairs"):
        if getattr(split, name) != getattr(SplitConfig(), name):
            errors.append(
                f"split.{name}: is for audits that train their targets; around a given target, tier 2 trains "
                f"split.shadows models ({split.shadows}): leave {name} out"
            )
    try:
        replace(split, mode="dedicated", targets=1)
    except ValueError as error:
        errors.append(f"split.{error}")


def resolved(config: Config) -> dict[str, Any]:
    """Return the config with every default written out, in the form that `validate` reads."""
    entries = [resolved_quantizer(entry) for entry in config.quantize]
    name, options = config.model
    data = {"name": config.data.name, **config.data.options}
    for key, count in (("limit", config.data.limit), ("held_out", config.data.held_out)):
        if count is not None:
            data[key] = count
    return {
        "title": config.title,
        "data": data,
        "split": _resolved_split(config.split),
        **({"model": {"name": name, **options}} if name else {}),
        "train": plain_values(asdict(config.train)),
        "quantize": entries,
        "attacks": list(config.attacks),
        **({"metrics": list(config.metrics)} if config.metrics else {}),
        **({"figures": list(config.figures)} if config.figures else {}),
        "references": resolved_references(
            config.references,
            config.partly_quantized,
            config.other_references,
            config.other_presets,
        ),
        "fpr": list(config.fpr),
        "priors": list(config.priors),
        "delta": config.delta,
        "power": config.power,
        "query": plain_values(asdict(config.query)),
        "headline": {name: text for name, text in asdict(config.headline).items() if text},
        **({} if config.limits is None else {"limits": resolved_limits(config.limits)}),
        "seed": config.seed,
        **({"clusters": config.clusters} if config.clusters else {}),
        **resolved_analyses(config),
        **(
            {"target": resolved_target(config.target, resolved_quantizer)}
            if config.target is not None
            else {}
        ),
    }


def _resolved_split(split: SplitConfig) -> dict[str, Any]:
    fields = plain_values(asdict(split))
    if not split.pairs:
        del fields["pairs"]
    return fields


def _data(raw: Any, errors: list[str]) -> DataConfig | None:
    if raw is None:
        return None
    name, rest = name_and_rest(raw, "data", registry.DATASETS, errors)
    if name is None:
        return None
    # `limit` and `held_out` apply to every data set; the other keys are the data set's own fields.
    part_keys = {key: rest.pop(key) for key in ("limit", "held_out") if key in rest}
    before = len(errors)
    cls = entry_class(
        registry.DATASETS, name, "data", "data set", errors, members=("load", "describe")
    )
    if cls is None:
        return None
    dataset = section(cls, rest, "data", errors, also=list(part_keys))
    part = section(DataConfig, {"name": name, "options": {}, **part_keys}, "data", errors)
    if len(errors) > before:
        return None
    return DataConfig(name=name, options=asdict(dataset), limit=part.limit, held_out=part.held_out)


def _clusters(raw: Any, errors: list[str]) -> str:
    if raw in (None, False, "none"):
        return ""
    if not isinstance(raw, str):
        errors.append(f"clusters: expected none, copies or an .npy file, got {value_text(raw)}")
        return ""
    if raw != COPIES and not raw.endswith(".npy"):
        errors.append(f"clusters: expected none, copies or an .npy file, got {raw!r}")
    return raw


def _check_trained(config: Mapping[str, Any], errors: list[str]) -> None:
    """Refuse quantization by training where the members of a model are not bitleak's own."""
    target = config["target"]
    if target is None:
        return
    entries = [(f"quantize.{index}", entry) for index, entry in enumerate(config["quantize"])]
    for name, release in target.releases.items():
        if isinstance(release, QuantizeConfig):
            entries.append((f"target.releases.{name}", release))
    for where, entry in entries:
        if entry.is_trained:
            errors.append(
                f"{where}: {entry.name} trains each model on all its members with their labels, and for a target "
                "that was trained elsewhere these are not known for certain: give the quantized weights as a file in "
                "target.releases, or quantize after training"
            )


def _check_clusters(config: Mapping[str, Any], errors: list[str]) -> None:
    source, data = config["clusters"], config["data"]
    if source and config["target"] is not None:
        errors.append(
            "clusters: not used for a target that was trained elsewhere; leave it out, or give its answers with an "
            "array clusters to bitleak attack"
        )
    limited = data is not None and (data.limit is not None or data.held_out is not None)
    if source not in ("", COPIES) and limited:
        errors.append(
            "clusters: a file numbers all records of the data set, so data.limit and data.held_out must not be given "
            "with it"
        )


def _is_file_target(raw: Mapping[str, Any]) -> bool:
    """Return whether the target is a file that a runtime executes, which needs no network."""
    section = raw.get("target")
    weights = section.get("weights") if isinstance(section, Mapping) else None
    return isinstance(weights, str) and Path(weights).suffix.lower() in registry.RUNTIME_OF_SUFFIX


def _model(raw: Any, errors: list[str]) -> tuple[str, dict[str, Any]] | None:
    if raw is None:
        return None
    spelling = raw.get("name") if isinstance(raw, dict) else raw
    if isinstance(spelling, str) and ":" in spelling:
        errors.append(
            f"model.name: {spelling!r} is no name of a network; for one of your own, write "
            f"model: {{name: external, factory: {spelling!r}}}"
        )
        return None
    name, rest = name_and_rest(raw, "model", registry.MODELS, errors)
    if name != "external":
        return None if name is None else (name, rest)
    return external_model(rest, "model", errors)


def _delta(raw: Any, errors: list[str]) -> float | None:
    value = typed_value(float, raw, "delta", errors)
    if value is not None and not 0 <= value < 1:
        errors.append(f"delta: expected a number of at least 0 and below 1, got {value!r}")
    return value


def _attacks(raw: Any, errors: list[str]) -> tuple[str, ...]:
    """Return the words for all forms of an attack, full names of single forms, and names of outside
    code.
    """
    before = len(errors)
    entries = name_list(raw, "attacks", known_names(), errors, load=expand)
    if len(errors) > before:
        return entries
    # Rows of the results are told apart by the forms' names.
    by_name: dict[str, object] = {}
    for forms in forms_by_word().values():
        for form in forms:
            by_name[form.name] = form
    for entry in entries:
        for form in expand(entry):
            if by_name.setdefault(form.name, form) != form:
                errors.append(f"attacks: {entry}: another attack is called {form.name!r} too")
    return entries


def _metrics(raw: Any, errors: list[str]) -> tuple[str, ...]:
    """Return the names of further metrics, from the registry and of outside code; none if the list is empty."""
    if raw == []:
        return ()
    before = len(errors)
    entries = name_list(raw, "metrics", registry.METRICS, errors, load=load_metric)
    if len(errors) > before:
        return entries
    names = [load_metric(entry).name for entry in entries]
    for entry, name in zip(entries, names, strict=True):
        if names.count(name) > 1:
            errors.append(f"metrics: {entry}: another metric is called {name!r} too")
    return entries


def _figures(raw: Any, errors: list[str]) -> tuple[str, ...]:
    """Return the names of further figures; an audit loads them before its work, see `audit.preparation`."""
    names = raw if isinstance(raw, list) else [raw]
    for name in names:
        try:
            if not isinstance(name, str):
                raise ValueError(
                    f"expected names of figures, as package.module:NAME, got {value_text(name)}"
                )
            if name in registry.FIGURES:
                raise ValueError(
                    f"{name} is in every report; name figures of your own, as package.module:NAME"
                )
            parse_outside(name, "figure")
        except ValueError as error:
            errors.append(f"figures: {error}")
    return tuple(dict.fromkeys(name for name in names if isinstance(name, str)))


def _check_rates(config: dict[str, Any], errors: list[str]) -> None:
    """Check rates and shares, which are open intervals: at 0 and 1 nothing can be measured."""
    for name in ("fpr", "priors"):
        for quantity in config[name]:
            if not 0 < quantity < 1:
                errors.append(f"{name}: expected numbers between 0 and 1, got {quantity!r}")


def _check_across(config: dict[str, Any], errors: list[str]) -> None:
    """Check the sections against each other."""
    if config["target"] is None:
        for index, entry in enumerate(config["quantize"]):
            if entry.name == FILE:
                errors.append(
                    f"quantize.{index}: {entry.options['file']} is a file of one network, and this audit trains "
                    "several: give the section target with that network, or quantize all of them by a tool"
                )
    _check_trained(config, errors)
    # Numbers of entries come first: the checks below take time that grows with them.
    limits = (
        ("quantize", MOST_VARIANTS, "variants"),
        ("fpr", MOST_RATES, "rates"),
        ("priors", MOST_RATES, "shares"),
    )
    for name, limit, subject in limits:
        reason = why_too_many(len(config[name]), limit, subject)
        if reason:
            errors.append(f"{name}: {reason}")
    if errors:
        return
    # Variants have names of their own, and enough held-out records to be calibrated on.
    split: SplitConfig = config["split"]
    variants = [entry.variant for entry in config["quantize"]]
    for variant in sorted({name for name in variants if variants.count(name) > 1}):
        errors.append(
            f"quantize: {variant} is there twice; give one of them a label of its own, such as label: mine"
        )
    for entry in config["quantize"]:
        calibration = entry.calibration
        if calibration.source == "holdout" and calibration.records > split.calibration:
            errors.append(
                f"split.calibration: {entry.variant} is calibrated on {calibration.records} held-out records, "
                f"got {split.calibration}; raise split.calibration or lower calibration.records"
            )
    # Attacks that learn from population records have enough of them.
    for name in config["attacks"]:
        fewest = min(attack.fewest_population for attack in expand(name))
        if fewest > split.population:
            errors.append(
                f"split.population: the attack {name} needs at least {fewest} population records, "
                f"got {split.population}; raise split.population or leave the attack out"
            )
    check_quantized(config["partly_quantized"], split, errors)
    check_others(config["other_references"], config["quantize"], errors)
    check_presets(config["other_presets"], config["quantize"], errors)
    check_rows(config, errors)
    check_analyses(config, errors)
    if not errors:
        check_limit_figures(config, errors)
        partly = map(partly_kind, sorted(config["partly_quantized"], reverse=True))
        adversaries = [*config["references"], *partly]
        config["headline"] = settled_headline(
            config["headline"], config["attacks"], adversaries, split.population, errors
        )
