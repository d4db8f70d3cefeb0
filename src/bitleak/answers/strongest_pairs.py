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
    ModelSignals,
    PlayedCase,
    PlayerGroup,
    player_groups,
)
from bitleak.core.types import Row
from bitleak.core.variants import CONTROL, FULL
from bitleak.report import RocCurve, named_curves
from bitleak.steps.attack_targets import AttackScores
from bitleak.steps.measure_strongest import MeasureStrongest, StrongestFigures
from bitleak.steps.play_targets import (
    NO_RATES,
    GroupRates,
    PlayedRates,
    gathered_rates,
    group_rates,
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
    variants = dict.fromkeys(case.variant for case in cases)
    grouped = {variant: _groups(views, design, variant) for variant in variants}
    played: dict[Case, list[GroupRates]] = {case: [] for case in cases}
    # group by group and references by references, so that cases share the sums over these
    by_references: dict[Case, list[Case]] = {}
    for case in cases:
        by = case if case.reference == "matched" else Case(case.variant, "fp32")
        by_references.setdefault(by, []).append(case)
    steps = sum(len(grouped[case.variant]) for case in by_references)
    done = 0
    for place in range(max(map(len, grouped.values()))):
        for by, alike in by_references.items():
            groups = grouped[by.variant]
            if place < len(groups):
                alike_played = [_played_case(prepared, case) for case in alike]
                rates = _rates(design, views, groups[place], by, alike_played, fpr)
                for case, of_case in zip(alike, rates, strict=True):
                    played[case].append(of_case)
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


def _played_case(prepared: PreparedAttack, case: Case) -> PlayedCase:
    return PlayedCase(prepared.attacks_of(case), case.recalibrated)


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
    baseline: StrongestFigures | None = None
    # Full precision comes first, and is the baseline of all others.
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
        baseline = figures if variant == FULL else baseline
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
        rows = set(design.reference_rows(target).tolist())
        shared = rows if shared is None else shared & rows
    return group.references(design.split, sorted(shared or ()))


def _rates(
    design: Design,
    views: TargetViews,
    group: PlayerGroup,
    by: Case,
    cases: Sequence[PlayedCase],
    fpr: float,
) -> list[GroupRates]:
    """Return the rates of a group's players in the cases that have the references of one."""
    if not group.players:
        return [NO_RATES for _ in cases]
    rows = _reference_rows(design, group)
    whole, use = design.references(group.targets[0])
    places = np.searchsorted(whole, rows)
    players: list[tuple[int | None, ModelSignals, Bool[np.ndarray, records]]] = []
    for row in group.players:
        view = views.of(row, by, np.array(rows), use[places])
        signals = view.target, view.population_target
        players.append((rows.index(row), signals, design.member[row]))
    return group_rates(view, players, cases, fpr=fpr, seed=design.seed)
