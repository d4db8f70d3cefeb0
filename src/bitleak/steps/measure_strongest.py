"""Measure the strongest attack and adversary on one variant, chosen on players.

For each group of targets the pair is the one with the largest mean TPR over the group's players, at
the FPR of the headline; with too few players (`attacks.FEWEST_PLAYERS`), or if the pair that the config
names could not be played, it is that pair. Full precision has a choice of its own. Where the pair has
references of which only some are quantized, full precision is attacked, by the attack of its own choice,
with as many references as those are worth, so that a loss of power does not read as protection.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64

from bitleak import metrics
from bitleak.core.metric_names import NAIVE
from bitleak.core.types import Measure, Row, SplitMode, Splits
from bitleak.core.variants import FULL, NAMED, STRONGEST
from bitleak.engine.worker import Runtime
from bitleak.metrics import Estimate, Estimates, PairChoice
from bitleak.steps.attack_targets import AttackScores
from bitleak.steps.find_copies import groups_of
from bitleak.steps.play_targets import PlayedRates, draw_seed
from bitleak.steps.result_rows import (
    ROW_BYTES,
    ResultTable,
    Subject,
    measure_rows,
    renamed_measures,
)
from bitleak.steps.scale import Scale
from bitleak.steps.step import OnProgress

PAIRS = 4
"""Pairs that the draws choose among for a target, for the expected seconds."""


class Pair(NamedTuple):
    """An attack and an adversary.

    Attributes:
        attack: Name of the attack.
        reference: Kind of the references; empty if the attack uses none.
    """

    attack: str
    reference: str

    @classmethod
    def parse(cls, text: str) -> "Pair":
        """Return the pair that is written so; whether it was named beforehand does not matter."""
        attack, _, reference = text.removesuffix(f" {NAMED}").partition("/")
        return cls(attack, reference)

    def __str__(self) -> str:
        return f"{self.attack}/{self.reference}" if self.reference else self.attack


@dataclass(frozen=True)
class StrongestFigures:
    """Rows and curves of the strongest pairs, and the estimates that variants are compared with.

    Attributes:
        table: Rows and curves.
        estimates: By metric; empty unless the variant is full precision.
    """

    table: ResultTable
    estimates: Estimates = field(default_factory=dict)

    def artifacts(self) -> dict[str, Any]:
        """Return the stored arrays and JSON values by name."""
        packed = metrics.pack_estimates({STRONGEST: self.estimates}) if self.estimates else {}
        return {**self.table.artifacts(), **packed}

    @classmethod
    def read(cls, artifacts: Mapping[str, Any]) -> "StrongestFigures":
        """Return the figures that were stored as these artifacts."""
        packed = "influences" in artifacts
        estimates = metrics.unpack_estimates(artifacts, STRONGEST) if packed else {}
        return cls(ResultTable.read(artifacts), estimates)


@dataclass(frozen=True)
class MeasureStrongest:
    """Measure the strongest pair of attack and adversary on every target of one variant.

    Attributes:
        variant: Its name in tables.
        quantizer: Its quantizer's label; empty if it has none.
        levels: Its grid points; None if it has none.
        references: Kinds of the references, in the order of the inputs; attacks without references
            are those of the first.
        attack: Attack of the pair that the config names.
        adversary: Kind of its references; `fp32` stands for kinds that full precision lacks.
        fpr: False positive rates.
        seed: The audit's seed.
    """

    variant: str
    quantizer: str
    levels: int | None
    references: tuple[str, ...]
    attack: str
    adversary: str
    fpr: tuple[float, ...]
    seed: int

    STAGE: ClassVar[str] = "strongest"
    VERSION: ClassVar[str] = "2"

    class Inputs(NamedTuple):
        """Scores and players' rates by kind of references, and the strongest at full precision.

        `alike` are scores at full precision by as many references as those of the last kinds, of
        which only some are quantized, are worth.
        """

        scores: tuple[AttackScores, ...]
        played: tuple[PlayedRates, ...]
        splits: Splits
        baseline: StrongestFigures | None = None
        clusters: Mapping[str, Any] | None = None
        alike: tuple[AttackScores, ...] = ()

    def cost(self, scale: Scale) -> float:
        """Seconds of the figures of a few pairs."""
        return PAIRS * scale.measure_seconds / max(1, scale.attacks)

    def bytes(self, scale: Scale) -> int:
        """Bytes of the rows, of the thinned curves and of influences."""
        # estimates are kept at full precision, for the other variants' comparisons
        influences = 8 * metrics.DRAWS * (1 + len(self.fpr)) if self.variant == FULL else 0
        rows = 2 * ROW_BYTES * (1 + len(self.fpr))
        return (scale.targets + 1) * (16 * 200 + rows) + scale.targets * influences

    def memory(self, scale: Scale) -> int:
        """Memory of all scores, and of the influences of a few pairs."""
        kinds = len(self.references)
        figures = PAIRS * (1 + len(self.fpr))
        return 8 * (kinds * scale.attacks + 2 * figures) * scale.targets * scale.pool

    def run(self, inputs: Inputs, runtime: Runtime, progress: OnProgress) -> StrongestFigures:
        """Return the rows and curves."""
        targets = inputs.scores[0].targets
        return self.figures(
            inputs.scores,
            inputs.played,
            inputs.splits.member[list(targets)],
            baseline=inputs.baseline,
            alike=inputs.alike,
            mode=inputs.splits.mode,
            clusters=groups_of(inputs.clusters),
        )

    def figures(
        self,
        scores: Sequence[AttackScores],
        played: Sequence[PlayedRates],
        member: Bool[np.ndarray, "targets records"],
        *,
        baseline: StrongestFigures | None,
        mode: SplitMode,
        alike: Sequence[AttackScores] = (),
        clusters: Int64[np.ndarray, "records"] | None = None,
    ) -> StrongestFigures:
        """Return the rows and curves.

        Args:
            scores: Scores by kind of references.
            played: Players' rates by kind of references.
            member: Membership of the targets.
            baseline: Figures of the strongest pairs at full precision; None if this is it.
            mode: How the targets' training sets were drawn.
            alike: Scores at full precision for the last of the kinds, see `Inputs`.
            clusters: Number of each record's cluster; None if all are independent.
        """
        targets = scores[0].targets
        pairs = self.pairs(scores)
        simple_kinds = {FULL, ""} if self.references[0] == FULL else {FULL}
        naive = [place for place, pair in enumerate(pairs) if pair.reference in simple_kinds]
        whole = self._choices(pairs, range(len(pairs)), played, targets)
        # references at full precision fit full precision: there is nothing that they would hide
        compared = self.variant != FULL and FULL in self.references and len(naive) < len(pairs)
        simple = self._choices(pairs, naive, played, targets) if compared else whole

        # only pairs that some draw chooses need figures
        figures = []
        for place in range(len(targets)):
            needed = sorted({*whole[place].pairs, *simple[place].pairs})
            of_target = {}
            for pair in needed:
                of_target[pair] = self._figures(scores, pairs[pair], place, member[place], clusters)
            figures.append(of_target)
        shared = _common(figures)
        audited = member.shape[1] if clusters is None else int(clusters.max()) + 1
        strongest = partial(
            metrics.strongest_estimates,
            figures=shared,
            seed=draw_seed(self.seed),
            audited=audited,
        )
        estimates = strongest(whole)
        chosen = [pairs[choice.pair] for choice in whole]
        compared_with: Estimates | None = None
        if baseline is not None:
            handicapped = self._handicapped(baseline, chosen, targets, alike, member, clusters)
            compared_with = _replaced(
                baseline.estimates, handicapped, draw_seed(self.seed), audited
            )
        measures = metrics.measures_from(estimates, mode=mode, baseline=compared_with)
        subject = Subject(self.variant, self.quantizer, self.levels, STRONGEST)
        texts = []
        for chosen_pair, choice in zip(chosen, whole, strict=True):
            texts.append(f"{chosen_pair} {NAMED}" if choice.named else str(chosen_pair))
        rows_ = _with_choice(measure_rows(subject, targets, measures), targets, texts)
        if compared:
            of_naive = strongest(simple)
            excess = metrics.excess_over_best(estimates, [of_naive], mode=mode)
            rows_ += measure_rows(subject, targets, renamed_measures(excess, NAIVE))
        selected = []
        for place, chosen_pair in enumerate(chosen):
            of_kind = self._of_kind(scores, chosen_pair)
            selected.append(of_kind.of(chosen_pair.attack)[place])
        curves = _curves(targets, selected, member)
        return StrongestFigures(
            ResultTable(rows_, curves), estimates if self.variant == FULL else {}
        )

    def _handicapped(
        self,
        baseline: StrongestFigures,
        chosen: Sequence[Pair],
        targets: Sequence[int],
        alike: Sequence[AttackScores],
        member: Bool[np.ndarray, "targets records"],
        clusters: Int64[np.ndarray, "records"] | None,
    ) -> dict[int, dict[str, Estimate]]:
        """Return figures of full precision under the handicap of partly quantized references.

        By place of the targets whose pair has such references, if the attack that full precision
        itself chose uses references: without, there is no handicap.
        """
        if not alike:
            return {}
        of_kind = dict(zip(self.references[-len(alike) :], alike, strict=True))
        of_full = {row.target: row.measure.chosen for row in baseline.table.rows}
        figures = {}
        for place, (target, pair) in enumerate(zip(targets, chosen, strict=True)):
            own = Pair.parse(of_full[str(target)])
            if pair.reference in of_kind and own.reference:
                scores = of_kind[pair.reference].of(own.attack)[place]
                figures[place] = self._estimates(scores, member[place], clusters)
        return figures

    def pairs(self, scores: Sequence[AttackScores]) -> list[Pair]:
        """Return all pairs; attacks without references are there once."""
        pairs: dict[Pair, None] = {}
        for kind, of_kind in zip(self.references, scores, strict=True):
            for attack in of_kind.attacks:
                pairs[Pair(attack.name, kind if attack.references else "")] = None
        return list(pairs)

    def _named(self, pairs: Sequence[Pair]) -> int:
        """Return the place of the pair that the config names; a kind that is not there is `fp32`."""
        for reference in (self.adversary, FULL, ""):
            if Pair(self.attack, reference) in pairs:
                return pairs.index(Pair(self.attack, reference))
        raise ValueError(
            f"the headline's attack {self.attack!r} was not run on {self.variant}; "
            f"attacks: {', '.join(dict.fromkeys(pair.attack for pair in pairs))}"
        )

    def _choices(
        self,
        pairs: Sequence[Pair],
        allowed: Sequence[int],
        played: Sequence[PlayedRates],
        targets: Sequence[int],
    ) -> list[PairChoice]:
        """Return the choice of each target among the allowed pairs."""
        candidates = [pairs[place] for place in allowed]
        named = self._named(candidates)
        of_target: dict[int, PairChoice] = {}
        for group, members in enumerate(played[0].groups):
            rates, changes = [], []
            for pair in candidates:
                kind = self._kind(pair, [rated.attacks for rated in played])
                place = played[kind].attacks.index(pair.attack)
                rates.append(played[kind].rates[group, place])
                changes.append(played[kind].changes[group, place])
            # A group without players has no rates, and its pair is the one named beforehand.
            if np.isnan(rates[named]):
                choice = metrics.named_pair(named)
            else:
                choice = metrics.choose_pair(np.array(rates), np.array(changes))
            within_all = np.array(allowed)
            chosen, drawn = int(within_all[choice.pair]), within_all[choice.drawn]
            choice = replace(choice, pair=chosen, drawn=drawn)
            of_target |= dict.fromkeys(members, choice)
        return [of_target[target] for target in targets]

    def _of_kind(self, scores: Sequence[AttackScores], pair: Pair) -> AttackScores:
        """Return the scores by the kind of references that has a pair."""
        names = [[attack.name for attack in of_kind.attacks] for of_kind in scores]
        return scores[self._kind(pair, names)]

    def _kind(self, pair: Pair, attacks: Sequence[Sequence[str]]) -> int:
        """Return the place of the kind of references that has a pair, by the attacks of each.

        Attacks without references are run once, with any of the kinds.
        """
        if pair.reference:
            return self.references.index(pair.reference)
        return next(place for place, names in enumerate(attacks) if pair.attack in names)

    def _figures(
        self,
        scores: Sequence[AttackScores],
        pair: Pair,
        place: int,
        member: Bool[np.ndarray, "records"],
        clusters: Int64[np.ndarray, "records"] | None,
    ) -> dict[str, Estimate]:
        """Return the figures of one pair on the target at a place, by metric."""
        of_kind = self._of_kind(scores, pair)
        through_map = {}
        for metric, influence in of_kind.map_influence_of(pair.attack).items():
            through_map[metric] = influence[place][None]
        return self._estimates(of_kind.of(pair.attack)[place], member, clusters, through_map)

    def _estimates(
        self,
        scores: Float64[np.ndarray, "records"],
        member: Bool[np.ndarray, "records"],
        clusters: Int64[np.ndarray, "records"] | None,
        through_map: Mapping[str, Float64[np.ndarray, "one population"]] = MappingProxyType({}),
    ) -> dict[str, Estimate]:
        """Return the figures of one model's scores, by metric, with the error of a map of answers."""
        estimates = metrics.estimate_metrics(
            scores[None], member[None], fprs=self.fpr, balanced=False, clusters=clusters
        )
        widened = metrics.with_map_error(estimates, through_map)
        return {metric: figure for metric, (figure,) in widened.items()}


def _replaced(
    estimates: Estimates, figures: Mapping[int, Mapping[str, Estimate]], seed: int, audited: int
) -> Estimates:
    """Return the estimates with those of some targets replaced, with the metrics that all have.

    Args:
        estimates: By metric, one per target, whose influences have an entry per draw.
        figures: By place of the target and metric; influences have an entry per record.
        seed: Seed of the draws.
        audited: Number of audited records, or of their clusters.
    """
    replaced = {metric: list(of_targets) for metric, of_targets in estimates.items()}
    for place, by_metric in figures.items():
        drawn = metrics.strongest_estimates(
            [metrics.named_pair(0)], [{0: by_metric}], seed, audited=audited
        )
        for metric in list(replaced):
            if metric in drawn:
                (replaced[metric][place],) = drawn[metric]
            else:
                del replaced[metric]
    return {metric: tuple(of_targets) for metric, of_targets in replaced.items()}


def _common(
    figures: Sequence[Mapping[int, Mapping[str, Estimate]]],
) -> list[dict[int, dict[str, Estimate]]]:
    """Return the figures of the metrics that all targets have."""
    metric_sets = []
    for by_pair in figures:
        metric_sets += [set(by_metric) for by_metric in by_pair.values()]
    names = set.intersection(*metric_sets)
    common = []
    for by_pair in figures:
        kept: dict[int, dict[str, Estimate]] = {}
        for pair, by_metric in by_pair.items():
            kept[pair] = {name: figure for name, figure in by_metric.items() if name in names}
        common.append(kept)
    return common


def _with_choice(rows: Iterable[Row], targets: Sequence[int], chosen: Sequence[str]) -> list[Row]:
    """Return the rows with the chosen pairs, for all targets the most frequent first."""
    by_target = dict(zip(map(str, targets), chosen, strict=True))
    counts = Counter(chosen).most_common()
    by_target["all"] = ", ".join(f"{pair} ({count})" for pair, count in counts)
    if len(counts) == 1:
        by_target["all"] = counts[0][0]
    named = []
    for row in rows:
        measure: Measure = replace(row.measure, chosen=by_target[row.target])
        named.append(replace(row, measure=measure))
    return named


def _curves(
    targets: Sequence[int],
    scores: Sequence[Float64[np.ndarray, "records"]],
    member: Bool[np.ndarray, "targets records"],
) -> dict[str, np.ndarray]:
    """Return the thinned ROC curves of the targets, and their mean."""
    whole = [metrics.roc(*pair) for pair in zip(scores, member, strict=True)]
    curves = {}
    for target, curve in zip(targets, whole, strict=True):
        curves[f"{STRONGEST}//{target}"] = metrics.thin_curve(curve)
    curves[f"{STRONGEST}//all"] = metrics.mean_curve(whole)
    return curves
