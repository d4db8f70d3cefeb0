"""Everything that can be checked of a run on scores before the answers are read."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from bitleak.answers.answer_doubts import early, refuse
from bitleak.answers.answer_files import read
from bitleak.answers.attack_design import FEWEST, Design, chosen_targets, design
from bitleak.answers.class_membership import by_class
from bitleak.answers.model_answers import Answers
from bitleak.answers.target_views import CONTROL, FULL, QUANTIZED, Case
from bitleak.attacks import RECALIBRATED_SIGNALS, Attack, expand, forms_by_word
from bitleak.core.errors import ConfigError, DataError
from bitleak.core.limits import MOST_MODELS, MOST_QUERIES, MOST_RATES, why_too_many
from bitleak.core.spill import Scratch
from bitleak.core.variants import JOINT
from bitleak.metrics import ClassDependence
from bitleak.report.format import count


@dataclass(frozen=True)
class Request:
    """What `bitleak attack` is asked for.

    Attributes:
        scores: File or folder with the answers.
        quantized: The same of the quantized models; None where there is none.
        labels: An `.npy` file with labels.
        targets: Models to attack, with commas between them; None is all.
        attacks: Words or names that `expand` knows, and `joint`; None is all that apply.
        fprs: False-positive rates in (0, 1) at which the TPR is reported.
        seed: Of all that is drawn.
        power: Whether the attacks are also run with fewer references.
    """

    scores: Path
    quantized: Path | None = None
    labels: Path | None = None
    targets: str | None = None
    attacks: tuple[str, ...] | None = None
    fprs: tuple[float, ...] = (0.001, 0.01)
    seed: int = 0
    power: bool = True


@dataclass(frozen=True)
class Prepared:
    """A run whose input is known to fit together.

    Attributes:
        answers: Of the full-precision models.
        quantized: Of the same models, quantized.
        design: Who is attacked with which references.
        attacks: What is run.
        asked: Whether the attacks were named; then one that cannot run is an error, else it is left out.
        cases: Variants and kinds of reference, `fp32` with its own references first.
        fprs: Ascending.
        remarks: What a reader must know: what was left out, and why.
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
    asked: bool
    cases: tuple[Case, ...]
    fprs: tuple[float, ...]
    remarks: tuple[str, ...]
    unrun: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    joint: bool = False
    power: bool = False
    by_class: Mapping[int, ClassDependence] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()

    def attacks_of(self, case: Case) -> tuple[Attack, ...]:
        """The attacks that say something of their own in this case."""
        if case.reference == "fp32":
            return self.attacks
        by_reference = tuple(attack for attack in self.attacks if attack.uses_references)
        if case.reference == "matched":
            return by_reference
        return tuple(attack for attack in by_reference if attack.signal in RECALIBRATED_SIGNALS)

    @property
    def notes(self) -> tuple[str, ...]:
        """The remarks, and a line per reason for which attacks are left out."""
        lines = [f"Not run, {reason}: {', '.join(_words(names))}." for reason, names in self.unrun.items()]
        return (*self.remarks, *lines)

    @property
    def _doubted(self) -> str:
        """The doubts, for the end of a message: what is doubtful is often the reason."""
        return f". Doubts about the answers: {' '.join(self.doubts)}" if self.doubts else ""

    def without(self, attack: Attack, reason: str) -> "Prepared":
        """The same run without an attack that cannot be run on it.

        Raises:
            ConfigError: The attack was asked for by name, or no attack is left.
        """
        if self.asked:
            raise ConfigError(
                f"--attacks: {attack.name} cannot be run on {self.answers.source}: {reason}{self._doubted}"
            )
        rest = tuple(one for one in self.attacks if one != attack)
        if not rest:
            raise ConfigError(f"{self.answers.source}: no attack can be run; the last reason: {reason}{self._doubted}")
        return replace(self, attacks=rest, unrun={**self.unrun, reason: (*self.unrun.get(reason, ()), attack.name)})


def prepare(request: Request, scratch: Scratch) -> Prepared:
    """Reads what describes the answers, and decides what to run.

    Args:
        request: What was asked for.
        scratch: Where answers are laid out that cannot be read in place.

    Raises:
        DataError: The files do not hold what they should, or do not fit together.
        ConfigError: A target, an attack or a rate cannot be used.
    """
    named = request.attacks
    attacks = _attacks(None if named is None else tuple(name for name in named if name != JOINT))
    reason = why_too_many(len(request.fprs), MOST_RATES, "rates")
    if reason:
        raise ConfigError(f"--fpr: {reason}")
    for fpr in request.fprs:
        if not 0 < fpr < 1:
            raise ConfigError(f"--fpr must be numbers between 0 and 1, got {fpr:g}")
    answers = read(request.scores, scratch, labels=request.labels)
    if answers.member is None:
        raise DataError(f"{answers.source}: member is missing; it says which model was trained on which record")
    for count_, limit, subject in (
        (len(answers.pool), MOST_MODELS, "models"),
        (answers.queries, MOST_QUERIES, "queries"),
    ):
        reason = why_too_many(count_, limit, subject)
        if reason:
            raise DataError(f"{answers.source}: {reason}")
    quantized = None
    allowed = tuple(range(len(answers.names)))
    if request.quantized is not None:
        quantized = paired(answers, read(request.quantized, scratch, labels=request.labels, known=answers))
        allowed = tuple(row for row in allowed if answers.names[row] in quantized.names)
    for one in filter(None, (answers, quantized)):
        refuse(one)
    attacks, unrun = _fitting(attacks, answers, asked=request.attacks is not None)
    found = design(
        answers.member,
        chosen_targets(request.targets, answers.names, allowed),
        references=JOINT in (named or ()) or any(attack.uses_references for attack in attacks),
        seed=request.seed,
        source=answers.source,
        labels=answers.labels,
    )
    cases = _cases(answers, quantized, found)
    prepared = Prepared(
        answers=answers,
        quantized=quantized,
        design=found,
        attacks=attacks,
        asked=request.attacks is not None,
        cases=cases,
        fprs=tuple(sorted(set(request.fprs))),
        remarks=_notes(answers, quantized, found),
        unrun=unrun,
        joint=_joint(named, attacks, cases, answers.source),
        power=request.power,
        by_class=by_class(answers, found),
        doubts=early(answers, quantized, found),
    )
    if not found.referenced:
        reason = (
            "for want of reference models (no record has 2 that were trained on it and 2 that were not, besides models "
            "whose training sets tell the target's)"
        )
        for attack in [attack for attack in attacks if attack.uses_references]:
            prepared = prepared.without(attack, reason)
    for attack in [attack for attack in prepared.attacks if attack.fewest_population > answers.population_records]:
        prepared = prepared.without(attack, _population_reason(answers, attack.fewest_population))
    return prepared


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


def _check_numbers(answers: Answers, quantized: Answers) -> None:
    """Refuse answers about records, or queries, of other numbers than those of full precision.

    Numbers are sorted when a file is read, so that equal ones are in the same order. Where one source has
    none, records are compared by their order.

    Raises:
        DataError: A number is in one source only; names the first.
    """
    named = (("record", "records", "record"), ("population record", "population records", "population"))
    for subject, plural, name in (*named, ("query", "queries", "query")):
        ours, theirs = (getattr(source, f"{name}_numbers") for source in (answers, quantized))
        if ours is None or theirs is None or not (len(ours) and len(theirs)):
            continue
        strangers = np.setxor1d(ours, theirs)
        if len(strangers):
            only = answers.source if strangers[0] in ours else quantized.source
            raise DataError(
                f"{quantized.source}: {plural} must be those of {answers.source}; {subject} {strangers[0]} is in "
                f"{only} only"
            )


def paired(answers: Answers, quantized: Answers) -> Answers:
    """The quantized answers, if they are about the same models, records and queries.

    Raises:
        DataError: They are not.
    """
    source = quantized.source
    strangers = [name for name in quantized.names if name not in answers.names]
    if strangers:
        raise DataError(
            f"{source}: model {strangers[0]} is none of {answers.source}; rows are matched by the models' names, of "
            "arrays by their row numbers unless an array `models` names them"
        )
    if "scores" in (answers.kind, quantized.kind) and answers.kind != quantized.kind:
        raise DataError(
            f"{source}: kind must be as in {answers.source}, {answers.kind}, got {quantized.kind}; logits and "
            "probabilities can be compared, scores with scores only"
        )
    for what in ("records", "queries", "classes"):
        ours, theirs = getattr(answers, what), getattr(quantized, what)
        if ours != theirs:
            raise DataError(f"{source}: {what} must be as in {answers.source}, {ours}, got {theirs}")
    _check_numbers(answers, quantized)
    rows = [answers.row(name) for name in quantized.names]
    if quantized.member is not None and answers.member is not None:
        differs = (quantized.member != answers.member[rows]).any(axis=1)
        if differs.any():
            name = quantized.names[int(differs.argmax())]
            raise DataError(f"{source}: member of model {name} differs from {answers.source}; a quantized model has "
                            "the training set of the model it was made from")  # fmt: skip
    if quantized.population and answers.population_records not in (0, quantized.population_records):
        raise DataError(
            f"{source}: the population must be that of {answers.source}, {answers.population_records} records, got "
            f"{quantized.population_records}"
        )
    for what in ("labels", "population_labels"):
        ours, theirs = getattr(answers, what), getattr(quantized, what)
        if ours is not None and theirs is not None and not np.array_equal(ours, theirs):
            raise DataError(f"{source}: {what} differ from those of {answers.source}; the records must be the same")
    return quantized


def _attacks(names: tuple[str, ...] | None) -> tuple[Attack, ...]:
    try:
        found = [attack for name in (forms_by_word() if names is None else names) for attack in expand(name)]
    except ValueError as error:
        raise ConfigError(f"--attacks: {error}") from None
    return tuple(dict.fromkeys(found))


def _joint(named: tuple[str, ...] | None, attacks: tuple[Attack, ...], cases: tuple[Case, ...], source: str) -> bool:
    """Whether the joint attack is run: wherever it applies, unless other attacks are named."""
    applies = Case(QUANTIZED, "matched") in cases
    if named is None or JOINT not in named:
        return applies and named is None
    if not attacks:
        raise ConfigError("--attacks: joint is read beside an attack on each release; name one more, such as lira")
    if not applies:
        raise ConfigError(
            f"--attacks: joint cannot be run on {source}: it needs --quantized with answers of the same models"
        )
    return True


def _fitting(
    attacks: tuple[Attack, ...], answers: Answers, *, asked: bool
) -> tuple[tuple[Attack, ...], dict[str, tuple[str, ...]]]:
    """Of ready scores, only the attacks on what follows from a confidence; the others by reason."""
    if answers.kind != "scores":
        return attacks, {}
    fitting = tuple(attack for attack in attacks if attack.signal in RECALIBRATED_SIGNALS)
    others = [attack.name for attack in attacks if attack not in fitting]
    if others and asked:
        raise ConfigError(f"--attacks: {others[0]} needs logits or probabilities, but {answers.source} holds scores")
    return fitting, {"for want of logits or probabilities": tuple(others)} if others else {}


def _cases(answers: Answers, quantized: Answers | None, found: Design) -> tuple[Case, ...]:
    both = answers.population_records > 1 and found.referenced
    cases = [Case(FULL, "fp32")]
    if both:
        cases.append(Case(FULL, "recalibrated"))
    if quantized is not None:
        cases.append(Case(QUANTIZED, "fp32"))
        if both and quantized.population_records > 1:
            cases.append(Case(QUANTIZED, "recalibrated"))
        if found.referenced and set(quantized.names) == set(answers.names):
            cases.append(Case(QUANTIZED, "matched"))
    return (*cases, Case(CONTROL, "fp32"))


def _notes(answers: Answers, quantized: Answers | None, found: Design) -> tuple[str, ...]:
    notes = []
    if len(found.left_out):
        numbers = np.arange(answers.records) if answers.record_numbers is None else answers.record_numbers
        first = ", ".join(str(record) for record in numbers[found.left_out[:10]])
        dropped = any(of.twins or of.kin for of in found.serving)
        related = ", those not counted that are no references" if dropped else ""
        notes.append(
            f"{count(len(found.left_out), 'record')} of {answers.records:,} left out, being in, or out of, fewer than "
            f"{FEWEST} models{related}: {first}{', ...' if len(found.left_out) > 10 else ''}."
        )
    notes += _related(answers, found) if found.referenced else []
    if quantized is not None and set(quantized.names) != set(answers.names):
        matched = "; no matched references" if found.referenced else ""
        notes.append(
            f"The quantized file has {len(quantized.names)} of {len(answers.names)} models, and only these are "
            f"attacked{matched}."
        )
    populations = quantized is not None and answers.population and quantized.population
    if quantized is not None and found.referenced and not populations:
        notes.append("No recalibrated references: they need population records in both files.")
    return tuple(notes)


def _related(answers: Answers, found: Design) -> list[str]:
    """Models that serve a target for no record, by reason."""
    notes = []
    pairs = list(zip(found.targets, found.serving, strict=True))
    for rows, reason in (
        ({target: of.twins for target, of in pairs}, "they were trained on the target's training set"),
        ({target: of.kin for target, of in pairs}, "their training sets tell the target's"),
    ):
        some = {target: models for target, models in rows.items() if models}
        if some:
            target, models = next(iter(some.items()))
            listed = ", ".join(answers.names[row] for row in models[:5]) + (", ..." if len(models) > 5 else "")
            more = f", and some of {count(len(some) - 1, 'other target')}" if len(some) > 1 else ""
            notes.append(f"No references, for {reason}: models {listed} of target {answers.names[target]}{more}.")
    return notes
