"""Files whose rows or queries hold different quantities, or one of them twice."""

import numpy as np
import pytest

from bitleak.answers import AttackRequest, Scratch, prepare_attack
from bitleak.answers.mixed_answers import scale_doubts, truncation_doubts
from bitleak.answers.model_answers import Answers
from bitleak.core.errors import DataError


def doubts(lab, tmp_path, arrays, quantized=None):
    path = lab.write["npz"](tmp_path, arrays)
    smaller = None if quantized is None else lab.write["npz"](tmp_path, quantized, "quantized.npz")
    with Scratch(tmp_path) as scratch:
        return " ".join(
            prepare_attack(AttackRequest(scores=path, quantized=smaller), scratch).doubts
        )


def test_probabilities_of_some_models_beside_logits_are_refused_by_name(lab, tmp_path):
    arrays = lab.made(population=0)
    assert doubts(lab, tmp_path, arrays) == ""
    arrays["logits"][[2, 5]] = lab.softmax(arrays["logits"][[2, 5]])
    with pytest.raises(
        DataError,
        match=r"logits of 2 models \(2, 5\) are from 0 to 1 .* of the other models are not",
    ):
        doubts(lab, tmp_path, arrays)


def test_one_quantized_checkpoint_for_all_models_is_refused(lab, tmp_path):
    arrays = lab.made(population=0)
    quantized = {"logits": np.repeat(0.9 * arrays["logits"][:1], 12, axis=0)}
    with pytest.raises(
        DataError, match=r"quantized.npz: models 0 and 1 have identical answers but different rows"
    ):
        doubts(lab, tmp_path, arrays, quantized)


def test_a_query_that_is_another_one_is_told(lab, tmp_path):
    arrays = lab.made(population=0)
    arrays["logits"][:, :, 1] = arrays["logits"][:, :, 0]
    assert "All models answer the queries 0 and 1 alike" in doubts(lab, tmp_path, arrays)


def test_models_on_another_scale_are_told():
    confidence = np.random.default_rng(0).normal(0, 2, (8, 300, 2))
    names = tuple("abcdefgh")
    answers = Answers("file", "scores", names, tuple(confidence), None, None)
    assert scale_doubts(answers, confidence) == []
    confidence[2] *= 3
    assert scale_doubts(answers, confidence) == []
    confidence[[2, 5]] = 1 / (1 + np.exp(-confidence[[2, 5]]))
    (text,) = scale_doubts(answers, confidence)
    assert text.startswith(
        "The confidences of 2 models of file (c, f) spread over 4 times more, or less"
    )


@pytest.mark.parametrize("kind", ["probabilities", "logits"])
def test_answers_about_the_best_classes_alone_are_told(kind):
    values = np.random.default_rng(0).dirichlet(np.ones(10), (4, 200, 1))
    values = values if kind == "probabilities" else np.log(values)
    labels = np.zeros(200, np.int64)
    complete = Answers("file", kind, tuple("abcd"), tuple(values), None, labels)
    assert truncation_doubts(complete, complete.pool) == []
    kept = values >= np.sort(values, axis=-1)[..., -3:-2]
    best = np.where(kept, values, 0.0 if kind == "probabilities" else -100.0)
    cut = Answers("file", kind, tuple("abcd"), tuple(best), None, labels)
    (text,) = truncation_doubts(cut, cut.pool)
    assert "all rows have values for their 3 best classes of 10 alone" in text


def test_confident_probabilities_of_two_decimals_are_complete():
    values = np.random.default_rng(0).dirichlet(0.2 * np.ones(10), (4, 200, 1)).round(2)
    answers = Answers("file", "probabilities", tuple("abcd"), tuple(values), None, None)
    assert truncation_doubts(answers, answers.pool) == []
