"""Who serves whom as a reference, and that nothing of the target's membership shows in it."""

import numpy as np
import pytest

from bitleak.answers.attack_design import attack_design, chosen_targets
from bitleak.core.errors import ConfigError, DataError
from bitleak.core.types import Splits
from bitleak.data.splits import references


def of(member, targets=None, **options):
    targets = tuple(range(len(member))) if targets is None else targets
    return attack_design(
        member, targets, **{"references": True, "seed": 0, "source": "FILE", **options}
    )


def test_a_population_gets_the_references_of_an_audit(lab):
    member = lab.pairs(np.random.default_rng(0), 8, 60)
    empty = np.empty(0, np.int64)
    splits = Splits("population", np.arange(60), member, np.arange(8), empty, empty, empty)
    found = of(member)
    for target in range(8):
        rows, use = found.references(target)
        expected_rows, expected_use = references(splits, target, seed=0)
        np.testing.assert_array_equal(rows, expected_rows)
        np.testing.assert_array_equal(use, expected_use)
    assert found.per_side() == 3


def test_a_draw_of_references_is_the_same_when_it_is_asked_for_again():
    member = np.random.default_rng(2).random((20, 101)) < 0.5
    design = of(member)
    for target in range(20):  # more than are kept
        rows, use = design.references(target)
        np.testing.assert_array_equal(design.reference_rows(target), rows)
        np.testing.assert_array_equal(design.references(target)[1], use)
        np.testing.assert_array_equal(of(member).references(target)[1], use)
        assert not use.all()


def test_a_complement_is_found_wherever_it_stands():
    rng = np.random.default_rng(0)
    member = rng.random((9, 40)) < 0.5
    member[7] = ~member[2]
    found = of(member, (2, 3, 7))
    assert found.complements == (7, -1, 2)
    assert 7 not in found.references(2)[0]
    assert 2 in found.references(3)[0]


def test_all_records_have_the_same_number_of_references_on_both_sides():
    member = np.random.default_rng(1).random((20, 3000)) < np.linspace(0.3, 0.7, 3000)
    found = of(member, (0, 5))
    for target in (0, 5):
        rows, use = found.references(target)
        inside = (use & found.member[rows]).sum(axis=0)
        outside = (use & ~found.member[rows]).sum(axis=0)
        assert inside.min() == inside.max() == outside.min() == outside.max() >= found.per_side()
        assert target not in rows


def test_records_without_references_are_left_out_by_number_whatever_the_target_is():
    member = np.random.default_rng(2).random((12, 50)).argsort(axis=0) < 6
    member[:, 7] = True
    member[:, 8] = False
    member[:, 9] = np.arange(12) < 2
    member[:, 10] = np.arange(12) >= 2
    member[:, 11] = np.arange(12) < 3
    for target in (0, 11):
        found = of(member, (target,))
        assert found.left_out.tolist() == [7, 8, 9, 10]
        assert found.records.tolist() == [
            record for record in range(50) if record not in (7, 8, 9, 10)
        ]
        np.testing.assert_array_equal(found.member, member[:, found.records])
    assert of(member, references=False).left_out.tolist() == []


@pytest.mark.parametrize("models", [1, 2, 5])
def test_few_models_have_no_references(models):
    member = np.random.default_rng(3).random((models, 50)) < 0.5
    found = of(member, (0,))
    assert not found.referenced
    assert found.per_side() == 0
    assert len(found.records) == 50
    assert found.references(0)[0].shape == (0,)
    assert found.references(0)[1].shape == (0, 50)


def test_a_target_without_non_members_is_refused():
    member = np.random.default_rng(4).random((12, 50)) < 0.5
    member[3] = True
    with pytest.raises(
        DataError, match=r"FILE: target 3 must have members and non-members, got \d+ members of"
    ):
        of(member)
    assert of(member, (0, 1)).targets == (0, 1)


@pytest.mark.parametrize(
    ("text", "names", "rows"),
    [
        (None, ("0", "1", "2"), (0, 1, 2)),
        ("2, 0", ("0", "1", "2"), (0, 2)),
        ("7", ("5", "7"), (1,)),
        ("experiment-1,0", ("experiment-0", "experiment-1"), (0, 1)),
    ],
)
def test_targets_are_named_by_name_or_row(text, names, rows):
    assert chosen_targets(text, names, tuple(range(len(names)))) == rows


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3", "--targets must be models from 0 to 2, got '3'"),
        ("a", "from 0 to 2, got 'a'"),
        ("0,,1", "got ''"),
        ("-1", "got '-1'"),
        ("1,1", "a model is named twice"),
        ("2", "the quantized file has no answers of model 2"),
    ],
)
def test_targets_that_cannot_be_used_are_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        chosen_targets(text, ("0", "1", "2"), (0, 1))
