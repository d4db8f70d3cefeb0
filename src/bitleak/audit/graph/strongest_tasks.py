"""Tasks of the strongest attack and adversary: players are attacked, and a pair is chosen on them."""

import numpy as np

from bitleak.attacks import attack_entries, player_groups
from bitleak.audit.graph.evaluation_tasks import (
    Models,
    answer_scale,
    attack_variant,
    is_matched,
    kinds_of,
    standalone_kind,
    variant_columns,
)
from bitleak.audit.graph.planned_target import weight_releases
from bitleak.audit.graph.planner import Planner
from bitleak.config import Config
from bitleak.core.variants import FULL
from bitleak.engine.keys import Task
from bitleak.metrics import headline_fpr
from bitleak.steps.measure_strongest import MeasureStrongest
from bitleak.steps.play_targets import PlayTargets
from bitleak.steps.step import InputKeys


def strongest_tasks(planner: Planner, models: Models) -> tuple[list[Task], list[Task]]:
    """Plan the attacks on players, and the tasks that make the rows, for every variant."""
    made: list[Task] = []
    results: list[Task] = []
    baseline: Task | None = None
    quantized = [entry.variant for entry in planner.config.quantize]
    for variant in [FULL, *quantized, *weight_releases(planner.config)]:
        kinds = _kinds(planner.config, variant)
        played = [_play(planner, models, variant, kind) for kind in kinds]
        measured = _measure(planner, models, variant, played, baseline)
        baseline = measured if baseline is None else baseline
        made += played
        results.append(measured)
    return made, results


def _play(planner: Planner, models: Models, variant: str, kind: str) -> Task:
    """Plan the attacks on the players of one variant by one kind of reference."""
    config, scale = planner.config, planner.scale
    # every reference has answers in a variant if matched ones are needed, else the targets alone
    everywhere = variant == FULL or is_matched(config, variant)
    candidates = models.references if everywhere else models.targets
    groups = player_groups(
        _split_numbers(planner), models.targets, candidates, models.references, config.seed
    )
    step = PlayTargets(
        attacks=tuple(attack_entries(config.attacks)),
        recalibrated=kind == "recalibrated",
        groups=tuple(group.targets for group in groups),
        players=tuple(group.players for group in groups),
        references=models.references if any(group.players for group in groups) else (),
        fpr=headline_fpr(config.fpr, scale.pool - scale.members),
        seed=config.seed,
        answer_scale=answer_scale(config),
    )
    by = variant if kind == "matched" else FULL
    inputs: InputKeys = {
        "players": tuple(models.answers[variant, row].key for row in step.rows),
        "references": models.reference_keys(by) if step.references else (),
        **planner.data(),
        **planner.clustered(),
    }
    return planner.task(step, inputs, f"play {variant} by {kind}")


def _measure(
    planner: Planner, models: Models, variant: str, played: list[Task], baseline: Task | None
) -> Task:
    """Plan the rows of the strongest pairs on one variant."""
    config = planner.config
    kinds = _kinds(config, variant)
    step = MeasureStrongest(
        *variant_columns(config, variant),
        references=tuple(kinds),
        attack=config.headline.attack,
        adversary=config.headline.adversary,
        fpr=config.fpr,
        seed=config.seed,
    )
    inputs: dict[str, str | tuple[str, ...]] = {
        "scores": tuple(attack_variant(planner, models, variant, kind).key for kind in kinds),
        "played": tuple(task.key for task in played),
        "splits": planner.splits().key,
        **planner.clustered(),
    }
    if baseline is not None:
        inputs["baseline"] = baseline.key
    return planner.task(step, inputs, f"strongest on {variant}")


def _kinds(config: Config, variant: str) -> list[str]:
    """Return the kinds of references, first that of the attacks without references."""
    kinds = kinds_of(config, variant)
    first = standalone_kind(config, kinds)
    return sorted(kinds, key=lambda kind: kind != first)


def _split_numbers(planner: Planner) -> np.ndarray:
    """Return the number of each model's training set, negative for a complement."""
    rows = np.arange(planner.scale.models)
    if planner.config.split.mode == "dedicated":
        return rows + 1
    return (rows // 2 + 1) * np.where(rows % 2, -1, 1)
