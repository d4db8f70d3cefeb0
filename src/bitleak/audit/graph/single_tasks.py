"""Single tasks of an audit: their parameters, inputs and expected seconds."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from bitleak.config import Config, QuantizeConfig
from bitleak.core.outside import short_name, versioned
from bitleak.core.types import SIGNALS, Description
from bitleak.engine.keys import Task
from bitleak.plan.costs import quantizer_work
from bitleak.plan.sizes import NetworkSize, Sizes

VERSIONS = {
    "images": "1",
    "splits": "1",
    "copies": "1",
    "train": "2",
    "quantize": "2",
    "query": "3",
    "attack": "2",
    "estimate": "2",
    "thresholds": "1",
    "measure": "7",
    "weigh": "1",
    "utility": "3",
    "joint": "2",
    "compare": "3",
    "match": "2",
    "noise": "1",
    "matched": "2",
    "candidates": "1",
    "calibration": "3",
    "power": "2",
    "memorise": "1",
}
"""Raised when the meaning of a stage changes; a part of every key."""


@dataclass(frozen=True)
class Tasks:
    """Makes the tasks of one audit: holds what they have in common.

    Attributes:
        config: The audit's config.
        description: The data set, undecoded.
        network: The network's size.
        sizes: Numbers of records.
        rate: Multiply-adds per second of a forward pass.
    """

    config: Config
    description: Description
    network: NetworkSize
    sizes: Sizes
    rate: float

    def images(self) -> Task:
        """The data set, decoded."""
        data = self.config.data
        # an option that came later is left out while it has its default, so that keys of before stay
        options = {
            key: value
            for key, value in data.options.items()
            if key != "path" and not (key == "classes" and value is None)
        }
        params = {
            "name": versioned(data.name),
            "options": options,
            "limit": data.limit,
            "held_out": data.held_out,
            "fingerprint": self.description.fingerprint,
            "seed": self.config.seed,
        }
        cost = 2e-4 * self.description.records
        return self.task("images", params, {}, f"images of {short_name(data.name)}", cost)

    def splits(self) -> Task:
        """Who is trained on what."""
        split = self.config.split
        counts = {"models": split.models} if split.mode == "population" else {"shadows": split.shadows}
        params = {
            "mode": split.mode,
            "targets": split.targets,
            "held_out": split.held_out,
            "calibration": split.calibration,
            "population": split.population,
            "test": split.test,
            "seed": self.config.seed,
            **counts,
        }
        return self.task("splits", params, {"images": self.images().key}, "splits", 0.1)

    def copies(self) -> Task:
        """Which records are copies of others."""
        return self.task("copies", {}, self.data(), "copies among the images", 2e-4 * self.sizes.pool)

    def train(self, row: int) -> Task:
        """One model."""
        name, options = self.config.model
        recipe = asdict(self.config.train)
        params = {"model": row, "network": name, "options": dict(options), "recipe": recipe, "seed": self.config.seed}
        if self.network.made_by:  # left out where there is none, so that keys of before stay
            params["made_by"] = self.network.made_by
        work = 3 * self.network.multiply_adds * self.sizes.members * self.config.train.epochs
        speed = 2.0 if self.config.train.autocast == "bfloat16" else 1.0
        return self.task("train", params, self.data(), f"train model {row}", work / (self.rate * speed))

    def quantize(self, entry: QuantizeConfig, row: int, trained: Task) -> Task:
        """One model at one precision of a quantizer; those that share a pass over the images share a group."""
        params = {
            "model": row,
            "quantizer": versioned(entry.name),
            "options": dict(entry.options),
            "levels": entry.levels,
            "calibration": asdict(entry.calibration),
            "seed": self.config.seed,
        }
        first = next(other for other in self.config.quantize if other.label == entry.label)
        cost = quantizer_work(entry, self.network, shared=first is not entry) / self.rate
        task = self.task(
            "quantize", params, {"weights": trained.key, **self.data()}, f"{entry.variant} of model {row}", cost
        )
        return replace(task, group=f"{entry.label}:{row}")

    def query(self, weights: Task, label: str, *, test: bool) -> Task:
        """What one set of weights answers about every record, the test records only where its accuracy is wanted."""
        query = self.config.query
        params = {"queries": list(query.augment), "batch": query.batch, "test": test}
        asked = (self.sizes.pool + self.sizes.population) * len(query.augment) + test * self.sizes.test
        cost = self.network.multiply_adds * asked / self.rate
        return self.task("query", params, {"weights": weights.key, **self.data()}, f"query {label}", cost)

    def weigh(self, weights: Task, label: str) -> Task:
        """What one set of weights takes: apart from the utility, which then needs no weights."""
        return self.task("weigh", {}, {"weights": weights.key}, f"size of {label}", 0.02)

    def data(self) -> dict[str, str | tuple[str, ...]]:
        """The inputs of whatever looks at the records."""
        return {"images": self.images().key, "splits": self.splits().key}

    def task(self, stage: str, params: Mapping[str, Any], inputs: Mapping[str, Any], label: str, cost: float) -> Task:
        """A task at its stage's version."""
        return Task(stage, VERSIONS[stage], params, inputs, label=label, cost=cost)

    def size(self, task: Task) -> int:
        """Expected bytes of the task's artifact."""
        sizes, queries, parameters = self.sizes, len(self.config.query.augment), self.network.parameters
        pixels = self.description.channels * self.description.size**2
        targets, pool, population = self.config.split.targets, sizes.pool, sizes.population
        asked = self.config.calibration_inference
        if asked and task.inputs.get("splits") != self.splits().key and task.stage in ("query", "attack"):
            targets, pool = asked.models, asked.candidates
        records = sizes.pool + sizes.calibration + sizes.population + sizes.test
        of = {
            "images": pixels * records,
            "splits": (self.config.split.models + self.config.split.shadows) * sizes.pool + 8 * records,
            "copies": 8 * sizes.pool,
            "train": 4 * parameters,
            "quantize": parameters + 4 * parameters // 50,
            "query": 8 * queries * len(SIGNALS) * (pool + population) + 8 * sizes.test,
            "attack": 8 * 8 * targets * pool,
            "estimate": 8 * 8 * (2 + len(self.config.fpr)) * targets * sizes.pool,
            "thresholds": 8 * 32 * targets * len(self.config.fpr),
            "measure": 16 * 8 * (targets + 1) * 256,
            "weigh": 50,
            "utility": 2000,
            "joint": 8 * targets * sizes.pool,
            "compare": 16_000,
            "match": 200,
            "noise": 4 * parameters,
            "matched": 2000,
            "candidates": asked.models * asked.candidates if asked else 0,
            "calibration": 100_000,
            "power": 200 * 32 * 8 * (targets + 1),
            "memorise": 16 * sizes.pool,
        }
        return of[task.stage] + 4096
