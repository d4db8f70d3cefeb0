"""The joint attack on full-precision and quantized answers that were made elsewhere."""

import numpy as np
import pytest
from scipy.stats import norm

from bitleak.answers import AttackRequest, Scratch, prepare_attack, try_attacks, write_attack
from bitleak.attacks import Joint, attack_view, two_class_signals
from bitleak.core.errors import ConfigError

FEW = ("lira-online-shrunk", "joint")
SHIFTS = (1.0, 0.8)


@pytest.fixture(scope="module")
def scores():
    """Two releases with independent noise."""
    rng = np.random.default_rng(0)
    first = rng.random((12, 3000)).argsort(axis=1).argsort(axis=1) < 1500
    member = np.stack([first, ~first], axis=1).reshape(24, 3000)
    return [
        {"member": member, "scores": shift * member + rng.normal(size=member.shape)}
        for shift in SHIFTS
    ]


def written(lab, folder, scores):
    full, quantized = (
        lab.write["npz"](folder, one, f"{name}.npz") for name, one in zip("ab", scores, strict=True)
    )
    return full, quantized


def measures(rows, variant):
    found = {
        (row.metric, row.target): row.measure
        for row in rows
        if row.attack == "joint" and row.variant == variant
    }
    assert found
    return found


def test_both_releases_have_the_closed_form_and_beat_the_better_one(lab, tmp_path, scores):
    full, quantized = written(lab, tmp_path, scores)
    rows, _, _ = lab.rows_of(tmp_path, full, quantized=quantized, attacks=FEW)
    for variant, shift in (
        ("fp32", SHIFTS[0]),
        ("quantized", SHIFTS[1]),
        ("fp32&quantized", np.hypot(*SHIFTS)),
    ):
        expected = norm.cdf(
            shift / np.sqrt(2 * (1 + 1 / 22))
        )  # the centre is estimated from 22 references
        assert measures(rows, variant)["auc", "all"].value == pytest.approx(expected, abs=0.01)
    both = measures(rows, "fp32&quantized")
    assert both["auc", "all"].verdict == "higher"
    assert both["auc_over_best", "all"].verdict == "higher"
    better = measures(rows, "fp32")
    for target in ("all", "0", "7"):
        difference = both["auc", target].value - better["auc", target].value
        assert both["auc_over_best", target].value == pytest.approx(difference, abs=1e-12)


def test_the_scores_are_those_of_the_attack_itself(lab, tmp_path, scores):
    full, quantized = written(
        lab, tmp_path, [{name: array[:8] for name, array in one.items()} for one in scores]
    )
    rows, _, _ = lab.rows_of(tmp_path, full, quantized=quantized, attacks=FEW, targets="2")
    member = scores[0]["member"][:8]
    rest = [0, 1, 4, 5, 6, 7]
    views = [
        attack_view(
            target=two_class_signals(one["scores"][2][:, None]),
            references=two_class_signals(one["scores"][rest][:, :, None]),
            member=member[rest],
            use=np.ones_like(member[rest]),
            population_target=np.zeros((0, 1, 6)),
            population_references=np.zeros((6, 0, 1, 6)),
            labels=np.zeros(3000, np.int64),
        )
        for one in scores
    ]
    found = Joint()(views)
    inside, outside = found[member[2]], found[~member[2]]
    area = np.mean(inside[:, None] > outside[None])
    assert measures(rows, "fp32&quantized")["auc", "2"].value == pytest.approx(area, abs=1e-9)


def test_it_has_a_bound_on_epsilon_and_figures_within_classes_as_other_attacks_have(
    lab, tmp_path, scores
):
    labels = np.arange(3000) % 3
    depends = scores[0]["member"] & (labels != np.arange(24)[:, None] % 3)
    both = [{"member": depends, "labels": labels, "scores": one["scores"]} for one in scores]
    full, quantized = written(lab, tmp_path, both)
    rows, prepared, _ = lab.rows_of(tmp_path, full, quantized=quantized, attacks=FEW, targets="0,1")
    assert set(prepared.by_class) == {0, 1}
    of_both = measures(rows, "fp32&quantized")
    for target in ("all", "0", "1"):
        assert of_both["epsilon", target].value >= 0
        assert of_both["auc_within_class", target].value > 0.6
    assert of_both["auc_within_class", "all"].verdict == "higher"
    assert measures(rows, "quantized")["auc_within_class", "all"].verdict == "lower"


def test_it_is_run_by_default_where_it_applies_and_not_elsewhere(lab, tmp_path, scores):
    full, quantized = written(
        lab, tmp_path, [{name: array[:8] for name, array in one.items()} for one in scores]
    )
    with Scratch(tmp_path) as scratch:
        assert prepare_attack(AttackRequest(full, quantized=quantized), scratch).joint
        assert not prepare_attack(AttackRequest(full), scratch).joint
        assert not prepare_attack(
            AttackRequest(full, quantized=quantized, attacks=("lira",)), scratch
        ).joint


def test_where_it_cannot_be_run_it_is_refused(lab, tmp_path, scores):
    full, quantized = written(
        lab, tmp_path, [{name: array[:8] for name, array in one.items()} for one in scores]
    )
    with Scratch(tmp_path) as scratch:
        with pytest.raises(ConfigError, match=r"joint cannot be run on .*: it needs --quantized"):
            prepare_attack(AttackRequest(full, attacks=("lira", "joint")), scratch)
        with pytest.raises(ConfigError, match="joint is read beside an attack on each release"):
            prepare_attack(AttackRequest(full, quantized=quantized, attacks=("joint",)), scratch)


def test_the_report_says_whether_both_tell_more(lab, tmp_path, scores):
    full, quantized = written(
        lab, tmp_path, [{name: array[:8] for name, array in one.items()} for one in scores]
    )
    with Scratch(tmp_path) as scratch:
        prepared, _ = try_attacks(
            prepare_attack(
                AttackRequest(full, quantized=quantized, attacks=FEW, targets="0,2"), scratch
            )
        )
        write_attack(prepared, tmp_path, scratch)
    page = (tmp_path / "report.html").read_text()
    assert "Several releases of one target" in page
    assert "The joint attack on fp32 and quantized together reaches AUC 0." in page
    assert "more than fp32 alone" in page
