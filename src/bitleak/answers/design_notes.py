"""Notes on the design of a run on answers: records left out, targets by name, models that are no references."""

import numpy as np

from bitleak.answers.attack_design import FEWEST_MODELS, Design
from bitleak.answers.model_answers import Answers
from bitleak.report.format import count

FEW_OF_A_SIDE = 20
"""Members or non-members of a target below which a note says that its figures say little."""

LISTED_TARGETS = 20
"""Targets whose names a note holds."""


def design_notes(answers: Answers, quantized: Answers | None, design: Design) -> tuple[str, ...]:
    """Return sentences on records, models and references that do not take part, and on names of targets.

    Args:
        answers: Answers at full precision.
        quantized: Answers of the quantized models, or None.
        design: Targets, references and the records left out.
    """
    notes = []
    # Records with too few models inside or outside, and the models that do not count for them.
    if len(design.left_out):
        first = ", ".join(map(str, answers.numbered(design.left_out[:10])))
        dropped = any(of.twins or of.kin for of in design.serving)
        related = ", those not counted that are no references" if dropped else ""
        notes.append(
            f"{count(len(design.left_out), 'record')} of {answers.records:,} left out, being in, or out of, fewer than "
            f"{FEWEST_MODELS} models{related}: {first}{', ...' if len(design.left_out) > 10 else ''}."
        )
    notes += _few_of_a_side(answers, design)
    # Targets by name, and models that are no references.
    notes += _target_names(answers, design)
    notes += _related(answers, design) if design.referenced else []
    # Cases that the quantized file does not allow.
    if quantized is not None and set(quantized.names) != set(answers.names):
        matched = "; no matched references" if design.referenced else ""
        notes.append(
            f"The quantized file has {len(quantized.names)} of {len(answers.names)} models, and only these are "
            f"attacked{matched}."
        )
    populations = quantized is not None and answers.population and quantized.population
    if quantized is not None and design.referenced and not populations:
        notes.append("No recalibrated references: they need population records in both files.")
    return tuple(notes)


def _few_of_a_side(answers: Answers, design: Design) -> list[str]:
    """Return a sentence on targets with so few members or non-members that their figures say little."""
    inside = design.member[list(design.targets)].sum(axis=1)
    fewer = np.minimum(inside, len(design.records) - inside)
    few = np.flatnonzero(fewer < FEW_OF_A_SIDE)
    if not len(few):
        return []
    place = int(fewer.argmin())
    side = "member" if inside[place] == fewer[place] else "non-member"
    more = (
        f", and {count(len(few) - 1, 'other target')} fewer than {FEW_OF_A_SIDE} of a side"
        if len(few) > 1
        else ""
    )
    return [
        f"Target {answers.names[design.targets[place]]} has {count(int(fewer[place]), side)}{more}: its figures are "
        "little more than chance, as their intervals show."
    ]


def _target_names(answers: Answers, design: Design) -> list[str]:
    """Return a sentence on the models' names of targets, which tables show by their rows; none if these are equal."""
    pairs = [f"{target} is model {answers.names[target]}" for target in design.targets]
    if all(answers.names[target] == str(target) for target in design.targets):
        return []
    more = f", ... ({len(pairs)} targets)" if len(pairs) > LISTED_TARGETS else ""
    return [f"Targets in tables are rows of member: {', '.join(pairs[:LISTED_TARGETS])}{more}."]


def _related(answers: Answers, design: Design) -> list[str]:
    """Return sentences on the models that serve a target for no record, by reason."""
    notes = []
    pairs = list(zip(design.targets, design.serving, strict=True))
    for rows, reason in (
        (
            {target: of.twins for target, of in pairs},
            "they were trained on the target's training set",
        ),
        ({target: of.kin for target, of in pairs}, "their training sets tell the target's"),
    ):
        some = {target: models for target, models in rows.items() if models}
        if some:
            target, models = next(iter(some.items()))
            listed = ", ".join(answers.names[row] for row in models[:5]) + (
                ", ..." if len(models) > 5 else ""
            )
            more = f", and some of {count(len(some) - 1, 'other target')}" if len(some) > 1 else ""
            notes.append(
                f"No references, for {reason}: models {listed} of target {answers.names[target]}{more}."
            )
    return notes
