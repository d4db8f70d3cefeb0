from dataclasses import fields, is_dataclass

import numpy as np
import pytest

from bitleak.core.errors import StoreError
from bitleak.core.types import (
    Images,
    ModelSpec,
    Outputs,
    QuantizedLayer,
    QuantizedWeights,
    Splits,
    Weights,
)
from bitleak.engine.codecs import decode, decode_spec, decoded, encode, encode_spec
from bitleak.engine.keys import Task
from bitleak.engine.store import Store

RNG = np.random.default_rng(0)
SPEC = ModelSpec(
    "cnn", {"width": 8, "name": None}, 10, 3, 32, (0.1, 1 / 3, 0.3), (0.25, 0.25, 0.26)
)
TENSORS = {
    "stem.weight": RNG.normal(size=(4, 3, 3, 3)).astype(np.float32),
    "batch_norm.num_batches_tracked": np.array(12),
    "a.bias": np.array([np.nan, -0.0, np.inf], np.float32),
}
LAYERS = {
    "z.last": QuantizedLayer(
        RNG.integers(0, 3, (4, 5)).astype(np.uint8),
        np.ones(4, np.float32),
        np.ones(4, np.float32),
        3,
    ),
    "a.first": QuantizedLayer(
        RNG.integers(0, 255, (2, 1, 3, 3)).astype(np.uint8),
        np.ones(1, np.float32),
        np.zeros(1, np.float32),
        256,
    ),
}
VALUES = [
    Images(
        RNG.integers(0, 255, (700, 3, 32, 32)).astype(np.uint8),
        np.arange(700) % 2,
        ("cat", "dög"),
        np.arange(700) > 500,
    ),
    Splits(
        "population",
        np.arange(6),
        RNG.random((4, 6)) > 0.5,
        np.array([0, 2]),
        *(np.arange(n) for n in (3, 0, 1)),
    ),
    Weights(TENSORS, SPEC),
    Weights({}, None),
    QuantizedWeights(LAYERS, TENSORS, SPEC, {"z.last": {"relative_error": 0.1, "damping": None}}),
    QuantizedWeights({}, {}, None),
    Outputs(RNG.normal(size=(5, 2, 6)), RNG.normal(size=(3, 2, 6)), np.array([1, 0, 3])),
    Outputs(
        RNG.normal(size=(5, 2, 6)),
        RNG.normal(size=(3, 2, 6)),
        np.array([1, 0, 3]),
        RNG.normal(size=(5, 2, 4)).astype(np.float32),
        RNG.normal(size=(3, 2, 4)).astype(np.float32),
    ),
]


def same(left, right):
    """Equal in every bit, type and order of names."""
    if is_dataclass(left):
        return type(left) is type(right) and all(
            same(getattr(left, field.name), getattr(right, field.name)) for field in fields(left)
        )
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[name], right[name]) for name in left)
    if isinstance(left, np.ndarray):
        return (
            left.dtype == right.dtype
            and left.shape == right.shape
            and left.tobytes() == right.tobytes()
        )
    return type(left) is type(right) and left == right


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_value_comes_back_from_the_store_bit_for_bit(tmp_path, value):
    store, task = Store(tmp_path), Task("stage", "1")
    store.write(task, encode(value), {})
    artifacts = store.read(task)
    assert same(decoded(artifacts), value)


def test_a_difference_in_one_bit_would_be_seen():
    changed = {**TENSORS, "a.bias": np.array([np.nan, 0.0, np.inf], np.float32)}
    assert not same(Weights(changed, SPEC), Weights(TENSORS, SPEC))


def test_a_specification_is_json_and_comes_back_equal():
    assert Task("train", "1", {"spec": encode_spec(SPEC)}).params["spec"]["mean"] == [
        0.1,
        1 / 3,
        0.3,
    ]
    assert decode_spec(encode_spec(SPEC)) == SPEC
    assert decode_spec(encode_spec(None)) is None


def test_a_plain_mapping_passes_as_it_is():
    artifacts = {"scores": np.ones(3), "history": [1, 2]}
    assert encode(artifacts) == artifacts
    assert decoded(artifacts) == artifacts


def test_what_a_stage_stores_beside_a_value_is_left_out():
    artifacts = {**encode(VALUES[2]), "history": [1.0, 0.5]}
    assert same(decode("weights", artifacts), VALUES[2])


def test_a_missing_artifact_is_named():
    artifacts = encode(VALUES[6])
    del artifacts["signals"]
    with pytest.raises(StoreError, match="kind 'outputs' must hold 'signals', got about, pop"):
        decode("outputs", artifacts)


def test_an_unknown_kind_is_named():
    with pytest.raises(
        StoreError, match="unknown kind of artifacts 'weight': did you mean 'weights'"
    ):
        decode("weight", {})
