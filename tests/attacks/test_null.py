"""A target that knows nothing must come out at chance, and a broken design must not."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from bitleak.attacks import LiRA, expand, forms_by_word, negative_control
from bitleak.metrics import auc, roc

PATH = Path(__file__).parents[2] / "benchmarks" / "null.py"
RECORDS = 12_000
ATTACKS = tuple(attack for word in forms_by_word() for attack in expand(word))


@pytest.fixture(scope="module")
def null():
    spec = importlib.util.spec_from_file_location("null_benchmark", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("models", [6, 16])
@pytest.mark.parametrize("mode", ["population", "dedicated"])
@pytest.mark.parametrize("world", ["noise", "informative"])
def test_a_target_that_knows_nothing_is_at_chance(null, world, mode, models):
    views, target = null.world(world, mode, models, RECORDS)
    for name, area in null.areas(views, target):
        assert area == pytest.approx(0.5, abs=0.02), name


@pytest.mark.slow
@pytest.mark.parametrize("models", [6, 8, 16, 64])
@pytest.mark.parametrize("mode", ["population", "dedicated"])
@pytest.mark.parametrize("world", ["noise", "informative"])
def test_a_target_that_knows_nothing_is_at_chance_with_many_models(null, world, mode, models):
    views, target = null.world(world, mode, models)
    found = dict(null.areas(views, target))
    joint = {"joint"} if models == 6 else {"joint", "joint-learned"}
    assert {*found} == {attack.name for attack in ATTACKS} | joint
    for name, area in found.items():
        assert area == pytest.approx(0.5, abs=0.02), name


@pytest.mark.parametrize("world", ["noise", "informative"])
@pytest.mark.parametrize("count", [4, 8])
def test_a_target_that_knows_nothing_is_at_chance_by_partly_quantized_references(
    null, world, count
):
    # 0.015 is 3.7 standard errors of an AUC of 20,000 records
    views, target = null.world(world, "population", 16)
    for name, area in null.areas([null.partly(views[0], count)], target):
        assert area == pytest.approx(0.5, abs=0.015), name


def informative(rng, member):
    difficulty = rng.normal(3.0, 2.0, member.shape[1])
    return (difficulty + 2.0 * member + rng.standard_normal(member.shape))[:, :, None]


@pytest.mark.parametrize("mode", ["population", "dedicated"])
def test_the_negative_control_is_at_chance(null, worlds, mode):
    rng = np.random.default_rng(7)
    target, member = null.design(rng, mode, 8, RECORDS)
    references = informative(rng, member)
    outside = rng.normal(3.0, 2.0, (500, 1)) + rng.standard_normal((len(member), 500, 1))
    signal = references[0] + 5 * target[:, None]  # a target that leaks all there is
    view = worlds["view"](signal, references, member, None, outside[0], outside)
    control = negative_control(view, np.random.default_rng(0))
    for attack in ATTACKS:
        found = (
            0.51 if attack.name == "threshold-correct" else 0.6
        )  # nearly all records are classified correctly
        assert auc(roc(attack(view), target)) > found, attack.name
        assert auc(roc(attack(control), target)) == pytest.approx(0.5, abs=0.02), attack.name


@pytest.mark.parametrize(("models", "at_most"), [(6, 0.40), (8, 0.46)])
def test_the_complement_among_the_references_betrays_the_target(worlds, models, at_most):
    """The published defect: a record's number of remaining IN references tells its membership."""
    rng = np.random.default_rng(models)
    member = worlds["pairs"](rng, models, RECORDS)
    noise = rng.standard_normal((models, RECORDS, 1))
    view = worlds["view"](noise[0], noise[1:], member[1:])
    assert auc(roc(LiRA("online", "per_record")(view), member[0])) < at_most


@pytest.mark.parametrize(("models", "expected"), [(4, 0.66), (16, 0.53)])
def test_noise_alone_is_blind_to_a_leak_through_the_means(worlds, models, expected):
    """A score minus the mean over references, with uneven counts: only the second null test sees it."""
    rng = np.random.default_rng(models)
    member = worlds["pairs"](rng, models, RECORDS)
    noise = rng.standard_normal((models, RECORDS))
    assert auc(roc(noise[0] - noise[1:].mean(axis=0), member[0])) == pytest.approx(0.5, abs=0.02)
    references = 2.0 * member + noise
    for start, leak in ((1, expected), (2, 0.5)):  # with the complement, and without
        scores = noise[0] - references[start:].mean(axis=0)
        assert auc(roc(scores, member[0])) == pytest.approx(leak, abs=0.03)
