"""Reasons to doubt a file of answers, read from the file itself.

A number that is not what its name says gives a figure that is not true, at exit code 0. `refuse_answers` ends a run
if no reading is right; `doubts_of_files` and `doubts_of_signals` return sentences for the first lines of the report if
a person has to decide. Each rests on a test that ordinary files pass: a threshold of 6 standard errors, or an equality
that does not occur by chance.

| sign | question |
|---|---|
| rows of `logits` are from 0 to 1 and sum to 1 | refused: probabilities |
| two models with identical answers | one checkpoint twice; refused if their training sets differ |
| more models than records, and models differ more than records | are the axes swapped? |
| members answer lower than non-members | losses, or `member` inverted? |
| models are right on their own members as often as by chance | labels of other records, other classes? |
| few distinct confidences, or many at the end of the scale | which rates mean anything? |

Cost: a sample of every model, and one pass over the confidences.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float64
from scipy.stats import rankdata

from bitleak.answers.answer_correspondence import (
    copy_doubts,
    membership_doubts,
    sampled_ranks,
    stranger_doubts,
)
from bitleak.answers.answer_signals import SUM_TOLERANCE, AnswerSignals
from bitleak.answers.attack_design import Design
from bitleak.answers.label_confusion import Confusion, confusion_of, renaming_sentence
from bitleak.answers.mixed_answers import (
    refuse_some_probabilities,
    same_query_doubts,
    scale_doubts,
    truncation_doubts,
)
from bitleak.answers.model_answers import Answers
from bitleak.core.errors import DataError
from bitleak.core.probability_resolution import resolution_of
from bitleak.core.types import SIGNALS
from bitleak.report.format import count, listed

SAMPLED_RECORDS = 256
"""Records of every model that are looked at before the answers are read."""

FEWEST_ROWS = 10
"""Rows that it takes to say what all rows are."""

DOUBT_SIGMAS = 6.0
"""Standard errors from which a difference is none of chance: one file in a billion."""

DISTINCT = 256
"""Confidences of at most this many values, each of them of `REPEATED` records on average, are few."""

REPEATED = 4

REPEATED_RECORDS = 1 << 12
"""Records at which an answer that is repeated is looked for."""

ROUNDING = 1e-6
"""Share of the range of confidences within which two are equal up to the rounding of float32."""

_CONFIDENCE = SIGNALS.index("logit_scaled")


def refuse_answers(answers: Answers) -> None:
    """End a run on answers of which no reading is right.

    Raises:
        DataError: `logits` hold probabilities or negative log-probabilities, or two models with different training
            sets have identical answers.
    """
    if answers.kind == "logits":
        _refuse_probabilities(answers)
        refuse_some_probabilities(answers, _sampled(answers))
    if answers.member is not None:
        for first, second in identical_models(answers):
            if (answers.member[first] != answers.member[second]).any():
                raise DataError(
                    f"{answers.source}: models {answers.names[first]} and {answers.names[second]} have identical "
                    "answers but different rows of member; one checkpoint was evaluated twice, or a row of member is "
                    "of another model"
                )


def _refuse_probabilities(answers: Answers) -> None:
    shown = _sampled(answers)
    rows = np.concatenate(shown).astype(np.float64).reshape(-1, answers.classes)
    if len(rows) < FEWEST_ROWS or not np.isfinite(rows).all() or (rows < 0).any():
        return
    if (rows <= 1 + SUM_TOLERANCE).all():
        step = resolution_of(shown).step
        tolerance = min(SUM_TOLERANCE + answers.classes * step / 2, 0.2)
        if (np.abs(rows.sum(axis=1) - 1) <= tolerance).all():
            raise DataError(
                f"{answers.source}: logits are from 0 to 1 and sum to 1 in every row, so they are probabilities; name "
                "the array probabilities"
            )
    if (np.abs(np.logaddexp.reduce(-rows, axis=1)) <= SUM_TOLERANCE).all():
        raise DataError(
            f"{answers.source}: logits are negative log-probabilities in every row; change their sign, and they are "
            "logits"
        )


def identical_models(answers: Answers) -> list[tuple[int, int]]:
    """Pairs of models with identical answers about all records; a model has at most one pair as the second."""
    first: dict[bytes, int] = {}
    found = []
    for row, sample in enumerate(_sampled(answers)):
        # models that answer with a class alone may well agree
        if len(np.unique(sample)) <= 16:
            continue
        other = first.setdefault(sample.tobytes(), row)
        if other != row and np.array_equal(answers.pool[other], answers.pool[row]):
            found.append((other, row))
    return found


def doubts_of_files(answers: Answers, quantized: Answers | None, design: Design) -> tuple[str, ...]:
    """Sentences on what can be seen before the answers are read as a whole."""
    return (
        *answers.doubts,
        *(() if quantized is None else quantized.doubts),
        *_bounded(answers),
        *_identical(answers, quantized),
        *_few_references(answers, design),
        *_transposed(answers),
        *same_query_doubts(answers, _sampled(answers)),
        *truncation_doubts(answers, _sampled(answers)),
    )


def doubts_of_signals(
    answers: Answers, signals: AnswerSignals, design: Design, fprs: Sequence[float]
) -> tuple[str, ...]:
    """Sentences on what the confidences of all models show.

    Args:
        answers: What was read.
        signals: Of these answers, on the audited records.
        design: Membership and targets.
        fprs: Rates that the TPR is reported at.
    """
    confidence, member = signals.pool[_CONFIDENCE], design.member
    sign, ranks = _sign(answers, confidence, member, design), sampled_ranks(confidence)
    return (
        *_labels(answers, signals, design),
        *_predicted_labels(signals, answers, design),
        *(sign or membership_doubts(confidence, member, signals.names, ranks)),
        *stranger_doubts(confidence, signals.names, _knowing(answers, signals, design), ranks),
        *copy_doubts(
            confidence,
            signals.population[_CONFIDENCE],
            None if answers.clusters is None else answers.clusters[design.records],
        ),
        *coarse_confidences(answers, signals, fprs),
    )


def coarse_confidences(
    answers: Answers, signals: AnswerSignals, fprs: Sequence[float]
) -> tuple[str, ...]:
    """Sentences on confidences that cannot be told apart, of full-precision or quantized models."""
    confidence = signals.pool[_CONFIDENCE]
    rows = [answers.names.index(name) for name in signals.names]
    return (
        *_near_twins(answers, confidence, rows),
        *scale_doubts(answers, confidence),
        *_values(answers, confidence),
        *_repeated(answers, confidence),
        *_ties(answers, signals, confidence, min(fprs)),
    )


def _bounded(answers: Answers) -> list[str]:
    """Logits of which none leaves the range of a sigmoid."""
    shown = _sampled(answers) if answers.kind == "logits" else ()
    rows = sum(one.shape[0] * one.shape[1] for one in shown)
    if (
        rows < FEWEST_ROWS
        or min(float(one.min()) for one in shown) < 0
        or max(float(one.max()) for one in shown) > 1
    ):
        return []
    if all(float(one.max()) == float(one.min()) for one in shown):
        return []
    return [
        "All logits are from 0 to 1: are they outputs of a sigmoid? Their log-odds, log p / (1 - p), are the logits."
    ]


def _sampled(answers: Answers) -> tuple[np.ndarray, ...]:
    at = np.unique(np.linspace(0, answers.records - 1, SAMPLED_RECORDS).astype(np.int64))
    return tuple(np.ascontiguousarray(one[at]) for one in answers.pool)


def _identical(answers: Answers, quantized: Answers | None) -> list[str]:
    found = []
    pairs = identical_models(answers)
    if pairs:
        names = listed(
            [f"{answers.names[one]} and {answers.names[other]}" for one, other in pairs[:5]]
        )
        found.append(
            f"Models with identical answers: {names}{', ...' if len(pairs) > 5 else ''}. One checkpoint was evaluated "
            "twice; a copy of the target is no reference of it, and counts twice among those of others. Leave one out."
        )
    if quantized is not None and quantized.kind == answers.kind:
        same = [name for row, name in enumerate(quantized.names)
                if np.array_equal(_sampled_of(quantized, row), _sampled_of(answers, answers.row(name)))]  # fmt: skip
        if same:
            found.append(
                f"The quantized answers of {count(len(same), 'model')} (first: {same[0]}) are those at full precision, "
                "number by number: was this file made with the quantized models?"
            )
    return found


def _sampled_of(answers: Answers, row: int) -> np.ndarray:
    return np.ascontiguousarray(answers.pool[row][:SAMPLED_RECORDS])


def _few_references(answers: Answers, design: Design) -> list[str]:
    if not design.referenced:
        return []
    inside = design.member.sum(axis=0)
    smaller = np.minimum(inside, len(design.member) - inside)
    usual, fewest = int(np.median(smaller)) - 1, design.per_side()
    if fewest > 2 and fewest > usual / 2:
        return []
    record = answers.numbered(design.records[smaller.argmin() :][:1])[0]
    return [
        f"Only {count(fewest, 'reference')} per side for each record, of {count(len(design.member), 'model')}: record "
        f"{record} decides it, which is in {inside[smaller.argmin()]} of them, and half of the records could have "
        f"{usual}. Few references make a weak attack, and figures that are too low."
    ]


def _transposed(answers: Answers) -> list[str]:
    """Records differ far more than models do: in how hard they are."""
    models, records = len(answers.pool), answers.records
    if answers.kind != "scores" or models <= records:
        return []
    rows = np.unique(np.linspace(0, models - 1, 512).astype(np.int64))
    values = np.stack([np.asarray(answers.pool[row][:512, 0], np.float64) for row in rows])
    if not np.isfinite(values).all() or values.shape[1] < 3:
        return []
    by_row, by_column = values.mean(axis=1), values.mean(axis=0)
    noise = (values - by_row[:, None] - by_column + values.mean()).var()
    of_rows, of_columns = (
        by_row.var() - noise / values.shape[1],
        by_column.var() - noise / values.shape[0],
    )
    if of_rows <= 4 * max(of_columns, 0) or of_rows < noise / values.shape[1]:
        return []
    return [
        f"There are more models ({models}) than records ({records}), and the models differ more than the records do: "
        "the axes are [models records]; are they swapped?"
    ]


def _sign(
    answers: Answers,
    confidence: Float64[np.ndarray, "models records queries"],
    member: Bool[np.ndarray, "models records"],
    design: Design,
) -> list[str]:
    """Members that answer lower than non-members do."""
    effect = effect_of_membership(confidence, member)
    areas = [_area(confidence[row].mean(axis=1), member[row]) for row in design.targets[:8]]
    if effect is None:
        error = [
            np.sqrt((len(own) + 1) / (12.0 * own.sum() * (~own).sum()))
            for own in member[list(design.targets[:8])]
        ]
        effect = float(max((area - 0.5) / sigma for area, sigma in zip(areas, error, strict=True)))
    square = member.shape[0] == member.shape[1] and not np.array_equal(member, member.T)
    if square and effect < DOUBT_SIGMAS:
        other = effect_of_membership(confidence, np.ascontiguousarray(member.T))
        if other is not None and other > DOUBT_SIGMAS:
            return [
                "The answers do not depend on member, but on its transpose: its axes are [models records]."
            ]
    if effect > -DOUBT_SIGMAS:
        return []
    losses = "are these losses, which are lower for members (negate them)" if answers.kind == "scores" else (
        "are the signs of the logits right"
    )  # fmt: skip
    return [
        f"Members have lower confidences than non-members (AUC of the confidence itself {np.mean(areas):.3f}, clearly "
        f"below 0.5): {losses}, or does member mark the records that were left out?"
    ]


def effect_of_membership(
    confidence: Float64[np.ndarray, "models records queries"],
    member: Bool[np.ndarray, "models records"],
) -> float | None:
    """The effect of membership on the confidence, in standard errors over the records; None if it has no contrast.

    The coefficient of f = model + record + effect x member, by least squares: member is centred in rows and columns.
    """
    share = member.astype(np.float64)
    share += share.mean() - share.mean(axis=0) - share.mean(axis=1, keepdims=True)
    if (share**2).mean() < 1e-6:
        return None
    moved = np.zeros(member.shape[1])
    for row, one in enumerate(confidence):
        values = one.mean(axis=1)
        moved += share[row] * (values - values.mean())
    spread = float(moved.std()) * np.sqrt(len(moved))
    return float(moved.sum() / spread) if spread > 0 else None


def _area(scores: Float64[np.ndarray, "records"], member: Bool[np.ndarray, "records"]) -> float:
    inside = int(member.sum())
    ranks = rankdata(scores)[member].sum() - inside * (inside + 1) / 2
    return float(ranks / (inside * (len(member) - inside)))


def _labels(answers: Answers, signals: AnswerSignals, design: Design) -> list[str]:
    """Models that do not know the labels of what they were trained on."""
    labels = answers.labels
    if answers.kind == "scores" or labels is None:
        return []
    asked = labels[design.records]
    right, inside = np.zeros(answers.classes), np.zeros(answers.classes)
    for row, own in enumerate(design.member):
        right += np.bincount(asked[own], signals.correct[row, own], answers.classes)
        inside += np.bincount(asked[own], minlength=answers.classes)
    accuracy, occurring = right.sum() / max(1.0, inside.sum()), inside > 0
    if (right[occurring] >= 0.5 * inside[occurring]).all():
        return _population_labels(answers, signals, accuracy)
    confusion = confusion_of(answers, design)
    chance = confusion.chance
    if len(asked) >= 50 and not knows(accuracy, chance, len(asked)):
        return [
            f"The models are right on {accuracy:.1%} of their own members at the first query, by chance on "
            f"{chance:.1%}: labels count from 0, in the order of the classes of the answers and of the records; do "
            f"they here?{_renaming(confusion)}"
        ]
    swapped = confusion.cycle()
    if swapped:
        return [
            f"Records with the labels {listed([str(one) for one in swapped])} are taken for one another in turn by "
            "models trained on them: are these classes in another order in the labels than in the answers?"
        ]
    return _population_labels(answers, signals, accuracy)


def _predicted_labels(signals: AnswerSignals, answers: Answers, design: Design) -> list[str]:
    """A model that is right on all that it was not trained on, where the others are not."""
    if answers.kind == "scores" or len(signals.names) < 2:
        return []
    right = signals.correct
    outside = (~design.member).sum(axis=1)
    share = np.array(
        [
            row[~own].mean() if (~own).any() else 0
            for row, own in zip(right, design.member, strict=True)
        ]
    )
    doubts = []
    for row in np.flatnonzero((share == 1) & (right.min(axis=1) == 1)):
        best = float(np.delete(share, row).max())
        # The chance that a model as good as the best of the others makes no mistake.
        if outside[row] * np.log(max(best, 1e-12)) < -20:
            doubts.append(
                f"Model {signals.names[row]} is right on all {outside[row]} records that it was not trained on, the "
                f"others on at most {best:.1%}: are the labels its predictions, or were its mistakes left out?"
            )
    return doubts


def _renaming(confusion: Confusion) -> str:
    sentence = renaming_sentence(confusion)
    return f" {sentence}" if sentence else ""


def _population_labels(answers: Answers, signals: AnswerSignals, known: float) -> list[str]:
    labels = answers.population_labels
    if labels is None or len(labels) < 50 or not answers.population:
        return []
    share = np.bincount(labels, minlength=answers.classes) / len(labels)
    chance = float((share**2).sum())
    accuracy = float(signals.population_correct.mean())
    if knows(accuracy, chance, len(labels)) or not (known - chance) > 0.5 * (1 - chance):
        return []
    return [
        f"The models are right on {known:.1%} of their own members but on {accuracy:.1%} of the population, by chance "
        f"on {chance:.1%}: are the population_labels those of these records?"
    ]


def _knowing(
    answers: Answers, signals: AnswerSignals, design: Design
) -> Bool[np.ndarray, "models"] | None:
    """Return whether each model knows the labels of its own members; None for scores."""
    if answers.kind == "scores" or answers.labels is None:
        return None
    labels = answers.labels[design.records]
    share = np.bincount(labels, minlength=answers.classes) / len(labels)
    chance = float((share**2).sum())
    known: list[bool] = []
    for right, own in zip(signals.correct, design.member, strict=True):
        known.append(bool(own.any()) and knows(float(right[own].mean()), chance, int(own.sum())))
    return np.array(known)


def knows(accuracy: float, chance: float, records: int) -> bool:
    """Whether an accuracy is more than chance: by 4 standard errors, or by a tenth of all that is to be gained."""
    error = np.sqrt(max(chance * (1 - chance), 1e-12) / records)
    return bool(accuracy > chance + 4 * error or accuracy > chance + 0.1 * (1 - chance))


def _near_twins(
    answers: Answers, confidence: Float64[np.ndarray, "models records queries"], rows: list[int]
) -> list[str]:
    """Models that differ a hundred times less than others do, such as one checkpoint evaluated on two machines."""
    at = np.unique(np.linspace(0, confidence.shape[1] - 1, 512).astype(np.int64))
    values = np.stack([one[at, 0] for one in confidence])
    squares = (values**2).sum(axis=1)
    distance = np.maximum(squares[:, None] + squares - 2 * values @ values.T, 0.0)
    pairs = np.triu_indices(len(values), 1)
    if len(pairs[0]) < 3:
        return []
    usual = float(np.median(distance[pairs]))
    near = np.flatnonzero((distance[pairs] < 1e-4 * usual) & (np.ptp(values, axis=1)[pairs[0]] > 0))
    known = set(identical_models(answers)) if len(near) else set()
    left = [(int(pairs[0][one]), int(pairs[1][one])) for one in near]
    left = [pair for pair in left if (rows[pair[0]], rows[pair[1]]) not in known]
    few_valued = len(np.unique(values)) <= 16
    if not left or few_valued:
        return []
    names = listed(
        [f"{answers.names[rows[one]]} and {answers.names[rows[other]]}" for one, other in left[:5]]
    )
    return [
        f"Models whose answers differ a hundred times less than those of others: {names}"
        f"{', ...' if len(left) > 5 else ''}. Is this one checkpoint, evaluated twice? Then leave one out."
    ]


def _values(
    answers: Answers, confidence: Float64[np.ndarray, "models records queries"]
) -> list[str]:
    """Confidences of few values, and scores that are no log-odds."""
    found = []
    shown = np.asarray(confidence[0][:100_000, 0])
    distinct = len(np.unique(shown))
    if distinct <= DISTINCT and len(shown) >= REPEATED * distinct:
        found.append(
            f"{answers.source}: the confidences of model {answers.names[0]} about {count(len(shown), 'record')} have "
            f"{count(distinct, 'distinct value')}: records of one value cannot be told apart, and rates between their "
            "steps are those of a guess."
        )
    if answers.kind == "scores" and len(shown) >= 50 and len(confidence):
        low, high = (
            min(float(one.min()) for one in confidence),
            max(float(one.max()) for one in confidence),
        )
        if low >= 0 and high <= 1:
            found.append(
                "All scores are from 0 to 1: are they probabilities p of the true class? Scores are read as log-odds, "
                "log p / (1 - p)."
            )
        elif high <= 0:
            found.append(
                "No score is above 0: are they log-probabilities log p of the true class? Scores are read as log-odds, "
                "log p / (1 - p)."
            )
    return found


def _repeated(
    answers: Answers, confidence: Float64[np.ndarray, "models records queries"]
) -> list[str]:
    """One answer about many records that is not at an end of the scale, as rows have that were never filled."""
    at = np.unique(np.linspace(0, confidence.shape[1] - 1, REPEATED_RECORDS).astype(np.int64))
    low, high = float(confidence.min()), float(confidence.max())
    margin = ROUNDING * (high - low)  # sums of float32 probabilities differ from 1
    filled, worst = [], 0.0
    for name, values in zip(answers.names, confidence, strict=True):
        for query in np.moveaxis(values[at], 1, 0):
            distinct, times = np.unique(query, return_counts=True)
            if len(distinct) > 1 and len(distinct) <= len(at) / 4 and times.max() < len(at) / 2:
                continue  # few values, which `_values` tells
            usual, most = float(distinct[times.argmax()]), int(times.max())
            if low + margin < usual < high - margin and most >= max(10, len(at) / 100):
                filled.append(name)
                worst = max(worst, most / len(at))
                break
    if not filled:
        return []
    return [
        f"{count(len(filled), 'model')} of {answers.source} give one and the same answer about many records, up to "
        f"{worst:.1%} ({', '.join(filled[:5])}{', ...' if len(filled) > 5 else ''}): were these rows never filled?"
    ]


def _ties(
    answers: Answers,
    signals: AnswerSignals,
    confidence: Float64[np.ndarray, "models records queries"],
    fpr: float,
) -> list[str]:
    """Answers at the end of the scale, which hold the records that leak most."""
    ends, total = np.zeros(2), confidence.size
    low, high = float(confidence.min()), float(confidence.max())
    margin = ROUNDING * (high - low)
    for one in confidence:
        ends += (one <= low + margin).sum(), (one >= high - margin).sum()
    if ends.max() < 10 or ends.max() / total < fpr / 2 or low == high:
        return []
    resolution = signals.resolution
    cause = ""
    if resolution is not None:
        cause = (
            f" The probabilities have the resolution {resolution.name}, {resolution.zeros / resolution.numbers:.1%} of "
            f"them are 0, and 0 is read as {resolution.floor:.2g}."
        )
    return [
        f"{ends[1] / total:.1%} of the answers of {answers.source} share the largest confidence, and "
        f"{ends[0] / total:.1%} the smallest, so that the records there cannot be told apart; figures are lower than "
        f"those of exact answers, TPRs at rates below {ends[1] / total:.1%} most of all.{cause} Save logits."
    ]
