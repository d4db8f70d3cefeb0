"""References whose answers lie far off those of the others.

LiRA's pooled deviations are root mean squares over all records and references, and its means are plain
means, as in the published code. One reference whose confidences are a hundred times as large, such as a
diverged one or one evaluated in another mode, then takes an AUC of 0.74 to 0.50 (docs/attacks.md). With

    d_m = root mean square over records of f_mr - median over models of f_r

model m is outlying if d_m exceeds `OUTLYING` times the median of all d. Membership moves f by a few
deviations on some records, for all models alike, so that models of one training have d within a factor
of about 2. Cost: a median over the models on at most `SAMPLED` records.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float64

OUTLYING = 5.0
"""Distance from the others, in that of the usual model, from which a reference is named."""

SAMPLED = 2000
"""Records that are looked at."""

FEWEST_MODELS = 5
"""Models below which it is open which of them is off."""


def outlying_references(
    confidences: Sequence[Float64[np.ndarray, "records queries"]],
) -> dict[int, float]:
    """Return the models that answer far off the others, with their distance in that of the usual model.

    Args:
        confidences: Logit-scaled confidences of every model; finite.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> confidences = [rng.normal(size=(100, 1)) for _ in range(8)]
        >>> confidences[2] *= 40
        >>> {model: round(distance) for model, distance in outlying_references(confidences).items()}
        {2: 47}
    """
    if len(confidences) < FEWEST_MODELS or not len(confidences[0]):
        return {}
    records = len(confidences[0])
    chosen = np.unique(np.linspace(0, records - 1, SAMPLED).astype(np.int64))
    answers = np.stack([confidence[chosen, 0] for confidence in confidences])
    distances = np.sqrt(((answers - np.median(answers, axis=0)) ** 2).mean(axis=1))  # (models,)
    usual = float(np.median(distances))
    if usual == 0:
        return {}
    outlying = {}
    for model in np.flatnonzero(distances > OUTLYING * usual).tolist():
        outlying[model] = float(distances[model] / usual)
    return outlying


def outlying_doubt(outlying: Mapping[str, float], variant: str = "") -> tuple[str, ...]:
    """Return a sentence that names the models, or nothing if there are none.

    Args:
        outlying: Distance by the model's name.
        variant: Variant in which they answer so; empty if there is one alone.
    """
    if not outlying:
        return ()
    names = ", ".join(f"{name} ({distance:.0f} times)" for name, distance in outlying.items())
    where = f" at {variant}" if variant else ""
    models, trained = "Models", "Were they trained and evaluated as the others?"
    if len(outlying) == 1:
        models, trained = "Model", "Was it trained and evaluated as the others?"
    return (
        f"{models} {names}: confidences{where} that many times as far from those of the other models as is usual. As "
        "references of others they move the means and pooled deviations of LiRA, which then finds less than there is. "
        f"{trained}",
    )
