"""Asking a model about every record: the only place where a network meets the records it is audited on.

Evaluation mode and float32, always. Every model is asked the same fixed list of augmentations, so
that the target and its references see the same images. The signals are computed in float64 from the
float32 logits, by the exact forms: the logit-scaled confidence is z_y - logsumexp(z_others), which
neither saturates nor ties where log(p / (1 - p)) from a rounded p would (paper.md's "exact score").

Cost: one forward pass per record and query.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import nn

from bitleak.core.types import Images, ModelSpec, Outputs, Splits
from bitleak.data.augment import apply_query, standardize
from bitleak.models.precision import exact_float32


def outputs(
    network: nn.Module,
    images: Images,
    splits: Splits,
    *,
    spec: ModelSpec,
    queries: Sequence[str],
    batch: int = 64,
    device: torch.device | str = "cpu",
    on_step: Callable[[float], None] | None = None,
) -> Outputs:
    """What the network answers about the pool, the population and the test records.

    Args:
        network: Any network from standardised images to logits; used in evaluation mode.
        images: The data set.
        splits: Which records are which.
        spec: The standardisation of the network's input.
        queries: Names of the fixed augmentations; the first must be `identity`.
        batch: Images per forward pass. Changes the last bits of the logits.
        device: Where to run.
        on_step: Called with the fraction done.

    Raises:
        ValueError: The first query is not `identity`, or a logit is not finite.
    """
    if not queries or queries[0] != "identity":
        raise ValueError(f"the first query must be 'identity', got {list(queries)[:1]}")
    passes = [("pool", splits.pool, name) for name in queries]
    passes += [("population", splits.population, name) for name in queries]
    found: dict[str, list[np.ndarray]] = {"pool": [], "population": []}
    for done, (part, records, query) in enumerate(passes):
        answers = logits(network, images, records, spec=spec, query=query, batch=batch, device=device)
        found[part].append(signals(answers, images.labels[records]))
        if on_step is not None:
            on_step((done + 1) / (len(passes) + 1))
    test = logits(network, images, splits.test, spec=spec, query="identity", batch=batch, device=device)
    return Outputs(
        signals=np.stack(found["pool"], axis=1),
        population_signals=np.stack(found["population"], axis=1),
        test_predictions=test.argmax(axis=1).astype(np.int64),
    )


def logits(
    network: nn.Module,
    images: Images,
    records: Int64[np.ndarray, "records"],
    *,
    spec: ModelSpec,
    query: str = "identity",
    batch: int = 64,
    device: torch.device | str = "cpu",
) -> Float64[np.ndarray, "records classes"]:
    """The network's float32 logits under one augmentation, widened to float64.

    Raises:
        ValueError: A logit is not finite.
    """
    network = network.to(device).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    parts = []
    with torch.inference_mode(), exact_float32():
        for start in range(0, len(records), batch):
            pixels = torch.from_numpy(images.pixels[records[start : start + batch]]).to(device)
            inputs = standardize(apply_query(pixels, query), spec.mean, spec.std)
            parts.append(network(inputs.contiguous(memory_format=torch.channels_last)).float().cpu())
    found = torch.cat(parts).double().numpy() if parts else np.zeros((0, spec.classes))
    if not np.isfinite(found).all():
        raise ValueError(f"the network's logits are not finite for {int((~np.isfinite(found)).any(1).sum())} records")
    return found


def signals(
    logits: Float[np.ndarray, "records classes"], labels: Int64[np.ndarray, "records"]
) -> Float64[np.ndarray, "records signals"]:
    """`SIGNALS` of each record, in their order, in float64.

    Args:
        logits: Finite, any float type; at least 2 classes.
        labels: True classes.

    Example:
        >>> signals(np.array([[300.0, 0.0]]), np.array([0]))[0, :3].tolist()
        [-5.148200222412013e-131, 300.0, 300.0]
    """
    z = np.asarray(logits, dtype=np.float64)
    rows = np.arange(len(z))
    confidence = logit_scaled(z, labels)
    others = z.copy()
    others[rows, labels] = -np.inf
    predicted = z.argmax(axis=1)
    largest = logit_scaled(z, predicted)
    # the subtraction is exact enough but for the one class whose p may round to 1; so is log1p below
    log_p = z - np.logaddexp.reduce(z, axis=1, keepdims=True)
    log_p[rows, predicted] = -np.logaddexp(0.0, -largest)
    log_rest = np.log1p(-np.minimum(np.exp(log_p), 0.75))
    log_rest[rows, predicted] = -np.logaddexp(0.0, largest)
    terms = np.exp(log_p) * log_rest
    terms[rows, labels] = 0.0
    log_probability = -np.logaddexp(0.0, -confidence)
    not_true = np.exp(-np.logaddexp(0.0, confidence))
    return np.stack(
        [
            log_probability,
            confidence,
            z[rows, labels] - others.max(axis=1),
            -(np.exp(log_p) * log_p).sum(axis=1),
            -not_true * log_probability - terms.sum(axis=1),
            (predicted == labels).astype(np.float64),
        ],
        axis=1,
    )


def logit_scaled(
    logits: Float64[np.ndarray, "records classes"], classes: Int64[np.ndarray, "records"]
) -> Float64[np.ndarray, "records"]:
    """z_c - logsumexp of the other logits: log p_c / (1 - p_c), without forming p."""
    rows = np.arange(len(logits))
    others = logits.copy()
    others[rows, classes] = -np.inf
    return logits[rows, classes] - np.logaddexp.reduce(others, axis=1)
