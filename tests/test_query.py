"""The signals against 60-digit arithmetic, and the query against a plain loop."""

import mpmath
import numpy as np
import pytest
import torch
from torch import nn

from bitleak.core.types import SIGNALS, Images, ModelSpec, Splits
from bitleak.query import outputs, signals


def exact_signals(logits, label):
    with mpmath.workdps(400):
        z = [mpmath.mpf(float(v)) for v in logits]
        total = mpmath.fsum(mpmath.exp(v) for v in z)
        p = [mpmath.exp(v) / total for v in z]
        rest = mpmath.fsum(p[k] for k in range(len(p)) if k != label)
        modified = -rest * mpmath.log(p[label])
        for k in range(len(p)):
            if k != label:
                modified -= p[k] * mpmath.log(mpmath.fsum(p[j] for j in range(len(p)) if j != k))
        others = [z[k] for k in range(len(z)) if k != label]
        return [
            float(mpmath.log(p[label])),
            float(mpmath.log(p[label] / rest)),
            float(z[label] - max(others)),
            float(-mpmath.fsum(q * mpmath.log(q) for q in p)),
            float(modified),
            float(z[label] >= max(others)),
        ]


@pytest.mark.parametrize("scale", [0.1, 3.0, 40.0, 300.0])
def test_signals_agree_with_exact_arithmetic_even_when_saturated(scale):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20, 5)) * scale
    labels = rng.integers(0, 5, 20)
    expected = np.array([exact_signals(z, y) for z, y in zip(logits, labels, strict=True)])
    np.testing.assert_allclose(signals(logits, labels), expected, rtol=1e-11, atol=1e-290)


def test_confident_records_stay_distinct():
    logits = np.zeros((50, 3))
    logits[:, 0] = np.linspace(40.0, 400.0, 50)
    found = signals(logits, np.zeros(50, dtype=np.int64))[:, SIGNALS.index("logit_scaled")]
    assert len(np.unique(found)) == 50


def world(records=24, size=8):
    rng = np.random.default_rng(1)
    images = Images(
        pixels=rng.integers(0, 256, (records, 1, size, size)).astype(np.uint8),
        labels=rng.integers(0, 3, records),
        class_names=("a", "b", "c"),
        held_out=np.zeros(records, dtype=bool),
    )
    splits = Splits(
        mode="population",
        pool=np.arange(0, 12),
        member=np.zeros((2, 12), dtype=bool),
        targets=np.array([0]),
        calibration=np.arange(12, 14),
        population=np.arange(14, 18),
        test=np.arange(18, records),
    )
    spec = ModelSpec("own", {}, 3, 1, size, mean=(0.4,), std=(0.2,))
    return images, splits, spec


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(144, 3)
    )


def test_outputs_equal_one_image_at_a_time():
    images, splits, spec = world()
    model = network()
    found = outputs(model, images, splits, spec=spec, queries=("identity", "flip"), batch=5)
    assert found.signals.shape == (12, 2, len(SIGNALS))
    for row, record in enumerate(splits.pool):
        for query in range(2):
            pixels = images.pixels[record][..., ::-1].copy() if query else images.pixels[record]
            inputs = (torch.from_numpy(pixels).float() / 255 - 0.4) / 0.2
            with torch.no_grad():
                logits = model.eval()(inputs[None]).double().numpy()
            expected = signals(logits, images.labels[record : record + 1])[0]
            np.testing.assert_allclose(found.signals[row, query], expected, rtol=1e-4, atol=1e-5)
    assert found.population_signals.shape == (4, 2, len(SIGNALS))
    assert found.test_predictions.shape == (6,)


def test_outputs_are_those_of_evaluation_mode_and_leave_no_trace_in_the_statistics():
    images, splits, spec = world()
    model = network().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first = outputs(model, images, splits, spec=spec, queries=("identity",))
    again = outputs(model, images, splits, spec=spec, queries=("identity",))
    np.testing.assert_array_equal(first.signals, again.signals)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_network_that_answers_nan_is_refused():
    images, splits, spec = world()
    model = network()
    with torch.no_grad():
        model[4].bias.fill_(float("nan"))
    with pytest.raises(ValueError, match="not finite"):
        outputs(model, images, splits, spec=spec, queries=("identity",))


def test_the_first_query_must_be_the_identity():
    images, splits, spec = world()
    with pytest.raises(ValueError, match="'identity'"):
        outputs(network(), images, splits, spec=spec, queries=("flip",))


def test_kept_logits_are_float32_and_change_nothing_else():
    images, splits, spec = world()
    options = {"spec": spec, "queries": ("identity", "flip"), "batch": 5}
    usual = outputs(network(), images, splits, **options)
    kept = outputs(network(), images, splits, keep="logits", **options)
    assert usual.logits is None
    for name in ("signals", "population_signals", "test_predictions"):
        np.testing.assert_array_equal(getattr(kept, name), getattr(usual, name))
    assert kept.logits.shape == (12, 2, 3)
    assert kept.population_logits.shape == (4, 2, 3)
    assert kept.logits.dtype == np.float32
    labels = images.labels[splits.pool]
    np.testing.assert_array_equal(signals(kept.logits[:, 1], labels), kept.signals[:, 1])
