"""The networks of memorised.py as targets and references: who is attacked by whom, and what is found.

Every model that has answered in a variant is a target in turn, by references that are all others but its
complement; `matched` ones only if all models have. Networks that were trained anew are targets by the same
references, or each other's references, as many as have answered. Confidences are compared as they came, as
in the paper. Intervals are 95 %, about these models on other records.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from memorised import (
    AGAIN,
    BASE,
    FIRST,
    FRESH,
    POPULATION,
    SHARE,
    STRANGERS,
    ModelFile,
)

from bitleak.attacks import attack_view, expand, recalibrated
from bitleak.attacks.joint import Joint
from bitleak.attacks.joint_learned import LearnedJoint
from bitleak.core.types import LOG_PROBABILITY, LOGIT_SCALED, AttackView, Measure, Splits
from bitleak.core.variants import FULL
from bitleak.data import references as references_of
from bitleak.metrics import measure

FPRS = (0.001, 0.005, 0.01)
METHODS = ("rtn", "adaround", "brecq", "obc", "qat")
JOINT = {attack().name: attack() for attack in (Joint, LearnedJoint)}


def by_method(variant: str) -> tuple[int, ...]:
    """Return the place of a variant in a table: full precision, then method by method, from many bits to few."""
    name, _, changes = variant.partition("/")
    parts = name.split("-")
    if parts[0] == FULL:
        return (0,)
    bits = float(parts[-1].partition("+")[0])
    return (1 + METHODS.index(parts[0]), -round(100 * bits), len(parts), len(changes))


def default_of(variant: str) -> str:
    """Return the variant by the default preset with the usual calibration images, such as `obc-2` of `obc-32-2`."""
    name, _, changes = variant.partition("/")
    if name == FULL:
        return variant
    parts = name.split("-")
    kept = "+".join(part for part in changes.split("+") if part not in (SHARE, STRANGERS))
    return f"{parts[0]}-{parts[-1]}" + (f"/{kept}" if kept else "")


class Answers:
    """The answers that are kept, of all models.

    Args:
        folder: With the files.
    """

    def __init__(self, folder: Path) -> None:
        with np.load(folder / POPULATION, allow_pickle=False) as stored:
            self.labels = stored["labels"].astype(np.int64)
            packed, self.seed = (stored["member"], stored["calibration"]), int(stored["seed"])
        self.member, self.calibration = (
            np.unpackbits(rows, axis=1, count=len(self.labels)).astype(bool) for rows in packed
        )
        models, none = np.arange(len(self.member)), np.empty(0, np.int64)
        pool = np.arange(len(self.labels))
        self.splits = Splits("population", pool, self.member, models, none, none, none)
        self.files = {
            kind: [ModelFile.read(folder / f"{kind}-{model:02d}.npz") for model in models]
            for kind in (FIRST, AGAIN)
        }
        self._signals: dict[tuple[str, str], np.ndarray] = {}
        self._scores: dict[tuple[Any, ...], np.ndarray] = {}

    def models(self, variant: str, kind: str = FIRST) -> tuple[int, ...]:
        """Return the models that have answered in a variant."""
        files = enumerate(self.files[kind])
        return tuple(model for model, file in files if variant in file.confidences)

    def variants(self, kind: str = FIRST) -> list[str]:
        """Return the names of all variants in which any model has answered."""
        return list(dict.fromkeys(name for file in self.files[kind] for name in file.confidences))

    def group(self, name: str) -> list[str]:
        """Return the variants of a table: those of an audit (`plain`), those that differ from it (`differing`),
        those of the networks trained anew (`again`).
        """
        if name == AGAIN:
            return sorted(self.variants(AGAIN), key=by_method)
        choose = {
            "plain": lambda variant: "/" not in variant,
            "differing": lambda variant: "/" in variant or variant in (FULL, BASE),
        }[name]
        chosen = [variant for variant in self.variants() if choose(variant)]
        return sorted(chosen, key=by_method) if name == "plain" else chosen

    def of_all(self) -> list[str]:
        """Return the plain variants in which all models have answered."""
        return [name for name in self.group("plain") if len(self.models(name)) == len(self.member)]

    def signals(self, variant: str, kind: str = FIRST) -> np.ndarray:
        """Return the signals that follow from the confidence, `[models, records + population, queries, signals]`."""
        if (variant, kind) in self._signals:
            return self._signals[variant, kind]
        files = self.files[kind]
        known = {model: files[model].confidences[variant] for model in self.models(variant, kind)}
        shape = next(iter(known.values())).shape
        kept = 1 + max(LOGIT_SCALED, LOG_PROBABILITY)
        planes = np.full((len(files), *shape, kept), np.nan)
        for model, values in known.items():
            confidence = values.astype(float)
            planes[model, ..., LOGIT_SCALED] = confidence
            planes[model, ..., LOG_PROBABILITY] = -np.logaddexp(0.0, -confidence)
        self._signals[variant, kind] = planes
        return planes

    def pairs(self, variants: Sequence[str], kind: str) -> tuple[int, ...]:
        """Return the models that have answered in all of some variants, as their complements have."""
        known = set.intersection(*(set(self.models(variant, kind)) for variant in variants))
        return tuple(sorted(model for model in known if model ^ 1 in known))

    def view(self, target: int, adversary: "Adversary") -> AttackView:
        """Return the view of one target by all models but itself and its complement.

        Networks trained anew are references as far as they have answered, in whole pairs, so that every record
        has as many on either side.
        """
        records = len(self.labels)
        variant, references, _, kind, of = adversary
        rows, use = references_of(self.splits, target, seed=self.seed)
        if of == AGAIN:
            known = np.isin(rows, self.pairs([references], of))
            rows, use = rows[known], use[known]
        of_target = self.signals(variant, kind)[target]
        of_references = self.signals(references, of)[rows]
        return attack_view(
            target=of_target[:records],
            references=of_references[:, :records],
            member=self.member[rows],
            use=use,
            population_target=of_target[records:],
            population_references=of_references[:, records:],
            labels=self.labels,
        )

    def scores(self, attack: str, adversary: "Adversary", targets: tuple[int, ...]) -> np.ndarray:
        """Return the scores of targets."""
        key = (attack, adversary, targets)
        if key not in self._scores:
            (form,) = expand(attack)
            views = (self.view(target, adversary) for target in targets)
            self._scores[key] = np.stack(
                [form(recalibrated(view) if adversary.recalibrate else view) for view in views]
            )
        return self._scores[key]

    def joint_scores(self, attack: str, releases: tuple[str, ...]) -> np.ndarray:
        """Return the scores of all models by one adversary who sees several releases of each."""
        if (attack, releases) not in self._scores:
            self._scores[attack, releases] = np.stack(
                [
                    JOINT[attack](
                        [self.view(target, Adversary(release, release)) for release in releases]
                    )
                    for target in range(len(self.member))
                ]
            )
        return self._scores[attack, releases]

    def figures(
        self,
        attack: str,
        adversary: "Adversary",
        targets: tuple[int, ...],
        beside: "Adversary | None" = None,
    ) -> Mapping[str, Measure]:
        """Return the means over the targets, and their difference from another adversary's; by default that of full
        precision.
        """
        scores = self.scores(attack, adversary, targets)
        baseline = None
        if beside is not None or adversary.variant != FULL:
            full = Adversary(FULL, FULL, kind=adversary.kind)
            baseline = self.scores(attack, beside or full, targets)
        member = self.member[list(targets)]
        return measure(scores, member, fprs=FPRS, baseline=baseline, balanced=False).aggregate

    def mean_fact(self, variant: str, fact: str, kind: str = FIRST) -> float:
        """Return the mean over the models of an accuracy in percent."""
        models = self.models(variant, kind)
        return float(np.mean([self.files[kind][model].facts[variant][fact] for model in models]))

    def adversaries(self, variant: str, kind: str = FIRST) -> dict[str, "Adversary"]:
        """Return those with each kind of references that there are.

        Networks trained anew have `default` ones in place of `matched`: the method at its default preset
        with all calibration images.
        """
        full = f"{FULL}/{FRESH}" if FRESH in variant else FULL
        if variant == full:
            return {"fp32": Adversary(variant, full, kind=kind)}
        found = {
            "fp32": Adversary(variant, full, kind=kind),
            "recalibrated": Adversary(variant, full, recalibrate=True, kind=kind),
        }
        if kind == FIRST and len(self.models(variant)) == len(self.member):
            found["matched"] = Adversary(variant, variant)
        default = default_of(variant)
        if kind == AGAIN and len(self.models(default)) == len(self.member):
            found["default"] = Adversary(variant, default, kind=kind)
        return found


class Adversary(NamedTuple):
    """What is attacked, and with what.

    Attributes:
        variant: Variant of the targets.
        references: Variant of the references.
        recalibrate: Whether the target's confidence is mapped to the references'.
        kind: Whether the targets are the first networks or those trained anew.
        of: Which of them the references are.
    """

    variant: str
    references: str
    recalibrate: bool = False
    kind: str = FIRST
    of: str = FIRST
