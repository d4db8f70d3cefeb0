import json
import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitleak.engine.keys import Task, canonical_json

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)

GOLDEN = {
    "images": "31eb804e4fcc07b6e7272e3eae41eb71403ce2a32d6d0a1a3fa9281cb8ba5af9",
    "train": "cf9ed79f0b97289e13541b9caf8e1c99f6824f0ae61c12992ecbc9402be319e0",
    "quantize": "80aed3c6ab207adb2e4fa1c5be239d5dfc3b11b119f66d7e03a666994c104665",
    "attack": "49397c49cc926f679cf74f9e78c7d3fa4de770330850e05022b6d9afecc164f2",
}


def small_plan() -> list[Task]:
    images = Task("images", "1", {"name": "digits", "limit": None})
    train = Task(
        "train",
        "1",
        {"seed": 3, "recipe": {"learning_rate": 0.1, "augment": ["flip"]}},
        {"images": images.key},
    )
    quantize = Task(
        "quantize", "2", {"name": "obc", "levels": 3}, {"weights": train.key, "images": images.key}
    )
    attack = Task("attack", "1", {"kind": "été"}, {"outputs": (train.key, quantize.key)})
    return [images, train, quantize, attack]


def test_keys_of_a_small_plan_do_not_change():
    assert {task.stage: task.key for task in small_plan()} == GOLDEN


@settings(max_examples=50)
@given(JSON)
def test_canonical_json_reads_back_as_the_same_value_and_types(value):
    back = json.loads(canonical_json(value))
    assert back == value
    assert repr(back) == repr(value) or isinstance(
        value, dict | list
    )  # 1 stays 1, 1.0 stays 1.0, -0.0 stays -0.0
    assert canonical_json(back) == canonical_json(value)


@settings(max_examples=50)
@given(st.dictionaries(st.text(), JSON, min_size=2, max_size=4))
def test_canonical_json_does_not_depend_on_the_order_of_keys(value):
    assert canonical_json(dict(reversed(value.items()))) == canonical_json(value)


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ({"a": [0, math.inf]}, ValueError, r"value\.a\[1\] must be a finite number, got inf"),
        (
            {"a": {"b": np.float64(1)}},
            TypeError,
            r"value\.a\.b must be a JSON value .* got numpy\.float64",
        ),
        ([np.int64(1)], TypeError, r"value\[0\] must be a JSON value"),
        ({"a": {1: 2}}, TypeError, r"the keys of value\.a must be strings, got 1"),
        ({"a": np.zeros(2)}, TypeError, r"value\.a .* got numpy\.ndarray"),
        ([b"bytes"], TypeError, r"got builtins\.bytes"),
    ],
)
def test_what_is_not_json_is_refused_with_its_place(value, error, message):
    with pytest.raises(error, match=message):
        canonical_json(value)


def test_everything_that_changes_a_result_changes_the_key():
    other = "0" * 64
    tasks = [
        Task("train", "1", {"seed": 0}),
        Task("trained", "1", {"seed": 0}),
        Task("train", "2", {"seed": 0}),
        Task("train", "1", {"seed": 0.0}),
        Task("train", "1", {"seed": 0}, {"data": other}),
        Task("train", "1", {"seed": 0}, {"data": (other,)}),
        Task("train", "1", {"seed": 0}, {"images": other}),
        Task("train", "1", {"seed": 0}, {"data": (other, "1" * 64)}),
        Task("train", "1", {"seed": 0}, {"data": ("1" * 64, other)}),
    ]
    assert len({task.key for task in tasks}) == len(tasks)


def test_what_is_for_people_and_planning_is_not_part_of_the_key():
    plain = Task("train", "1", {"seed": 0})
    dressed = Task("train", "1", {"seed": 0}, label="train model 0", cost=3.0, memory=10, group="a")
    assert dressed == plain
    assert hash(dressed) == hash(plain)
    assert dressed.key == plain.key


def test_a_task_sees_its_parameters_as_the_manifest_records_them():
    params = {"levels": (4, 2)}
    task = Task("quantize", "1", params)
    params["levels"] = (8,)
    assert task.params == {"levels": [4, 2]}


def test_a_task_survives_the_way_to_another_process():
    for task in small_plan():
        copy = pickle.loads(pickle.dumps(task))
        assert (copy, copy.key, copy.label) == (task, task.key, task.label)


@pytest.mark.parametrize("stage", ["", "a/b", "../up", "logs"])
def test_a_stage_that_cannot_be_a_folder_is_refused(stage):
    with pytest.raises(ValueError, match="stage must be a Python name"):
        Task(stage, "1")
