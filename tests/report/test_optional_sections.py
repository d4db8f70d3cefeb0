"""Single records and fewer references: files, the summary's part and the page."""

import io
import json
import shutil
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from bitleak.core.errors import StoreError
from bitleak.core.types import Measure, Row
from bitleak.metrics import Memorisation
from bitleak.report import (
    PowerRow,
    RecordResults,
    Summary,
    exposed,
    pictured,
    read_power,
    read_summary,
    tabulate,
    variant_records,
    write_all,
    write_report,
)
from bitleak.report.figures.power_curves import grouped
from bitleak.report.sections.chosen_thresholds import epsilon_table, threshold_tables
from bitleak.report.sections.reference_counts import attacks_without_point


def made_records(records=40, targets=6, classes=2):
    rng = np.random.default_rng(0)
    member = rng.random((targets, records)) < 0.5
    member[:, 3] = False  # a record that nobody was trained on
    worth = np.arange(records, dtype=float)
    memorised = Memorisation(worth / records, np.full(records, 0.1))
    full = variant_records(
        ("fp32", "fp32"), np.tile(worth, (targets, 1)), member, memorised=memorised, seed=0
    )
    other = variant_records(
        ("rtn-2", "fp32"), np.tile(-worth, (targets, 1)), member, memorised=None, seed=0
    )
    labels = np.arange(records) % classes
    return RecordResults(
        "lira-online-fixed", 100 + np.arange(records), labels, (full, other), ("a<b", "c")
    )


def made_power(attacks=("lira-online-fixed", "lira-online-paper", "rmia-online", "reference")):
    rows = []
    for index, attack in enumerate(attacks):
        for count in (1, 2, 4, 7):
            if (attack, count) != ("lira-online-fixed", 1):
                for target in ("all", "0"):
                    value = 0.55 + 0.01 * count + 0.02 * index
                    area = Measure(value, value - 0.02, value + 0.02, 0.01, "records")
                    rows.append(PowerRow("fp32", attack, "fp32", count, target, "auc", area))
                    rows.append(
                        PowerRow(
                            "fp32",
                            attack,
                            "fp32",
                            count,
                            target,
                            "tpr@0.01",
                            replace(area, value=0.02),
                        )
                    )
    return rows


def png():
    sink = io.BytesIO()
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(sink, format="PNG")
    return sink.getvalue()


@pytest.fixture(scope="module")
def written(make, tmp_path_factory):
    """A folder with everything, and what was written; to be read only."""
    folder = tmp_path_factory.mktemp("everything")
    rows, records = make.rows(names=("rtn-2", "rtn", "lira-online-fixed")), made_records()
    found = exposed(records)
    summary = make.summary(rows, exposed=found, delta=1e-5, priors=(0.1,))
    pictures = dict.fromkeys(pictured(found), png())
    write_all(rows, [], summary, folder, records=records, powered=made_power(), pictures=pictures)
    return folder, rows, summary


def test_the_records_file_has_a_line_per_variant_and_record(written):
    folder, _, _ = written
    lines = pq.read_table(folder / "records.parquet").to_pylist()
    assert len(lines) == 80
    first = {(line["variant"], line["record"]): line for line in lines}
    line = first["fp32", 107]
    assert (line["exposure"], line["label"], line["memorisation"]) == (7.0, 1, 7 / 40)
    assert line["exposure_change"] is None
    assert first["rtn-2", 107]["exposure_change"] == -14.0
    assert first["rtn-2", 107]["memorisation"] is None
    nobody = first["fp32", 103]
    assert (nobody["targets"], nobody["exposure"]) == (0, None)


def test_the_summary_lists_both_ends_per_class_and_what_became_of_the_order(written):
    folder, _, summary = written
    found = read_summary(folder).exposed
    assert found == summary.exposed
    full, other = found.variants
    assert [one.record for one in full.most[:3]] == [139, 138, 137]
    assert [one.record for one in full.least[:4]] == [100, 101, 102, 104]
    assert (full.kept, full.mean_change) == (None, None)
    assert other.rank_correlation == pytest.approx(-1)
    assert other.kept == 0
    assert full.reliability == pytest.approx(1)
    assert [(one.label, one.most[0], one.least[0]) for one in found.classes] == [
        (0, 138, 100),
        (1, 139, 101),
    ]
    text = json.dumps(summary.to_json())
    assert Summary.from_json(json.loads(text)) == summary


def test_records_that_nobody_was_trained_on_have_no_part_in_the_summary():
    records = made_records()
    nobody = np.zeros((6, 40), bool)
    empty = variant_records(("fp32", "fp32"), np.zeros((6, 40)), nobody, memorised=None, seed=0)
    assert exposed(replace(records, variants=(empty,))) is None


def test_power_comes_back_and_goes_with_the_run(written, tmp_path):
    folder, rows, summary = written
    folder = shutil.copytree(folder, tmp_path / "out")
    assert read_power(folder) == made_power()
    assert (folder / "figures" / "power.svg").is_file()
    write_all(rows, [], summary, folder)
    assert read_power(folder) == []
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert not {"power.parquet", "records.parquet", "figures/power.png", "gallery/139.png"} & names


def test_a_broken_power_file_is_told(written, tmp_path):
    folder = shutil.copytree(written[0], tmp_path / "out")
    (folder / "power.parquet").write_bytes(b"no")
    with pytest.raises(StoreError, match=r"power\.parquet: not a readable Parquet file"):
        write_report(folder)


def test_attacks_are_grouped_and_what_could_not_run_is_told():
    rows = made_power()
    assert grouped(row.attack for row in rows) == {
        "LiRA online": ("lira-online-fixed", "lira-online-paper"),
        "RMIA": ("rmia-online",),
        "other attacks": ("reference",),
    }
    assert attacks_without_point(rows) == {1: ("lira-online-fixed",)}


def test_the_page_shows_records_power_and_pictures(written):
    folder, _, _ = written
    content = (folder / "report.html").read_text()
    assert content.count('src="data:image/png;base64,') == 20
    for words in (
        "How many references it takes",
        "No point at 1 reference per side: lira-online-fixed.",
        "Which records are exposed",
        "139, c: 39",
        "a&lt;b",
        "records.parquet",
    ):
        assert words in content, words
    assert "a<b" not in content


def test_pages_without_them_have_no_such_parts(folder):
    content = (folder / "report.html").read_text()
    for words in (
        "How many references",
        "Which records",
        "Lower bounds on epsilon",
        "adversary can choose",
    ):
        assert words not in content


def test_chosen_thresholds_and_the_largest_bound_are_tabulated(make):
    rows = make.rows(names=("rtn-2", "rtn", "lira-online-fixed"))
    summary = make.summary(rows, priors=(0.1,), delta=1e-5)

    def row(variant, attack, metric, value):
        return Row(variant, "", None, attack, "fp32", "all", metric, Measure(value, value, None))

    rows += [
        row("fp32", "lira-online-fixed", "tpr_chosen@0.01", 0.25),
        row("fp32", "lira-online-fixed", "epsilon", 0.5),
    ]
    rows += [
        row("fp32", "other", "auc", 0.6),
        row("fp32", "other", "epsilon", 0.75),
        row("rtn-2", "other", "epsilon", 0.0),
    ]
    (grid,) = threshold_tables(tabulate(rows), summary)
    assert [name for name, _ in grid.lines] == ["fp32"]
    assert grid.lines[0][1][0].main == "0.250"
    bounds = dict(epsilon_table(tabulate(rows), summary).lines)
    assert (bounds["fp32"][0].main, bounds["fp32"][0].small) == ("0.75", "other")
    assert (bounds["rtn-2"][0].main, bounds["rtn-2"][0].small) == ("0.00", "")
    assert epsilon_table(tabulate(make.rows()), summary) is None
