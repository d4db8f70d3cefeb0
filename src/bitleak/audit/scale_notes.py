"""A sentence on the scale on which an audit's answers were compared, for the report."""

from bitleak.audit.preparation import Prepared
from bitleak.core.variants import CONTROL, FULL
from bitleak.engine.store import Store
from bitleak.steps.answer_scale import limit_text
from bitleak.steps.attack_targets import AttackScores

STANDARDISED = (
    "Confidences were standardised by their mean and deviation on the population records, which divides out an affine "
    "map of them. A factor of all logits of a variant, which anybody could divide out, is divided out only with "
    "query: {keep: logits}; without, it may read as a change of leakage."
)


def scale_note(prepared: Prepared, store: Store) -> str:
    """Return the sentence, with the temperature of every variant that has references of its own."""
    if prepared.config.query.keep == "signals":
        return STANDARDISED
    temperatures = []
    for (variant, kind), key in prepared.plan.scores.items():
        has_scale = kind == "matched" or (variant, kind) == (FULL, FULL)
        facts = (
            AttackScores.read(store.read_key(key)).scale if has_scale and variant != CONTROL else {}
        )
        if facts:
            temperatures.append(
                f"{variant}: {facts['temperature']:.4g}{limit_text(facts['limit'])}"
            )
    return (
        "The logits of a variant were divided by a temperature, fitted to the population records "
        f"({', '.join(temperatures)}); targets are on the scale of their references."
    )
