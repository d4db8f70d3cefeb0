"""The whole plan of an audit."""

from collections.abc import Mapping
from dataclasses import dataclass

from bitleak.config import Config
from bitleak.core.errors import ConfigError
from bitleak.core.types import Description
from bitleak.engine.keys import Task
from bitleak.plan.calibration import calibration_tasks
from bitleak.plan.costs import RATES
from bitleak.plan.evaluation import CONTROL, Models, evaluate
from bitleak.plan.joint import joint_tasks
from bitleak.plan.noise import noise_tasks
from bitleak.plan.sizes import NetworkSize, Sizes, reference_rows, sizes_of, target_rows
from bitleak.plan.statistics import memorisation, power
from bitleak.plan.tasks import Tasks


@dataclass(frozen=True)
class Plan:
    """The tasks of an audit.

    Attributes:
        tasks: All of them, inputs before what needs them.
        images: Key of the images.
        splits: Key of the splits.
        copies: Key of the copies among the images.
        results: Keys of the tasks whose rows make the results table, in its order.
        scores: Key of the attack task of each variant and kind of reference.
        memorisation: Key of the memorisation of each variant.
        power: Key of the power by number of references; None where it is not asked for.
        targets: Rows of the attacked models.
        references: Rows of the models that serve as references.
        sizes: Numbers of records.
        bytes: Expected size of each task's artifact, by key.
    """

    tasks: tuple[Task, ...]
    images: str
    splits: str
    copies: str
    results: tuple[str, ...]
    scores: Mapping[tuple[str, str], str]
    memorisation: Mapping[str, str]
    power: str | None
    targets: tuple[int, ...]
    references: tuple[int, ...]
    sizes: Sizes
    bytes: Mapping[str, int]

    @property
    def wanted(self) -> tuple[str, ...]:
        """Keys of all tasks that the output folder is made from."""
        return (
            self.copies,
            *self.results,
            *self.scores.values(),
            *self.memorisation.values(),
            *([self.power] if self.power else []),
        )


def plan(config: Config, description: Description, network: NetworkSize, *, device: str = "cpu") -> Plan:
    """The graph of an audit.

    Args:
        config: A validated config.
        description: The data set, undecoded.
        network: The network's size on these images.
        device: `cpu` or `cuda`, for the expected seconds alone.

    Raises:
        ConfigError: The data set is too small for the splits, the calibration or the candidates, or
            `train.autocast` is `auto`, which stands for nothing until the device is known.
    """
    if config.train.autocast == "auto":
        raise ConfigError(
            "train.autocast: 'auto' must be settled for a device before the plan is made, see audit.prepare"
        )
    tasks = Tasks(config, description, network, sizes_of(config, description), RATES[device.split(":")[0]])
    images, splits, copies = tasks.images(), tasks.splits(), tasks.copies()
    models = _models(tasks)
    listed = [images, splits, copies, *models.weights.values(), *models.answers.values(), *models.sizes.values()]
    results: list[Task] = []
    scores: dict[tuple[str, str], str] = {}
    memorised: dict[str, Task] = {}
    for variant in ["fp32", *(entry.variant for entry in config.quantize), CONTROL]:
        attacks, measured = evaluate(tasks, models, variant)
        listed += [*attacks, *measured]
        results += measured
        scores |= {
            (variant, task.params["reference"]): str(task.inputs["scores"])
            for task in measured
            if "scores" in task.inputs
        }
        if variant != CONTROL:
            memorised[variant] = memorisation(tasks, models, variant)
    for further in (noise_tasks, joint_tasks, calibration_tasks):
        made, measured = further(tasks, models)
        listed += [*made, *measured]
        results += measured
    powered = power(tasks, models) if config.power else None
    listed += [*memorised.values(), *([powered] if powered else [])]
    unique = {task.key: task for task in listed}
    return Plan(
        tasks=tuple(unique.values()),
        images=images.key,
        splits=splits.key,
        copies=copies.key,
        results=tuple(task.key for task in results),
        scores=scores,
        memorisation={variant: task.key for variant, task in memorised.items()},
        power=powered.key if powered else None,
        targets=models.targets,
        references=models.references,
        sizes=tasks.sizes,
        bytes={key: tasks.size(task) for key, task in unique.items()},
    )


def _models(tasks: Tasks) -> Models:
    """Training, quantizing and asking of every model that is attacked or serves as a reference."""
    config = tasks.config
    targets, references = target_rows(config), reference_rows(config)
    rows = sorted({*targets, *references})
    weights = {("fp32", row): tasks.train(row) for row in rows}
    answers = {
        ("fp32", row): tasks.query(weights["fp32", row], f"fp32 of model {row}", test=row in targets) for row in rows
    }
    for row in rows if "matched" in config.references else targets:
        for entry in config.quantize:
            made = tasks.quantize(entry, row, weights["fp32", row])
            weights[entry.variant, row] = made
            answers[entry.variant, row] = tasks.query(made, f"{entry.variant} of model {row}", test=row in targets)
    sizes = {
        (variant, row): tasks.weigh(weights[variant, row], f"{variant} of model {row}")
        for variant in ["fp32", *(entry.variant for entry in config.quantize)]
        for row in targets
    }
    return Models(targets, references, weights, answers, sizes)
