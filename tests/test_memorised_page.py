"""The tables of docs/memorised.md are those that the committed answers give."""

import importlib
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from bitleak.core.variants import FULL

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "memorised.md").read_text()


@pytest.fixture(scope="module")
def script():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        return importlib.import_module("memorised_tables")
    finally:
        sys.path.pop(0)


@pytest.fixture(scope="module")
def answers(script):
    return script.Answers(script.FOLDER)


def test_every_table_of_the_page_is_one_that_can_be_made(script):
    wanted = [found[2] for found in script.MARK.finditer(PAGE)]
    assert len(wanted) > 10
    assert {name.split()[0] for name in wanted} <= set(script.TABLES)
    assert all(found[3] for found in script.MARK.finditer(PAGE))
    assert not re.search(r"^\|.*\n[^|\n]", PAGE, flags=re.MULTILINE)


def test_a_page_is_filled_at_its_marks_alone(script, answers, tmp_path):
    page = tmp_path / "page.md"
    mark = "<!-- table: accuracies model -->\n\n"
    page.write_text(f"Before\n\n{mark}| old |\n|---|\n\nAfter | it\n")
    script.fill(page, answers)
    table = script.table(answers, "accuracies model")
    assert page.read_text() == f"Before\n\n{mark}{table}\nAfter | it\n"
    page.write_text(f"{mark}After\n")
    script.fill(page, answers)
    assert page.read_text() == f"{mark}{table}\nAfter\n"
    page.write_text(f"{mark}| old |\n")
    script.fill(page, answers, ["cross"])
    assert page.read_text() == f"{mark}| old |\n"


def test_the_accuracies_are_those_of_the_files(script, answers):
    for kind in (script.FIRST, script.AGAIN):
        assert script.table(answers, f"accuracies {kind}") in PAGE


def test_the_rows_of_brecq_are_those_of_the_files(script, answers):
    again = "brecq-paper-1.58+last8"
    for line in (
        script.variant_row(answers, again, script.ATTACK, "tpr@0.01", script.AGAIN),
        script.variant_row(answers, FULL, script.ATTACK, "tpr@0.01"),
        script.variant_row(answers, script.BASE, script.ATTACK, "tpr@0.01"),
        script.alike_row(answers, again, (0, 1, 2, 3), "rmia-online", "tpr@0.01"),
        *script.calibration_rows(answers, script.BASE),
    ):
        assert line in PAGE


def test_a_target_meets_its_complement_nowhere(script, answers):
    member = answers.member
    view = answers.view(3, script.Adversary(FULL, FULL))
    alike = [np.array_equal(row, member[3]) or np.array_equal(row, ~member[3]) for row in member]
    assert sum(alike) == 2
    assert view.references.shape[:2] == (16, member.shape[1])
    assert (view.member.sum(axis=0) == 8).all()


@pytest.fixture
def twice(script, tmp_path):
    """The answers of the first networks, and some of them as if of networks trained anew."""

    def build(models):
        for path in script.FOLDER.glob("[pm]o*.npz"):
            (tmp_path / path.name).symlink_to(path)
        for model in models:
            first = script.FOLDER / f"model-{model:02d}.npz"
            (tmp_path / f"again-{model:02d}.npz").symlink_to(first)
        return script.Answers(tmp_path)

    return build


def test_networks_trained_anew_are_each_others_references(script, answers, twice):
    found = twice(range(18))
    again = script.AGAIN
    adversary = script.Adversary(script.BASE, script.BASE, kind=again, of=again)
    expected = answers.adversaries(script.BASE)["matched"]
    for of_first, of_again in (
        (expected, adversary),
        (script.Adversary(FULL, FULL), script.Adversary(FULL, FULL, kind=again, of=again)),
    ):
        np.testing.assert_array_equal(
            found.scores(script.ATTACK, of_again, (0, 5)),
            answers.scores(script.ATTACK, of_first, (0, 5)),
        )


def test_networks_trained_anew_are_references_in_whole_pairs(script, twice):
    found = twice([0, 1, 4, 5, 6, 12, 13])
    again = script.AGAIN
    assert found.pairs([FULL, script.BASE], again) == (0, 1, 4, 5, 12, 13)
    view = found.view(5, script.Adversary(FULL, FULL, kind=again, of=again))
    np.testing.assert_array_equal(
        view.references[..., 0], found.signals(FULL)[[0, 1, 12, 13], : len(found.labels), :, 0]
    )
    assert (view.member.sum(axis=0) == 2).all()
    rows = list(script.alike_table(found, script.ATTACK, "tpr@0.01"))[2:]
    assert {line.split(" | ")[1] for line in rows} == {"6"}
    assert {line.split(" | ")[2] for line in rows} == {"2"}


def test_members_of_a_calibration_set_are_members(answers):
    assert not (answers.calibration & ~answers.member).any()
    assert answers.calibration.sum(axis=1).min() > 900


def test_one_release_alone_is_attacked_as_by_lira(script, answers):
    targets = tuple(range(len(answers.member)))
    adversary = script.Adversary(FULL, FULL)
    np.testing.assert_allclose(
        answers.joint_scores("joint", (FULL,)),
        answers.scores(script.ATTACK, adversary, targets),
        atol=1e-9,
    )
