"""Probabilities of a limited resolution: the step is found, and rounding costs little of the leakage."""

import numpy as np
import pytest

from bitleak.answers import Scratch, read_answers
from bitleak.answers.answer_signals import block_signals, signals_of
from bitleak.answers.model_answers import Answers
from bitleak.core.errors import DataError
from bitleak.core.probability_resolution import resolution_of


def bfloat16(p):
    """Rounded to 8 bits of precision, stored as float32."""
    bits = p.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


ROUNDINGS = {
    **{
        f"{d} decimals": (lambda p, d=d: np.round(p, d).astype(np.float32), 10.0**-d)
        for d in range(2, 8)
    },
    "4 decimals, float64": (lambda p: np.round(p, 4), 1e-4),
    "1/255": (lambda p: (np.rint(p * 255) / 255).astype(np.float32), 1 / 255),
    "1/256": (
        lambda p: (np.clip(np.rint(p * 256) - 128, -128, 127) + 128).astype(np.float32) / 256,
        1 / 256,
    ),
    "0.0041": (
        lambda p: (np.clip(np.rint(p / 0.0041), 0, 255) * 0.0041).astype(np.float32),
        0.0041,
    ),
    "float16": (lambda p: p.astype(np.float16), 0),
    "float16 in float32": (lambda p: p.astype(np.float16).astype(np.float32), 0),
    "bfloat16": (bfloat16, 0),
    "float32": (lambda p: p.astype(np.float32), 0),
}


@pytest.fixture(scope="module")
def world():
    """Sure models whose members saturate: logits, labels, membership."""
    rng = np.random.default_rng(0)
    models, records, classes = 12, 400, 10
    first = rng.random((models // 2, records)).argsort(axis=1).argsort(axis=1) < records // 2
    member = np.stack([first, ~first], axis=1).reshape(models, records)
    labels = rng.integers(0, classes, records)
    logits = rng.normal(size=(models, records, 1, classes))
    raised = 2 + 1.5 * rng.normal(size=records) + 1.2 * member
    logits[:, np.arange(records), 0, labels] += raised
    return 3 * logits, labels, member


def of(p):
    return Answers("FILE", "probabilities", tuple(map(str, range(len(p)))), tuple(p), None, None)


def area(lab, folder, arrays):
    """AUC of LiRA, the mean over four targets."""
    path = lab.write["npz"](folder, arrays)
    rows, _, _ = lab.rows_of(folder, path, attacks=("lira-online-fixed",), targets="0,1,2,3")
    (found,) = [
        row.measure.value
        for row in rows
        if (row.variant, row.target, row.metric) == ("fp32", "all", "auc")
    ]
    return found


@pytest.mark.parametrize("name", ROUNDINGS)
def test_rounding_costs_little_of_the_leakage_and_its_step_is_found(lab, tmp_path, world, name):
    logits, labels, member = world
    rounded, step = ROUNDINGS[name]
    p = rounded(lab.softmax(logits))
    found = resolution_of(tuple(p))
    assert found.step == pytest.approx(step, rel=1e-5)
    assert 0 < found.floor <= (step / 2 * (1 + 1e-5) if step else p[p > 0].min() / 2)
    assert found.zeros == (p == 0).sum()
    exact = area(lab, tmp_path, {"logits": logits, "labels": labels, "member": member})
    coarse = area(lab, tmp_path, {"probabilities": p, "labels": labels, "member": member})
    assert exact > 0.65
    # two decimals and 8 bits tie a third of the answers, all else costs a hundredth
    assert abs(coarse - exact) < (0.05 if step > 1e-3 else 0.025 if step > 5e-4 else 0.012)


def test_a_zero_and_a_one_are_read_at_half_a_step(tmp_path, lab):
    rng = np.random.default_rng(0)
    p = np.round(rng.dirichlet([1, 1, 1], (6, 100, 1)), 3)
    p[0, 0, 0], p[0, 1, 0] = [1, 0, 0], [0, 0.4, 0.6]
    arrays = {
        "probabilities": p,
        "labels": np.zeros(100, np.int64),
        "member": lab.pairs(rng, 6, 100),
    }
    with Scratch(tmp_path) as scratch:
        found = signals_of(
            read_answers(lab.write["npz"](tmp_path, arrays), scratch),
            np.arange(100),
            scratch,
            lambda done: None,
        )
    half = 0.0005
    np.testing.assert_allclose(
        found.pool[1, 0, :2, 0], [np.log(1 / half), np.log(half / 1)], rtol=1e-12
    )
    np.testing.assert_allclose(
        found.pool[2, 0, :2, 0], [np.log(1 / half), np.log(half / 0.6)], rtol=1e-12
    )
    np.testing.assert_allclose(
        found.pool[3, 0, :2, 0], [0, -0.4 * np.log(0.4) - 0.6 * np.log(0.6)], atol=1e-12
    )


def test_many_classes_below_half_a_step_do_not_make_a_confidence():
    p = np.zeros((1, 50, 1, 1000))
    sure = np.linspace(0.2, 0.9, 50)
    p[0, np.arange(50), 0, 0] = np.rint(sure * 256) / 256
    found = block_signals(p[0], "probabilities", np.zeros(50, np.int64), resolution_of(tuple(p)))[
        :, 0, 1
    ]
    np.testing.assert_allclose(found, np.log(sure / (1 - sure)), atol=0.03)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_probabilities_of_no_step_have_none(seed, dtype):
    p = np.random.default_rng(seed).dirichlet([0.3] * 5, (4, 50, 1)).astype(dtype)
    assert resolution_of(tuple(p)).step == 0


def test_rows_of_eight_bits_may_miss_the_sum_by_half_a_step_per_class(tmp_path, lab):
    rng = np.random.default_rng(0)
    p = np.rint(rng.dirichlet([0.05] * 200, (6, 50, 1)) * 256) / 256
    assert abs(p.sum(axis=3) - 1).max() > 0.02
    arrays = {
        "probabilities": p.astype(np.float32),
        "labels": rng.integers(0, 200, 50),
        "member": lab.pairs(rng, 6, 50),
    }
    with Scratch(tmp_path) as scratch:
        found = signals_of(
            read_answers(lab.write["npz"](tmp_path, arrays), scratch),
            np.arange(50),
            scratch,
            lambda done: None,
        )
        assert np.isfinite(found.pool).all()
        assert found.resolution.name == "1/256"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (np.log, "these are log-probabilities: name them logits"),
        (lambda p: -np.log(p), "these are negative log-probabilities: change their sign"),
        (lambda p: 100 * p, "these are percent: divide them by 100"),
        (lambda p: np.where(p < 0.3, 0, p), "keep all"),
        (lambda p: np.log(p) + 3, "if these are logits"),
    ],
)
def test_no_probabilities_are_refused_with_their_likely_kind(tmp_path, lab, change, words):
    p = np.random.default_rng(0).dirichlet([1] * 4, (6, 50, 1))
    arrays = {
        "probabilities": change(p),
        "labels": np.zeros(50, np.int64),
        "member": np.zeros((6, 50), bool),
    }
    with Scratch(tmp_path) as scratch:
        answers = read_answers(lab.write["npz"](tmp_path, arrays), scratch)
        with pytest.raises(DataError, match=words):
            signals_of(answers, np.arange(50), scratch, lambda done: None)


def test_probabilities_are_compared_with_logits(lab, tmp_path, world):
    logits, labels, member = world
    path = lab.write["npz"](tmp_path, {"logits": logits, "labels": labels, "member": member})
    p = {"probabilities": lab.softmax(logits), "labels": labels, "member": member}
    rows, _, _ = lab.rows_of(tmp_path, path, quantized=lab.write["npz"](tmp_path, p, "q.npz"),
                             attacks=("lira-online-fixed",), targets="0")  # fmt: skip
    (found,) = [row.measure for row in rows if (row.variant, row.reference, row.target, row.metric)
                == ("quantized", "matched", "all", "auc")]  # fmt: skip
    assert abs(found.difference) < 1e-9
