"""The tables of docs/memorised.md are those that the committed answers give."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from bitleak.core.variants import FULL

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "memorised.md").read_text()


@pytest.fixture(scope="module")
def script():
    path = ROOT / "benchmarks" / "memorised.py"
    spec = importlib.util.spec_from_file_location("memorised", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def answers(script):
    return script.Answers(script.FOLDER)


def test_the_accuracies_are_those_of_the_files(script, answers):
    for line in script.accuracy_table(answers):
        assert line in PAGE


def test_the_rows_of_brecq_are_those_of_the_files(script, answers):
    lines = [
        *script.variant_table(answers, [FULL, script.BASE], "lira-online-shrunk", "tpr@0.01"),
        *script.calibration_table(answers, [script.BASE], "lira-online-shrunk", 0.01),
    ]
    for line in lines:
        assert line in PAGE


def test_a_target_meets_its_complement_nowhere(answers):
    member = answers.member
    view = answers.view(3, FULL, FULL)
    alike = [np.array_equal(row, member[3]) or np.array_equal(row, ~member[3]) for row in member]
    assert sum(alike) == 2
    assert view.references.shape[:2] == (16, member.shape[1])
    assert (view.member.sum(axis=0) == 8).all()


def test_members_of_a_calibration_set_are_members(answers):
    assert not (answers.calibration & ~answers.member).any()
    assert answers.calibration.sum(axis=1).min() > 900
