"""Mistakes in records and labels that leave an audit running, and the warning or message of each."""

import numpy as np
import pytest
import torch
from torch import nn
from toy_target import DEVIATION, MEAN, linear, toy

import bitleak
from bitleak.audit.target.input_spelling import InputSpelling, variations
from bitleak.audit.target.list_doubts import labels_doubt
from bitleak.core.errors import ConfigError


@pytest.fixture(scope="module")
def target():
    return toy()


def audited(target, **changes):
    options = {"images": target.images, "labels": target.labels, "members": target.members}
    options |= {"mean": MEAN, "deviation": DEVIATION, "fpr": 0.05}
    network = changes.pop("network", target.network)
    return bitleak.audit_model(network, **{**options, **changes})


def test_floats_that_are_standardised_already_and_a_mean(target):
    mean, deviation = (np.reshape(values, (3, 1, 1)) for values in (MEAN, DEVIATION))
    images = ((target.images / 255 - mean) / deviation).astype(np.float32)
    (doubt,) = audited(target, images=images).facts.warnings
    assert "fits its own members better with inputs from 0 to 1" in doubt
    assert "write mean=[0], deviation=[1], scale=1 in the call" in doubt
    assert audited(target, images=images, mean=0, deviation=1).facts.warnings == ()


def test_others_that_are_copies_of_members(target):
    others = np.setdiff1d(np.arange(800), target.members)
    images, labels = target.images.copy(), target.labels.copy()
    images[others[:60]], labels[others[:60]] = (
        images[target.members[:60]],
        labels[target.members[:60]],
    )
    audit = audited(target, images=images, labels=labels)
    (doubt,) = audit.facts.warnings
    # Three quarters of the others are evaluated.
    evaluated = np.isin(others[:60], _evaluated(target)).sum()
    assert f"others: {evaluated} of 488 evaluated others are exact copies of members" in doubt
    assert f"such as record {np.intersect1d(others[:60], _evaluated(target))[0]} of record" in doubt
    plain = audited(target).figure("auc", attack="threshold").value
    assert audit.figure("auc", attack="threshold").value < plain


def _evaluated(target):
    from bitleak.audit.target.record_lists import known_records, parted

    return parted(known_records(target.members, None, records=800), 0).evaluated


def test_labels_of_the_others_that_are_those_of_other_records(target):
    """The AUC is then that of the mistake."""
    is_member = np.isin(np.arange(800), target.members)
    shuffled = np.random.default_rng(0).permutation(target.labels)
    audit = audited(target, labels=np.where(is_member, target.labels, shuffled))
    assert audit.figure("auc", attack="threshold").value > 0.9
    (doubt,) = audit.facts.warnings
    assert "right on 100.0 % of its members, and on 23.6 % of the others, no better than" in doubt
    assert "are the labels of the others those of other records" in doubt


def test_a_target_that_guesses_everywhere_or_generalises_is_not_doubted_for_its_labels():
    rng = np.random.default_rng(0)
    labels, member = rng.integers(0, 4, 1000), rng.random(1000) < 0.5
    assert labels_doubt(rng.random(1000) < 0.25, labels, member) == ()
    assert labels_doubt(member | (rng.random(1000) < 0.5), labels, member) == ()
    assert labels_doubt(member | (rng.random(1000) < 0.25), labels, member) != ()


def test_features_in_the_place_of_logits(target):
    class Features(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.hidden = nn.Linear(192, 32)

        def forward(self, images):
            return self.hidden(images.flatten(1))

    pattern = (
        "The network answers with 32 numbers, and the labels have 4 classes: are these features"
    )
    with pytest.raises(ConfigError, match=pattern):
        audited(target, network=Features())


def test_answers_with_the_sign_changed_are_no_other_order_of_the_classes(target):
    negated = linear()
    with torch.no_grad():
        for own, other in zip(negated.parameters(), target.network.parameters(), strict=True):
            own.copy_(-other)
    with pytest.raises(ConfigError, match=r"right on 0.0 % of 150 of its own members, no better"):
        audited(target, network=negated)


def test_labels_as_text(target):
    labels = np.array(["cat", "dog", "eel", "fox"])[target.labels]
    with pytest.raises(
        ConfigError, match=r"integers from 0, got <U3 \(text\); np.unique\(labels, "
    ):
        audited(target, labels=labels)


def test_variances_in_the_place_of_deviations_are_tried():
    given = InputSpelling((0.5, 0.5, 0.5), (0.04, 0.09, 0.0625))
    tried = [item.spelling.deviation for item in variations(given, (3, 8, 8))]
    assert any(values == pytest.approx((0.2, 0.3, 0.25)) for values in tried)
