"""Membership that depends on the class, from a file to the rows and the first lines."""

import numpy as np

from bitleak.answers import AttackRequest, Scratch, prepare_attack
from bitleak.answers.attack_results import summarize
from bitleak.report import headline, tabulate
from bitleak.report.headline import judge_control

ATTACKS = ("lira-online-shrunk", "threshold")


def lacking(models=12, records=1200, classes=4):
    """Each model was never shown one class, of which it knows nothing; within the others membership changes nothing."""
    rng = np.random.default_rng(0)
    labels, missing = rng.integers(0, classes, records), np.arange(models) % classes
    member = (rng.random((models, records)) < 0.6) & (labels[None] != missing[:, None])
    logits = rng.normal(size=(models, records, classes))
    logits[:, np.arange(records), labels] += 2 + rng.normal(size=records)
    for model in range(models):
        logits[model, labels == missing[model], missing[model]] -= 4
    return {"logits": logits.astype(np.float32), "labels": labels, "member": member}


def by_loop(scores, member, labels):
    """AUC over pairs of the same class."""
    wins = pairs = 0.0
    for c in np.unique(labels):
        inside, others = scores[(labels == c) & member], scores[(labels == c) & ~member]
        pairs += len(inside) * len(others)
        wins += (inside[:, None] > others).sum() + 0.5 * (inside[:, None] == others).sum()
    return wins / pairs


def test_the_figure_within_classes_stands_beside_the_overall_one_for_every_target(lab, tmp_path):
    arrays = lacking()
    rows, prepared, scores = lab.rows_of(
        tmp_path, lab.write["npz"](tmp_path, arrays), attacks=ATTACKS, targets="0,5"
    )
    assert set(prepared.by_class) == {0, 5}
    case = prepared.cases[0]
    for attack in ATTACKS:
        own = {
            (r.target, r.metric): r.measure
            for r in rows
            if (r.variant, r.attack) == ("fp32", attack)
        }
        assert own["all", "auc"].value > 0.6
        assert abs(own["all", "auc_within_class"].value - 0.5) < 0.04
        assert own["all", "auc_within_class"].low < 0.5 < own["all", "auc_within_class"].high
        for place, target in enumerate((0, 5)):
            kept = prepared.design.records
            expected = by_loop(
                np.asarray(scores[case, attack])[place],
                arrays["member"][target][kept],
                arrays["labels"][kept],
            )
            assert abs(own[str(target), "auc_within_class"].value - expected) < 1e-12
            assert own[str(target), "tpr_within_class@0.1"].value < 0.17
    (sentence,) = summarize(prepared, rows).warnings
    assert sentence.startswith("Membership depends on the class in 2 targets of 2 (target ")
    assert "has 0 members among the" in sentence
    assert "within classes" in sentence


def test_where_membership_does_not_depend_on_the_class_nothing_is_added(lab, tmp_path):
    path = lab.write["npz"](tmp_path, lab.made(models=8, records=400))
    rows, prepared, _ = lab.rows_of(tmp_path, path, attacks=("threshold",))
    assert not prepared.by_class
    assert not any("within_class" in row.metric for row in rows)
    assert summarize(prepared, rows).warnings == ()


def test_classes_of_members_or_of_others_only_are_said_to_leave_nothing_to_measure(lab, tmp_path):
    arrays = lacking(models=6)
    arrays["member"] = (arrays["labels"][None] + np.arange(6)[:, None]) % 4 < 2
    path = lab.write["npz"](tmp_path, arrays)
    rows, prepared, _ = lab.rows_of(tmp_path, path, attacks=("threshold",))
    assert not any("within_class" in row.metric for row in rows)
    (sentence,) = summarize(prepared, rows).warnings
    assert (
        "No class has members and non-members, so nothing can be measured within classes."
        in sentence
    )


def test_scores_without_labels_cannot_tell(lab, tmp_path):
    arrays = lacking()
    path = lab.write["npz"](
        tmp_path, {"scores": arrays["logits"][..., 0], "member": arrays["member"]}
    )
    with Scratch(tmp_path) as scratch:
        assert not prepare_attack(AttackRequest(path, attacks=("threshold",)), scratch).by_class


def test_the_control_is_judged_within_classes(lab, tmp_path):
    """Classes differ in their answers and in their share of members, so that noise alone is away from 0.5 overall."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 10, 4000)
    member = rng.random((14, 4000)) < np.linspace(0.3, 0.7, 10)[labels]
    scores = rng.normal(size=(14, 4000)) + labels
    arrays = {"scores": scores.astype(np.float32), "member": member, "labels": labels}
    path = lab.write["npz"](tmp_path, arrays)
    rows, _, _ = lab.rows_of(
        tmp_path, path, attacks=("calibrated-online-logit_scaled",), targets="0,1"
    )
    own = {
        row.metric: row.measure for row in rows if (row.variant, row.target) == ("control", "all")
    }
    assert own["auc"].high < 0.5
    control = judge_control(tabulate(rows), *headline(rows))
    assert control.measure == own["auc_within_class"]
    assert control.status == "at chance"
    assert "AUC within classes" in control.sentence
