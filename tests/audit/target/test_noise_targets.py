"""Must come out at chance: targets that answer with noise, in every tier, for every attack.

References know how hard each record is, and in tier 2 they are surer of the records that they were
trained on. The target knows nothing, so an AUC away from 0.5 would be made by the audit itself.
"""

import numpy as np
import pytest
from stage_calls import run_stage

from bitleak.attacks import expand
from bitleak.attacks.control import two_class_signals
from bitleak.audit.target.release_rows import (
    OFFLINE_ATTACKS,
    TIER_0_ATTACKS,
    AttackSettings,
    Release,
    Signals,
    attacked_releases,
)
from bitleak.core.probability_resolution import resolution_of
from bitleak.core.signals import probability_signals
from bitleak.core.types import Images, Outputs, Splits
from bitleak.metrics import roc

RECORDS, POPULATION, COUNT, CLASSES = 20_000, 1000, 8, 10
CHEAP = AttackSettings((0.01,), (0.5,))
"""Epsilon's bounds take most of the time, and are not the subject."""


def halves(rng):
    """References that were trained on half of the records, drawn for each record."""
    return rng.random((COUNT, RECORDS)).argsort(axis=0).argsort(axis=0) < COUNT // 2


def confidences(tier, rng):
    """Confidence of the target and of each reference, about the records and then the population."""
    everyone = RECORDS + POPULATION
    hardness, target = rng.normal(0, 3, everyone), rng.normal(1, 2, everyone)
    trained = halves(rng) if tier == 2 else None
    references = []
    for index in range(COUNT):
        # Distilled towards noise, a reference has the target's moments and forgets half of the rest.
        own = hardness + rng.normal(0, 1, everyone)
        answers = 1 + (0.5 * own + rng.normal(0, 1.2, everyone)) if tier == "imitated" else own
        if trained is not None:
            answers[:RECORDS] += 2 * trained[index]
        references.append(answers)
    return target, references, trained


def of_network(confidence):
    signals = two_class_signals(confidence[:, None])
    return Signals(signals[:RECORDS], signals[RECORDS:])


def of_forest(confidence, labels, rng):
    """Answers in steps of 0.01 that sum to 1, as a forest of 100 trees gives them."""
    right = np.round(1 / (1 + np.exp(-confidence)), 2)
    shares = rng.multinomial(np.round(100 - 100 * right).astype(int), [1 / 9] * 9) / 100
    probabilities = np.empty((len(labels), CLASSES))
    others = np.arange(CLASSES)[None] != labels[:, None]
    probabilities[others] = shares.ravel()
    probabilities[~others] = right
    scale = resolution_of([probabilities])
    signals = probability_signals(
        probabilities, labels, floor=scale.floor, complement=scale.complement
    )[:, None]
    return Signals(signals[:RECORDS], signals[RECORDS:])


@pytest.mark.parametrize("kind", ["network", "forest"])
@pytest.mark.parametrize("tier", [1, "imitated", 2])
def test_every_attack_is_at_chance_with_references(tier, kind):
    if (tier, kind) == ("imitated", "forest"):
        pytest.skip("only networks are distilled")
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, RECORDS + POPULATION)
    target, references, trained = confidences(tier, rng)

    def answers(confidence):
        return of_network(confidence) if kind == "network" else of_forest(confidence, labels, rng)

    kinds = {"fp32": [answers(confidence) for confidence in references]}
    release = Release("fp32", "", None, answers(target), kinds, trained_on=trained)
    member = rng.random(RECORDS) < 0.5
    made = attacked_releases([release], member, labels[:RECORDS], CHEAP)
    areas = {}
    for row in made.rows:
        if (row.metric, row.target, row.variant) == ("auc", "all", "fp32"):
            areas[row.attack, row.reference] = row.measure.value
    online = {attack for attack, _ in areas if "online" in attack}
    assert bool(online) == (tier == 2)
    assert len(areas) >= (45 if tier == 2 else 30)
    assert {pair: area for pair, area in areas.items() if abs(area - 0.5) >= 0.02} == {}


def test_every_attack_of_a_population_is_at_chance():
    """The step of an audit that tier 2 runs, with the given target in row 0."""
    rng = np.random.default_rng(1)
    target, references, trained = confidences(2, rng)
    everyone = RECORDS + POPULATION
    member = np.concatenate([rng.random((1, RECORDS)) < 0.5, trained])
    images = Images(
        np.zeros((everyone, 1, 1, 1), np.uint8),
        rng.integers(0, CLASSES, everyone),
        tuple(map(str, range(CLASSES))),
        np.zeros(everyone, bool),
    )
    nobody = np.zeros(0, np.int64)
    pool, population = np.arange(RECORDS), np.arange(RECORDS, everyone)
    splits = Splits("dedicated", pool, member, np.zeros(1, np.int64), nobody, population, nobody)
    outputs = []
    for confidence in [target, *references]:
        outputs.append(Outputs(*of_network(confidence), test_predictions=nobody))
    words = [*OFFLINE_ATTACKS, *TIER_0_ATTACKS]
    attacks = [attack.name for word in words for attack in expand(word)]
    params = {
        "attacks": attacks, "recalibrated": False, "control": False, "targets": [0],
        "references": list(range(1, 1 + COUNT)), "seed": 0, "answer_scale": "standardised",
    }  # fmt: skip
    inputs = {
        "targets": tuple(outputs[:1]),
        "references": tuple(outputs[1:]),
        "images": images,
        "splits": splits,
    }
    made = run_stage("attack", params, inputs)
    assert len(made["attacks"]) == len(attacks) >= 24
    for attack, scores in zip(made["attacks"], made["scores"], strict=True):
        curve = roc(scores[0], member[0])
        area = np.trapezoid(curve.tpr, curve.fpr)
        assert abs(area - 0.5) < 0.02, attack
