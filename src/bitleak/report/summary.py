"""`summary.json`: the data, the models and the settings of an audit, for its report.

The audit fills in a `Summary`; nothing in it can be derived from the results table.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from bitleak.core.damage import DAMAGE, reason
from bitleak.core.errors import StoreError
from bitleak.core.output_folder import write_atomically
from bitleak.core.release_limits import ReleaseLimits
from bitleak.core.types import SplitMode
from bitleak.report.audit_files import REMEDY
from bitleak.report.record_exposure import Exposed

SCHEMA = 2
"""Version of the meaning of `summary.json` and of the figures next to it; 1 if there is none.

It is raised if a key or a figure changes its meaning: docs/results.md, "Changed meaning".
"""


@dataclass(frozen=True)
class VariantSummary:
    """One variant of the audited networks.

    Attributes:
        name: As in `Row.variant`.
        quantizer: As in `Row.quantizer`.
        levels: As in `Row.levels`.
        bits_per_weight: Effective bits per weight: codes, scales and unquantized weights together.
        bytes: Size of codes, scales and the rest.
    """

    name: str
    quantizer: str
    levels: int | None
    bits_per_weight: float
    bytes: int


@dataclass(frozen=True)
class FileSummary:
    """A variant that is a file, and how its runtime answers it.

    Attributes:
        name: As in `Row.variant`.
        runtime: Name and version of the runtime.
        provider: The runtime's device or kernels.
        optimisation: Level of the graph's optimisation.
        arithmetic: Number type of products, or the runtime's level of it; empty if not known.
        levels: Largest number of different codes on a grid; 0 if nothing is quantized.
        quantized_activations: Whether activations are rounded.
        bytes: Bytes on the disk.
        layer_bytes: Bytes of codes, scales and float weights of the layers; None if not known.
        coded_bytes: `layer_bytes` with log2(levels) bits per code, as tables count; None if not known.
        float_layers: Layers in full precision, by their names in the file.
    """

    name: str
    runtime: str
    provider: str
    optimisation: str
    arithmetic: str
    levels: int
    quantized_activations: bool
    bytes: int
    layer_bytes: int | None
    coded_bytes: int | None
    float_layers: tuple[str, ...]

    @classmethod
    def of(
        cls, name: str, record: Mapping[str, Any], runtime: Mapping[str, Any], size: int
    ) -> "FileSummary":
        """Return the summary of a file.

        Args:
            name: Its variant.
            record: Facts on its layers.
            runtime: Facts of the opened network.
            size: Bytes on the disk.
        """
        level = runtime.get("accuracy_level")
        by_level = "" if level is None else "float32" if level == 0 else f"accuracy level {level}"
        return cls(
            name=name,
            runtime=str(runtime.get("runtime", "")),
            provider=str(runtime.get("provider", "")),
            optimisation=str(runtime.get("optimisation", "")),
            arithmetic=str(runtime.get("arithmetic", by_level)),
            levels=max(record["levels_counted"].values(), default=0),
            quantized_activations=bool(record["quantized_activations"]),
            bytes=int(size),
            layer_bytes=record.get("layer_bytes"),
            coded_bytes=record.get("coded_bytes"),
            float_layers=tuple(record["float_layers"]),
        )


@dataclass(frozen=True)
class Summary:
    """The audited data and models, and how they were audited.

    Attributes:
        title: Heading of the report, for example the config's name.
        dataset: Name of the data set, for people.
        records: Records in the pool, which models are trained on and which are audited.
        members: Records in one model's training set.
        non_members: Audited records outside one target's training set; an FPR is a share of them.
        population_records: Held-out records that the adversary may use.
        test_records: Held-out records that the test accuracy is measured on.
        classes: Number of classes.
        models: Trained full-precision models, targets and shadows together.
        mode: `population` or `dedicated`.
        targets: Number of models attacked.
        references: Reference models per side of a record (trained with it, and trained without it).
        network: Name of the network with its options.
        parameters: Number of its trainable parameters.
        training: The recipe in a line.
        calibration: Source of the quantizers' calibration images: `members`, `holdout` or a line of
            text.
        calibration_records: Number of images that a quantizer is calibrated on.
        fprs: The false-positive rates that TPR is reported at, in (0, 1).
        headline_attack: From `headline(rows)`.
        headline_reference: From `headline(rows)`.
        headline_fpr: The smallest of `fprs` with at least 10 expected false positives, else the
            largest.
        expected_false_positives: headline_fpr x non_members.
        presets: One sentence per preset that makes a result weaker or slower than it could be.
        queries: Augmented versions of each record that every model is evaluated on.
        interval: Method of the intervals of the aggregated figures, in a line.
        versions: Version by name of the software that computed the results (bitleak, torch, numpy,
            python).
        machine: Processor and accelerator in words.
        seeds: Seed by name.
        variants: One entry per variant, fp32 first; none if the networks' weights are not known.
        source: The file of answers that was attacked; empty for an audit, which trains its models.
        membership: Origin of the membership, in a sentence; empty if `mode` is enough to describe
            it.
        notes: Attacks and figures that were left out, with the reason, a sentence each.
        calibration_inference: How calibration sets were attacked, in sentences; empty if they were
            not.
        priors: Shares of members that precisions are reported at; none if no threshold was chosen
            beforehand.
        delta: The delta of the bounds on epsilon; None if there are no bounds.
        exposed: The most and the least exposed records; None if single records were not measured.
        warnings: Reasons to doubt the input or the figures, a sentence each; the first lines of
            every report.
        lead: First lines of the report: the tier of an audit of one target, and its limits.
        copies: Records with copies: `exact`, `near`, `held_out`, `contradicting`, and the largest
            `distance` of near copies (see `bitleak.data.image_copies`); None if the images are not
            known.
        schema: `SCHEMA` of the version that wrote the file.
        clusters: Number of clusters of dependent records that intervals and bounds count; None if
            all records are taken for independent.
        files: Variants that are files in their runtimes, those of the first target.
        limits: Conditions for a release, which `bitleak check` tests if none are given; None if the
            config has none.
    """

    title: str
    dataset: str
    records: int
    members: int
    non_members: int
    population_records: int
    test_records: int
    classes: int
    models: int
    mode: SplitMode
    targets: int
    references: int
    network: str
    parameters: int
    training: str
    calibration: str
    calibration_records: int
    fprs: tuple[float, ...]
    headline_attack: str
    headline_reference: str
    headline_fpr: float
    expected_false_positives: float
    presets: tuple[str, ...]
    queries: int
    interval: str
    versions: Mapping[str, str]
    machine: str
    seeds: Mapping[str, int]
    variants: tuple[VariantSummary, ...]
    source: str = ""
    membership: str = ""
    notes: tuple[str, ...] = ()
    calibration_inference: str = ""
    priors: tuple[float, ...] = ()
    delta: float | None = None
    exposed: Exposed | None = None
    warnings: tuple[str, ...] = ()
    copies: Mapping[str, int | float] | None = None
    lead: tuple[str, ...] = ()
    schema: int = SCHEMA
    clusters: int | None = None
    files: tuple[FileSummary, ...] = ()
    limits: ReleaseLimits | None = None

    @property
    def command(self) -> str:
        """The command that makes such a run."""
        if self.source:
            return "`bitleak attack` on the same answers"
        return "`bitleak audit` on the same config"

    @property
    def older(self) -> str:
        """A sentence on figures of an earlier schema; empty for a run of the current schema."""
        if self.schema == SCHEMA:
            return ""
        return (
            f"This run is of schema {self.schema}, before {SCHEMA}: some figures have changed "
            "their meaning since "
            f'(docs/results.md, "Changed meaning"); {self.command} remakes them.'
        )

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary of JSON values, by the attributes' names."""
        return json.loads(json.dumps(asdict(self), default=dict, allow_nan=False))

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Summary":
        """Return the summary from the dictionary that `to_json` made of it.

        A value without `schema` is of schema 1, which lacks `warnings`.

        Raises:
            ValueError: A key is missing or of a wrong type (all such keys are named), or the schema
                is not known.
        """
        try:
            summary = TypeAdapter(cls).validate_json(json.dumps({"schema": 1, **value}))
        except ValidationError as error:
            mistakes = [_mistake(dict(item)) for item in error.errors()]
            raise ValueError("; ".join(mistakes)) from error
        if not 1 <= summary.schema <= SCHEMA:
            raise ValueError(
                f"schema must be from 1 to {SCHEMA}, got {summary.schema}; a newer bitleak wrote the file"
            )
        return summary


def write_summary(summary: Summary, folder: Path) -> None:
    """Write `summary.json` into the folder.

    Raises:
        StoreError: The folder cannot be written to.
    """
    text = json.dumps(summary.to_json(), indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(folder / "summary.json", f"{text}\n".encode())


def read_summary(folder: Path) -> Summary:
    """Read `summary.json`.

    Raises:
        StoreError: The file is missing, not JSON, or has missing or wrong keys.
    """
    path = folder / "summary.json"
    try:
        return Summary.from_json(json.loads(path.read_bytes()))
    except FileNotFoundError as error:
        raise StoreError(f"{path}: there is no such file; {REMEDY}") from error
    except DAMAGE as error:
        raise StoreError(f"{path}: cannot be used ({reason(error)}); {REMEDY}") from error


def _mistake(item: Mapping[str, Any]) -> str:
    place = ".".join(map(str, item["loc"])) or "summary"
    return f"{place}: {item['msg']}"
