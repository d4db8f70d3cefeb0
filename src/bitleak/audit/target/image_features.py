"""Features of records that no model has a part in: for a blind guess at membership.

| features | of images | of tables |
|---|---|---|
| label | yes | yes |
| mean, deviation, skewness and kurtosis per channel | yes | |
| sharpness: mean absolute difference of neighbours, and of the Laplacian | yes | |
| 32 principal components, of pixels averaged to at most 16x16 | yes | of standardised columns |
| size and format of the file as stored | if known | |
| place in the file | if known | if known |

Cost: a pass over the pixels, and a singular value decomposition of at most `FITTED` records.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from bitleak.data.stored_files import StoredFiles

COMPONENTS = 32
"""Principal components."""

FITTED = 2000
"""Records that the principal components are computed from."""

SIDE = 16
"""Height and width that images are averaged to for their principal components."""

_BLOCK = 256
"""Records whose pixels are handled at a time, few enough for a processor's cache."""


@dataclass(frozen=True)
class Features:
    """Features of the evaluated records.

    Attributes:
        numbers: One row per record.
        names: Name of every column.
        labels: Classes, which a classifier takes as a category.
        brighter: Change of every feature if all pixels become brighter by one deviation of the
            records' brightness; of tables, if the first component grows by one deviation.
        groups: Names of the groups of features, for the report.
    """

    numbers: Float32[np.ndarray, "records features"]
    names: tuple[str, ...]
    labels: Int64[np.ndarray, "records"]
    brighter: Float32[np.ndarray, "features"]
    groups: tuple[str, ...] = field(default=())


def features_of(
    images: Any,
    labels: Int64[np.ndarray, "all"],
    chosen: Int64[np.ndarray, "records"],
    stored: StoredFiles,
    seed: int,
) -> Features:
    """Return the features of the chosen records.

    Args:
        images: All records: `records channels height width`, or `records features`.
        labels: Class of every record.
        chosen: Numbers of the records, ascending.
        stored: Facts on all records.
        seed: Seed for the choice of records that the principal components are computed from.
    """
    parts: dict[str, list[np.ndarray]] = {}
    groups = ["label"]
    small = []
    for start in range(0, len(chosen), _BLOCK):
        block = _plain(images[chosen[start : start + _BLOCK]])
        if block.ndim == 4:
            for name, values in _moments(block).items():
                parts.setdefault(name, []).append(values)
        small.append(_small(block))
    columns = {name: np.concatenate(values) for name, values in parts.items()}
    if columns:
        groups += ["moments per channel", "sharpness"]
    components, per_unit = _components(np.concatenate(small), seed)
    for place in range(components.shape[1]):
        columns[f"component {place}"] = components[:, place]
    groups.append(f"{components.shape[1]} principal components")
    brighter = _brighter(columns, per_unit)

    # Facts on the files.
    if stored.sizes is not None:
        columns["size"] = np.log1p(stored.sizes[chosen])
        groups.append("size of the file")
    if stored.formats is not None:
        known = np.unique(stored.formats)
        for kind in known[: len(known) - 1]:
            columns[f"format {kind}"] = stored.formats[chosen] == kind
        groups.append("format of the file")
    if stored.order is not None:
        columns["order"] = stored.order[chosen]
        groups.append("order in the file")
    numbers = np.stack(list(columns.values()), axis=1).astype(np.float32)
    moved = np.array([brighter.get(name, 0.0) for name in columns], np.float32)
    return Features(numbers, tuple(columns), labels[chosen], moved, tuple(groups))


def _plain(values: Any) -> np.ndarray:
    return np.asarray(values.numpy() if hasattr(values, "numpy") else values)


def _moments(images: np.ndarray) -> dict[str, np.ndarray]:
    """Return moments per channel, and sharpness of the mean over channels."""
    pixels = images.astype(np.float32)
    flat = pixels.reshape(*pixels.shape[:2], -1)
    mean = flat.mean(axis=2)
    centred = flat - mean[..., None]
    squares = centred * centred
    deviation = np.sqrt(squares.mean(axis=2))
    floored, count = np.maximum(deviation, 1e-6), flat.shape[2]
    # Sums of products, without arrays of cubes and of fourth powers.
    skewness = np.einsum("rcp,rcp->rc", squares, centred) / count / floored**3
    kurtosis = np.einsum("rcp,rcp->rc", squares, squares) / count / floored**4
    moments = {}
    for channel in range(flat.shape[1]):
        moments[f"mean {channel}"] = mean[:, channel]
        moments[f"deviation {channel}"] = deviation[:, channel]
        moments[f"skewness {channel}"] = skewness[:, channel]
        moments[f"kurtosis {channel}"] = kurtosis[:, channel]
    grey = pixels.mean(axis=1)
    across, down = np.diff(grey, axis=2), np.diff(grey, axis=1)
    moments["gradient"] = np.abs(across).mean(axis=(1, 2)) + np.abs(down).mean(axis=(1, 2))
    if min(grey.shape[1:]) > 2:
        bends = np.diff(across, axis=2)[:, 1:-1] + np.diff(down, axis=1)[:, :, 1:-1]
        moments["sharpness"] = np.abs(bends).mean(axis=(1, 2))
    return moments


def _small(block: np.ndarray) -> np.ndarray:
    """Return the records as rows; images averaged to about `SIDE` pixels per side."""
    if block.ndim != 4:
        return block.reshape(len(block), -1).astype(np.float32)
    records, channels, height, width = block.shape
    step = max(1, min(height, width) // SIDE)
    rows, columns = height // step, width // step
    cut = block[:, :, : rows * step, : columns * step].astype(np.float32)
    # Sums of every `step`-th pixel are faster than a mean over two axes of tiles.
    total = np.zeros((records, channels, rows, columns), np.float32)
    for down in range(step):
        for across in range(step):
            total += cut[:, :, down::step, across::step]
    return (total / step**2).reshape(records, -1)


def _components(rows: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first principal components, of columns with deviation 1 each.

    Returns:
        The components, and their change if every column grows by 1.
    """
    from sklearn.decomposition import PCA

    fitted = np.random.default_rng(seed).permutation(len(rows))[:FITTED]
    centre, deviation = rows[fitted].mean(axis=0), rows[fitted].std(axis=0)
    deviation = np.where(deviation > 0, deviation, 1)
    standard = (rows - centre) / deviation
    count = min(COMPONENTS, *rows[fitted].shape)
    solver = "randomized" if count < min(rows[fitted].shape) else "full"
    decomposed = PCA(count, svd_solver=solver, random_state=0).fit(standard[fitted])
    components = (standard - decomposed.mean_) @ decomposed.components_.T
    return components, decomposed.components_ @ (1 / deviation)


def _brighter(columns: dict[str, np.ndarray], per_unit: np.ndarray) -> dict[str, float]:
    """Return the change of the features that a larger brightness changes, by one deviation of it."""
    means = [values for name, values in columns.items() if name.startswith("mean ")]
    if not means:
        return {"component 0": float(columns["component 0"].std())}
    deviation = float(np.mean(means, axis=0).std())
    changes = {f"mean {channel}": deviation for channel in range(len(means))}
    for place, change in enumerate(per_unit):
        changes[f"component {place}"] = deviation * float(change)
    return changes
