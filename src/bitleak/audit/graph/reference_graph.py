"""The plan of tier 1: a few references for one given target, trained on no evaluated record.

```
images [-> orient] -> outsiders -> train [-> imitate] [-> quantize] -> query
```

The attacks themselves take seconds and are no tasks: they read the answers of all references.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bitleak.audit.graph.audit_graph import Plan
from bitleak.audit.graph.planner import Planner
from bitleak.config import CalibrationConfig, Config
from bitleak.core.types import Description
from bitleak.engine.keys import Task
from bitleak.steps.assign_members import unpacked
from bitleak.steps.assign_references import AssignReferences
from bitleak.steps.imitate_target import ImitateTarget
from bitleak.steps.orient_images import OrientImages
from bitleak.steps.quantize_model import QuantizeModel
from bitleak.steps.quantizing_work import RATES
from bitleak.steps.query_model import QueryModel
from bitleak.steps.read_answers_file import ReadAnswersFile
from bitleak.steps.scale import NetworkSize, Scale
from bitleak.steps.step import InputKeys, planned
from bitleak.steps.train_model import TrainModel


@dataclass(frozen=True)
class MatchedQuantizer:
    """A quantizer that made a release, for references that are quantized alike.

    Attributes:
        name: A name of the registry's `QUANTIZERS`, or `package.module:Name`.
        options: Its arguments, all but the levels.
        levels: Grid points per weight.
        records: Training records of a reference that it sees.
    """

    name: str
    options: Mapping[str, Any]
    levels: int
    records: int


@dataclass(frozen=True)
class PlannedReferences:
    """The references of one target, for the plan of tier 1.

    Attributes:
        assign: Step that draws their training records.
        orient: Step that brings the images to the target's order, or None.
        imitated: Step that reads the target's answers, which they are distilled towards, or None.
        matched: Quantizers by the name of the release.
        mean: Mean per channel of the networks' input, for pixels from 0 to 1.
        std: Deviation per channel.
    """

    assign: AssignReferences
    orient: OrientImages | None
    imitated: ReadAnswersFile | None
    matched: Mapping[str, MatchedQuantizer]
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class ReferencePlan:
    """The tasks of tier 1.

    Attributes:
        plan: All tasks, for the engine.
        splits: The task of the membership matrix.
        answers: The tasks of the references' answers, by the name of the release that they are
            quantized as; empty text for full precision.
        weights: The tasks of the references' weights.
    """

    plan: Plan
    splits: Task
    answers: Mapping[str, tuple[Task, ...]]
    weights: tuple[Task, ...]


def plan_references(
    config: Config,
    description: Description,
    network: NetworkSize,
    references: PlannedReferences,
    *,
    device: str = "cpu",
) -> ReferencePlan:
    """Return the graph of tier 1.

    Args:
        config: A validated config with a target, `train.autocast` settled for the device.
        description: The data set, undecoded.
        network: The network's size on these images.
        references: The references.
        device: `cpu` or `cuda`, for the expected seconds alone.
    """
    scale = _scale(config, description, network, references, RATES[device.split(":")[0]])
    planner = Planner(config, description, scale)
    assign = references.assign
    images = source = planner.images()
    if references.orient is not None:
        images = planner.task(
            references.orient, {"images": source.key}, "images in the target's order"
        )
    splits = planner.task(assign, {"images": images.key}, "training records of the references")
    data: InputKeys = {"images": images.key, "splits": splits.key}
    tasks = [source, images, splits]
    # Imitated references learn from answers that this run wrote into a file.
    goals: Task | None = None
    if references.imitated is not None:
        goals = planner.task(references.imitated, {}, "the target's answers to the training part")
        tasks.append(goals)
    answers: dict[str, list[Task]] = {"": [], **{name: [] for name in references.matched}}
    weights: list[Task] = []
    for row in range(1, 1 + assign.references):
        trained = _train(planner, references, row, data)
        tasks.append(trained)
        if goals is not None:
            trained = _imitate(planner, references, row, trained, images, goals)
            tasks.append(trained)
        weights.append(trained)
        answers[""].append(_ask(planner, trained, data, f"reference {row}"))
        for name, quantizer in references.matched.items():
            quantized = _quantize(planner, quantizer, row, trained, data, f"{name} of reference")
            tasks.append(quantized)
            answers[name].append(_ask(planner, quantized, data, f"{name} of reference {row}"))
    for of_release in answers.values():
        tasks += of_release
    # Releases by one quantizer share their tasks.
    unique = {task.key: task for task in tasks}
    wanted: list[str] = []
    for of_release in answers.values():
        wanted += [task.key for task in of_release]
    plan = Plan(
        tasks=tuple(unique.values()),
        images=images.key,
        splits=splits.key,
        copies=splits.key,
        clusters=None,
        results=tuple(wanted),
        scores={},
        memorisation={},
        power=None,
        targets=(0,),
        references=tuple(range(1, 1 + assign.references)),
        scale=scale,
    )
    asked = {name: tuple(made) for name, made in answers.items()}
    return ReferencePlan(plan, splits, asked, tuple(weights))


def _train(planner: Planner, references: PlannedReferences, row: int, data: InputKeys) -> Task:
    name, options = planner.config.model
    step = TrainModel(
        model=row,
        network=name,
        options=options,
        recipe=planner.config.train,
        seed=planner.config.seed,
        made_by=planner.scale.network.made_by,
        mean=references.mean,
        std=references.std,
    )
    return planner.task(step, data, f"train reference {row}")


def _imitate(
    planner: Planner,
    references: PlannedReferences,
    row: int,
    trained: Task,
    images: Task,
    goals: Task,
) -> Task:
    step = ImitateTarget(
        model=row,
        records=references.assign.records,
        training=references.assign.training,
        recipe=planner.config.train,
        seed=planner.config.seed,
    )
    inputs = {"weights": trained.key, "images": images.key, "answers": goals.key}
    return planner.task(step, inputs, f"distil reference {row}")


def _quantize(
    planner: Planner,
    quantizer: MatchedQuantizer,
    row: int,
    trained: Task,
    data: InputKeys,
    label: str,
) -> Task:
    step = QuantizeModel(
        model=row,
        quantizer=quantizer.name,
        options=quantizer.options,
        levels=quantizer.levels,
        calibration=CalibrationConfig(records=quantizer.records),
        seed=planner.config.seed,
    )
    # Releases by one quantizer at several precisions share a pass over the images.
    group = f"{quantizer.name}:{row}"
    inputs = {"weights": trained.key, **data}
    return planned(step, inputs, planner.scale, f"{label} {row}", group=group)


def _ask(planner: Planner, weights: Task, data: InputKeys, label: str) -> Task:
    query = planner.config.query
    step = QueryModel(queries=query.augment, batch=query.batch, test=False)
    return planner.task(step, {"weights": weights.key, **data}, f"query {label}")


def _scale(
    config: Config,
    description: Description,
    network: NetworkSize,
    references: PlannedReferences,
    rate: float,
) -> Scale:
    """Return the numbers of records and models; `members` are those of each reference."""
    # The pool of the references: members, evaluated records and other training records of the target.
    assign = references.assign
    parts = (assign.members, assign.evaluated, assign.training)
    pool = sum(int(unpacked(text, assign.records).sum()) for text in parts)
    # One target, and its references; nothing is tested, calibrated or attacked by these tasks.
    return Scale(
        images=description.records,
        pixels=description.values,
        value_bytes=1 if description.size else 4,
        pool=pool,
        members=assign.drawn,
        calibration=0,
        population=int(unpacked(assign.population, assign.records).sum()),
        test=0,
        models=1 + assign.references,
        targets=1,
        references=assign.references,
        queries=len(config.query.augment),
        attacks=0,
        classes=description.classes,
        network=network,
        rate=rate,
    )
