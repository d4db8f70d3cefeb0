"""Reasons to doubt a file of answers, read from the file itself.

A number that its name describes wrongly gives a false figure, at exit code 0. `refused_answers` ends a run if no
reading is right; `doubts_of_files` and `doubts_of_signals` return sentences for the first lines of the report if a
person has to decide. Each rests on a test that ordinary files pass: a threshold of 6 standard errors, or an equality
that does not occur by chance.

| sign | question |
|---|---|
| two models with identical answers | one checkpoint twice? |
| more models than records, and models differ more than records | are the axes swapped? |
| members answer lower than non-members | losses, or `member` inverted? |
| models are right on their own members only by chance | other records' labels, other classes (`label_doubts`)? |
| one model far off all others | another training, another mode (`attacks.outlying_references`)? |
| few distinct confidences, or many at the end of the scale | which rates mean anything (`coarse_answers`)? |

Cost: a sample of every model, and one pass over the confidences.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float64

from bitleak.answers.answer_correspondence import (
    copy_doubts,
    correspondence_doubts,
    sampled_ranks,
    stranger_doubts,
)
from bitleak.answers.answer_signals import AnswerSignals
from bitleak.answers.attack_design import Design
from bitleak.answers.coarse_answers import coarse_confidences
from bitleak.answers.label_doubts import known_labels, label_doubts, prediction_doubts
from bitleak.answers.mixed_answers import (
    same_query_doubts,
    truncation_doubts,
)
from bitleak.answers.model_answers import Answers
from bitleak.answers.refused_answers import (
    FEWEST_SAMPLED_ROWS,
    SAMPLED_RECORDS,
    identical_models,
    sampled_answers,
)
from bitleak.attacks import outlying_doubt, outlying_references
from bitleak.core.types import SIGNALS
from bitleak.report.format import count, listed

DOUBT_SIGMAS = 6.0
"""Standard errors from which a difference is none of chance: one file in a billion."""

_CONFIDENCE = SIGNALS.index("logit_scaled")


def doubts_of_files(answers: Answers, quantized: Answers | None, design: Design) -> tuple[str, ...]:
    """Return sentences on the files alone, before the answers are read as a whole."""
    return (
        *answers.doubts,
        *(() if quantized is None else quantized.doubts),
        *_bounded(answers),
        *_identical(answers, quantized),
        *_few_references(answers, design),
        *_transposed(answers),
        *same_query_doubts(answers, sampled_answers(answers)),
        *truncation_doubts(answers, sampled_answers(answers)),
    )


def doubts_of_signals(
    answers: Answers, signals: AnswerSignals, design: Design, fprs: Sequence[float]
) -> tuple[str, ...]:
    """Return sentences on the confidences of all models.

    Args:
        answers: Answers of all models.
        signals: Signals of these answers, on the audited records.
        design: Membership and targets.
        fprs: Rates that the TPR is reported at.
    """
    confidence, member = signals.pool[_CONFIDENCE], design.member
    sign, ranks = _sign(answers, confidence, member, design), sampled_ranks(confidence)
    return (
        *label_doubts(answers, signals, design),
        *prediction_doubts(signals, answers, design),
        *(sign or correspondence_doubts(confidence, member, signals.names, ranks)),
        *stranger_doubts(confidence, signals.names, known_labels(answers, signals, design), ranks),
        *copy_doubts(
            confidence,
            signals.population[_CONFIDENCE],
            None if answers.clusters is None else answers.clusters[design.records],
        ),
        *coarse_confidences(answers, signals, fprs),
        *_outlying(confidence, signals.names, design),
    )


def _outlying(
    confidence: Float64[np.ndarray, "models records queries"],
    names: Sequence[str],
    design: Design,
) -> tuple[str, ...]:
    """Return a doubt about models that answer far off the others; none if no attack uses references."""
    if not design.referenced:
        return ()
    outlying = outlying_references(list(confidence))
    return outlying_doubt({names[model]: times for model, times in outlying.items()})


def _bounded(answers: Answers) -> list[str]:
    """Return a doubt about logits of which none leaves the range of a sigmoid."""
    shown = sampled_answers(answers) if answers.kind == "logits" else ()
    rows = sum(one.shape[0] * one.shape[1] for one in shown)
    if (
        rows < FEWEST_SAMPLED_ROWS
        or min(float(one.min()) for one in shown) < 0
        or max(float(one.max()) for one in shown) > 1
    ):
        return []
    if all(float(one.max()) == float(one.min()) for one in shown):
        return []
    return [
        "All logits are from 0 to 1: are they outputs of a sigmoid? Their log-odds, log p / (1 - p), are the logits."
    ]


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
                if np.array_equal(_first(quantized, row), _first(answers, answers.row(name)))]  # fmt: skip
        if same:
            found.append(
                f"The quantized answers of {count(len(same), 'model')} (first: {same[0]}) are those at full precision, "
                "number by number: was this file made with the quantized models?"
            )
    return found


def _first(answers: Answers, row: int) -> np.ndarray:
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
    """Return a doubt about members that answer lower than non-members do."""
    # Without contrast in `member` the AUC of each target's confidence stands for the effect.
    effect = effect_of_membership(confidence, member)
    areas = [_area(confidence[row].mean(axis=1), member[row]) for row in design.targets[:8]]
    if effect is None:
        error = [
            np.sqrt((len(own) + 1) / (12.0 * own.sum() * (~own).sum()))
            for own in member[list(design.targets[:8])]
        ]
        effect = float(max((area - 0.5) / sigma for area, sigma in zip(areas, error, strict=True)))
    # As many models as records: the axes may be exchanged.
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
    """Return the effect of membership on the confidence, in standard errors over the records, or None without contrast.

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
    from scipy.stats import rankdata  # here, since it takes long

    inside = int(member.sum())
    ranks = rankdata(scores)[member].sum() - inside * (inside + 1) / 2
    return float(ranks / (inside * (len(member) - inside)))
