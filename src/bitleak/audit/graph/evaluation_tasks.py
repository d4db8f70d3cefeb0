"""The tasks that turn answers into rows: attack, estimate, thresholds, measure, utility."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from bitleak.attacks import attack_entries, map_error_counts
from bitleak.audit.graph.planned_target import weight_releases
from bitleak.audit.graph.planner import Planner
from bitleak.config import Config
from bitleak.config.preset_references import entries_by_preset
from bitleak.core.metric_names import MATCHED
from bitleak.core.variants import CONTROL, CONTROLS, FULL, OTHER, POSITIVE
from bitleak.engine.keys import Task
from bitleak.metrics import metric_entries
from bitleak.steps.answer_scale import AnswerScale
from bitleak.steps.attack_targets import AttackTargets
from bitleak.steps.choose_thresholds import ChooseThresholds
from bitleak.steps.compare_variants import CompareVariants
from bitleak.steps.estimate_baseline import EstimateBaseline
from bitleak.steps.measure_utility import MeasureUtility
from bitleak.steps.measure_variant import MeasureVariant
from bitleak.steps.step import InputKeys


@dataclass(frozen=True)
class Models:
    """The models of an audit, in every variant.

    Attributes:
        targets: Rows of the attacked models.
        references: Rows of the models that serve as references.
        weights: The task that makes the weights, by variant and row.
        answers: The task that queries them, by variant and row.
        sizes: The task that weighs them, by variant and target.
    """

    targets: tuple[int, ...]
    references: tuple[int, ...]
    weights: Mapping[tuple[str, int], Task]
    answers: Mapping[tuple[str, int], Task]
    sizes: Mapping[tuple[str, int], Task]

    def target_keys(self, variant: str) -> tuple[str, ...]:
        """Keys of the targets' answers in one variant."""
        return tuple(self.answers[variant, row].key for row in self.targets)

    def reference_keys(self, variant: str) -> tuple[str, ...]:
        """Keys of the references' answers in one variant."""
        return tuple(self.answers[variant, row].key for row in self.references)


class VariantColumns(NamedTuple):
    """The columns that name a variant in its rows.

    Attributes:
        variant: Its name.
        quantizer: Label of its quantizer; empty if it has none.
        levels: Grid points; None if it has none.
    """

    variant: str
    quantizer: str
    levels: int | None


def evaluate(planner: Planner, models: Models, variant: str) -> tuple[list[Task], list[Task]]:
    """Plan the attacks on a variant, and the tasks that make its rows."""
    config = planner.config
    kinds = [*kinds_of(config, variant), *other_kinds(config, variant)]
    columns = variant_columns(config, variant)
    attacks, measured = [], []
    by_kind: dict[str, Task] = {}
    baseline = estimate(planner, attack_variant(planner, models, FULL, FULL))
    for kind in kinds:
        scores = by_kind[kind] = attack_variant(planner, models, variant, kind)
        # The control has no thresholds: nothing that an adversary would choose can be right about
        # noise.
        thresholds = None if variant in CONTROLS else choose(planner, models, variant, kind)
        attacks += [scores, baseline, *([thresholds] if thresholds else [])]
        measured.append(
            measure_attacks(
                planner,
                columns,
                kind,
                scores=scores,
                baseline=baseline,
                thresholds=thresholds,
                comparisons=len(kinds) * len(scores.params["attacks"]),
                standalone=kind == standalone_kind(config, kinds),
            )
        )
    # References by another preset are compared with matched ones, record by record.
    for kind in by_kind:
        if kind.removeprefix(OTHER) in config.other_presets and "matched" in by_kind:
            rivals, scores = [by_kind["matched"]], by_kind[kind]
            measured.append(
                compare(planner, columns, kind, scores=scores, others=rivals, over=MATCHED)
            )
    if variant not in CONTROLS:
        measured.append(utility(planner, models, columns))
    return attacks, measured


def kinds_of(config: Config, variant: str) -> list[str]:
    """Return the kinds of references that a variant is attacked with."""
    # Full precision is its own matched reference, and the control is attacked in the simplest way.
    if variant == FULL:
        return [FULL, "recalibrated"] if "recalibrated" in config.references else [FULL]
    if variant in CONTROLS:
        return [FULL]
    matched = is_matched(config, variant)
    return [kind for kind in config.references if kind != "matched" or matched] or [FULL]


def other_kinds(config: Config, variant: str) -> list[str]:
    """Return the kinds of references that are quantized otherwise than a quantized variant is."""
    if variant == FULL or variant in CONTROLS:
        return []
    kinds = [f"{OTHER}{name}" for name in config.other_references if name != variant]
    for preset in config.other_presets:
        if variant in entries_by_preset(config.quantize, preset):
            kinds.append(f"{OTHER}{preset}")
    return kinds


def reference_variant(config: Config, variant: str, kind: str) -> str:
    """Return the variant of the references that attack a variant."""
    name = kind.removeprefix(OTHER)
    if kind.startswith(OTHER) and name in config.other_presets:
        return entries_by_preset(config.quantize, name)[variant].variant
    if kind.startswith(OTHER):
        return name
    return variant if kind == "matched" else FULL


def is_matched(config: Config, variant: str) -> bool:
    """Return whether references are quantized as a variant is; none is made as given weights are."""
    if variant in weight_releases(config):
        return False
    for entry in config.quantize:
        if entry.variant == variant:
            return "matched" in config.references and entry.has_matched_references
    return "matched" in config.references


def measure_attacks(
    planner: Planner,
    columns: VariantColumns,
    reference: str,
    *,
    scores: Task,
    baseline: Task,
    standalone: bool,
    thresholds: Task | None = None,
    comparisons: int = 1,
    population_thresholds: bool = True,
) -> Task:
    """Plan the rows and curves of one variant by one kind of reference.

    Args:
        planner: Plans the task.
        columns: The variant's columns in the rows.
        reference: Kind of the references, as in the rows.
        scores: The attack's task.
        baseline: The figures of the same attacks at full precision, from `estimate`.
        standalone: Whether attacks without references have their rows here.
        thresholds: Thresholds that were chosen without the targets; None leaves such rows out.
        comparisons: Number of attacks whose bounds on epsilon hold together.
        population_thresholds: Whether population records set the thresholds of attacks without references.

    Raises:
        ValueError: The baseline is no task of the stage `estimate`.
    """
    config = planner.config
    if baseline.stage != EstimateBaseline.STAGE:
        raise ValueError(f"baseline must be a task of stage 'estimate', got {baseline.stage!r}")
    step = MeasureVariant(
        *columns,
        reference=reference,
        fpr=config.fpr,
        priors=config.priors,
        delta=config.delta,
        comparisons=comparisons,
        seed=config.seed,
        standalone=standalone,
        metrics=tuple(metric_entries(config.metrics)),
        population_thresholds=population_thresholds,
    )
    # An input that is absent is absent from the key too, so it is added only if there is one.
    inputs: dict[str, str | tuple[str, ...]] = {
        "scores": scores.key,
        "baseline": baseline.key,
        "splits": planner.splits().key,
        **planner.clustered(),
    }
    if thresholds is not None:
        inputs["thresholds"] = thresholds.key
    return planner.task(step, inputs, f"measure {columns.variant} by {reference}")


def compare(
    planner: Planner,
    columns: VariantColumns,
    reference: str,
    *,
    scores: Task,
    others: Sequence[Task],
    over: str,
    standalone: bool = False,
    matched_records: int = 0,
    match: InputKeys = MappingProxyType({}),
) -> Task:
    """Plan the rows of how far one variant's figures exceed the best of other variants'.

    Args:
        planner: Plans the task.
        columns: The variant's columns in the rows.
        reference: Kind of the references, as in the rows.
        scores: The attack's task.
        others: Tasks of the same attacks on the other variants.
        over: End of the metrics' names, after `_over_`.
        standalone: Whether attacks without references have their rows here.
        matched_records: As in `CompareVariants`.
        match: Keys of the further inputs for noise, as in `CompareVariants`.
    """
    # Parameters, which are part of the result's key, then the keys of its inputs.
    config = planner.config
    step = CompareVariants(
        *columns,
        reference=reference,
        over=over,
        fpr=config.fpr,
        seed=config.seed,
        standalone=standalone,
        matched_records=matched_records,
    )
    inputs: InputKeys = {
        "scores": scores.key,
        "others": tuple(task.key for task in others),
        "splits": planner.splits().key,
        **planner.clustered(),
        **match,
    }
    return planner.task(step, inputs, f"compare {columns.variant} by {reference} over {over}")


def attack_variant(
    planner: Planner,
    models: Models,
    variant: str,
    kind: str,
    entries: Sequence[str] | None = None,
) -> Task:
    """Plan the attacks on one variant by one kind of reference.

    Args:
        planner: Plans the task.
        models: The models in every variant.
        variant: The variant.
        kind: Kind of the references.
        entries: Attacks as a config names them; None for those of the config.
    """
    config = planner.config
    attacked = FULL if variant in CONTROLS else variant
    mapped = kind == "recalibrated"
    counts = mapped and map_error_counts(planner.scale.population, planner.scale.pool)
    # one target, which memorises, shows whether the attacks find anything
    rows = models.targets[:1] if variant == POSITIVE else models.targets
    step = AttackTargets(
        attacks=tuple(attack_entries(config.attacks if entries is None else entries)),
        recalibrated=mapped,
        control=variant == CONTROL,
        memorising=variant == POSITIVE,
        targets=rows,
        references=models.references,
        seed=config.seed,
        answer_scale=answer_scale(config),
        map_error_fprs=config.fpr if counts else None,
    )
    inputs: InputKeys = {
        "targets": tuple(models.answers[attacked, row].key for row in rows),
        "references": models.reference_keys(reference_variant(config, attacked, kind)),
        **planner.data(),
    }
    return planner.task(step, inputs, f"attack {variant} by {kind}")


def answer_scale(config: Config) -> AnswerScale:
    """Return the scale on which adversaries compare answers: a temperature if logits are kept."""
    return "temperature" if config.query.keep == "logits" else "standardised"


def standalone_kind(config: Config, kinds: Sequence[str]) -> str:
    """Return the kind of references whose task has the rows of attacks without references.

    With a temperature it is `matched`, if it is there: only these references have the scale of the target's variant.
    """
    return "matched" if config.query.keep == "logits" and "matched" in kinds else kinds[0]


def estimate(planner: Planner, scores: Task) -> Task:
    """Plan the figures at full precision, once for all variants compared with them."""
    step = EstimateBaseline(fpr=planner.config.fpr, seed=planner.config.seed)
    inputs: InputKeys = {
        "scores": scores.key,
        "splits": planner.splits().key,
        **planner.clustered(),
    }
    return planner.task(step, inputs, f"figures of {scores.label.removeprefix('attack ')}")


def choose(planner: Planner, models: Models, variant: str, kind: str) -> Task:
    """Plan the thresholds from references; those at full precision serve all variants."""
    config = planner.config
    played = reference_variant(config, variant, kind)
    step = ChooseThresholds(
        attacks=tuple(attack_entries(config.attacks)),
        recalibrated=kind == "recalibrated",
        targets=models.targets,
        references=models.references,
        fpr=config.fpr,
        seed=config.seed,
        answer_scale=answer_scale(config),
    )
    inputs: InputKeys = {"references": models.reference_keys(played), **planner.data()}
    mapped = ", recalibrated" if kind == "recalibrated" else ""
    return planner.task(step, inputs, f"thresholds on {played}{mapped}")


def utility(planner: Planner, models: Models, columns: VariantColumns) -> Task:
    """Plan the accuracy and size of one variant."""
    step = MeasureUtility(*columns, targets=models.targets, seed=planner.config.seed)
    inputs: InputKeys = {
        "outputs": models.target_keys(columns.variant),
        "baseline": models.target_keys(FULL),
        "sizes": tuple(models.sizes[columns.variant, row].key for row in models.targets),
        **planner.data(),
        **planner.clustered(),
    }
    return planner.task(step, inputs, f"accuracy of {columns.variant}")


def variant_columns(config: Config, variant: str) -> VariantColumns:
    """Return the columns that name a variant in its rows."""
    for entry in config.quantize:
        if entry.variant == variant:
            return VariantColumns(variant, entry.label, entry.levels)
    if variant in weight_releases(config):
        return VariantColumns(variant, variant, None)
    return VariantColumns(variant, "", None)
