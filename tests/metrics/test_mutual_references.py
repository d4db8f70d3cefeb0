"""Intervals of versions that are one another's references."""

import math

import pytest

from bitleak.core.types import Measure
from bitleak.metrics import Measures, widen_for_mutual_references


def measures(**figures):
    return Measures({name: (figure, figure) for name, figure in figures.items()}, figures)


def test_near_chance_every_figure_reaches_further_by_the_root_of_two():
    auc, rate = Measure(0.52, 0.47, 0.56), Measure(0.12, 0.02, 0.2)
    found = widen_for_mutual_references(measures(auc=auc, **{"tpr@0.1": rate}))
    for each in (found.aggregate, {name: targets[1] for name, targets in found.targets.items()}):
        assert each["auc"].low == pytest.approx(0.52 - 0.05 * math.sqrt(2))
        assert each["auc"].high == pytest.approx(0.52 + 0.04 * math.sqrt(2))
        assert each["tpr@0.1"].low == 0.0
        assert each["tpr@0.1"].high == pytest.approx(0.12 + 0.08 * math.sqrt(2))
        assert each["auc"].value == 0.52


@pytest.mark.parametrize(("low", "wide"), [(0.531, False), (0.529, True)])
def test_an_auc_that_is_clear_of_chance_even_so_is_left_as_it_is(low, wide):
    """0.6 - 0.5 is sqrt(2) times 0.0707."""
    found = widen_for_mutual_references(
        measures(auc=Measure(0.6, low, 0.66), balanced_accuracy=Measure(0.58, 0.52, 0.63))
    )
    assert (found.aggregate["auc"].low < low) == wide
    assert (found.aggregate["balanced_accuracy"].low < 0.52) == wide
    assert found.aggregate["balanced_accuracy"].low >= 0.5


def test_each_target_is_judged_by_its_own_auc():
    near, far = Measure(0.51, 0.45, 0.57), Measure(0.8, 0.75, 0.85)
    found = widen_for_mutual_references(
        Measures({"auc": (near, far)}, {"auc": Measure(0.65, 0.61, 0.69)})
    )
    assert found.targets["auc"][0].low == pytest.approx(0.51 - 0.06 * math.sqrt(2))
    assert found.targets["auc"][1] == far
    assert found.aggregate["auc"].low == 0.61


def test_figures_without_an_interval_are_left_alone():
    alone = Measure(0.5)
    assert widen_for_mutual_references(measures(auc=alone)).aggregate["auc"] == alone
