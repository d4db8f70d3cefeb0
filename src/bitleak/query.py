"""Asking a model about every record: the only place where a network meets the records it is audited on.

Evaluation mode and float32, always. Every model is asked the same fixed list of augmentations, so
that the target and its references see the same images. The signals are computed in float64 from the
float32 logits, by the exact forms of `bitleak.core.signals`.

Cost: one forward pass per record and query.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import nn

from bitleak.core.signals import signals
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
