"""A given target in the graph: its members in place of drawn ones, its weights in place of trained ones."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from bitleak.attacks import attack_entries
from bitleak.config import Config
from bitleak.core.types import Description
from bitleak.steps.assign_members import AssignMembers
from bitleak.steps.load_release import LoadRelease
from bitleak.steps.load_target import LoadTarget
from bitleak.steps.scale import NetworkSize, Scale

TARGET_ROW = 0
"""Row of the membership matrix that is the given target."""


@dataclass(frozen=True)
class PlannedTarget:
    """A target that was trained elsewhere, for the plan of an audit.

    Attributes:
        assign: Step that takes the place of the draw of the splits.
        load: Step that takes the place of the target's training.
        members: Number of its members.
        evaluated: Number of evaluated non-members.
        releases: Steps that take the place of the target's quantization, by variant.
        files: Path of each release's file by its digest.
        weights: Steps that read releases given as weights, by name.
    """

    assign: AssignMembers
    load: LoadTarget
    members: int
    evaluated: int
    releases: Mapping[str, LoadRelease] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[str, LoadTarget] = field(default_factory=dict)

    def scale(
        self, config: Config, description: Description, network: NetworkSize, rate: float
    ) -> Scale:
        """Return the numbers of records and models; arguments as for `scale_of`."""
        assign = self.assign
        return Scale(
            images=description.records,
            pixels=description.values,
            value_bytes=1 if description.size else 4,
            pool=self.members + self.evaluated,
            members=self.members,
            calibration=assign.calibration,
            population=assign.population,
            test=assign.test,
            models=1 + assign.shadows,
            targets=1,
            references=assign.shadows,
            queries=len(config.query.augment),
            attacks=len(attack_entries(config.attacks)),
            classes=description.classes,
            network=network,
            rate=rate,
        )


WEIGHTS = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".tar")
"""Suffixes of files of weights."""


def weight_releases(config: Config) -> dict[str, str]:
    """Return the target's releases that are files of weights, by name."""
    releases = {} if config.target is None else config.target.releases
    files: dict[str, str] = {}
    for name, value in releases.items():
        if isinstance(value, str) and Path(value).suffix in WEIGHTS:
            files[name] = value
    return files


def population_config(config: Config) -> Config:
    """Return the config of the audit that a target's population makes: one dedicated target.

    Releases of the target that a quantizer or a tool makes, and files that a runtime executes, become
    entries of `quantize`, under their names.
    """
    section = config.target
    entries = list(config.quantize)
    if section is not None:
        for name, value in section.releases.items():
            if not isinstance(value, str):
                entries.append(replace(value, label=name))
    split = replace(config.split, mode="dedicated", targets=1)
    return replace(config, split=split, quantize=tuple(entries))
