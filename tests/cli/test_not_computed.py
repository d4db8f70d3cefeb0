"""Figures that an audit leaves out: with the reason if references are too few, never because of a bug."""

import csv
import json
import re

import numpy as np
import pytest

from bitleak.attacks import LiRA

FULL = 6  # references of a target of 8 models
ARGUMENTS = ("audit", "config.yaml", "--out", "out", "--store", "store", "--executor", "serial")


@pytest.mark.usefixtures("without_figures")
def test_a_shape_error_in_an_attack_fails_the_task_and_not_the_row(
    bitleak, tiny, monkeypatch, tmp_path
):
    attack = LiRA.__call__

    def broken(self, view):
        """LiRA with an error of broadcasting that only fewer references bring out."""
        scores = attack(self, view)
        return scores if len(view.references) >= FULL else scores[:, None] + np.zeros((3, 7))

    monkeypatch.setattr(LiRA, "__call__", broken)
    tiny["split"]["models"] = FULL + 2
    small = {
        "power": False,
        "attacks": ["lira-online-fixed"],
        "quantize": [],
        "references": ["fp32"],
    }
    code, out, err = bitleak(*ARGUMENTS, config={**tiny, **small})
    assert code == 1
    assert "thresholds on fp32" in err
    assert "could not be broadcast together" in err
    assert "log:" in err
    assert "Traceback" not in out + err
    assert not (tmp_path / "out" / "results.csv").exists()


@pytest.mark.usefixtures("without_figures")
def test_with_too_few_references_the_row_is_absent_and_the_report_gives_the_reason(
    bitleak, tiny, tmp_path
):
    query = {**tiny.get("query", {}), "keep": "logits"}
    tiny = {
        **tiny,
        "attacks": ["lira-online-fixed", "reference"],
        "references": ["fp32"],
        "query": query,
    }
    assert bitleak(*ARGUMENTS, config=tiny)[0] == 0
    with (tmp_path / "out" / "results.csv").open(newline="") as file:
        chosen = {
            row["attack"] for row in csv.DictReader(file) if row["metric"].startswith("fpr_chosen")
        }
    assert chosen == {
        "reference"
    }  # with a reference in the target's place, each record keeps one per side
    notes = json.loads((tmp_path / "out" / "summary.json").read_text())["notes"]
    reason = "variance 'fixed' needs at least 2 usable OUT references for every record, got 1 for record 0"
    assert [note.partition(" (")[0] for note in notes] == [
        "The logits of a variant were divided by a temperature, fitted to the population records",
        f"Not computed for lira-online-fixed: thresholds on fp32; power at 1 reference per side, because {reason}",
    ]
    assert re.search(
        r"\(fp32: \d+\.\d+(, at the limit [a-z ]+)?\); targets are on the scale", notes[0]
    )
    assert reason in (tmp_path / "out" / "report.html").read_text().replace("&#39;", "'")
