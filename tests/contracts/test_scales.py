"""A scale that anybody can divide out changes no score of any attack."""

import numpy as np
import pytest
from scipy.special import expit

from bitleak.attacks import Joint, LearnedJoint, attack_view, expand, forms_by_word
from bitleak.core.signals import signals
from bitleak.core.types import SIGNALS, Outputs
from bitleak.metrics import auc, roc
from bitleak.steps.answer_scale import Labels, on_scale

EVERY = [attack for word in forms_by_word() for attack in expand(word)]
MODELS, CLASSES, QUERIES = 12, 4, 2
LOG_PROBABILITY, LOGIT_SCALED = SIGNALS.index("log_probability"), SIGNALS.index("logit_scaled")


def answers_of(logits, labels):
    """Signals of one model's logits."""
    records, queries, classes = logits.shape
    flat = signals(logits.reshape(-1, classes), np.repeat(labels, queries))
    return flat.reshape(records, queries, len(SIGNALS))


def logit_world(seed, *, records, population, memory, models=MODELS, queries=QUERIES):
    """Complementary pairs; the logit of a member's class is larger by `memory`."""
    rng = np.random.default_rng(seed)
    first = rng.random((models // 2, records)).argsort(axis=1) < records // 2
    member = np.stack([first, ~first], axis=1).reshape(models, records)
    labels = rng.integers(0, CLASSES, records + population)
    z = 2 * rng.normal(size=(models, records + population, queries, CLASSES))
    z += rng.normal(size=(1, records + population, 1, CLASSES))
    z[:, np.arange(records + population), :, labels] += 2.0
    z[:, np.arange(records), :, labels[:records]] += memory * member.T[:, :, None]
    return z.astype(np.float32), member, labels, records


def scaled_view(world, scale, change=lambda output: output):
    """The view of model 0 by the models on other training sets."""
    z, member, labels, records = world
    classes = Labels(labels[:records], labels[records:])
    outputs = []
    for model in z:
        pool, outside = model[:records], model[records:]
        made = Outputs(
            answers_of(pool, labels[:records]),
            answers_of(outside, labels[records:]),
            np.zeros(0, np.int64),
            pool,
            outside,
        )
        outputs.append(change(made))
    (target,), references, _ = on_scale(scale, outputs[:1], outputs, classes)
    return attack_view(
        target=target.signals,
        references=np.stack([output.signals for output in references[2:]]),
        member=member[2:],
        use=np.ones_like(member[2:]),
        population_target=target.population_signals,
        population_references=np.stack([output.population_signals for output in references[2:]]),
        labels=labels[:records],
    )


def affine(factor, shift):
    """Maps the confidences, and the log-probabilities with them."""

    def mapped(values):
        values = values.copy()
        values[..., LOGIT_SCALED] = factor * values[..., LOGIT_SCALED] + shift
        values[..., LOG_PROBABILITY] = np.log(expit(values[..., LOGIT_SCALED]))
        return values

    return lambda output: Outputs(
        mapped(output.signals), mapped(output.population_signals), output.test_predictions
    )


@pytest.fixture(scope="module")
def small():
    return logit_world(0, records=240, population=60, memory=2.0)


@pytest.fixture(scope="module")
def scaled_views(small):
    z, *rest = small
    return {
        factor: scaled_view((np.float32(factor) * z, *rest), "temperature")
        for factor in (1.0, 0.25, 4.0)
    }


@pytest.fixture(scope="module")
def mapped_views(small):
    maps = [(1.0, 0.0), (0.6, 0.0), (4.0, -3.0), (0.25, 2.0)]
    return [scaled_view(small, "standardised", affine(*of)) for of in maps]


@pytest.mark.parametrize("attack", EVERY, ids=lambda attack: attack.name)
def test_a_factor_of_all_logits_of_a_variant_changes_no_score(attack, scaled_views):
    scores = attack(scaled_views[1.0])
    for factor in (0.25, 4.0):
        np.testing.assert_allclose(attack(scaled_views[factor]), scores, rtol=1e-9)
    assert len(np.unique(scores)) > (1 if attack.name.endswith("correct") else 10)


@pytest.mark.parametrize("attack", [Joint(), LearnedJoint()], ids=["joint", "joint-learned"])
def test_a_factor_of_all_logits_of_a_release_changes_no_score_of_the_joint_attack(
    attack, scaled_views
):
    scores = attack([scaled_views[1.0], scaled_views[1.0]])
    np.testing.assert_allclose(attack([scaled_views[1.0], scaled_views[4.0]]), scores, rtol=1e-9)


@pytest.mark.parametrize("attack", EVERY, ids=lambda attack: attack.name)
def test_an_affine_map_of_all_confidences_of_a_variant_changes_no_score(attack, mapped_views):
    scores = attack(mapped_views[0])
    for view in mapped_views[1:]:
        np.testing.assert_allclose(attack(view), scores, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", ["rmia-online", "reference", "threshold-entropy"])
def test_without_a_scale_a_factor_moves_scores(name, small):
    z, *rest = small
    (attack,) = expand(name)
    scores, scaled = (attack(scaled_view((np.float32(f) * z, *rest), "raw")) for f in (1, 4))
    assert np.abs(scaled - scores).max() > 0.01


@pytest.mark.parametrize("scale", ["raw", "temperature", "standardised"])
def test_a_target_that_knows_nothing_is_at_chance_on_every_scale(scale):
    """4 standard errors of an AUC of 10,000 members and 10,000 others."""
    world = logit_world(7, records=20_000, population=200, memory=0.0, models=6, queries=1)
    view, member = scaled_view(world, scale), world[1][0]
    error = np.sqrt(20_001 / (12 * 10_000**2))
    for attack in EVERY:
        assert abs(auc(roc(attack(view), member)) - 0.5) < 4 * error, attack.name
