"""Single tasks of an audit: the parameters of each step from the config, and its inputs."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from bitleak import registry
from bitleak.audit.graph.planned_target import TARGET_ROW, PlannedTarget
from bitleak.config import Config, QuantizeConfig
from bitleak.config.preset_references import entries_by_preset
from bitleak.config.schema import COPIES
from bitleak.core.errors import DataError
from bitleak.core.outside import bare_name, versioned
from bitleak.core.params import known_params
from bitleak.core.types import Description
from bitleak.data.cluster_file import read_groups
from bitleak.engine.keys import Task
from bitleak.steps.apply_tool import ApplyTool
from bitleak.steps.divide_pool import DividePool
from bitleak.steps.draw_splits import DrawSplits
from bitleak.steps.find_copies import FindCopies
from bitleak.steps.load_images import LoadImages
from bitleak.steps.mislabel_images import MislabelImages
from bitleak.steps.quantize_model import QuantizeModel
from bitleak.steps.query_model import QueryModel
from bitleak.steps.scale import Scale
from bitleak.steps.step import InputKeys, Step, planned
from bitleak.steps.train_model import TrainModel
from bitleak.steps.train_quantized import TrainQuantized
from bitleak.steps.weigh_weights import WeighWeights
from bitleak.tools.tool_versions import tool_versions


@dataclass(frozen=True)
class Planner:
    """Plans the tasks of one audit.

    Attributes:
        config: The audit's config.
        description: The data set, undecoded.
        scale: Numbers of records and models.
        target: A target that was trained elsewhere, or None.
        on_canaries: Whether tasks evaluate the canaries alone; if not, all other records.
    """

    config: Config
    description: Description
    scale: Scale
    target: PlannedTarget | None = None
    on_canaries: bool = False

    def task(self, step: Step, inputs: InputKeys, label: str) -> Task:
        """Return the task of a step."""
        if self.on_canaries:
            label = f"{label}, canaries"
        return planned(step, inputs, self.scale, label)

    def images(self) -> Task:
        """Plan the data set: decoded and, if there are canaries, with wrong labels on them."""
        canaries = self.config.canaries
        if canaries is None:
            return self._images
        step = MislabelImages(canaries.records, self.config.seed)
        inputs = {"images": self._images.key, "splits": self._splits.key}
        return planned(step, inputs, self.scale, "wrong labels of canaries")

    def splits(self) -> Task:
        """Plan the membership matrix of the records that are evaluated."""
        canaries = self.config.canaries
        if canaries is None:
            return self._splits
        step = DividePool(canaries.records, self.on_canaries, self.config.seed)
        label = "canaries" if self.on_canaries else "records without canaries"
        return planned(step, {"splits": self._splits.key}, self.scale, label)

    def sources(self) -> list[Task]:
        """Plan the data set and the matrix, before and after canaries are drawn from both."""
        tasks = [self._images, self._splits, self.images(), self.splits()]
        return list({task.key: task for task in tasks}.values())

    def canaries(self) -> "Planner":
        """Return the planner of tasks that evaluate the canaries alone.

        Raises:
            ValueError: The config has no canaries.
        """
        section = self.config.canaries
        if section is None:
            raise ValueError("the config has no section canaries")
        half = section.records // 2
        return replace(
            self,
            config=replace(self.config, fpr=section.fpr),
            scale=replace(self.scale, pool=section.records, members=half),
            on_canaries=True,
        )

    # Nearly every task reads these two, so they are made once.
    @cached_property
    def _images(self) -> Task:
        data = self.config.data
        options = {name: value for name, value in data.options.items() if name != "path"}
        step = LoadImages(
            name=versioned(data.name),
            options=known_params(
                registry.resolve(registry.DATASETS, data.name, kind="data set"), options
            ),
            limit=data.limit,
            held_out=data.held_out,
            fingerprint=self.description.fingerprint,
            seed=self.config.seed,
        )
        return planned(step, {}, self.scale, f"images of {bare_name(data.name)}")

    @cached_property
    def _splits(self) -> Task:
        if self.target is not None:
            given = {"images": self._images.key}
            return self.task(self.target.assign, given, "members of the target and the shadows")
        split = self.config.split
        population = split.mode == "population"
        step = DrawSplits(
            mode=split.mode,
            targets=split.targets,
            held_out=split.held_out,
            calibration=split.calibration,
            population=split.population,
            test=split.test,
            seed=self.config.seed,
            models=split.models if population else None,
            shadows=None if population else split.shadows,
            canaries=0 if self.config.canaries is None else self.config.canaries.records,
            pairs=split.pairs,
        )
        return planned(step, {"images": self._images.key}, self.scale, "splits")

    def copies(self) -> Task:
        """Plan the search for copies among the records."""
        return self.task(FindCopies(), self.data(), "copies among the images")

    def clusters(self) -> Task | None:
        """Plan the groups of records that depend on each other; None if all count as independent.

        Raises:
            DataError: The file of the config does not hold a number per record.
        """
        return self._clusters

    @cached_property
    def _clusters(self) -> Task | None:
        source, records = self.config.clusters, self.description.records
        if source in ("", COPIES):
            return self.copies() if source else None
        groups, digest = read_groups(Path(source))
        if len(groups) != records:
            raise DataError(
                f"clusters: {source}: expected one number per record of the data set, {records} with those of "
                f"its test part, got {len(groups)}"
            )
        step = FindCopies(file=source, digest=digest)
        return self.task(step, self.data(), "clusters of records")

    def clustered(self) -> dict[str, str | tuple[str, ...]]:
        """Return the input of steps that make intervals; empty if all records count as independent."""
        clusters = self.clusters()
        return {} if clusters is None else {"clusters": clusters.key}

    def train(self, row: int) -> Task:
        """Plan the training of one model, or the reading of a given target."""
        if self.target is not None and row == TARGET_ROW:
            return self.task(self.target.load, {}, "weights of the target")
        load = None if self.target is None else self.target.load
        name, options = self.config.model
        step = TrainModel(
            model=row,
            network=name,
            options=options,
            recipe=self.config.train,
            seed=self.config.seed,
            made_by=self.scale.network.made_by,
            mean=None if load is None else load.mean,
            std=None if load is None else load.std,
        )
        return self.task(step, self.trained_on(), f"train model {row}")

    def release(self, name: str) -> Task:
        """Plan the reading of a release of the given target.

        Raises:
            ValueError: There is no target.
        """
        if self.target is None:
            raise ValueError(f"release {name!r}: releases given as weights belong to a target")
        return self.task(self.target.weights[name], {}, f"weights of {name}")

    def quantize(self, entry: QuantizeConfig, row: int, trained: Task) -> Task:
        """Plan one model at one precision; precisions that share a pass share a group."""
        if self.target is not None and row == TARGET_ROW and entry.variant in self.target.releases:
            return self.task(
                self.target.releases[entry.variant], {}, f"{entry.variant} of the target"
            )
        if entry.levels is None:
            return self.apply_tool(entry, row, trained)
        if entry.is_trained:
            return self.train_quantized(entry, row, trained)
        step = QuantizeModel(
            model=row,
            quantizer=versioned(entry.name),
            options=self.quantizer_options(entry),
            levels=entry.levels,
            calibration=entry.calibration,
            seed=self.config.seed,
        )
        # the first precision of a quantizer pays for the pass over the images that all of them
        # share
        first = next(item for item in self._entries if item.label == entry.label)
        return planned(
            step,
            {"weights": trained.key, **self.trained_on()},
            self.scale,
            f"{entry.variant} of model {row}",
            cost=step.cost(self.scale, shared=first.variant != entry.variant),
            group=f"{entry.label}:{row}",
        )

    def train_quantized(self, entry: QuantizeConfig, row: int, trained: Task) -> Task:
        """Plan one model trained on with quantized weights, on its own members.

        Raises:
            ValueError: The entry has no levels.
        """
        if entry.levels is None:
            raise ValueError(f"{entry.variant} has no levels")
        options = self.quantizer_options(entry)
        recipe = replace(
            self.config.train,
            epochs=options.pop("epochs"),
            learning_rate=options.pop("learning_rate"),
            autocast="none",
        )
        step = TrainQuantized(
            model=row,
            method=entry.name,
            options=options,
            levels=entry.levels,
            recipe=recipe,
            seed=self.config.seed,
        )
        inputs = {"weights": trained.key, **self.trained_on()}
        return self.task(step, inputs, f"{entry.variant} of model {row}")

    @cached_property
    def _entries(self) -> list[QuantizeConfig]:
        """All entries by which models are quantized, also references by another preset."""
        entries = list(self.config.quantize)
        for preset in self.config.other_presets:
            entries += entries_by_preset(self.config.quantize, preset).values()
        return entries

    def apply_tool(self, entry: QuantizeConfig, row: int, trained: Task) -> Task:
        """Plan one model quantized by a tool of another kit."""
        tool = entry.tool
        if tool is None:
            raise ValueError(f"{entry.variant} has no tool, so it cannot be made of model {row}")
        step = ApplyTool(
            model=row,
            call=versioned(tool.call),
            version=tool.version,
            made_by=self._kits(tool.call),
            options=tool.options,
            runtime=tool.runtime,
            calibration=entry.calibration,
            seed=self.config.seed,
        )
        inputs = {"weights": trained.key, **self.trained_on()}
        return self.task(step, inputs, f"{entry.variant} of model {row}")

    def _kits(self, call: str) -> str:
        if call not in self._known_kits:
            self._known_kits[call] = tool_versions(call)
        return self._known_kits[call]

    # Every model asks for the releases of the same few tools.
    @cached_property
    def _known_kits(self) -> dict[str, str]:
        return {}

    def quantizer_options(self, entry: QuantizeConfig) -> dict[str, Any]:
        """Return an entry's quantizer arguments that are part of the key, all but the levels."""
        return known_params(
            registry.resolve(registry.audit_quantizers(), entry.name, kind="quantizer"),
            entry.options,
        )

    def query(self, weights: Task, label: str, *, test: bool) -> Task:
        """Plan a model's answers, on the test records only if its accuracy is reported."""
        query = self.config.query
        step = QueryModel(queries=query.augment, batch=query.batch, test=test, keep=query.keep)
        return self.task(step, {"weights": weights.key, **self.data()}, f"query {label}")

    def weigh(self, weights: Task, label: str) -> Task:
        """Plan the size of one set of weights."""
        return self.task(WeighWeights(), {"weights": weights.key}, f"size of {label}")

    def trained_on(self) -> dict[str, str | tuple[str, ...]]:
        """Return the inputs of steps that read members of a model, canaries among them."""
        return {"images": self.images().key, "splits": self._splits.key}

    def data(self) -> dict[str, str | tuple[str, ...]]:
        """Return the inputs of steps that evaluate records."""
        return {"images": self.images().key, "splits": self.splits().key}
