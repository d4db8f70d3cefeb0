"""The whole plan of an audit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bitleak.audit.graph.calibration_set_tasks import calibration_set_tasks
from bitleak.audit.graph.canary_tasks import canary_tasks
from bitleak.audit.graph.channel_tasks import channel_tasks
from bitleak.audit.graph.evaluation_tasks import Models, evaluate
from bitleak.audit.graph.noise_tasks import noise_tasks
from bitleak.audit.graph.partly_quantized_tasks import partly_quantized_tasks, quantized_rows
from bitleak.audit.graph.planned_target import TARGET_ROW, PlannedTarget, weight_releases
from bitleak.audit.graph.planner import Planner
from bitleak.audit.graph.record_counts import reference_rows, scale_of, target_rows
from bitleak.audit.graph.record_tasks import memorisation_task, power
from bitleak.audit.graph.release_tasks import release_tasks
from bitleak.audit.graph.strongest_tasks import strongest_tasks
from bitleak.config import Config
from bitleak.config.preset_references import entries_by_preset
from bitleak.core.errors import ConfigError
from bitleak.core.types import Description
from bitleak.core.variants import CONTROLS, FULL
from bitleak.engine.keys import Task
from bitleak.steps.quantizing_work import RATES
from bitleak.steps.scale import NetworkSize, Scale


@dataclass(frozen=True)
class Plan:
    """The tasks of an audit.

    Attributes:
        tasks: All tasks, each after its inputs.
        images: Key of the images, with wrong labels on canaries.
        splits: Key of the splits, without canaries.
        copies: Key of the copies among the images.
        clusters: Key of the groups of records that depend on each other; None if all are independent.
        results: Keys of the tasks whose rows make the results table, in its order.
        scores: Key of the attack task of each variant and kind of reference.
        memorisation: Key of the memorisation of each variant.
        power: Key of the power by number of references; None if the config leaves it out.
        targets: Rows of the attacked models.
        references: Rows of the models that serve as references.
        scale: Numbers of records and models.
        part: Keys of the results that are wanted instead of the output folder's; empty for all.
    """

    tasks: tuple[Task, ...]
    images: str
    splits: str
    copies: str
    clusters: str | None
    results: tuple[str, ...]
    scores: Mapping[tuple[str, str], str]
    memorisation: Mapping[str, str]
    power: str | None
    targets: tuple[int, ...]
    references: tuple[int, ...]
    scale: Scale
    part: tuple[str, ...] = ()

    @property
    def wanted(self) -> tuple[str, ...]:
        """Keys of all tasks that the output folder is made from, or of the part that is wanted."""
        return self.part or (
            self.copies,
            *([self.clusters] if self.clusters else []),
            *self.results,
            *self.scores.values(),
            *self.memorisation.values(),
            *([self.power] if self.power else []),
        )


def plan(
    config: Config,
    description: Description,
    network: NetworkSize,
    *,
    device: str = "cpu",
    target: PlannedTarget | None = None,
) -> Plan:
    """Return the graph of an audit.

    Args:
        config: A validated config.
        description: The data set, undecoded.
        network: The network's size on these images.
        device: `cpu` or `cuda`, for the expected seconds alone.
        target: A target that was trained elsewhere, the only one; None trains all.

    Raises:
        ConfigError: The data set is too small for the splits, the calibration or the candidates, or
            `train.autocast` is `auto`, which stands for nothing until the device is known.
    """
    if config.train.autocast == "auto":
        raise ConfigError(
            "train.autocast: 'auto' must be settled for a device before the plan is made, see audit.prepare"
        )
    sizes = scale_of if target is None else target.scale
    scale = sizes(config, description, network, RATES[device.split(":")[0]])
    planner = Planner(config, description, scale, target)
    images, splits, copies = planner.images(), planner.splits(), planner.copies()
    clusters = planner.clusters()
    models = _models(planner)
    listed = [
        *planner.sources(),
        copies,
        *([clusters] if clusters else []),
        *models.weights.values(),
        *models.answers.values(),
        *models.sizes.values(),
    ]
    results: list[Task] = []
    scores: dict[tuple[str, str], str] = {}
    memorised: dict[str, Task] = {}
    quantized = [entry.variant for entry in config.quantize]
    given = weight_releases(config)
    for variant in [FULL, *quantized, *given, *CONTROLS]:
        attacks, measured = evaluate(planner, models, variant)
        listed += [*attacks, *measured]
        results += measured
        scores |= _score_keys(measured)
        # Memorisation is a mean over trainings, of which one network given as weights is none.
        if variant not in (*CONTROLS, *given):
            memorised[variant] = memorisation_task(planner, models, variant)
    # The strongest pairs; then optional analyses, each off unless the config turns it on.
    partly_quantized = partly_quantized_tasks(planner, models)
    scores |= _score_keys(partly_quantized[1])
    for made, measured in (
        strongest_tasks(planner, models),
        partly_quantized,
        noise_tasks(planner, models),
        release_tasks(planner, models),
        calibration_set_tasks(planner, models),
        channel_tasks(planner, models),
        canary_tasks(planner, models),
    ):
        listed += [*made, *measured]
        results += measured
    power_task = power(planner, models) if config.power else None
    listed += [*memorised.values(), *([power_task] if power_task else [])]
    unique = {task.key: task for task in listed}
    return Plan(
        tasks=tuple(unique.values()),
        images=images.key,
        splits=splits.key,
        copies=copies.key,
        clusters=clusters.key if clusters else None,
        results=tuple(task.key for task in results),
        scores=scores,
        memorisation={variant: task.key for variant, task in memorised.items()},
        power=power_task.key if power_task else None,
        targets=models.targets,
        references=models.references,
        scale=planner.scale,
    )


def _score_keys(measured: Sequence[Task]) -> dict[tuple[str, str], str]:
    """Return the keys of the scores that tasks make rows of, by variant and kind of reference."""
    return {
        (task.params["variant"], task.params["reference"]): str(task.inputs["scores"])
        for task in measured
        if "scores" in task.inputs
    }


def _models(planner: Planner) -> Models:
    """Plan training, quantizing and querying of all targets and references."""
    config = planner.config
    targets, references = target_rows(config), reference_rows(config)
    rows = sorted({*targets, *references})
    weights, answers, sizes = {}, {}, {}
    for row in rows:
        weights[FULL, row] = planner.train(row)
        answers[FULL, row] = planner.query(
            weights[FULL, row], f"fp32 of model {row}", test=row in targets
        )
    # Targets in every variant; references in those that some adversary has them in.
    in_all_variants: set[int] = set(rows)
    if "matched" not in config.references:
        most = max(config.partly_quantized, default=0)
        in_all_variants = {*targets, *quantized_rows(targets, references, most)}
    for row in rows:
        for entry in config.quantize:
            wanted = row in in_all_variants or entry.variant in config.other_references
            if row not in targets and not (wanted and entry.has_matched_references):
                continue
            label = f"{entry.variant} of model {row}"
            weights[entry.variant, row] = planner.quantize(entry, row, weights[FULL, row])
            answers[entry.variant, row] = planner.query(
                weights[entry.variant, row], label, test=row in targets
            )
    # References by another preset than the target's.
    for preset in config.other_presets:
        for entry in entries_by_preset(config.quantize, preset).values():
            for row in references:
                made = planner.quantize(entry, row, weights[FULL, row])
                weights[entry.variant, row] = made
                label = f"{entry.variant} of model {row}"
                answers[entry.variant, row] = planner.query(made, label, test=False)
    # Weights of a release name no quantizer by which references could be made alike.
    given = weight_releases(config)
    for name in given:
        weights[name, TARGET_ROW] = planner.release(name)
        answers[name, TARGET_ROW] = planner.query(
            weights[name, TARGET_ROW], f"{name} of the target", test=True
        )
    quantized = [entry.variant for entry in config.quantize]
    for variant in [FULL, *quantized, *given]:
        for row in targets:
            sizes[variant, row] = planner.weigh(weights[variant, row], f"{variant} of model {row}")
    return Models(targets, references, weights, answers, sizes)
