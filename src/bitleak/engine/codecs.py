"""Core types <-> artifacts: the stored form of each type, which comes back bit for bit.

| type | artifacts |
|---|---|
| `Images` | `pixels`, `labels`, `held_out` |
| `Splits` | `member`, `indices` (all others, by field) |
| `Weights` | `tensors` |
| `QuantizedWeights` | `codes`, `scale`, `zero_point` (by layer), `rest` |
| `NetworkFile` | `content` |
| `Outputs` | `signals`, `population_signals`, `test_predictions`; `logits`, `population_logits` if kept |

and for each of them `about`, JSON that names the type and holds everything but arrays. Images and
signals are single arrays, so that the store can map them instead of reading them. Weights of a
network from outside have its `fingerprint` too. Artifacts without an `about` that names a type are
a plain dict of arrays and JSON values.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

import numpy as np

from bitleak.core.checks import unknown_name
from bitleak.core.damage import reason
from bitleak.core.errors import StoreError
from bitleak.core.types import (
    Images,
    ModelSpec,
    NetworkFile,
    Outputs,
    QuantizedLayer,
    QuantizedWeights,
    Splits,
    Weights,
)
from bitleak.engine.artifacts import Artifact

Value = (
    Images | Splits | Weights | QuantizedWeights | NetworkFile | Outputs | Mapping[str, Artifact]
)

LARGEST_SPEC = 1 << 20
"""Largest number of classes, channels and pixels per side of a network that is read."""

_INDICES = ("pool", "targets", "calibration", "population", "test")


def encode(value: Value) -> dict[str, Artifact]:
    """Return the artifacts that a value is stored as; a mapping is one already.

    Example:
        >>> encode(Weights(tensors={"bias": np.zeros(2)}))["about"]
        {'kind': 'weights', 'names': ['bias'], 'spec': None}
    """
    for kind, (known, write, _) in _CODECS.items():
        if isinstance(value, known):
            artifacts = write(value)
            return {**artifacts, "about": {"kind": kind, **artifacts["about"]}}
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"expected a core type or a mapping of artifacts, got {type(value).__name__}")


def decode(kind: str | None, artifacts: Mapping[str, Artifact]) -> Any:
    """Return the value that was given to `encode`.

    Args:
        kind: `images`, `splits`, `weights`, `quantized_weights`, `outputs`; None = a plain dict.
        artifacts: Result of `encode`; other artifacts of the stage are left out.

    Raises:
        StoreError: The kind is not known, or an artifact of it is missing or of another type.
    """
    if kind is None:
        return dict(artifacts)
    if kind not in _CODECS:
        raise StoreError(
            f"{unknown_name('kind of artifacts', kind, _CODECS)}. Was the store made by a newer bitleak?"
        )
    try:
        return _CODECS[kind][2](artifacts)
    except KeyError as error:
        raise StoreError(
            f"artifacts of kind {kind!r} must hold {error}, got {', '.join(sorted(artifacts))}"
        ) from error
    except (TypeError, ValueError, AttributeError, LookupError) as error:  # JSON of another form
        raise StoreError(
            f"artifacts of kind {kind!r} are not of the form that they are written in ({reason(error)})"
        ) from error


def decoded(artifacts: Mapping[str, Artifact]) -> Any:
    """Return the value that was given to `encode`, by the kind that it noted.

    Raises:
        StoreError: As in `decode`.
    """
    return decode(kind_of(artifacts), artifacts)


def kind_of(artifacts: Mapping[str, Artifact]) -> str | None:
    """Return the kind that `encode` noted; None for a plain dict."""
    facts = artifacts.get("about")
    kind = facts.get("kind") if isinstance(facts, Mapping) else None
    return kind if kind is None or isinstance(kind, str) else str(kind)[:60]


def encode_spec(spec: ModelSpec | None) -> dict[str, Any] | None:
    """Return a network's specification as JSON, e.g. for a stage's parameters."""
    return (
        None if spec is None else {**asdict(spec), "mean": list(spec.mean), "std": list(spec.std)}
    )


def decode_spec(value: Mapping[str, Any] | None) -> ModelSpec | None:
    """Return the specification given to `encode_spec`; tuples inside `options` become lists.

    Raises:
        ValueError, TypeError: It is of another form.
    """
    if value is None:
        return None
    _check_spec(value)
    return ModelSpec(**{**value, "mean": tuple(value["mean"]), "std": tuple(value["std"])})


def _check_spec(value: Any) -> None:
    """Refuse JSON that is no specification of a network."""
    names = [field.name for field in fields(ModelSpec)]
    if not isinstance(value, Mapping) or set(value) != set(names):
        raise ValueError(f"a network's spec must hold {', '.join(names)}")
    if not isinstance(value["name"], str) or not isinstance(value["options"], Mapping):
        raise ValueError("a network's spec must have a name and options by name")
    # A network for tables has the size 0, since rows are not images.
    for name, least in (("classes", 1), ("channels", 1), ("size", 0)):
        if type(value[name]) is not int or not least <= value[name] <= LARGEST_SPEC:
            raise ValueError(
                f"a network's {name} must be an integer from {least} to {LARGEST_SPEC}, got {str(value[name])[:60]}"
            )
    for name in ("mean", "std"):
        numbers = value[name]
        if not isinstance(numbers, list | tuple) or not all(
            type(number) in (int, float) and math.isfinite(number) for number in numbers
        ):
            raise ValueError(f"a network's {name} must be finite numbers, got {str(numbers)[:60]}")


def _write_images(value: Images) -> dict[str, Artifact]:
    arrays = {"pixels": value.pixels, "labels": value.labels, "held_out": value.held_out}
    # Images have no columns, and are stored as they were before there were tables.
    columns = {"columns": list(value.columns)} if value.columns else {}
    return {**arrays, "about": {"class_names": list(value.class_names), **columns}}


def _read_images(artifacts: Mapping[str, Artifact]) -> Images:
    arrays = {name: artifacts[name] for name in ("pixels", "labels", "held_out")}
    facts = artifacts["about"]
    return Images(
        **arrays,
        class_names=tuple(facts["class_names"]),
        columns=tuple(facts.get("columns", ())),
    )


def _write_splits(value: Splits) -> dict[str, Artifact]:
    indices = {name: getattr(value, name) for name in _INDICES}
    return {"member": value.member, "indices": indices, "about": {"mode": value.mode}}


def _read_splits(artifacts: Mapping[str, Artifact]) -> Splits:
    indices = {name: artifacts["indices"][name] for name in _INDICES}
    return Splits(mode=artifacts["about"]["mode"], member=artifacts["member"], **indices)


def _write_weights(value: Weights) -> dict[str, Artifact]:
    facts: dict[str, Any] = {"names": list(value.tensors), "spec": encode_spec(value.spec)}
    # Weights of a training have no record, and are stored as they were before tools had one.
    if value.record:
        facts["record"] = value.record
    return {"tensors": dict(value.tensors), **_write_fingerprint(value), "about": facts}


def _read_weights(artifacts: Mapping[str, Artifact]) -> Weights:
    facts = artifacts["about"]
    _check_tensors(artifacts["tensors"])
    tensors = _ordered(artifacts["tensors"], facts["names"])
    record = facts.get("record", {})
    if not isinstance(record, Mapping):
        raise ValueError("the record of weights must be facts by name")
    return Weights(tensors, decode_spec(facts["spec"]), _read_fingerprint(artifacts), record)


def _write_fingerprint(value: Weights | QuantizedWeights) -> dict[str, Artifact]:
    return {} if value.fingerprint is None else {"fingerprint": value.fingerprint}


def _read_fingerprint(artifacts: Mapping[str, Artifact]) -> np.ndarray | None:
    """Return the fingerprint of weights; None for networks of the registry."""
    stored = artifacts.get("fingerprint")
    if stored is None:
        return None
    if not isinstance(stored, np.ndarray) or stored.dtype != np.float32 or stored.ndim != 2:
        raise ValueError("a fingerprint must be a float32 array of images and classes")
    return stored


def _write_quantized(value: QuantizedWeights) -> dict[str, Artifact]:
    parts: dict[str, Artifact] = {}
    for part in _GRID:
        parts[part] = {name: getattr(layer, part) for name, layer in value.layers.items()}
    facts = {
        "levels": [[name, layer.levels] for name, layer in value.layers.items()],
        "names": list(value.rest),
        "spec": encode_spec(value.spec),
        "record": value.record,
    }
    return {**parts, "rest": dict(value.rest), **_write_fingerprint(value), "about": facts}


def _read_quantized(artifacts: Mapping[str, Artifact]) -> QuantizedWeights:
    facts = artifacts["about"]
    layers: dict[str, QuantizedLayer] = {}
    for name, levels in facts["levels"]:
        codes, scale, zero_point = (artifacts[part][name] for part in _GRID)
        layers[name] = QuantizedLayer(codes, scale, zero_point, levels)
        _check_layer(name, layers[name])
    _check_tensors(artifacts["rest"])
    if not isinstance(facts["record"], Mapping) or not all(
        isinstance(layer_facts, Mapping) for layer_facts in facts["record"].values()
    ):
        raise ValueError("its record must be facts by name of the layer")
    rest = _ordered(artifacts["rest"], facts["names"])
    spec, mark = decode_spec(facts["spec"]), _read_fingerprint(artifacts)
    return QuantizedWeights(layers, rest, spec, facts["record"], mark)


def _check_layer(name: str, layer: QuantizedLayer) -> None:
    """Refuse codes and grids that do not stand for a weight."""
    codes, grids = layer.codes, (layer.scale, layer.zero_point)
    if type(layer.levels) is not int or not 2 <= layer.levels <= 256:
        raise ValueError(
            f"levels of layer {name!r} must be an integer from 2 to 256, got {str(layer.levels)[:60]}"
        )
    if codes.dtype != np.uint8 or codes.ndim < 1 or (codes.size and codes.max() >= layer.levels):
        raise ValueError(
            f"codes of layer {name!r} must be uint8 from 0 to {layer.levels - 1}, got {codes.dtype}"
        )
    for part, grid in zip(("scale", "zero_point"), grids, strict=True):
        if (
            grid.dtype != np.float32
            or grid.shape not in ((1,), codes.shape[:1])
            or not np.isfinite(grid).all()
        ):
            raise ValueError(
                f"{part} of layer {name!r} must be finite float32, one or one per channel, got {grid.shape}"
            )


def _check_tensors(tensors: Any) -> None:
    if not isinstance(tensors, Mapping) or not all(
        isinstance(array, np.ndarray) for array in tensors.values()
    ):
        raise ValueError("tensors must be arrays by name")


def _write_file(value: NetworkFile) -> dict[str, Artifact]:
    facts = {name: getattr(value, name) for name in _FILE_FACTS}
    return {"content": value.content, "about": {**facts, "spec": encode_spec(value.spec)}}


def _read_file(artifacts: Mapping[str, Artifact]) -> NetworkFile:
    facts, content = artifacts["about"], artifacts["content"]
    if not isinstance(content, np.ndarray) or content.dtype != np.uint8 or content.ndim != 1:
        raise ValueError("the content of a network's file must be bytes")
    spec = decode_spec(facts["spec"])
    if spec is None or not all(isinstance(facts[name], Mapping) for name in ("options", "record")):
        raise ValueError("a network's file must have a spec, options and a record")
    return NetworkFile(content, spec=spec, **{name: facts[name] for name in _FILE_FACTS})


def _write_outputs(value: Outputs) -> dict[str, Artifact]:
    arrays: dict[str, Artifact] = {name: getattr(value, name) for name in _ANSWERS}
    for name in _LOGITS:
        logits = getattr(value, name)
        if logits is not None:
            arrays[name] = logits
    return {**arrays, "about": {}}


def _read_outputs(artifacts: Mapping[str, Artifact]) -> Outputs:
    arrays = {name: artifacts[name] for name in _ANSWERS}
    return Outputs(**arrays, **{name: artifacts[name] for name in _LOGITS if name in artifacts})


def _ordered(arrays: Mapping[str, np.ndarray], names: list[str]) -> dict[str, np.ndarray]:
    return {name: arrays[name] for name in names}


_GRID = ("codes", "scale", "zero_point")
_ANSWERS = ("signals", "population_signals", "test_predictions")
_LOGITS = ("logits", "population_logits")
_FILE_FACTS = ("runtime", "options", "size", "digest", "record")
_CODECS: dict[str, tuple[type, Any, Any]] = {
    "images": (Images, _write_images, _read_images),
    "splits": (Splits, _write_splits, _read_splits),
    "weights": (Weights, _write_weights, _read_weights),
    "quantized_weights": (QuantizedWeights, _write_quantized, _read_quantized),
    "network_file": (NetworkFile, _write_file, _read_file),
    "outputs": (Outputs, _write_outputs, _read_outputs),
}
