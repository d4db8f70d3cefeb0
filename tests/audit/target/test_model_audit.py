"""`audit_model`: right figures, paired releases, and a network that is left as it was."""

import numpy as np
import pytest
import torch
from scipy.stats import rankdata
from torch import nn
from toy_target import DEVIATION, MEAN, toy

import bitleak
from bitleak.audit.target.release_rows import AttackSettings, Release, Signals, attacked_releases
from bitleak.core.signals import signals

RIGHT = {"mean": MEAN, "deviation": DEVIATION}


@pytest.fixture(scope="module")
def target():
    return toy()


@pytest.fixture(scope="module")
def audit(target):
    releases = {"same": target.network, "rtn2": bitleak.RoundToNearest(levels=4)}
    given = (target.network, target.images, target.labels, target.members)
    return bitleak.audit_model(*given, releases=releases, allow_separable=True, **RIGHT)


def plain_auc(scores, member):
    """The chance that a member outscores a non-member, pair by pair."""
    ranks = rankdata(scores)[member].sum()
    inside = member.sum()
    return (ranks - inside * (inside + 1) / 2) / (inside * (len(member) - inside))


def test_the_auc_is_that_of_the_logits(target, audit):
    mean, deviation = (np.reshape(values, (3, 1, 1)) for values in (MEAN, DEVIATION))
    inputs = torch.from_numpy((target.images / 255 - mean) / deviation).float()
    with torch.no_grad():
        logits = target.network(inputs).double().numpy()
    loss = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(800), target.labels]
    # The evaluated others are those that the adversary's population leaves: three quarters.
    evaluated = audit.facts.non_members
    assert (evaluated, audit.facts.population, audit.facts.members) == (488, 162, 150)
    others = np.setdiff1d(np.arange(800), target.members)
    member = np.isin(np.arange(800), target.members)
    all_others = plain_auc(-loss, member)
    found = audit.figure("auc", attack="threshold-log_probability")
    assert found.low < all_others < found.high
    assert found.value == pytest.approx(all_others, abs=0.03)
    assert found.about == "records"
    assert audit.figure("train_accuracy").value == 1.0
    right = (logits.argmax(axis=1) == target.labels)[others].mean()
    assert audit.figure("test_accuracy").value == pytest.approx(right, abs=0.02)


def test_releases_are_paired_with_full_precision(audit):
    same = audit.figure("auc", attack="threshold", variant="same")
    assert same.difference == 0
    assert -0.01 < same.difference_low <= 0 <= same.difference_high < 0.01
    assert same.value == audit.figure("auc", attack="threshold").value
    coarse = audit.figure("auc", attack="threshold", variant="rtn2")
    assert coarse.difference == pytest.approx(coarse.value - same.value)
    # Paired: the interval of the difference is shorter than those of two separate figures.
    assert (
        coarse.difference_high - coarse.difference_low < 0.9 * (coarse.high - coarse.low) * 2**0.5
    )


def test_the_table_is_a_data_frame_with_every_attack_and_no_trainings(audit):
    table = audit.table
    attacks = {
        "blind", "threshold", "threshold-log_probability", "threshold-hinge", "threshold-entropy",
        "threshold-modified_entropy", "threshold-correct", "population",
    }  # fmt: skip
    assert set(table[table.metric == "auc"].attack) == attacks
    assert set(table.variant) == {"fp32", "same", "rtn2", "control"}
    assert set(table.about) <= {"records", ""}
    assert table.low.le(table.value + 1e-9).where(table.low.notna(), True).all()
    assert "trainings" not in audit.table.to_csv()


def test_the_report_begins_with_the_tier_and_the_next_one(audit, tmp_path):
    lines = audit.summary().splitlines()
    assert lines[0].startswith("Tier 0: one target, nothing was trained.")
    assert "cannot show the leakage to one who compares each record with other models" in lines[0]
    assert "Blind baseline" in lines[1]
    assert lines[2].startswith("Next, tier 1: offline attacks")
    assert "minute" in lines[2]
    page = audit.report(tmp_path / "out").read_text()
    assert (
        page.index("Tier 0: one target")
        < page.index("Blind baseline")
        < page.index("What was audited")
    )
    assert (tmp_path / "out" / "results.csv").is_file()
    assert "<table>" in audit._repr_html_()
    assert "Tier 0" in audit._repr_html_()


def test_the_network_stays_as_it_was(target):
    class Real(nn.Module):
        """A mapping with an auxiliary output, functional ReLU, `view`, and batch norm."""

        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm2d(3, affine=False, eps=0)
            self.norm.running_mean.copy_(torch.tensor(MEAN))
            self.norm.running_var.copy_(torch.tensor(DEVIATION) ** 2)
            self.inner = target.network[1]

        def forward(self, images):
            x = self.norm(images)
            x = nn.functional.relu(x) - nn.functional.relu(-x)
            logits = self.inner(x.contiguous().view(len(x), -1))
            return {"aux": logits[:, :2], "logits": logits}

    network = Real().train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    given = (target.images, target.labels, target.members)
    found = bitleak.audit_model(network, *given, allow_separable=True)
    assert found.figure("train_accuracy").value == 1.0
    assert network.training
    assert network.norm.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    plain = bitleak.audit_model(target.network, *given, **RIGHT, allow_separable=True)
    areas = [audit.figure("auc", attack="threshold").value for audit in (found, plain)]
    assert areas[0] == pytest.approx(areas[1], abs=1e-3)


def test_noise_in_place_of_the_answers_is_at_chance_for_every_attack():
    rng = np.random.default_rng(0)
    records, population, classes = 20_000, 1000, 10
    labels = rng.integers(0, classes, records + population)
    logits = rng.normal(0, 3, (records + population, classes))
    answers = signals(logits, labels)[:, None]
    release = Release("fp32", "", None, Signals(answers[:records], answers[records:]))
    member = rng.random(records) < 0.5
    # Epsilon's bounds take most of the time, and are not the subject.
    found = attacked_releases([release], member, labels[:records], AttackSettings((0.01,), (0.5,)))
    areas = [row for row in found.rows if row.metric == "auc" and row.target == "all"]
    assert len(areas) == 14  # seven attacks, on the noise given and on the control
    for row in areas:
        assert abs(row.measure.value - 0.5) < 0.02, row


def test_anything_with_predict_proba_is_asked(target):
    class Softmax:
        def predict_proba(self, inputs):
            with torch.no_grad():
                return target.network(torch.from_numpy(inputs)).softmax(dim=1).numpy()

    given = (target.images, target.labels, target.members)
    network = bitleak.audit_model(target.network, *given, **RIGHT, allow_separable=True)
    asked = bitleak.audit_model(Softmax(), *given, **RIGHT, allow_separable=True)
    areas = [audit.figure("auc", attack="threshold").value for audit in (network, asked)]
    assert areas[0] == pytest.approx(areas[1], abs=1e-3)


def test_unknown_tiers_and_names_are_refused(target):
    given = (target.network, target.images, target.labels, target.members)
    with pytest.raises(bitleak.BitleakError, match="tier: expected 0, 1 or 2, got 3"):
        bitleak.audit_model(*given, tier=3, **RIGHT)
    for name in ("fp32", "a&b", ""):
        with pytest.raises(bitleak.BitleakError, match="releases: "):
            bitleak.audit_model(*given, releases={name: target.network}, **RIGHT)
    with pytest.raises(bitleak.BitleakError, match=r"releases.x: expected a network, weights"):
        bitleak.audit_model(*given, releases={"x": 3}, **RIGHT)
