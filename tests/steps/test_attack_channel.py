"""Answers through channels: what is read from them, against loops, and what attacks find in them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stage_calls import run_stage

from bitleak.answers.answer_signals import block_signals
from bitleak.attacks import expand
from bitleak.core.channel_names import CHANNELS, Channel, is_channel
from bitleak.core.errors import ConfigError
from bitleak.core.probability_resolution import resolution_of
from bitleak.core.signals import signals
from bitleak.core.types import LOGIT_SCALED, SIGNALS, Images, Outputs
from bitleak.data import make_splits
from bitleak.metrics import auc, roc, tpr_at
from bitleak.steps.answer_scale import Labels
from bitleak.steps.channel_answers import (
    channel_signals,
    released_probabilities,
    scaled_through,
    through_channel,
)

COARSE = tuple(name for name in CHANNELS if Channel.parse(name).is_coarse)
ATTACKS = [
    "lira-online-shrunk", "lira-online-per_record", "lira-online-fixed", "lira-online-paper",
    "lira-offline-one_sided-fixed", "rmia-online", "rmia-offline", "threshold", "threshold-correct",
]  # fmt: skip
CLASSES = 5


def probabilities(z):
    weights = [math.exp(value - max(z)) for value in z]
    return [weight / sum(weights) for weight in weights]


def read_slowly(name, z, label):
    """The confidence that an adversary reads from one answer, class by class."""
    p, predicted = probabilities(z), max(range(len(z)), key=lambda c: (z[c], -c))
    if name == "label":
        return math.log(2) if predicted == label else -math.log(2)
    if name == "top1":
        rest = max(1 - float(np.float32(p[predicted])), 2**-25)
        if predicted == label:
            return math.log((1 - rest) / rest)
        true = rest / (len(z) - 1)
        return math.log(true / (1 - true))
    if name == "round-2":
        value, half = round(100 * p[label]) / 100, 0.005
    else:
        value, half = min(round(256 * p[label]), 255) / 256, 0.5 / 256
    return math.log(max(value, half)) - math.log(max(1 - value, half))


@pytest.mark.parametrize("name", COARSE)
def test_the_confidence_of_every_channel_is_that_of_a_loop(name):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, rng.choice([0.3, 3.0, 30.0], (200, 1, 1)), (200, 2, CLASSES))
    labels = rng.integers(0, CLASSES, 200)
    read = channel_signals(Channel.parse(name), logits.astype(np.float32), labels)
    for record, label in enumerate(labels):
        for query in range(2):
            z = [float(value) for value in logits.astype(np.float32)[record, query]]
            expected = read_slowly(name, z, label)
            assert read[record, query, LOGIT_SCALED] == pytest.approx(expected, abs=1e-9)
            right = max(z) == z[label]
            if name in ("top1", "label"):
                assert read[record, query, SIGNALS.index("correct")] == right


@given(z=st.lists(st.floats(-50, 50, width=32), min_size=3, max_size=3), label=st.integers(0, 2))
def test_a_rounded_probability_is_read_inside_of_its_interval(z, label):
    logits = np.array([z], np.float32)
    p = np.exp(signals(logits, np.array([label]))[0, 0])
    for name, step in (("round-2", 0.01), ("int8-softmax", 1 / 256)):
        read = channel_signals(Channel.parse(name), logits[None], np.array([label]))
        seen = 1 / (1 + np.exp(-read[0, 0, LOGIT_SCALED]))
        # the largest code of int8 stands for an interval of one and a half steps
        assert abs(seen - p) <= (1.5 if name == "int8-softmax" else 1) * step


@pytest.mark.parametrize("name", ["round-2", "label", "int8-softmax"])
def test_a_file_of_the_released_probabilities_is_read_alike(name):
    """`bitleak attack` knows nothing of the channel: it finds the step in the numbers."""
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 3, (400, 2, CLASSES))
    labels = rng.integers(0, CLASSES, 400)
    channel = Channel.parse(name)
    flat, _ = released_probabilities(channel, logits.reshape(-1, CLASSES))
    released = flat.reshape(logits.shape)
    file = block_signals(released, "probabilities", labels, resolution_of([released]))
    np.testing.assert_allclose(channel_signals(channel, logits, labels), file, atol=1e-12)


def test_only_the_channels_of_the_table_are_known():
    assert all(map(is_channel, (*CHANNELS, "round-1", "temperature-0.5", "temperature-10")))
    for name in ("round-0", "round-7", "temperature-0", "temperature-2.0", "Label", "", "noise"):
        assert not is_channel(name)
    with pytest.raises(ValueError, match="unknown channel 'labels': did you mean 'label'"):
        Channel.parse("labels")


def world(records=600, models=10, queries=1, leak=1.0, seed=0):
    """Images, splits and logits of models that answer members more confidently by `leak`."""
    population = 200
    total = records + population + 20
    rng = np.random.default_rng(seed)
    true = rng.integers(0, CLASSES, total)
    data = Images(
        np.zeros((total, 1, 1, 1), np.uint8), true, tuple("abcde"), np.arange(total) >= records
    )
    split = make_splits(
        data,
        mode="population",
        models=models,
        targets=2,
        calibration=0,
        population=population,
        seed=0,
    )
    order = np.concatenate([split.pool, split.population])
    shape = (models, len(order), queries, CLASSES)
    z = 1.5 * rng.normal(size=(1, *shape[1:])) + rng.normal(size=shape)
    inside = np.zeros(shape[:2])
    inside[:, : len(split.pool)] = split.member
    z[:, np.arange(len(order)), :, data.labels[order]] += np.moveaxis(
        1.5 + leak * inside[..., None], 1, 0
    )
    return data, split, z.astype(np.float32)


def outputs_of(world, model_logits):
    data, split, _ = world
    parts = []
    for part, records in (
        (model_logits[: len(split.pool)], split.pool),
        (model_logits[len(split.pool) :], split.population),
    ):
        by_query = [signals(part[:, q], data.labels[records]) for q in range(part.shape[1])]
        parts.append((np.stack(by_query, axis=1), part))
    (pool, kept), (outside, kept_outside) = parts
    return Outputs(pool, outside, np.zeros(len(split.test), np.int64), kept, kept_outside)


def attacked(world, channel, *, adapted=True, stage="channel", targets=None, attacks=None):
    data, split, z = world
    answers = [outputs_of(world, model) for model in z]
    rows = split.targets.tolist()
    params = {
        "channel": channel,
        "adapted": adapted,
        "attacks": attacks or ATTACKS,
        "recalibrated": False,
        "control": False,
        "targets": rows,
        "references": list(range(len(z))),
        "seed": 0,
        "answer_scale": "temperature",
    }
    if targets is None:
        targets = tuple(answers[row] for row in rows)
    inputs = {"images": data, "splits": split, "targets": targets, "references": tuple(answers)}
    scores = run_stage(stage, params, inputs)["scores"]
    return {name: scores[place] for place, name in enumerate(attacks or ATTACKS)}


def area(world, scores, place=0):
    _, split, _ = world
    return auc(roc(scores[place], split.member[split.targets[place]]))


@pytest.fixture(scope="module")
def leaking():
    return world()


def test_logits_have_the_scores_of_an_ordinary_attack(leaking):
    usual = attacked(leaking, "", stage="attack")
    for adapted in (True, False):
        through = attacked(leaking, "logits", adapted=adapted)
        for name in ATTACKS:
            np.testing.assert_array_equal(through[name], usual[name])


def test_references_that_adapt_find_in_a_temperature_what_logits_give(leaking):
    usual = attacked(leaking, "logits")
    halved, other = attacked(leaking, "temperature-2"), attacked(leaking, "temperature-3")
    for name in ATTACKS:
        # a power of two changes exponents alone
        np.testing.assert_array_equal(halved[name], usual[name])
        assert area(leaking, other[name]) == pytest.approx(area(leaking, usual[name]), abs=1e-4)


def test_references_that_do_not_adapt_find_less_in_a_temperature(leaking):
    usual = attacked(leaking, "logits")
    softened = attacked(leaking, "temperature-2", adapted=False)
    for name in ("lira-online-shrunk", "lira-online-fixed"):
        assert area(leaking, softened[name]) < area(leaking, usual[name]) - 0.02


def test_a_temperature_lowers_the_confidence_by_the_entropy_of_the_others():
    """f - T f_T is the integral of the entropy over t, between 0 and (T - 1) log(K - 1)."""
    rng = np.random.default_rng(2)
    z = rng.normal(0, 4, (50, CLASSES))
    labels = rng.integers(0, CLASSES, 50)
    before, after = signals(z, labels)[:, LOGIT_SCALED], signals(z / 2, labels)[:, LOGIT_SCALED]
    middles = 1 + (np.arange(2000) + 0.5) / 2000
    for record, label in enumerate(labels):
        others = np.delete(z[record], label)
        total = 0.0
        for t in middles:
            p = np.exp(others / t - np.logaddexp.reduce(others / t))
            total -= (p * np.log(np.maximum(p, 1e-300))).sum() / len(middles)
        gap = before[record] - 2 * after[record]
        assert gap == pytest.approx(total, abs=1e-5)
        assert 0 <= gap <= math.log(CLASSES - 1)


@pytest.mark.parametrize("queries", [1, 2, 3, 5])
def test_labels_have_the_figures_of_the_attack_on_labels_alone(queries):
    made = world(queries=queries)
    usual = attacked(made, "", stage="attack", attacks=["threshold-correct"])
    through = attacked(made, "label", attacks=["threshold", "threshold-correct"])
    _, split, _ = made
    for place, target in enumerate(split.targets):
        expected = roc(usual["threshold-correct"][place], split.member[target])
        for scores in through.values():
            curve = roc(scores[place], split.member[target])
            np.testing.assert_array_equal(curve.true_positives, expected.true_positives)
            np.testing.assert_array_equal(curve.false_positives, expected.false_positives)
            assert tpr_at(curve, 0.1) == tpr_at(expected, 0.1)
        assert auc(expected) > 0.52


@pytest.mark.parametrize("adapted", [True, False])
@pytest.mark.parametrize("name", CHANNELS)
def test_an_answer_that_is_always_the_same_hides_everything(leaking, name, adapted):
    """The target answers every record alike; references that do not adapt leak as before."""
    _, split, z = leaking
    rng = np.random.default_rng(5)
    constant = np.broadcast_to(rng.normal(size=CLASSES), z.shape[1:]).astype(np.float32)
    data = leaking[0]
    alike = Images(data.pixels, np.zeros_like(data.labels), data.class_names, data.held_out)
    made = (alike, split, np.broadcast_to(constant, z.shape) if adapted else z)
    targets = tuple(outputs_of(made, constant) for _ in split.targets)
    found = attacked(made, name, adapted=adapted, targets=targets)
    for attack, scores in found.items():
        if adapted or not expand(attack)[0].uses_references:
            assert area(made, scores) == 0.5, attack
            assert len(np.unique(scores[0])) == 1, attack


@pytest.mark.parametrize("adapted", [True, False])
@pytest.mark.parametrize("name", CHANNELS)
def test_a_target_of_noise_is_at_chance_through_every_channel(name, adapted):
    made = world(records=20_000, models=6)
    _, split, z = made
    rng = np.random.default_rng(11)
    noise = rng.normal(0, 2, (len(split.targets), *z.shape[1:])).astype(np.float32)
    targets = tuple(outputs_of(made, answers) for answers in noise)
    for attack, scores in attacked(made, name, adapted=adapted, targets=targets).items():
        for place in range(2):
            # four standard errors of an AUC of 10,000 members and as many others
            assert area(made, scores, place) == pytest.approx(0.5, abs=0.0165), attack


def test_coarser_answers_give_less(leaking):
    found = {name: area(leaking, attacked(leaking, name)["lira-online-fixed"]) for name in CHANNELS}
    assert found["label"] < found["round-2"] - 0.02
    assert found["round-2"] < found["logits"] + 0.005
    assert found["top1"] < found["logits"] - 0.01
    assert found["int8-softmax"] == pytest.approx(found["round-2"], abs=0.02)
    assert min(found.values()) > 0.52


def test_equal_answers_in_another_order_of_the_queries_tie():
    made = world(records=40, queries=5)
    data, split, z = made
    turned = z[:, :, ::-1]
    labels = Labels.of(data, split)
    for name in COARSE:
        means = []
        for logits in (z, turned):
            answers = [outputs_of(made, model) for model in logits]
            scaled = scaled_through(Channel.parse(name), answers[:1], answers, labels, adapted=True)
            confidences = scaled.targets[0].signals[..., LOGIT_SCALED]
            total = np.zeros(len(confidences))
            for query in range(5):
                total += confidences[:, query]
            means.append(total)
        np.testing.assert_array_equal(means[0], means[1])


def test_answers_without_logits_have_no_channel(leaking):
    data, split, z = leaking
    answer = outputs_of(leaking, z[0])
    bare = Outputs(answer.signals, answer.population_signals, answer.test_predictions)
    for name in ("label", "temperature-2"):
        with pytest.raises(ConfigError, match=r"query\.keep: logits"):
            through_channel(Channel.parse(name), [bare], Labels.of(data, split))
