"""A network and records that were handed over in Python, as a config for the tasks of tiers 1 and 2.

The tasks run one after the other in this process, since no other one knows the arrays and the
factory. Their results are kept in a store under digests of both: a later call with the same arrays,
factory and recipe goes on from there.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bitleak.audit.target.input_spelling import InputSpelling
from bitleak.audit.target.network_answers import Records
from bitleak.audit.target.reference_networks import Make
from bitleak.audit.target.release_models import quantizer_place
from bitleak.audit.target.tabular_model import OnStep
from bitleak.config import Config, validate
from bitleak.config.fields import plain_values
from bitleak.core.errors import ConfigError
from bitleak.core.leftovers import temporary_folder
from bitleak.core.types import Images
from bitleak.data import held_records
from bitleak.engine.execution import Event
from bitleak.engine.store import Store
from bitleak.models import given_network
from bitleak.train.recipe import Recipe

_BATCH = 4096
"""Records that are brought to the network's input at a time."""


@dataclass(frozen=True)
class GivenData:
    """Records as the tasks of a store read them.

    Attributes:
        name: The data set, a name for configs.
        digest: Digest of the records.
        records: These records, with the spelling that is left to the networks.
        shape: Shape of an input whose numbers are stored as a row; None if images are stored.
    """

    name: str
    digest: str
    records: Records
    shape: tuple[int, ...] | None


def given_data(records: Records) -> GivenData:
    """Keep the records for this process: square images of 8 bits as they are, others as rows of inputs.

    Raises:
        ConfigError: A query changes images, and the records are numbers that are taken as they are.
    """
    images = records.images
    classes = tuple(map(str, range(records.classes)))
    nobody = np.zeros(len(records.labels), bool)
    if _are_pixels(images):
        pixels = images.cpu().numpy() if isinstance(images, Tensor) else images
        if records.spelling.channels == "bgr":
            pixels = pixels[:, ::-1]
        if records.spelling.layout == "transposed":
            pixels = pixels.swapaxes(-1, -2)
        pixels = np.ascontiguousarray(pixels)
        held = held_records.hold_records(Images(pixels, records.labels, classes, nobody))
        spelling = replace(records.spelling, channels="rgb", layout="upright")
        turned = replace(records, images=pixels, spelling=spelling)
        return GivenData(f"{held_records.__name__}:GivenImages", held, turned, None)
    if records.queries != ("identity",):
        raise ConfigError(
            f"queries: tiers 1 and 2 change square images of 8-bit pixels alone, got {', '.join(records.queries)} for "
            f"{images.dtype} of shape {tuple(images.shape)}"
        )
    # Other records are stored as the network takes them, flat; `taking_rows` folds them back.
    parts = []
    for start in range(0, len(records.labels), _BATCH):
        chosen = np.arange(start, min(start + _BATCH, len(records.labels)))
        parts.append(records.inputs(chosen, "identity").flatten(1).numpy())
    rows = np.concatenate(parts)
    if not np.isfinite(rows).all():
        raise ConfigError("images: tiers 1 and 2 need finite numbers, got NaN or infinite ones")
    held = held_records.hold_records(Images(rows, records.labels, classes, nobody))
    plain = replace(records, images=rows, spelling=InputSpelling())
    name = f"{held_records.__name__}:GivenRows"
    return GivenData(name, held, plain, tuple(int(size) for size in images.shape[1:]))


def given_config(
    data: GivenData,
    make: Make,
    recipe: Recipe,
    *,
    fprs: Sequence[float],
    seed: int,
    sections: Mapping[str, Any],
) -> Config:
    """Return a config that names the records and the factory of this process.

    Args:
        data: The records.
        make: Returns an untrained network.
        recipe: How it is trained.
        fprs: False positive rates.
        seed: Root of all draws.
        sections: Further sections.

    Raises:
        ConfigError: The recipe augments records that are no images.
    """
    if data.shape is not None and recipe.augment:
        names = ", ".join(recipe.augment)
        raise ConfigError(
            f"recipe.augment: tiers 1 and 2 augment square images of 8-bit pixels alone, got {names} for other "
            "records; pass augment=()"
        )

    # Rows are stored flat, and the network takes its own shape.
    def made() -> nn.Module:
        network = make()
        rows = data.shape is not None and len(data.shape) > 1
        return given_network.taking_rows(network, data.shape or ()) if rows else network

    return validate(
        {
            "data": {"name": data.name, "digest": data.digest},
            "model": {"name": "external", "factory": given_network.hold_network(made)},
            "train": plain_values(asdict(recipe)),
            "query": {"augment": list(data.records.queries), "batch": data.records.batch},
            "fpr": list(fprs),
            "seed": seed,
            **sections,
        }
    )


def saved_weights(network: nn.Module, folder: Path, name: str) -> str:
    """Write a network's tensors into a file that `LoadTarget` reads, and return its path."""
    path = folder / f"{name}.pt"
    tensors = {key: tensor.detach().cpu() for key, tensor in network.state_dict().items()}
    torch.save(tensors, path)
    return str(path)


def quantizer_entry(quantizer: Any) -> dict[str, Any]:
    """Return a quantizer as the entry of a config.

    Raises:
        ConfigError: It is none of this package, and of no module.
    """
    place = quantizer_place(quantizer)
    if place is None:
        raise ConfigError(
            "releases: tier 2 takes weights, networks, and quantizers whose class is a dataclass in a module, got "
            f"{type(quantizer).__qualname__}"
        )
    values = {}
    for item in fields(quantizer):
        value = getattr(quantizer, item.name)
        # None is a value of its own where it is no default.
        if value is not None or item.default is not None:
            values[item.name] = value
    filled = {key: value for key, value in plain_values(values).items() if value != {}}
    return {"name": place, **filled}


@contextmanager
def opened_store(store: str | Path | None) -> Iterator[Store]:
    """Yield the store at a place, or one that is removed at the end."""
    if store is not None:
        yield Store(store)
        return
    with temporary_folder("bitleak-store-") as folder:
        yield Store(folder)


def device_of(model: Any) -> str:
    """Return the type of a network's device, which its references are trained on too."""
    parameters = model.parameters() if isinstance(model, nn.Module) else ()
    return next((tensor.device.type for tensor in parameters), "cpu")


def task_progress(on_step: OnStep, stage: str) -> Any:
    """Return a receiver of the engine's events that shows the share of finished tasks."""

    def show(event: Event) -> None:
        if event.total:
            running = event.fraction if event.kind == "progress" else 0.0
            on_step(min(1.0, (event.done + running) / event.total), stage)

    return show


def _are_pixels(images: np.ndarray | Tensor) -> bool:
    if images.ndim != 4 or not str(images.dtype).endswith("uint8"):
        return False
    return images.shape[1] in (1, 3) and images.shape[2] == images.shape[3]
