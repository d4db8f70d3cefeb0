"""What else is said of answers made elsewhere: chosen thresholds, fewer references, single records."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product

import numpy as np
from jaxtyping import Float64

from bitleak import metrics
from bitleak.answers.attack_preparation import Prepared
from bitleak.answers.attack_tables import MODE
from bitleak.answers.target_views import FULL, QUANTIZED, Case, Views
from bitleak.attacks import Attack, Player, exchangeable, population_view, recalibrated
from bitleak.attacks.reference_subsets import Subsets
from bitleak.core.errors import TooFewForAttack
from bitleak.core.seeds import seed_for
from bitleak.core.spill import new_array, release
from bitleak.core.types import SIGNALS, AttackView
from bitleak.metrics import Memorisation
from bitleak.report import PowerRow, RecordResults, Summary, variant_records

PRIORS = (0.01, 0.1, 0.5)
"""Shares of members that precision is reported for."""

DELTA = 1e-5
"""At which epsilon is bounded."""

POWER_TARGETS = 8
"""Targets that are attacked with fewer references, at most."""

PLAYED = (Case(FULL, "fp32"), Case(FULL, "recalibrated"), Case(QUANTIZED, "matched"))
"""Cases in which a reference plays the target; thresholds at full precision serve all variants."""

Thresholds = Mapping[tuple[str, str], Float64[np.ndarray, "fprs"]]


def chosen_thresholds(prepared: Prepared, view: AttackView, target: int, case: Case) -> dict[str, np.ndarray]:
    """The thresholds of one target in one case, by attack; none of an attack that cannot be run with so few.

    Args:
        prepared: The run.
        view: Of the target in this case.
        target: Its row.
        case: Any but the control.
    """
    alone = [attack for attack in prepared.attacks_of(case) if not attack.uses_references]
    found: dict[str, np.ndarray] = {}
    if len(view.population_target):
        outside = population_view(view)
        found = {attack.name: metrics.thresholds_for(attack(outside), prepared.fprs) for attack in alone}
    if case not in PLAYED or not prepared.design.referenced:
        return found
    try:
        player = Player(view, np.random.default_rng(seed_for(prepared.design.seed, "player", target)))
    except TooFewForAttack:  # no reference is left; the report says that nothing was chosen
        return found
    by_reference = [attack for attack in prepared.attacks_of(case) if attack.uses_references]
    # to recalibrate takes the population, which a compact view has not
    compact = [one for one in by_reference if exchangeable(one) and case.reference != "recalibrated"]
    for attacks, make in ((compact, player.compact_view), ([a for a in by_reference if a not in compact], player.view)):
        if not attacks:
            continue
        played = make()
        played = recalibrated(played) if case.reference == "recalibrated" else played
        for attack in attacks:
            scores = scores_or_none(attack, played)
            if scores is not None:
                found[attack.name] = metrics.thresholds_for(scores[~player.member], prepared.fprs)
    return found


def scores_or_none(attack: Attack, view: AttackView) -> Float64[np.ndarray, "records"] | None:
    """The scores; None where the attack takes more references than there are."""
    try:
        return attack(view)
    except TooFewForAttack:
        return None


def source_of(case: Case, attack: Attack) -> Case:
    """The case whose thresholds serve this one."""
    if not attack.uses_references or case.reference == "matched":
        return case
    return Case(FULL, case.reference)


def power_rows(
    prepared: Prepared, views: Views, whole: Mapping[str, np.ndarray], on_step: Callable[[float, str], None]
) -> list[PowerRow]:
    """AUC and TPR at full precision by number of references, of the first targets.

    Args:
        prepared: The run.
        views: Makes the views.
        whole: Scores by attack with all references, `[targets records]`.
        on_step: Called with the fraction done and what is being done.
    """
    design = prepared.design
    targets, attacks = design.targets[:POWER_TARGETS], [one for one in prepared.attacks if one.uses_references]
    most = design.per_side()
    if not attacks or most < 2:
        return []
    counts = metrics.doubling_counts(most)
    pairs = {(attack.name, count): index for index, (attack, count) in enumerate(product(attacks, counts[:-1]))}
    found = new_array((max(1, len(pairs)), len(targets), len(design.records)), np.dtype(np.float64))
    times: Counter[tuple[str, int]] = Counter({(attack.name, most): len(targets) for attack in attacks})
    for place, target in enumerate(targets):
        view = views.of(target, Case(FULL, "fp32"), *design.references(target))
        generator = np.random.default_rng(seed_for(design.seed, "power", target))
        for name, count, scores in _of_target(view, attacks, counts[:-1], generator):
            found[pairs[name, count], place] = scores
            times[name, count] += 1
        release(found)
        on_step((place + 1) / len(targets), "fewer references")
    member = design.member[list(targets)]
    fpr = metrics.headline_fpr(prepared.fprs, int((~member).sum(axis=1).min()))
    rows: list[PowerRow] = []
    for attack in attacks:
        for count in (one for one in counts if times[attack.name, one] == len(targets)):
            index = pairs.get((attack.name, count))
            scores = whole[attack.name][: len(targets)] if index is None else found[index]
            made = metrics.measure(scores, member, fprs=[fpr], mode=MODE, balanced=False)
            rows += _power(attack.name, count, targets, made)
            release(found)
    return rows


def _of_target(
    view: AttackView, attacks: Sequence[Attack], counts: Sequence[int], generator: np.random.Generator
) -> Iterator[tuple[str, int, Float64[np.ndarray, "records"]]]:
    """Scores of one target by name of the attack and number of references a side."""
    subsets = Subsets(view, generator)
    for count in counts:
        for attack, scores in _with_fewer(subsets, attacks, count):
            yield attack.name, count, scores


def _with_fewer(
    subsets: Subsets, attacks: Sequence[Attack], count: int
) -> Iterator[tuple[Attack, Float64[np.ndarray, "records"]]]:
    """Scores of those attacks that can be run with so few references."""
    by_side = [attack for attack in attacks if exchangeable(attack)]
    others = [attack for attack in attacks if attack not in by_side]
    for chosen, make in ((by_side, subsets.compact_view), (others, subsets.view)):
        if chosen:
            few = make(count)
            for attack in chosen:
                scores = scores_or_none(attack, few)
                if scores is not None:
                    yield attack, scores


def records_of(
    prepared: Prepared,
    scores: Mapping[tuple[Case, str], np.ndarray],
    memorised: Mapping[str, Memorisation],
    summary: Summary,
) -> RecordResults:
    """Exposure under the headline attack, and memorisation, of every audited record under every variant."""
    design, name = prepared.design, summary.headline_attack
    member = design.member[list(design.targets)]
    variants = []
    for variant in [one for one in (FULL, QUANTIZED) if any(case.variant == one for case in prepared.cases)]:
        kinds = [case.reference for case, attack in scores if case.variant == variant and attack == name]
        kind = next((one for one in kinds if one == summary.headline_reference), kinds[0])
        about = (variant, kind if summary.headline_reference else "")
        seed = seed_for(design.seed, "reliability")
        found = np.asarray(scores[Case(variant, kind), name])
        variants.append(variant_records(about, found, member, memorised=memorised.get(variant), seed=seed))
    labels = prepared.answers.labels
    numbers = prepared.answers.record_numbers
    numbers = design.records if numbers is None else numbers[design.records]
    return RecordResults(name, numbers, None if labels is None else labels[design.records], tuple(variants))


def memorised(prepared: Prepared, views: Views) -> dict[str, Memorisation]:
    """By variant, of the probability of the true class at the first query; ready scores have none."""
    if prepared.answers.kind == "scores":
        return {}
    names = views.signals[FULL].names
    found = {}
    for variant, signals in views.signals.items():
        rows = [names.index(name) for name in signals.names]
        answers = np.exp(np.asarray(signals.pool[SIGNALS.index("log_probability"), :, :, 0]))
        found[variant] = metrics.memorisation(answers, prepared.design.member[rows])
    return found


def _power(attack: str, count: int, targets: Sequence[int], made: metrics.Measures) -> list[PowerRow]:
    rows = []
    for metric, total in made.aggregate.items():
        singles = [(str(row), one) for row, one in zip(targets, made.targets[metric], strict=True)]
        rows += [PowerRow(FULL, attack, FULL, count, name, metric, one) for name, one in (("all", total), *singles)]
    return rows
