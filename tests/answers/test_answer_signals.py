"""Signals from each kind of answer, against the exact forms."""

from pathlib import Path

import numpy as np
import pytest

from bitleak.answers import Scratch, read_answers
from bitleak.answers.answer_signals import block_signals, signals_of
from bitleak.core import signals as core
from bitleak.core.types import SIGNALS
from bitleak.query import signals as of_a_network

CONFIDENCE = SIGNALS.index("logit_scaled")


def test_a_network_and_a_file_have_one_and_the_same_arithmetic():
    assert of_a_network is core.signals


def test_logits_in_a_block_are_the_signals_record_by_record():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(0, 20, (30, 3, 5)), rng.integers(0, 5, 30)
    found = block_signals(logits, "logits", labels)
    for record in range(30):
        for query in range(3):
            expected = core.signals(logits[record, query][None], labels[record : record + 1])[0]
            np.testing.assert_array_equal(found[record, query], expected)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_logits_of_every_type_are_computed_in_float64(dtype):
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(0, 5, (30, 1, 5)).astype(dtype), rng.integers(0, 5, 30)
    expected = block_signals(logits.astype(np.float64), "logits", labels)
    np.testing.assert_array_equal(block_signals(logits, "logits", labels), expected)


def test_probabilities_give_the_signals_of_the_logits_they_came_from(lab):
    rng = np.random.default_rng(1)
    logits, labels = rng.normal(0, 4, (50, 2, 6)), rng.integers(0, 6, 50)
    found = block_signals(lab.softmax(logits), "probabilities", labels)
    np.testing.assert_allclose(
        found, block_signals(logits, "logits", labels), rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize(
    ("dtype", "end"), [(np.float16, 17.3), (np.float32, 104.0), (np.float64, 744.4)]
)
def test_probabilities_saturate_where_the_documentation_says(dtype, end):
    sure = np.array([[[1.0, 0.0]], [[0.0, 1.0]]], dtype)
    found = block_signals(sure, "probabilities", np.array([0, 0]))[:, 0, CONFIDENCE]
    np.testing.assert_allclose(found, [end, -end], atol=0.1)


def test_the_sum_of_the_others_keeps_what_one_minus_p_would_lose():
    p = np.array([[[1.0, 1e-30, 2e-30]]])
    found = block_signals(p, "probabilities", np.array([0]))[0, 0, CONFIDENCE]
    assert found == pytest.approx(-np.log(3e-30), rel=1e-12)


def test_scores_are_confidences():
    scores = np.array([[1.5, -2.0]], np.float16)
    np.testing.assert_array_equal(
        block_signals(scores, "scores", None)[..., CONFIDENCE], scores.astype(np.float64)
    )


def test_signals_in_a_file_equal_those_in_memory(lab, tmp_path):
    arrays = lab.made()
    chosen = np.array([0, 3, 4, 199])
    planes = []
    for limit in (0, 1 << 29):
        with Scratch(tmp_path, in_memory=limit) as scratch:
            answers = read_answers(lab.write["npz"](tmp_path, arrays), scratch)
            found = signals_of(answers, chosen, scratch, lambda done: None)
            assert isinstance(found.pool, np.memmap) == (limit == 0)
            planes.append((np.array(found.pool), np.array(found.population)))
    for one, other in zip(*planes, strict=True):
        np.testing.assert_array_equal(one, other)
    expected = block_signals(arrays["logits"][5][chosen], "logits", arrays["labels"][chosen])
    np.testing.assert_array_equal(np.moveaxis(planes[0][0][:, 5], 0, -1), expected)


def test_large_arrays_are_in_files_without_a_name_so_that_none_is_left_after_an_error(tmp_path):
    def stopped():
        with Scratch(tmp_path, in_memory=0) as scratch:
            array = scratch.allocate((10, 10))
            assert f"{tmp_path}/" in Path("/proc/self/maps").read_text()
            array[:] = 1
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        stopped()
    assert list(tmp_path.iterdir()) == []
