"""Whether the answers of quantized models are about the models, records and queries of full precision."""

import numpy as np

from bitleak.answers.model_answers import Answers
from bitleak.core.errors import DataError


def paired(answers: Answers, quantized: Answers) -> Answers:
    """Return the quantized answers, if they are about the same models, records and queries.

    Raises:
        DataError: They are not.
    """
    # Names decide which row belongs to which model: files may hold some models, in any order.
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
    for name in ("records", "queries", "classes"):
        ours, theirs = getattr(answers, name), getattr(quantized, name)
        if ours != theirs:
            raise DataError(
                f"{source}: {name} must be as in {answers.source}, {ours}, got {theirs}"
            )
    _check_numbers(answers, quantized)

    # Facts that both sources state must agree; a difference is the sign of answers mixed up.
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
    if quantized.clusters is not None and answers.clusters is None:
        raise DataError(
            f"{source}: clusters are missing in {answers.source}, whose clusters count; write them there too"
        )
    for name in ("labels", "population_labels", "clusters"):
        ours, theirs = getattr(answers, name), getattr(quantized, name)
        if ours is not None and theirs is not None and not np.array_equal(ours, theirs):
            raise DataError(
                f"{source}: {name} differ from those of {answers.source}; the records must be the same"
            )
    return quantized


def _check_numbers(answers: Answers, quantized: Answers) -> None:
    """Refuse answers about records, or queries, of other numbers than those of full precision.

    Numbers are sorted when a file is read, so that equal ones are in the same order. If one source has
    none, records are compared by their order.

    Raises:
        DataError: A number is in one source only; names the first.
    """
    named = (
        ("record", "records", "record"),
        ("population record", "population records", "population"),
    )
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
