"""Steps that attack compare answers on the scale of the references' variant."""

import numpy as np
import pytest
from stage_calls import run_stage

from bitleak.core.errors import ConfigError
from bitleak.core.signals import signals
from bitleak.core.types import SIGNALS, Images, Outputs
from bitleak.data import make_splits
from bitleak.steps.answer_scale import Labels, on_scale

RECORDS, POPULATION, MODELS, CLASSES = 300, 80, 8, 3


def answers(logits, labels):
    """Outputs of one model, one query."""
    z = logits.astype(np.float32)
    each = signals(z, labels)[:, None]
    pool, outside = each[:RECORDS], each[RECORDS : RECORDS + POPULATION]
    kept = z[:, None]
    return Outputs(
        pool,
        outside,
        np.zeros(0, np.int64),
        kept[:RECORDS],
        kept[RECORDS : RECORDS + POPULATION],
    )


@pytest.fixture(scope="module")
def world():
    """Images, splits and logits of models that remember their members."""
    total = RECORDS + POPULATION + 20
    held_out = np.arange(total) >= RECORDS
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, total)
    data = Images(np.zeros((total, 1, 1, 1), np.uint8), labels, ("a", "b", "c"), held_out)
    split = make_splits(
        data,
        mode="population",
        models=MODELS,
        targets=2,
        calibration=0,
        population=POPULATION,
        seed=0,
    )
    order = np.concatenate([split.pool, split.population])
    z = 2 * rng.normal(size=(MODELS, len(order), CLASSES))
    z[:, np.arange(len(order)), labels[order]] += 1.5
    z[:, np.arange(RECORDS), labels[order[:RECORDS]]] += 1.5 * split.member
    return data, split, z, labels[order]


def scores(world, scale, target_factor, reference_factor, **changes):
    data, split, z, labels = world
    return run_stage(
        "attack",
        {
            "attacks": ["rmia-online", "lira-online-shrunk", "threshold-entropy"],
            "recalibrated": False,
            "control": False,
            "targets": list(map(int, split.targets)),
            "references": list(range(MODELS)),
            "seed": 0,
            "answer_scale": scale,
            **changes,
        },
        {
            "images": data,
            "splits": split,
            "targets": tuple(answers(target_factor * z[row], labels) for row in split.targets),
            "references": tuple(answers(reference_factor * model, labels) for model in z),
        },
    )


def test_matched_references_find_the_same_in_logits_times_four(world):
    plain, scaled = (scores(world, "temperature", factor, factor) for factor in (1, 4))
    np.testing.assert_allclose(scaled["scores"], plain["scores"], rtol=1e-9)
    assert scaled["scale"]["temperature"] == 4 * plain["scale"]["temperature"]
    raw = [scores(world, "raw", factor, factor)["scores"] for factor in (1, 4)]
    assert np.abs(raw[1] - raw[0]).max() > 0.1


def test_full_precision_references_take_a_factor_for_evidence(world):
    plain, scaled = (scores(world, "temperature", factor, 1) for factor in (1, 4))
    assert scaled["scale"] == plain["scale"]
    assert np.abs(scaled["scores"] - plain["scores"]).max() > 0.1


def test_answers_as_they_came_have_no_scale_in_the_store(world):
    assert "scale" not in scores(world, "raw", 1, 1)


def test_confidences_are_standardised_by_the_references_population(world):
    data, split, z, labels = world
    outputs = [answers(model, labels) for model in z]
    scaled = on_scale("standardised", outputs[:1], outputs, Labels.of(data, split))
    f = SIGNALS.index("logit_scaled")
    outside = np.stack([output.population_signals[..., f] for output in outputs])
    mean, deviation = outside.mean(), np.mean([model.std() for model in outside])
    expected = (outputs[0].signals[..., f] - mean) / deviation
    np.testing.assert_allclose(scaled.targets[0].signals[..., f], expected, rtol=1e-12)
    np.testing.assert_array_equal(scaled.targets[0].signals[..., 2:], outputs[0].signals[..., 2:])
    np.testing.assert_allclose(
        scaled.references[0].signals[..., 0], -np.log1p(np.exp(-expected)), rtol=1e-12
    )


def test_neither_audited_records_nor_memberships_move_a_temperature(world):
    data, split, z, labels = world
    other = z.copy()
    other[:, :RECORDS] = np.random.default_rng(1).normal(size=other[:, :RECORDS].shape)
    labelled = Labels.of(data, split)
    facts = []
    for logits in (z, other):
        outputs = [answers(model, labels) for model in logits]
        facts.append(on_scale("temperature", outputs[:1], outputs, labelled).facts)
    assert facts[0] == facts[1]


def test_a_target_that_is_a_reference_has_the_signals_of_that_reference(world):
    data, split, z, labels = world
    outputs = [answers(model, labels) for model in z]
    again = [answers(z[3], labels), answers(2 * z[3], labels)]
    scaled = on_scale("temperature", again, outputs, Labels.of(data, split))
    assert scaled.targets[0] is scaled.references[3]
    temperature = scaled.facts["temperature"]
    expected = signals(np.float64(np.float32(2 * z[3][:RECORDS])) / temperature, labels[:RECORDS])
    np.testing.assert_allclose(scaled.targets[1].signals[:, 0], expected, rtol=1e-12)


def test_a_temperature_without_kept_logits_is_refused(world):
    data, split, z, labels = world
    bare = [Outputs(one.signals, one.population_signals, one.test_predictions)
            for one in (answers(model, labels) for model in z)]  # fmt: skip
    with pytest.raises(ConfigError, match=r"query the models with query.keep: logits"):
        on_scale("temperature", bare[:1], bare, Labels.of(data, split))


def test_answers_that_do_not_vary_are_left_as_they_are(world):
    data, split, z, labels = world
    outputs = [answers(0 * model, labels) for model in z]
    scaled = on_scale("standardised", outputs[:1], outputs, Labels.of(data, split))
    assert scaled.facts == {}
    assert scaled.targets[0] is outputs[0]
