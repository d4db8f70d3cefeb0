"""Thresholds, power and single records of answers made elsewhere, against the functions they are made of."""

import numpy as np
import pytest

from bitleak import metrics
from bitleak.answers import (
    AttackRequest,
    Scratch,
    prepare_attack,
    run_attacks,
    try_attacks,
    write_attack,
)
from bitleak.answers.attack_forecast import attacking_seconds
from bitleak.answers.attack_run import views_of_answers
from bitleak.answers.target_views import FULL_BY_FULL
from bitleak.attacks import LiRA, Threshold, player_view, subset_view
from bitleak.core.errors import ConfigError
from bitleak.core.seeds import seed_for
from bitleak.report import read_power, read_summary


def test_thresholds_power_and_memorisation_are_those_of_the_functions(lab, tmp_path):
    arrays = lab.made(models=12)
    path = lab.write["npz"](tmp_path, arrays)
    with Scratch(tmp_path) as scratch:
        prepared, _ = try_attacks(
            prepare_attack(
                AttackRequest(
                    path, attacks=("lira-online-fixed", "threshold"), fprs=(0.1,), targets="0,3"
                ),
                scratch,
            )
        )
        found = run_attacks(prepared, scratch, lambda done, stage: None)
        views = views_of_answers(prepared, scratch, lambda done, stage: None)
        rows, use = prepared.design.references(3)
        view = views.of(3, FULL_BY_FULL, rows, use)
        played, member = player_view(view, np.random.default_rng(seed_for(0, "player", 3)))
        expected = metrics.threshold_for(LiRA("online", "fixed")(played)[~member], 0.1)
        assert found.thresholds(FULL_BY_FULL, LiRA("online", "fixed"))[1, 0] == expected
        outside = metrics.threshold_for(view.population_target[:, :, 1].mean(axis=1), 0.1)
        assert found.thresholds(FULL_BY_FULL, Threshold())[1, 0] == outside
        few = subset_view(view, 2, np.random.default_rng(seed_for(0, "power", 3)))
        area = metrics.auc(metrics.roc(LiRA("online", "fixed")(few), prepared.design.member[3]))
        by_row = {
            (row.attack, row.references, row.target, row.metric): row.measure.value
            for row in found.power.rows
        }
        assert by_row["lira-online-fixed", 2, "3", "auc"] == area
        assert {row.references for row in found.power.rows} == {2, 4, 5}
        probability = np.exp(lab.confidence(arrays["logits"], arrays["labels"])[:, :, 0])
        probability = probability / (1 + probability)
        inside = arrays["member"][:, 7]
        change = probability[inside, 7].mean() - probability[~inside, 7].mean()
        np.testing.assert_allclose(found.memorised["fp32"].mean[7], change, rtol=1e-9)


def test_a_folder_has_all_of_it(lab, tmp_path):
    path = lab.write["npz"](tmp_path, lab.made(models=8))
    out = tmp_path / "out"
    out.mkdir()
    with Scratch(out) as scratch:
        prepared, _ = try_attacks(
            prepare_attack(AttackRequest(path, attacks=lab.few, fprs=(0.1,), power=False), scratch)
        )
        write_attack(prepared, out, scratch)
    assert read_power(out) == []
    found = read_summary(out)
    assert (found.delta, found.priors) == (1e-5, (0.01, 0.1, 0.5))
    assert [one.variant for one in found.exposed.variants] == ["fp32"]
    assert found.exposed.variants[0].memorisation is not None
    assert len(found.exposed.classes) == 4


def test_expected_seconds_count_targets_cases_thresholds_and_fewer_references(lab, tmp_path):
    path = lab.write["npz"](tmp_path, lab.made(models=12))
    few = ("lira-online-fixed", "threshold")
    seconds = {"lira-online-fixed": 7.0, "threshold": 1.0}

    def total(targets: str, power: bool) -> float:
        with Scratch(tmp_path) as scratch:
            request = AttackRequest(path, attacks=few, fprs=(0.1,), targets=targets, power=power)
            return attacking_seconds(
                prepare_attack(request, scratch), seconds, playing=3.0, joint=0.5
            )

    # fp32, recalibrated and control: LiRA in three cases, the threshold in two; a player in two of them
    per_target = 7.0 * 2 + 1.0 * 2 + 7.0 + 3.0 * 2 + 0.5
    assert total("0", False) == per_target
    assert total("0,3,5", False) == 3 * per_target
    assert total("0,3", True) == 2 * per_target + 2 * 7.0 * (1 + 2 + 4) / 5


def test_priors_delta_and_metrics_are_those_of_the_request(lab, tmp_path):
    path = lab.write["npz"](tmp_path, lab.made(models=8))
    options = {"priors": (0.3, 0.2), "delta": 0.01, "metrics": ("advantage",)}
    rows, prepared, _ = lab.rows_of(tmp_path, path, attacks=("threshold",), targets="0", **options)
    at_default, _, _ = lab.rows_of(tmp_path, path, attacks=("threshold",), targets="0")
    names = {row.metric for row in rows}
    assert {name for name in names if "prior" in name} == {
        "precision@0.1,prior0.2",
        "precision@0.1,prior0.3",
    }
    assert (prepared.priors, prepared.delta) == ((0.2, 0.3), 0.01)

    def value(rows, metric):
        return next(
            row.measure.value
            for row in rows
            if (row.variant, row.target, row.metric) == ("fp32", "0", metric)
        )

    assert value(rows, "epsilon") <= value(at_default, "epsilon")
    assert value(rows, "advantage") > 0
    assert "advantage" not in {row.metric for row in at_default}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"priors": (0.1, 1.0)}, "--priors must be numbers between 0 and 1, got 1"),
        ({"delta": 1.0}, r"--delta must be a number in \[0, 1\), got 1.0"),
        ({"metrics": ("advantag",)}, "--metrics: unknown metric 'advantag'"),
    ],
)
def test_bad_priors_delta_and_metrics_are_refused_before_a_file_is_read(tmp_path, options, message):
    with Scratch(tmp_path) as scratch, pytest.raises(ConfigError, match=message):
        prepare_attack(AttackRequest(tmp_path / "absent.npz", **options), scratch)


def test_figures_that_are_absent_for_want_of_references_are_reported_as_in_an_audit(lab, tmp_path):
    path = lab.write["npz"](tmp_path, lab.made(models=6))
    out = tmp_path / "out"
    out.mkdir()
    with Scratch(out) as scratch:
        request = AttackRequest(path, attacks=("lira-online-fixed",), fprs=(0.1,))
        prepared, _ = try_attacks(prepare_attack(request, scratch))
        write_attack(prepared, out, scratch)
    (note,) = [note for note in read_summary(out).notes if note.startswith("Not computed")]
    assert note.startswith(
        "Not computed for lira-online-fixed: thresholds on fp32; thresholds on fp32, recalibrated; power at 1 "
        "reference per side, because variance 'fixed' needs at least 2 usable "
    )
