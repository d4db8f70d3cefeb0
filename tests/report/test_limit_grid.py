"""The outcomes behind the page's sliders are those of `bitleak check` at the same limits."""

import itertools
from dataclasses import replace

import pytest

from bitleak.core.release_limits import ReleaseLimits
from bitleak.report import tabulate
from bitleak.report.charts import limits_chart
from bitleak.report.limit_grid import limit_grid
from bitleak.report.release_gate import Limit, check_limits


@pytest.fixture(scope="module")
def grid(rows, summary):
    return limit_grid(tabulate(rows), summary)


def checked(rows, summary, grid, loss, leakage):
    limits = [Limit("test_accuracy", grid.losses[loss]), Limit(grid.metric, grid.leakages[leakage])]
    adversary = f"{grid.attack}/{grid.reference}"
    return check_limits(rows, summary, limits, adversary=adversary)


def test_every_outcome_is_that_of_a_check_at_the_same_limits(rows, summary, grid):
    aggregated = [row for row in rows if row.target == "all"]
    seen = set()
    for loss in range(0, len(grid.losses), 4):
        for leakage in range(0, len(grid.leakages), 5):
            result = checked(aggregated, summary, grid, loss, leakage)
            outcomes = [check.outcome for check in result.variants]
            assert outcomes == [place.outcome for place in grid.decisions[loss][leakage]]
            needed = [
                grid.needed(summary, loss, leakage, index)
                for index, check in enumerate(result.variants)
                if check.outcome == "inconclusive"
            ]
            assert needed == [check.needed for check in result.variants if check.needed]
            seen |= set(outcomes)
    assert seen == {"pass", "fail", "inconclusive"}


def test_looser_limits_never_lose_a_pass(grid):
    passes = [
        [[entry.outcome == "pass" for entry in place] for place in by_leakage]
        for by_leakage in grid.decisions
    ]
    for tighter, looser in itertools.pairwise(passes):
        for first, second in zip(tighter, looser, strict=True):
            assert all(after or not before for before, after in zip(first, second, strict=True))


def test_a_measurement_in_doubt_decides_nothing(make):
    rows = make.rows(control=(0.6, 0.65))
    grid = limit_grid(tabulate(rows), make.summary(rows))
    outcomes = {entry.outcome for by in grid.decisions for place in by for entry in place}
    assert outcomes == {"not evaluable"}
    assert "biased" in grid.doubt


def test_full_precision_alone_has_a_limit_on_leakage_alone(make):
    rows = [row for row in make.rows() if row.variant != "rtn-2"]
    grid = limit_grid(tabulate(rows), make.summary(rows))
    assert grid.variants == ("fp32",)
    assert grid.losses == ()
    assert {entry.outcome for place in grid.decisions[0] for (entry,) in [place]} >= {
        "pass",
        "fail",
    }


def test_without_a_tpr_the_auc_is_bounded(make):
    rows = [row for row in make.rows() if not row.metric.startswith("tpr")]
    grid = limit_grid(tabulate(rows), make.summary(rows))
    assert grid.metric == "auc"
    assert grid.leakages[0] == 0.5
    unmeasured = [replace(row, measure=replace(row.measure, low=None)) for row in rows]
    assert limit_grid(tabulate(unmeasured), make.summary(rows)) is None


@pytest.mark.parametrize("metric", ["tpr@0.001", "tpr@0.01", "auc"])
def test_the_sliders_begin_at_the_limits_of_the_config_and_decide_as_check_does(
    rows, summary, metric
):
    limits = ReleaseLimits({metric: 0.5703}, max_accuracy_drop=0.0123)
    grid = limit_grid(tabulate(rows), replace(summary, limits=limits))
    loss, leakage = grid.first
    assert (grid.metric, grid.losses[loss], grid.leakages[leakage]) == (metric, 0.0123, 0.5703)
    assert list(grid.losses) == sorted(grid.losses)
    assert list(grid.leakages) == sorted(grid.leakages)
    result = checked(rows, summary, grid, loss, leakage)
    outcomes = [check.outcome for check in result.variants]
    assert outcomes == [place.outcome for place in grid.decisions[loss][leakage]]


def test_the_sliders_are_about_the_adversary_that_the_limits_name(rows, summary):
    limits = ReleaseLimits({"auc": 0.6}, adversary="threshold")
    grid = limit_grid(tabulate(rows), replace(summary, limits=limits))
    assert (grid.attack, grid.reference) == ("threshold", "")


def test_a_figure_that_the_page_has_no_words_for_leaves_the_sliders_as_they_are(rows, summary):
    limits = ReleaseLimits({"balanced_accuracy": 0.6}, adversary="lira-online-fixed/matched")
    grid = limit_grid(tabulate(rows), replace(summary, limits=limits))
    assert grid.metric == f"tpr@{summary.headline_fpr:g}"


def test_every_labelled_loss_is_inside_the_axis(rows, grid):
    layers = limits_chart(tabulate(rows), grid)["layer"]
    axes = []
    layers = [*layers, *(inner for layer in layers for inner in layer.get("layer", ()))]
    for layer in layers:
        x = layer.get("encoding", {}).get("x", {})
        if "axis" in x:
            axes.append((x["axis"]["values"], x["scale"]["domain"]))
    assert axes
    for values, (lowest, highest) in axes:
        assert {0, 1, 2} <= set(values)
        assert lowest <= min(values)
        assert max(values) <= highest
