"""Sentences on the scale of an audit's answers, and on references that are off it, for the report."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from bitleak.attacks import outlying_doubt
from bitleak.audit.preparation import Prepared
from bitleak.config import Config
from bitleak.core.variants import CONTROL, FULL, quantized_count
from bitleak.engine.store import Store
from bitleak.steps.answer_scale import limit_text
from bitleak.steps.attack_targets import AttackScores

STANDARDISED = (
    "Confidences were standardised by their mean and deviation on the population records, which divides out an affine "
    "map of them. A factor of all logits of a variant, which anybody could divide out, is divided out only with "
    "query: {keep: logits}; without, it may read as a change of leakage."
)


def audit_scale_note(prepared: Prepared, store: Store) -> str:
    """Return the sentence, with the temperature of every variant that has references of its own."""
    if prepared.config.query.keep == "signals":
        return STANDARDISED
    scales = {}
    for pair, key in prepared.plan.scores.items():
        if has_own_scale(*pair):
            scales[pair[0]] = AttackScores.read(store.read_key(key)).scale
    return temperature_note(scales)


def canary_notes(config: Config) -> tuple[str, ...]:
    """Return a sentence on the records that models were trained on beside those of the tables."""
    if config.canaries is None:
        return ()
    return (
        f"Beside the records of the tables, {config.canaries.records} canaries of the pool had wrong labels, half of "
        "them in the training set of each model. They have rows of their own and are in no other figure, but a model "
        "that learns wrong labels may be a little less accurate for it.",
    )


def outlying_warnings(prepared: Prepared, store: Store) -> tuple[str, ...]:
    """Return a sentence per variant some of whose references answer far off the others."""
    outlying = {}
    for (variant, kind), key in prepared.plan.scores.items():
        if has_own_scale(variant, kind):
            outlying[variant] = AttackScores.read(store.read_key(key)).outlying
    return outlying_sentences(outlying)


def outlying_sentences(outlying: Mapping[str, Mapping[str, float]]) -> tuple[str, ...]:
    """Return a sentence per variant, from the distances of its references by row."""
    sentences: list[str] = []
    for variant, distances in outlying.items():
        sentences += outlying_doubt(distances, variant)
    return tuple(sentences)


def has_own_scale(variant: str, kind: str) -> bool:
    """Whether the references are quantized as the variant is, so that the scale is its own."""
    return variant != CONTROL and (kind == "matched" or (variant, kind) == (FULL, FULL))


def temperature_note(scales: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the sentence from the facts of each variant's scale; empty facts are left out."""
    temperatures = []
    for variant, facts in scales.items():
        if facts:
            limit = limit_text(facts["limit"])
            temperatures.append(f"{variant}: {facts['temperature']:.4g}{limit}")
    return (
        "The logits of a variant were divided by a temperature, fitted to the population records "
        f"({', '.join(temperatures)}); targets are on the scale of their references."
    )


def audit_prediction_notes(prepared: Prepared, store: Store) -> tuple[str, ...]:
    """Return a sentence for each number of quantized references; none without such adversaries."""
    predictions: dict[str, dict[str, Mapping[str, Any]]] = {}
    for (variant, kind), key in prepared.plan.scores.items():
        if quantized_count(kind):
            scores = AttackScores.read(store.read_key(key))
            predictions.setdefault(kind, {})[variant] = scores.prediction
    return tuple(prediction_note(kind, facts) for kind, facts in predictions.items())


def prediction_note(kind: str, predictions: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the sentence from the correlations and effective numbers of each variant.

    Args:
        kind: Kind of the references, such as `matched-16`.
        predictions: `AttackScores.prediction` by variant.
    """
    texts = []
    for variant, facts in predictions.items():
        correlation = [float(np.mean(values)) for values in facts["correlation"].values()]
        effective = [float(np.mean(values)) for values in facts["effective"].values()]
        texts.append(f"{variant}: {min(correlation):.2f}, {min(effective):.1f}")
    return (
        f"Of the {kind} references {quantized_count(kind)} are quantized as the target is; the others' "
        f"quantized answers are predicted from full precision. Per variant, the correlation within records and the "
        f"number of references per side that all are worth ({'; '.join(texts)}), the smaller of IN and "
        "OUT. Differences are from full precision attacked by that many references, also where the "
        "strongest pair has these."
    )
