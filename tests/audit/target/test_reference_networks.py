"""Tier 1: disjoint parts, references that find nothing in noise, and refusals with counts."""

import json

import numpy as np
import pandas
import pytest
import torch
from toy_target import DEVIATION, MEAN, linear, toy

import bitleak
from bitleak.audit.target.record_lists import known_records, parted
from bitleak.core.errors import ConfigError
from bitleak.train.fit import TrainingRecords

# the steps of these runs have tests of their own, with the checks
pytestmark = pytest.mark.usefixtures("shapes_unchecked")

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
    batches = TrainingRecords.batch

    def watched(self, chosen, augment, chance):
        seen.append(chosen.numpy())
        return batches(self, chosen, augment, chance)

    monkeypatch.setattr(TrainingRecords, "batch", watched)
    audit = audited(target, imitated=imitated)
    assert np.isin(np.concatenate(seen), parts.training).all()
    # As many records as the target has members, 6 times; the distillation reads all 425 twice.
    assert sum(map(len, seen)) == 3 * 6 * 150 + (3 * 2 * 425 if imitated else 0)
    assert audit.facts.references == 3
    assert ("distilled" in audit.facts.training) == imitated
    # Least squares fits its members, so offline attacks find them.
    assert audit.figure("auc", attack="lira-offline-one_sided-fixed").value > 0.65


def test_a_call_that_was_stopped_goes_on_to_the_same_bytes(target, tmp_path):
    """The call is stopped twice, with a third and with two thirds of its tasks done."""
    options = {"imitated": True, "releases": {"rtn2": bitleak.RoundToNearest(levels=4)}}
    whole = audited(target, store=tmp_path / "whole", **options)
    stops = 0

    def stopping(done, stage):
        if stage == "references" and stops < 2 and done > (stops + 1) / 3:
            raise KeyboardInterrupt

    audit = None
    while audit is None:
        try:
            audit = audited(target, store=tmp_path / "parts", on_step=stopping, **options)
        except KeyboardInterrupt:
            stops += 1
    assert stops == 2
    assert audit.table.equals(whole.table)
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def contents(store):
    """The digests of all results by place, as the manifests have them."""
    places = {}
    for manifest in store.rglob("manifest.json"):
        places[str(manifest.parent.relative_to(store))] = json.loads(manifest.read_text())["files"]
    assert len(places) == 3 + 3 * (2 + 1 + 2)  # images, lists, answers; per reference five
    return places


@pytest.mark.usefixtures("without_figures")
def test_releases_of_a_quantizer_have_matched_references(target, tmp_path):
    releases = {"rtn2": bitleak.RoundToNearest(levels=4)}
    audit = audited(target, releases=releases, factory=linear)
    table = audit.table
    kinds = table[(table.metric == "auc") & (table.attack == "reference")]
    pairs = set(zip(kinds.variant, kinds.reference, strict=True))
    assert pairs >= {
        ("fp32", "fp32"), ("fp32", "recalibrated"), ("rtn2", "fp32"), ("rtn2", "recalibrated"),
        ("rtn2", "matched"), ("control", "fp32"),
    }  # fmt: skip

    # Single records have exposures under both releases: the scores of the members.
    audit.report(tmp_path)
    records = pandas.read_parquet(tmp_path / "records.parquet")
    assert set(records.variant) == {"fp32", "rtn2"}
    assert set(records[records.variant == "rtn2"].reference) == {"matched"}
    exposed = records[(records.variant == "fp32") & records.exposure.notna()].record
    assert sorted(exposed) == sorted(target.members)


def test_the_audit_is_the_same_again_and_the_global_generator_stays(target):
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first = audited(target).figure("auc", attack="rmia-offline-a0.3")
    assert torch.equal(torch.get_rng_state(), before)
    assert audited(target).figure("auc", attack="rmia-offline-a0.3") == first


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
    with pytest.raises(
        ConfigError, match="untrained networks are needed, and Own cannot be reset; pass factory="
    ):
        bitleak.audit_model(*given, tier=1, **OPTIONS)
