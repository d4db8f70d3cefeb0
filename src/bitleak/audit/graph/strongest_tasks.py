"""Tasks of the strongest attack and adversary: players are attacked, and a pair is chosen on them."""

from collections.abc import Sequence

import numpy as np

from bitleak.attacks import PlayerGroup, attack_entries, player_groups
from bitleak.audit.graph.evaluation_tasks import (
    Models,
    answer_scale,
    attack_variant,
    is_matched,
    kinds_of,
    standalone_kind,
    variant_columns,
)
from bitleak.audit.graph.partly_quantized_tasks import partly_attacks, quantized_rows
from bitleak.audit.graph.planned_target import weight_releases
from bitleak.audit.graph.planner import Planner
from bitleak.config import Config
from bitleak.core.variants import FULL, partly_kind
from bitleak.engine.keys import Task
from bitleak.metrics import headline_fpr
from bitleak.steps.measure_strongest import MeasureStrongest
from bitleak.steps.play_partly_quantized import PlayPartlyQuantized
from bitleak.steps.play_targets import PlayTargets
from bitleak.steps.step import InputKeys


def strongest_tasks(planner: Planner, models: Models) -> tuple[list[Task], list[Task]]:
    """Plan the attacks on players, and the tasks that make the rows, for every variant."""
    made: list[Task] = []
    results: list[Task] = []
    baseline: Task | None = None
    quantized = [entry.variant for entry in planner.config.quantize]
    for variant in [FULL, *quantized, *weight_releases(planner.config)]:
        kinds, counts = _kinds(planner.config, variant), _counts(planner.config, variant)
        groups = _groups(planner, models, variant)
        played = [_play(planner, models, groups, variant, kind) for kind in kinds]
        played += [_play_partly(planner, models, groups, variant, count) for count in counts]
        measured = _measure(planner, models, variant, played, baseline)
        baseline = measured if baseline is None else baseline
        made += played
        results.append(measured)
    return made, results


def _groups(planner: Planner, models: Models, variant: str) -> tuple[PlayerGroup, ...]:
    """Return the groups of targets, and the players of each, the same for all references."""
    config = planner.config
    if variant == FULL or is_matched(config, variant):
        candidates = models.references
    elif counts := _counts(config, variant):
        candidates = quantized_rows(models.targets, models.references, max(counts))
    else:  # the targets alone have answers in the variant
        candidates = models.targets
    return player_groups(
        _split_numbers(planner), models.targets, candidates, models.references, config.seed
    )


def _play(
    planner: Planner, models: Models, groups: Sequence[PlayerGroup], variant: str, kind: str
) -> Task:
    """Plan the attacks on the players of one variant by one kind of reference."""
    config = planner.config
    step = PlayTargets(
        attacks=tuple(attack_entries(config.attacks)),
        recalibrated=kind == "recalibrated",
        groups=tuple(group.targets for group in groups),
        players=tuple(group.players for group in groups),
        references=models.references if any(group.players for group in groups) else (),
        fpr=_played_fpr(planner),
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


def _play_partly(
    planner: Planner, models: Models, groups: Sequence[PlayerGroup], variant: str, count: int
) -> Task:
    """Plan the attacks on the players by references of which a number are quantized."""
    config = planner.config
    # the players are quantized too: their pairs come after those that a target's references use
    most = quantized_rows(models.targets, models.references, max(config.partly_quantized))
    pair = np.abs(_split_numbers(planner))
    playing = {pair[row] for group in groups for row in group.players}
    others = [row for row in models.references if pair[row] in playing and row not in most]
    rows = (*most, *others)
    step = PlayPartlyQuantized(
        attacks=tuple(attack_entries(config.attacks)),
        groups=tuple(group.targets for group in groups),
        players=tuple(group.players for group in groups),
        references=models.references,
        quantized=rows,
        count=count,
        fpr=_played_fpr(planner),
        seed=config.seed,
        answer_scale=answer_scale(config),
    )
    inputs: InputKeys = {
        "references": models.reference_keys(FULL),
        "quantized": tuple(models.answers[variant, row].key for row in rows),
        **planner.data(),
        **planner.clustered(),
    }
    return planner.task(step, inputs, f"play {variant} by {partly_kind(count)}")


def _played_fpr(planner: Planner) -> float:
    """Return the FPR at which pairs are chosen: that of the headline."""
    return headline_fpr(planner.config.fpr, planner.scale.pool - planner.scale.members)


def _measure(
    planner: Planner, models: Models, variant: str, played: list[Task], baseline: Task | None
) -> Task:
    """Plan the rows of the strongest pairs on one variant."""
    # Kinds of references that are all alike come first, then those of which a number are quantized.
    config = planner.config
    kinds, counts = _kinds(config, variant), _counts(config, variant)
    partly = [partly_attacks(planner, models, variant, count) for count in counts]
    step = MeasureStrongest(
        *variant_columns(config, variant),
        references=(*kinds, *map(partly_kind, counts)),
        attack=config.headline.attack,
        adversary=config.headline.adversary,
        fpr=config.fpr,
        seed=config.seed,
    )
    inputs: dict[str, str | tuple[str, ...]] = {
        "scores": (
            *(attack_variant(planner, models, variant, kind).key for kind in kinds),
            *(attacks.predicted.key for attacks in partly),
        ),
        "played": tuple(task.key for task in played),
        "splits": planner.splits().key,
        **planner.clustered(),
    }
    # Full precision is the baseline of all others, and has none itself.
    if baseline is not None:
        inputs["baseline"] = baseline.key
    if partly:
        inputs["alike"] = tuple(attacks.alike.key for attacks in partly)
    return planner.task(step, inputs, f"strongest on {variant}")


def _kinds(config: Config, variant: str) -> list[str]:
    """Return the kinds of references, first that of the attacks without references."""
    kinds = kinds_of(config, variant)
    first = standalone_kind(config, kinds)
    return sorted(kinds, key=lambda kind: kind != first)


def _counts(config: Config, variant: str) -> tuple[int, ...]:
    """Return the numbers of partly quantized references that a variant is attacked with."""
    quantized = any(entry.variant == variant for entry in config.quantize)
    return config.partly_quantized if quantized else ()


def _split_numbers(planner: Planner) -> np.ndarray:
    """Return the number of each model's training set, negative for a complement."""
    rows = np.arange(planner.scale.models)
    split = planner.config.split
    if split.mode == "dedicated" and not split.pairs:
        return rows + 1
    paired = (rows // 2 + 1) * np.where(rows % 2, -1, 1)
    if split.mode == "dedicated":  # the targets, then pairs of shadows
        shadows = paired[: split.shadows]
        return np.append(rows[: split.targets] + 1, shadows + np.sign(shadows) * split.targets)
    return paired
