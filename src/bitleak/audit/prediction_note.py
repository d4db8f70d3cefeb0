"""A sentence on references whose quantized answers were predicted, for the report."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from bitleak.audit.preparation import Prepared
from bitleak.engine.store import Store
from bitleak.steps.attack_targets import AttackScores

KIND = re.compile(r"matched-(\d+)")
"""Name in tables of references of which only some are quantized."""


def audit_prediction_notes(prepared: Prepared, store: Store) -> tuple[str, ...]:
    """Return a sentence for each number of quantized references; none without such adversaries."""
    predictions: dict[str, dict[str, Mapping[str, Any]]] = {}
    for (variant, kind), key in prepared.plan.scores.items():
        if KIND.fullmatch(kind):
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
    count = kind.removeprefix("matched-")
    return (
        f"Of the {kind} references {count} are quantized as the target is; the others' quantized answers "
        f"are predicted from full precision. Per variant, the correlation within records and the "
        f"number of references per side that all are worth ({'; '.join(texts)}), the smaller of IN and "
        "OUT. Differences are from full precision attacked by that many references. The strongest pair "
        "is not chosen among these adversaries."
    )
