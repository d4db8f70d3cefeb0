"""Everything that can be checked of a run on answers before they are read."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64

from bitleak import metrics
from bitleak.answers.answer_doubts import doubts_of_files
from bitleak.answers.answer_files import read_answers
from bitleak.answers.attack_design import Design, attack_design, chosen_targets
from bitleak.answers.attack_options import (
    checked_delta,
    checked_metrics,
    checked_shares,
    chosen_attacks,
)
from bitleak.answers.class_membership import class_dependences
from bitleak.answers.design_notes import design_notes
from bitleak.answers.model_answers import Answers
from bitleak.answers.quantized_pairing import paired
from bitleak.answers.refused_answers import refuse_answers
from bitleak.answers.target_views import FULL_BY_FULL, QUANTIZED, QUANTIZED_BY_MATCHED, Case
from bitleak.answers.variant_scales import scale_of_files
from bitleak.attacks import RECALIBRATED_SIGNALS, Attack, forms_by_word
from bitleak.core.errors import ConfigError, DataError
from bitleak.core.limits import MOST_MODELS, MOST_QUERIES, why_too_many
from bitleak.core.spill import Scratch
from bitleak.core.variants import CONTROL, FULL, JOINT
from bitleak.metrics import DELTA, PRIORS, ClassDependence
from bitleak.steps.measure_variant import MeasureVariant


@dataclass(frozen=True)
class AttackRequest:
    """Options of `bitleak attack`.

    Attributes:
        scores: File or folder with the answers.
        quantized: File or folder with the answers of quantized versions of the models, or None.
        labels: An `.npy` file with labels.
        clusters: An `.npy` file with the cluster of each record; None takes those of `scores`.
        targets: Models to attack, with commas between them; None is all.
        attacks: Words or names that `expand` knows, and `joint`; None is all that apply.
        fprs: False positive rates in (0, 1) at which the TPR is reported.
        priors: Shares of members in (0, 1) for which precision is reported.
        delta: The delta at which epsilon is bounded, in [0, 1).
        metrics: Further metrics, as `metrics.load_metric` takes them.
        seed: Seed of all draws.
        power: Whether the attacks are also run with fewer references.
    """

    scores: Path
    quantized: Path | None = None
    labels: Path | None = None
    clusters: Path | None = None
    targets: str | None = None
    attacks: tuple[str, ...] | None = None
    fprs: tuple[float, ...] = (0.001, 0.01)
    priors: tuple[float, ...] = PRIORS
    delta: float = DELTA
    metrics: tuple[str, ...] = ()
    seed: int = 0
    power: bool = True


@dataclass(frozen=True)
class PreparedAttack:
    """A run whose input is known to fit together.

    Attributes:
        answers: Answers of the full-precision models.
        quantized: Answers of the same models, quantized.
        design: Targets and their references.
        attacks: Attacks to run.
        named: Whether the attacks were named; then one that cannot run is an error, else it is left out.
        cases: Variants and kinds of reference, `fp32` with its own references first.
        fprs: Ascending.
        priors: Ascending.
        delta: The delta at which epsilon is bounded.
        metrics: Further metrics, as parameters of a step.
        remarks: Sentences on parts of the input that are left out, and why.
        unrun: Names of the attacks that are left out, by reason.
        power: Whether the attacks are also run with fewer references.
        joint: Whether the joint attack on full-precision and quantized answers is run.
        by_class: The targets whose membership depends on the class.
        doubts: Reasons to doubt the answers, as far as they are seen before all are read, a sentence each.
    """

    answers: Answers
    quantized: Answers | None
    design: Design
    attacks: tuple[Attack, ...]
    named: bool
    cases: tuple[Case, ...]
    fprs: tuple[float, ...]
    priors: tuple[float, ...]
    delta: float
    metrics: tuple[str, ...]
    remarks: tuple[str, ...]
    unrun: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    joint: bool = False
    power: bool = False
    by_class: Mapping[int, ClassDependence] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()

    @property
    def labels(self) -> Int64[np.ndarray, "records"]:
        """Classes of the audited records; zeros if the source has none."""
        records = self.design.records
        return (
            np.zeros(len(records), np.int64)
            if self.answers.labels is None
            else self.answers.labels[records]
        )

    @property
    def clusters(self) -> Int64[np.ndarray, "records"] | None:
        """Clusters of the audited records; None if all are independent."""
        given = self.answers.clusters
        return None if given is None else metrics.dense_clusters(given[self.design.records])

    def attacks_of(self, case: Case) -> tuple[Attack, ...]:
        """Return the attacks whose scores differ in this case from those in others."""
        if case == self._standalone_case(case.variant):
            return self.attacks
        if case.recalibrated:
            return tuple(
                attack
                for attack in self.by_reference(case)
                if attack.signal in RECALIBRATED_SIGNALS
            )
        return self.by_reference(case)

    def _standalone_case(self, variant: str) -> Case:
        """Return the case of a variant that has the rows of attacks without references: that on its own scale."""
        own_scale = scale_of_files(self.answers, self.quantized) == "temperature"
        if variant == QUANTIZED and own_scale and QUANTIZED_BY_MATCHED in self.cases:
            return QUANTIZED_BY_MATCHED
        return Case(variant, "fp32")

    def by_reference(self, case: Case) -> tuple[Attack, ...]:
        """Return the attacks with references that are run in this case."""
        attacks = tuple(attack for attack in self.attacks if attack.uses_references)
        if not case.recalibrated:
            return attacks
        return tuple(attack for attack in attacks if attack.signal in RECALIBRATED_SIGNALS)

    def measuring(
        self, variant: str, quantizer: str, reference: str, *, comparisons: int
    ) -> MeasureVariant:
        """Return the step that measures one variant by one kind of reference, with this run's parameters."""
        return MeasureVariant(
            variant,
            quantizer,
            levels=None,
            reference=reference,
            fpr=self.fprs,
            priors=self.priors,
            delta=self.delta,
            comparisons=comparisons,
            seed=self.design.seed,
            standalone=True,
            metrics=self.metrics,
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """The remarks, and a line per reason for which attacks are left out."""
        lines = [
            f"Not run, {reason}: {', '.join(_words(names))}."
            for reason, names in self.unrun.items()
        ]
        return (*self.remarks, *lines)

    @property
    def _doubted(self) -> str:
        """The doubts, for the end of a message: a doubt is often the reason."""
        return f". Doubts about the answers: {' '.join(self.doubts)}" if self.doubts else ""

    def without(self, attack: Attack, reason: str) -> "PreparedAttack":
        """Return the run without an attack that cannot be run on it.

        Raises:
            ConfigError: The attack was named, or no attack is left.
        """
        if self.named:
            raise ConfigError(
                f"--attacks: {attack.name} cannot be run on {self.answers.source}: {reason}{self._doubted}"
            )
        rest = tuple(other for other in self.attacks if other != attack)
        if not rest:
            raise ConfigError(
                f"{self.answers.source}: no attack can be run; the last reason: {reason}{self._doubted}"
            )
        return replace(
            self,
            attacks=rest,
            unrun={**self.unrun, reason: (*self.unrun.get(reason, ()), attack.name)},
        )


def prepare_attack(request: AttackRequest, scratch: Scratch) -> PreparedAttack:
    """Read the description of the answers, and decide which attacks run.

    Args:
        request: The options.
        scratch: Where answers are laid out that cannot be read in place.

    Raises:
        DataError: The files lack an array, or do not fit together.
        ConfigError: A target, an attack, a metric or a number cannot be used.
    """
    # Options first, which need no file.
    names = request.attacks
    attacks = chosen_attacks(
        None if names is None else tuple(name for name in names if name != JOINT)
    )
    fprs = checked_shares("--fpr", request.fprs, "rates")
    priors = checked_shares("--priors", request.priors, "shares")
    delta = checked_delta(request.delta)
    further = checked_metrics(request.metrics)

    # The files, described but not read as a whole.
    answers = read_answers(
        request.scores, scratch, labels=request.labels, clusters=request.clusters
    )
    member = _checked_member(answers)
    quantized = None
    allowed = tuple(range(len(answers.names)))
    if request.quantized is not None:
        quantized = paired(
            answers, read_answers(request.quantized, scratch, labels=request.labels, known=answers)
        )
        allowed = tuple(row for row in allowed if answers.names[row] in quantized.names)
        rows = [answers.row(name) for name in quantized.names]
        refuse_answers(replace(quantized, member=member[rows]))
    refuse_answers(answers)

    # Attacks that apply, and their targets and references.
    attacks, unrun = _fitting(attacks, answers, named=names is not None)
    design = attack_design(
        member,
        chosen_targets(request.targets, answers.names, allowed),
        references=JOINT in (names or ()) or any(attack.uses_references for attack in attacks),
        seed=request.seed,
        source=answers.source,
        labels=answers.labels,
    )
    cases = _cases(answers, quantized, design)
    prepared = PreparedAttack(
        answers=answers,
        quantized=quantized,
        design=design,
        attacks=attacks,
        named=names is not None,
        cases=cases,
        fprs=fprs,
        priors=priors,
        delta=delta,
        metrics=further,
        remarks=design_notes(answers, quantized, design),
        unrun=unrun,
        joint=_joint(names, attacks, cases, answers.source),
        power=request.power,
        by_class=class_dependences(answers, design),
        doubts=doubts_of_files(answers, quantized, design),
    )
    if not design.referenced:
        reason = (
            "for want of reference models (no record has 2 that were trained on it and 2 that were not, besides models "
            "whose training sets tell the target's)"
        )
        for attack in attacks:
            if attack.uses_references:
                prepared = prepared.without(attack, reason)
    for attack in prepared.attacks:
        if attack.fewest_population > answers.population_records:
            prepared = prepared.without(
                attack, _population_reason(answers, attack.fewest_population)
            )
    return prepared


def _checked_member(answers: Answers) -> Bool[np.ndarray, "models records"]:
    """Return the membership; refuse answers without it, and of more models or queries than any run has."""
    if answers.member is None:
        raise DataError(
            f"{answers.source}: member is missing; it says which model was trained on which record"
        )
    sizes = ((len(answers.pool), MOST_MODELS, "models"), (answers.queries, MOST_QUERIES, "queries"))
    for size, limit, subject in sizes:
        reason = why_too_many(size, limit, subject)
        if reason:
            raise DataError(f"{answers.source}: {reason}")
    return answers.member


def _population_reason(answers: Answers, fewest: int) -> str:
    if not answers.population_records:
        return f"for want of population records (an array population_{answers.kind}, or records of no model)"
    return f"for want of population records ({fewest} are needed, there are {answers.population_records})"


def _words(names: tuple[str, ...]) -> list[str]:
    """Names of attacks, with the registry's word in place of all that it stands for."""
    left, words = dict.fromkeys(names), []
    for word, attacks in forms_by_word().items():
        forms = [attack.name for attack in attacks]
        if all(form in left for form in forms):
            words.append(word if len(forms) == 1 else f"{word} ({len(forms)} forms)")
            left = {name: None for name in left if name not in forms}
    return [*words, *left]


def _joint(
    named: tuple[str, ...] | None, attacks: tuple[Attack, ...], cases: tuple[Case, ...], source: str
) -> bool:
    """Whether the joint attack is run: wherever it applies, unless other attacks are named."""
    applies = QUANTIZED_BY_MATCHED in cases
    if named is None or JOINT not in named:
        return applies and named is None
    if not attacks:
        raise ConfigError(
            "--attacks: joint is read beside an attack on each release; name one more, such as lira"
        )
    if not applies:
        raise ConfigError(
            f"--attacks: joint cannot be run on {source}: it needs --quantized with answers of the same models"
        )
    return True


def _fitting(
    attacks: tuple[Attack, ...], answers: Answers, *, named: bool
) -> tuple[tuple[Attack, ...], dict[str, tuple[str, ...]]]:
    """Return the attacks that the answers allow (scores: those on a confidence), and the others by reason."""
    if answers.kind != "scores":
        return attacks, {}
    fitting = tuple(
        attack
        for attack in attacks
        if {attack.signal, *getattr(attack, "further_signals", ())} <= set(RECALIBRATED_SIGNALS)
    )
    others = [attack.name for attack in attacks if attack not in fitting]
    if others and named:
        raise ConfigError(
            f"--attacks: {others[0]} needs logits or probabilities, but {answers.source} holds scores"
        )
    return fitting, {"for want of logits or probabilities": tuple(others)} if others else {}


def _cases(answers: Answers, quantized: Answers | None, design: Design) -> tuple[Case, ...]:
    both = answers.population_records > 1 and design.referenced
    cases = [FULL_BY_FULL]
    if both:
        cases.append(Case(FULL, "recalibrated"))
    if quantized is not None:
        cases.append(Case(QUANTIZED, "fp32"))
        if both and quantized.population_records > 1:
            cases.append(Case(QUANTIZED, "recalibrated"))
        if design.referenced and set(quantized.names) == set(answers.names):
            cases.append(QUANTIZED_BY_MATCHED)
    return (*cases, Case(CONTROL, "fp32"))
