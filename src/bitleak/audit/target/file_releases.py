"""Releases of a target that are files of a runtime, and releases that tools of other kits make.

| given | release | references in tier 1 |
|---|---|---|
| `"int8.onnx"`, `ReleaseFile("int8.onnx")` | the file in its runtime | in full precision only |
| `ReleaseFile("int8.onnx", tool="onnxruntime")` | the file in its runtime | quantized by the tool |
| `ReleaseTool("onnxruntime")` | the target, quantized by the tool | quantized by the tool |

A file is opened on 32 records first (see `session_comparison`), and its logits are compared
with the target's: a file for inputs that are prepared otherwise is a release of no use.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int64
from torch import nn

from bitleak import registry
from bitleak.audit.target.input_spelling import InputSpelling
from bitleak.audit.target.network_answers import Records, logits_of
from bitleak.config import QuantizeConfig
from bitleak.config.schema import FILE
from bitleak.core.checks import unknown_name
from bitleak.core.errors import ConfigError, ModelError
from bitleak.core.leftovers import temporary_folder
from bitleak.core.outside import is_outside
from bitleak.core.seeds import seed_for
from bitleak.core.types import ModelSpec, NetworkFile, Weights
from bitleak.runtimes.file_agreement import (
    NEAR,
    NEARER,
    PREPARATIONS,
    logit_error,
    share_by_chance,
)
from bitleak.runtimes.file_network import FileNetwork
from bitleak.runtimes.runtime import open_network, runtime_for
from bitleak.runtimes.session_comparison import RECORDS, check_sessions
from bitleak.tools.tool_results import apply_tool

COMPARED = 256
"""Members on which a file's logits are compared with the target's."""


@dataclass(frozen=True)
class ReleaseTool:
    """A tool of another kit that makes a release.

    Attributes:
        call: A name of the registry's `TOOLS`, `package.module:function`, or the function.
        options: Options of the tool.
        runtime: Options of the runtime that answers its file.

    Example:
        >>> ReleaseTool("onnxrt").function
        Traceback (most recent call last):
        ...
        bitleak.core.errors.ConfigError: unknown tool 'onnxrt': did you mean 'onnxruntime'? ...
    """

    call: str | Callable[..., Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    runtime: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name for tables and messages."""
        if isinstance(self.call, str):
            return self.call.partition("@")[0]
        return str(getattr(self.call, "__name__", type(self.call).__name__))

    @property
    def function(self) -> Callable[..., Any]:
        """The function.

        Raises:
            ConfigError: There is none of this name.
        """
        if not isinstance(self.call, str):
            return self.call
        try:
            if not is_outside(self.call) and self.call not in registry.TOOLS:
                raise ValueError(unknown_name("tool", self.call, registry.TOOLS))
            function: Callable[..., Any] = registry.resolve(registry.TOOLS, self.name, kind="tool")
        except ValueError as error:
            raise ConfigError(str(error)) from None
        return function


@dataclass(frozen=True)
class ReleaseFile:
    """A release as a file that a runtime executes.

    Attributes:
        path: The file, such as `int8.onnx`.
        runtime: Options of the runtime.
        tool: The tool that made it, by which references are quantized alike; None if not known.
    """

    path: str | Path
    runtime: Mapping[str, Any] = field(default_factory=dict)
    tool: "ReleaseTool | str | None" = None

    @property
    def source(self) -> ReleaseTool | None:
        """The tool that made the file."""
        return ReleaseTool(self.tool) if isinstance(self.tool, str) else self.tool


def is_runtime_file(value: Any) -> bool:
    """Return whether a value is a path with the suffix of a runtime's files.

    Example:
        >>> is_runtime_file("int8.onnx"), is_runtime_file("net.safetensors")
        (True, False)
    """
    return (
        isinstance(value, str | Path) and Path(value).suffix.lower() in registry.RUNTIME_OF_SUFFIX
    )


def configured_release(entry: QuantizeConfig) -> ReleaseFile | ReleaseTool:
    """Return the release of a config's entry for a file or a tool."""
    options = dict(entry.options)
    if entry.name != FILE:
        return ReleaseTool(options["call"], options["options"], options["runtime"])
    tool = options["tool"]
    source = None if tool is None else ReleaseTool(tool["call"], tool["options"], tool["runtime"])
    return ReleaseFile(options["file"], options["runtime"], source)


def record_spec(records: Records) -> ModelSpec:
    """Return shape and standardisation of the records, as runtimes and tools take them.

    Raises:
        ConfigError: The images are not square.
    """
    channels, *sides = (int(number) for number in records.images.shape[1:])
    if len(set(sides)) > 1:
        raise ConfigError(
            f"a file or a tool takes square images here, got {sides[0]} x {sides[1]} pixels; give the network itself, "
            "or pad the images"
        )
    mean, std = records.spelling.unit_statistics
    return ModelSpec(
        "target",
        {},
        records.classes,
        channels,
        sides[0] if sides else 0,
        mean=mean if len(mean) == channels else mean * channels,
        std=std if len(std) == channels else std * channels,
    )


def read_release(release: ReleaseFile, spec: ModelSpec, where: str) -> NetworkFile:
    """Return the content of a file; its graph is not executed.

    Raises:
        ModelError: It cannot be read, or does not fit the images.
    """
    path = Path(release.path)
    if not path.is_file():
        raise ModelError(f"{where}: {path}: no such file")
    try:
        _, runtime = runtime_for(path, release.runtime)
        return runtime.read(path, spec)
    except ModelError as error:
        raise ModelError(f"{where}: {error}") from None


def opened_release(
    release: ReleaseFile,
    target: Any,
    records: Records,
    members: Int64[np.ndarray, "members"],
    where: str,
) -> tuple[FileNetwork, NetworkFile]:
    """Return a file as a network that answers, after its answers were compared with the target's.

    Args:
        release: The file.
        target: The target at full precision.
        records: All records.
        members: Some members of the target.
        where: Name of the field, for messages.

    Raises:
        ModelError: The file is refused by its runtime.
        ConfigError: It takes inputs that are prepared otherwise.
    """
    network, file = open_file(release, records, where)
    _check_agreement(release, network, target, records, members[:COMPARED], where)
    return network, file


def open_file(
    release: ReleaseFile, records: Records, where: str
) -> tuple[FileNetwork, NetworkFile]:
    """Return a file as a network that answers; its sessions are compared on a few records.

    Raises:
        ModelError: The file is refused by its runtime.
    """
    file = read_release(release, record_spec(records), where)
    few = np.arange(min(RECORDS, len(records.labels)))
    shown = np.ascontiguousarray(records.inputs(few, "identity").numpy())
    try:
        network = FileNetwork(open_network(file))
        network(torch.from_numpy(shown))
        check_sessions(file, shown)
    except ModelError as error:
        raise ModelError(f"{where}: {error}") from None
    return network, file


class FileTarget(NamedTuple):
    """A file that is the target itself.

    Attributes:
        network: The file in its runtime.
        records: The records as it takes them.
        notes: Sentences for the report.
        facts: Facts on the file's layers, and its `bytes`.
    """

    network: FileNetwork
    records: Records
    notes: tuple[str, ...]
    facts: Mapping[str, Any]


def opened_target(release: ReleaseFile, records: Records, where: str) -> FileTarget:
    """Return a file that is the target itself, tried on a few records.

    Mean and deviation that `bitleak export` has written into the file count if the records have
    none.

    Args:
        release: The file.
        records: The records as they were given.
        where: Name of the field, for messages.

    Raises:
        ModelError: The file is refused by its runtime.
    """
    name, spelling, notes = Path(release.path).name, records.spelling, []
    stated = read_release(release, record_spec(records), where).record.get("standardisation")
    if stated and spelling == replace(
        InputSpelling(), channels=spelling.channels, layout=spelling.layout
    ):
        stated_spelling = replace(
            spelling, mean=tuple(stated["mean"]), deviation=tuple(stated["std"])
        )
        records = replace(records, spelling=stated_spelling)
        notes.append(f"{name} states its standardisation: {stated_spelling.as_text()}.")
    network, file = open_file(release, records, where)
    notes.append(f"{name} is answered by {network.opened.facts['runtime']}.")
    return FileTarget(network, records, tuple(notes), {**file.record, "bytes": file.size})


def _check_agreement(
    release: ReleaseFile,
    network: nn.Module,
    target: Any,
    records: Records,
    members: Int64[np.ndarray, "members"],
    where: str,
) -> None:
    """Refuse a file whose logits are nearer to the target's under another preparation of its inputs.

    Likewise one that agrees with the target no more often than chance.
    """
    expected = logits_of(target, records, members)

    def error(model: nn.Module) -> float:
        return logit_error(logits_of(model, records, members), expected)

    stated, name = release.runtime.get("pixels", PREPARATIONS[0]), Path(release.path).name
    own_error = error(network)
    for pixels in PREPARATIONS if own_error > NEAR else ():
        if pixels == stated:
            continue
        changed = replace(release, runtime={**release.runtime, "pixels": pixels})
        try:
            file = read_release(changed, record_spec(records), where)
            other_error = error(FileNetwork(open_network(file)))
        except ModelError:
            continue  # not an option of this file
        if other_error < NEARER * own_error:
            raise ConfigError(
                f"{where}: {name} answers {len(members)} members otherwise than the target, by "
                f"{100 * own_error:.3g} % of its logits, but by {100 * other_error:.3g} % as a file "
                f"that takes {pixels} pixels: write the runtime's option pixels: {pixels}"
            )
    if own_error <= NEAR:
        return
    share = share_by_chance(logits_of(network, records, members), expected)
    if share is not None:
        raise ConfigError(
            f"{where}: {name} agrees with the target on {100 * share:.1f} % of {len(members)} "
            "members, no more than chance: it is a file of another network, or its input is prepared otherwise"
        )


def tool_release(
    target: Any,
    tool: ReleaseTool,
    records: Records,
    calibration: Int64[np.ndarray, "calibration"],
    *,
    seed: int,
    fresh: Callable[[Weights], nn.Module],
) -> tuple[nn.Module, Mapping[str, Any]]:
    """Return a network quantized by a tool, and the facts of its layers.

    Args:
        target: A network from inputs to logits, on any device.
        tool: The tool.
        records: All records.
        calibration: Records that the tool may look at.
        seed: The audit's seed.
        fresh: Returns a network with given weights.

    Raises:
        QuantizationError: As `apply_tool`.
    """
    with temporary_folder("bitleak-tool-") as folder:
        result = apply_tool(
            tool.function,
            target.cpu(),
            records.inputs(calibration, "identity"),
            folder,
            spec=record_spec(records),
            options=tool.options,
            runtime=tool.runtime,
            name=tool.name,
            seed=seed_for(seed, "tool", 0),
            fresh=fresh,
        )
    if isinstance(result, NetworkFile):
        return FileNetwork(open_network(result)), {**result.record, "bytes": result.size}
    return fresh(result), result.record
