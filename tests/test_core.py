"""Seeds and checks."""

import pytest

from bitleak import registry
from bitleak.core.checks import integer_in, number_in, one_of
from bitleak.core.seeds import seed_for


def test_seeds_are_pinned_since_stores_depend_on_them():
    assert seed_for(0, "train", 0) == 4526955529511422063


def test_names_are_separated():
    assert seed_for(0, "ab", "c") != seed_for(0, "a", "bc")
    assert seed_for(0, "1") != seed_for(0, 1)


@pytest.mark.parametrize("value", [True, 3.0, "3", 1, 257, None])
def test_integers_are_strict(value):
    with pytest.raises(ValueError, match="levels must be an integer from 2 to 256"):
        integer_in("levels", value, 2, 256)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0, 1.5, "x", True])
def test_numbers_are_finite_and_in_range(value):
    with pytest.raises(ValueError, match=r"fpr must be a number in \(0, 1\]"):
        number_in("fpr", value, 0, 1, ends="(]")


def test_an_unknown_name_gets_the_nearest_and_the_list():
    with pytest.raises(ValueError, match=r"did you mean 'members'\? Known: holdout, members"):
        one_of("source", "member", ["members", "holdout"])


def test_every_name_of_the_registry_can_be_found():
    for table in (
        registry.DATASETS,
        registry.MODELS,
        registry.QUANTIZERS,
        registry.TOOLS,
        registry.RUNTIMES,
        registry.ATTACKS,
        registry.EXECUTORS,
    ):
        for name in table:
            assert registry.find(table, name, kind="entry") is not None
