"""Evaluate a model on every record: the only place where a
network meets the records it is audited on.

Evaluation mode and float32, always. Every model is evaluated under the same fixed list of augmentations, so
that the target and its references see the same images. The signals are computed in float64 from the
float32 logits, by the exact forms of `bitleak.core.signals`.

Records are read and taken to the device once for all queries; augmentation and standardisation
happen there. The answers stay there as well until a part is through, so that no batch waits for the
one before.

Cost: one forward pass per record and query.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import nn

from bitleak.core.signals import signals
from bitleak.core.types import Images, Kept, ModelSpec, Outputs, Splits
from bitleak.data.augment import Standard, apply_query
from bitleak.models.layout import evaluation_format
from bitleak.models.precision import exact_float32


def outputs(
    network: nn.Module,
    images: Images,
    splits: Splits,
    *,
    spec: ModelSpec,
    queries: Sequence[str],
    batch: int = 64,
    test: bool = True,
    keep: Kept = "signals",
    device: torch.device | str = "cpu",
    on_step: Callable[[float], None] | None = None,
) -> Outputs:
    """Evaluate the network on the pool, the population and the test records.

    Args:
        network: Any network from standardised images to logits; used in evaluation mode.
        images: The data set.
        splits: Which records are which.
        spec: The standardisation of the network's input.
        queries: Names of the fixed augmentations; the first must be `identity`.
        batch: Images per forward pass. Changes the last bits of the logits.
        test: Whether the test records are evaluated; if not, `test_predictions` is empty.
        keep: Whether the logits of the pool and the population are a part of the result too.
        device: Where to run.
        on_step: Called with the fraction done.

    Raises:
        ValueError: The first query is not `identity`, or a logit is not finite.
    """
    if not queries or queries[0] != "identity":
        raise ValueError(f"the first query must be 'identity', got {list(queries)[:1]}")
    parts = {
        "pool": splits.pool,
        "population": splits.population,
        "test": splits.test if test else splits.test[:0],
    }
    part_queries = {"pool": tuple(queries), "population": tuple(queries), "test": ("identity",)}
    total = sum(len(records) * len(part_queries[part]) for part, records in parts.items())
    done = 0
    logits_by_part: dict[str, list[np.ndarray]] = {}

    def count(images_done: int) -> None:
        nonlocal done
        done += images_done
        if on_step is not None:
            on_step(done / total)

    # Every part under its own queries; the test records as they are.
    for part, records in parts.items():
        logits_by_part[part] = answers(
            network,
            images,
            records,
            spec=spec,
            queries=part_queries[part],
            batch=batch,
            device=device,
            on_batch=count,
        )

    def signals_of(part: str) -> np.ndarray:
        labels = images.labels[parts[part]]
        return np.stack([signals(logits, labels) for logits in logits_by_part[part]], axis=1)

    def kept_logits(part: str) -> np.ndarray | None:
        if keep == "signals":
            return None
        return np.stack(logits_by_part[part], axis=1).astype(np.float32)

    return Outputs(
        signals=signals_of("pool"),
        population_signals=signals_of("population"),
        test_predictions=logits_by_part["test"][0].argmax(axis=1).astype(np.int64),
        logits=kept_logits("pool"),
        population_logits=kept_logits("population"),
    )


def logits(
    network: nn.Module,
    images: Images,
    records: Int64[np.ndarray, "records"],
    *,
    spec: ModelSpec,
    batch: int = 64,
    device: torch.device | str = "cpu",
) -> Float64[np.ndarray, "records classes"]:
    """The network's float32 logits of the images as they are, widened to float64.

    Raises:
        ValueError: A logit is not finite.
    """
    return answers(
        network, images, records, spec=spec, queries=("identity",), batch=batch, device=device
    )[0]


def answers(
    network: nn.Module,
    images: Images,
    records: Int64[np.ndarray, "records"],
    *,
    spec: ModelSpec,
    queries: Sequence[str],
    batch: int,
    device: torch.device | str,
    on_batch: Callable[[int], None] | None = None,
) -> list[Float64[np.ndarray, "records classes"]]:
    """The network's float32 logits under each augmentation, widened to float64.

    Args:
        network: From standardised images to logits.
        images: The data set.
        records: Indices of the records to evaluate.
        spec: The standardisation of the network's input.
        queries: Names of the fixed augmentations.
        batch: Images per forward pass.
        device: Where to run.
        on_batch: Called after each batch with the images that the network has seen.

    Raises:
        ModelError: An external network answers otherwise the second time, or depending on the
            batch.
        ValueError: A logit is not finite.
    """
    # In its own order of memory, which decides whether a `view` works.
    network = network.to(device).eval()
    layout = evaluation_format(network, spec, device)
    network = network.to(memory_format=layout)  # type: ignore[call-overload]
    standard = Standard.on(device, spec.mean, spec.std, layout)
    parts: list[list[torch.Tensor]] = [
        [torch.empty(0, spec.classes, device=device)] for _ in queries
    ]

    # Each batch goes to the device once, for all queries.
    with torch.inference_mode(), exact_float32():
        for start in range(0, len(records), batch):
            pixels = torch.from_numpy(images.pixels[records[start : start + batch]]).to(device)
            for part, query in zip(parts, queries, strict=True):
                part.append(network(standard(apply_query(pixels, query))).float())
            if on_batch is not None:
                on_batch(len(pixels) * len(queries))
        logits_by_query = [torch.cat(part).cpu().double().numpy() for part in parts]
    for query_logits in logits_by_query:
        if not np.isfinite(query_logits).all():
            bad = int((~np.isfinite(query_logits)).any(axis=1).sum())
            raise ValueError(f"the network's logits are not finite for {bad} records")
    return logits_by_query
