"""The strongest attack and adversary on answers made elsewhere: players are attacked in their turn."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Bool

from bitleak import metrics
from bitleak.answers.attack_design import MODE, Design
from bitleak.answers.attack_preparation import PreparedAttack
from bitleak.answers.target_views import QUANTIZED, Case, TargetViews
from bitleak.attacks import (
    FEWEST_PLAYERS,
    Attack,
    ModelSignals,
    PlayerGroup,
    player_groups,
)
from bitleak.core.types import Row
from bitleak.core.variants import CONTROL, FULL
from bitleak.metrics import Estimates
from bitleak.report import RocCurve, named_curves
from bitleak.steps.attack_targets import AttackScores
from bitleak.steps.measure_strongest import MeasureStrongest
from bitleak.steps.play_targets import (
    GroupRates,
    PlayedRates,
    PlayTargets,
    gathered_rates,
)


def played_rates(
    prepared: PreparedAttack, views: TargetViews, on_step: Callable[[float], None]
) -> dict[Case, PlayedRates]:
    """Return the players' rates in every case but the control.

    Args:
        prepared: The run.
        views: Makes the views.
        on_step: Called with the fraction done.
    """
    design = prepared.design
    cases = [case for case in prepared.cases if case.variant != CONTROL]
    non_members = int((~design.member[list(design.targets)]).sum(axis=1).min())
    fpr = metrics.headline_fpr(prepared.fprs, non_members)
    grouped = {
        variant: _groups(views, design, variant)
        for variant in dict.fromkeys(case.variant for case in cases)
    }
    played: dict[Case, list[GroupRates]] = {case: [] for case in cases}
    # group by group, so that the cases of a group share the sums over its references
    steps = sum(len(grouped[case.variant]) for case in cases)
    done = 0
    for place in range(max(map(len, grouped.values()))):
        for case in cases:
            groups = grouped[case.variant]
            if place < len(groups):
                attacks = prepared.attacks_of(case)
                rates = _rates(design, views, groups[place], case, attacks, fpr)
                played[case].append(rates)
                done += 1
                on_step(done / steps)
    gathered = {}
    for case in cases:
        attacks, groups = prepared.attacks_of(case), grouped[case.variant]
        gathered[case] = gathered_rates(
            attacks,
            groups,
            played[case],
            len(design.records),
            seed=design.seed,
            clusters=prepared.clusters,
        )
    return gathered


def strongest_rows(
    prepared: PreparedAttack,
    scores: Mapping[Case, AttackScores],
    played: Mapping[Case, PlayedRates],
    named: tuple[str, str],
) -> tuple[list[Row], list[RocCurve]]:
    """Return rows and curves of the strongest pairs, variant by variant.

    Args:
        prepared: The run.
        scores: By case.
        played: Players' rates by case.
        named: Attack and kind of references that stand for the strongest without enough players.
    """
    design = prepared.design
    member = design.member[list(design.targets)]
    rows: list[Row] = []
    curves: list[RocCurve] = []
    baseline: Estimates | None = None
    for variant in dict.fromkeys(case.variant for case in played):
        cases = [case for case in played if case.variant == variant]
        step = MeasureStrongest(
            variant,
            cases[0].quantizer,
            levels=None,
            references=tuple(case.reference for case in cases),
            attack=named[0],
            adversary=named[1],
            fpr=prepared.fprs,
            seed=design.seed,
        )
        figures = step.figures(
            [scores[case] for case in cases],
            [played[case] for case in cases],
            member,
            baseline=baseline,
            mode=MODE,
            clusters=prepared.clusters,
        )
        baseline = figures.estimates if variant == FULL else baseline
        rows += figures.table.rows
        curves += named_curves(variant, cases[0].quantizer, None, figures.table.curves)
    return rows, curves


def _groups(views: TargetViews, design: Design, variant: str) -> tuple[PlayerGroup, ...]:
    """Return the groups of targets with players that have answers in a variant."""
    if not design.referenced:
        return (PlayerGroup(design.targets, ()),)
    serving: dict[int, None] = {}
    for served in design.serving:
        serving |= dict.fromkeys(served.rows.tolist())
    answered = views.signals[QUANTIZED if variant == QUANTIZED else FULL].names
    names = views.signals[FULL].names
    candidates = [row for row in sorted(serving) if names[row] in answered]
    groups = []
    for group in player_groups(design.split, design.targets, candidates, serving, design.seed):
        # a model that cannot serve some target of the group, such as kin of it, does not play it
        rows = set(_reference_rows(design, group))
        players = tuple(row for row in group.players if row in rows)
        enough = len(players) >= FEWEST_PLAYERS
        groups.append(PlayerGroup(group.targets, players if enough else ()))
    return tuple(groups)


def _reference_rows(design: Design, group: PlayerGroup) -> list[int]:
    """Return the rows that serve every target of a group."""
    shared: set[int] | None = None
    for target in group.targets:
        rows = set(design.references(target)[0].tolist())
        shared = rows if shared is None else shared & rows
    return group.references(design.split, sorted(shared or ()))


def _rates(
    design: Design,
    views: TargetViews,
    group: PlayerGroup,
    case: Case,
    attacks: Sequence[Attack],
    fpr: float,
) -> GroupRates:
    """Return the rates of a group's players in one case."""
    if not group.players:
        return [], {}
    rows = _reference_rows(design, group)
    whole, use = design.references(group.targets[0])
    places = np.searchsorted(whole, rows)
    by = case if case.reference == "matched" else Case(case.variant, "fp32")
    players: list[tuple[int | None, ModelSignals, Bool[np.ndarray, records]]] = []
    for row in group.players:
        view = views.of(row, by, np.array(rows), use[places])
        signals = view.target, view.population_target
        players.append((rows.index(row), signals, design.member[row]))
    step = PlayTargets(
        attacks=tuple(attack.name for attack in attacks),
        recalibrated=case.recalibrated,
        groups=(group.targets,),
        players=(group.players,),
        references=tuple(rows),
        fpr=fpr,
        seed=design.seed,
    )
    return step.group_rates(view, players, attacks)
