"""Tier 1: disjoint parts, references that find nothing in noise, and refusals with counts."""

import numpy as np
import pytest
import torch
from toy_target import DEVIATION, MEAN, linear, toy

import bitleak
from bitleak.attacks.control import two_class_signals
from bitleak.audit.target import reference_networks
from bitleak.audit.target.record_lists import known_records, parted
from bitleak.audit.target.release_rows import AttackSettings, Release, Signals, attacked_releases
from bitleak.core.errors import ConfigError

RECIPE = bitleak.Recipe(epochs=6, learning_rate=0.02, batch=64, augment=())
OPTIONS = {"mean": MEAN, "deviation": DEVIATION, "fpr": (0.05,), "recipe": RECIPE, "references": 3}


@pytest.fixture(scope="module")
def target():
    return toy(records=1000)


def audited(target, **changes):
    given = (target.network, target.images, target.labels, target.members)
    options = {**OPTIONS, "allow_separable": True, "tier": 1, **changes}
    return bitleak.audit_model(*given, **options)


def test_the_three_parts_of_the_non_members_are_disjoint():
    known = known_records(np.arange(300), None, records=1000)
    parts = parted(known, seed=3, training=0.5)
    sizes = [len(part) for part in (parts.training, parts.evaluated, parts.population)]
    assert sizes == [350, 263, 87]
    together = np.concatenate([parts.training, parts.evaluated, parts.population, parts.members])
    assert np.array_equal(np.sort(together), np.arange(1000))
    assert np.array_equal(parted(known, seed=3, training=0.5).training, parts.training)


@pytest.mark.parametrize("imitated", [False, True])
def test_no_reference_reads_an_evaluated_record(target, monkeypatch, imitated):
    seen, known = [], known_records(target.members, None, records=1000)
    parts = parted(known, 0, training=0.5)
    batches = reference_networks._Batches.__call__

    def watched(self, chosen):
        seen.append(chosen.numpy())
        return batches(self, chosen)

    monkeypatch.setattr(reference_networks._Batches, "__call__", watched)
    audit = audited(target, imitated=imitated)
    assert np.isin(np.concatenate(seen), parts.training).all()
    assert audit.facts.references == 3
    assert ("distilled" in audit.facts.training) == imitated
    # Least squares fits its members, so offline attacks find them.
    assert audit.figure("auc", attack="lira-offline-one_sided-fixed").value > 0.65


def test_releases_of_a_quantizer_have_matched_references(target):
    releases = {"rtn2": bitleak.RoundToNearest(levels=4)}
    table = audited(target, releases=releases, factory=linear).table
    kinds = table[(table.metric == "auc") & (table.attack == "reference")]
    pairs = set(zip(kinds.variant, kinds.reference, strict=True))
    assert pairs >= {
        ("fp32", "fp32"), ("fp32", "recalibrated"), ("rtn2", "fp32"), ("rtn2", "recalibrated"),
        ("rtn2", "matched"), ("control", "fp32"),
    }  # fmt: skip


def test_the_audit_is_the_same_again_and_the_global_generator_stays(target):
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first = audited(target).figure("auc", attack="rmia-offline-a0.3")
    assert torch.equal(torch.get_rng_state(), before)
    assert audited(target).figure("auc", attack="rmia-offline-a0.3") == first


def test_noise_in_place_of_the_target_is_at_chance_for_every_offline_attack():
    # References that know how hard each record is, and a target that knows nothing.
    rng = np.random.default_rng(0)
    records, population, count = 20_000, 500, 4
    hardness = rng.normal(0, 3, (records + population, 1))
    labels = rng.integers(0, 10, records)

    def answers(confidence):
        signals = two_class_signals(confidence)
        return Signals(signals[:records], signals[records:])

    references = []
    for _ in range(count):
        references.append(answers(hardness + rng.normal(0, 1, hardness.shape)))
    noise = answers(rng.normal(0, 3, hardness.shape))
    release = Release("fp32", "", None, noise, {"fp32": references})
    member = rng.random(records) < 0.5
    found = attacked_releases([release], member, labels, AttackSettings((0.01,), (0.5,)))
    areas = [row for row in found.rows if row.metric == "auc" and row.target == "all"]
    assert {row.attack for row in areas} >= {"lira-offline-one_sided-shrunk", "rmia-offline-a0.3"}
    assert {row.reference for row in areas} == {"", "fp32", "recalibrated"}
    for row in areas:
        assert abs(row.measure.value - 0.5) < 0.02, row


def test_too_few_non_members_are_refused_with_the_counts(target):
    pattern = (
        r"tier 1: the 850 known non-members are split into 425 for training references, 319 evaluated and 106 for the "
        r"adversary: too few for an FPR of 0.001, which takes 1,000 evaluated ones"
    )
    with pytest.raises(ConfigError, match=pattern):
        audited(target, fpr=(0.001, 0.01))


def test_a_network_that_cannot_be_made_anew_needs_a_factory(target):
    class Own(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(target.network[1].weight.detach().clone())
            self.bias = torch.nn.Parameter(target.network[1].bias.detach().clone())

        def forward(self, images):
            return images.flatten(1) @ self.weight.T + self.bias

    given = (Own(), target.images, target.labels, target.members)
    with pytest.raises(ConfigError, match="Own has parameters that cannot be reset; pass factory="):
        bitleak.audit_model(*given, tier=1, **OPTIONS)
