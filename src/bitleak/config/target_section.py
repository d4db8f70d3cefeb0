"""The section `target`: a model that was trained elsewhere, with the list of its members."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from bitleak.config.fields import plain_values, section, value_text
from bitleak.config.schema import FILE, DataConfig, QuantizeConfig
from bitleak.core.checks import integer_in, number_in
from bitleak.registry import RUNTIME_OF_SUFFIX

ReadQuantizer = Callable[[Any, str, list[str]], list[QuantizeConfig]]
"""Takes an entry, its dotted name and the list of mistakes; returns a config per precision."""


@dataclass(frozen=True)
class TargetConfig:
    """A model that was trained elsewhere.

    Attributes:
        weights: File of its weights: `.safetensors`, or a checkpoint of `torch.save`; or a file that a
            runtime executes, such as `int8.onnx`.
        members: The records that it was trained on: numbers, a file or a folder, see
            `audit.target.record_lists`.
        others: The records that it was not trained on; None is all the rest.
        mean: Mean of each channel, or one for all, subtracted from the scaled pixels.
        deviation: Deviation of each channel, or one for all.
        scale: Largest value of a pixel before standardisation.
        channels: Order of the channels that the network takes.
        layout: `transposed` if the network takes images with height and width exchanged.
        releases: Further versions by name: a file of weights, a file that a runtime executes (with its
            options and its tool, or alone), a quantizer, or a tool.
        allow_separable: Whether attacks are reported although members and others differ by
            themselves.
        references: References of tier 1.
        imitated: Whether references are then distilled towards the target's answers.
        runtime: Options of the runtime, if `weights` is a file that one executes.
    """

    weights: str
    members: Any
    others: Any = None
    mean: tuple[float, ...] = (0.0,)
    deviation: tuple[float, ...] = (1.0,)
    scale: float = 1.0
    channels: Literal["rgb", "bgr"] = "rgb"
    layout: Literal["upright", "transposed"] = "upright"
    releases: Mapping[str, Any] = field(default_factory=dict)
    allow_separable: bool = False
    references: int = 10
    imitated: bool = False
    runtime: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.weights:
            raise ValueError("weights must be a file, got an empty text")
        if self.runtime and not self.is_runtime_file:
            known = ", ".join(RUNTIME_OF_SUFFIX)
            raise ValueError(
                f"runtime is for weights that a runtime executes ({known}), got {self.weights}; leave it out"
            )
        if self.members is None:
            raise ValueError("members must be record numbers, a file or a folder, got nothing")
        for value in self.deviation:
            number_in("deviation", value, 0, 1e6, ends="(]")
        number_in("scale", self.scale, 0, 1e6, ends="(]")
        integer_in("references", self.references, 2, 1000)

    @property
    def is_runtime_file(self) -> bool:
        """Whether the target is a file that a runtime executes, and no network."""
        return Path(self.weights).suffix.lower() in RUNTIME_OF_SUFFIX


def read_target(
    raw: Any, data: DataConfig | None, read_quantizer: ReadQuantizer, errors: list[str]
) -> TargetConfig | None:
    """Return the section; None if there is none, or with the mistakes if it is wrong.

    Args:
        raw: As in the file.
        data: The data set, which must be whole: record numbers count all of its records.
        read_quantizer: Reads an entry like those of the section `quantize`.
        errors: Mistakes are added to it.
    """
    if raw is None:
        return None
    if isinstance(raw, dict):
        raw = dict(raw)
        # A single number is for all channels.
        for name in ("mean", "deviation"):
            if isinstance(raw.get(name), int | float) and not isinstance(raw.get(name), bool):
                raw[name] = [raw[name]]
    target: TargetConfig | None = section(TargetConfig, raw, "target", errors)
    if data is not None and (data.limit is not None or data.held_out is not None):
        errors.append(
            "data.limit: a target's members are numbered among all records; leave out limit and held_out"
        )
    if target is None:
        return None
    # A path stands for weights or for a runtime's file, by its suffix.
    releases: dict[str, Any] = {}
    for name, value in target.releases.items():
        where = f"target.releases.{name}"
        if isinstance(value, str) and Path(value).suffix.lower() in RUNTIME_OF_SUFFIX:
            value = {"file": value}
        if isinstance(value, str):
            releases[str(name)] = value
            continue
        if not isinstance(value, dict):
            errors.append(
                f"{where}: expected a file, a quantizer such as {{name: adaround, levels: 4}}, or a tool such as "
                f"{{name: tool, call: onnxruntime}}, got {value_text(value)}"
            )
            continue
        if "file" in value:
            value = {"name": FILE, "label": str(name), **value}
        entries = read_quantizer(value, where, errors)
        if len(entries) > 1:
            errors.append(f"{where}: expected one precision per release, got {len(entries)}")
        if entries:
            releases[str(name)] = entries[0]
    return TargetConfig(**{**vars(target), "releases": releases})


def resolved_target(
    target: TargetConfig, resolved_quantizer: Callable[[QuantizeConfig], dict[str, Any]]
) -> dict[str, Any]:
    """Return the section in the form that `read_target` reads."""
    plain = {key: value for key, value in vars(target).items() if key != "releases"}
    if not target.runtime:
        del plain["runtime"]
    releases = {}
    for name, value in target.releases.items():
        is_entry = isinstance(value, QuantizeConfig)
        releases[name] = resolved_quantizer(value) if is_entry else value
    return {**plain_values(plain), "releases": releases}
