"""How many references an audit needs: the power curve of an earlier one, and the cost of each number."""

import pytest
import yaml

from bitleak.audit import forecast, prepare
from bitleak.audit.reference_pilot import needed_references, pilot_curve
from bitleak.cli import main
from bitleak.core.errors import ConfigError
from bitleak.core.types import Measure
from bitleak.report.power_file import PowerRow, write_power

RAW = {
    "data": {"name": "digits", "limit": 240},
    "split": {"models": 16, "targets": 2, "population": 20},
    "model": {"name": "cnn", "width": 4},
    "calibration": {"records": 32},
    "quantize": [{"name": "adaround", "levels": [4]}],
    "attacks": ["lira-online-shrunk"],
    "references": ["fp32"],
    "fpr": [0.1],
}


def pilot(folder, *, spread=0.001, counts=(1, 2, 4, 8)):
    rows = []
    for target in range(4):
        for count in counts:
            area = 0.8 + spread * target - 0.1 / count
            measure = Measure(area, area - 0.01, area + 0.01)
            rows.append(
                PowerRow("fp32", "lira-online-shrunk", "fp32", count, str(target), "auc", measure)
            )
    folder.mkdir(exist_ok=True)
    write_power(rows, folder)
    return folder


def test_numbers_of_references_have_the_curves_auc_and_the_forecasts_seconds(tmp_path):
    curve = pilot_curve(pilot(tmp_path / "pilot"), "lira-online-shrunk")
    planned = []

    def seconds(config):
        planned.append(prepare(config, device="cpu"))
        return forecast(planned[-1], None, workers=1).seconds

    rows = needed_references(RAW, curve, seconds)
    assert [(row.quantized, row.per_side) for row in rows] == [(4, 2), (8, 4), (None, 7)]
    assert [row.area.value for row in rows] == pytest.approx([0.8015 - 0.1 / n for n in (2, 4, 7)])
    quantized = [sum(task.stage == "quantize" for task in of.plan.tasks) for of in planned]
    assert quantized == [6, 10, 16]
    assert rows[0].seconds < rows[1].seconds < rows[2].seconds


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (
            {"spread": 0.02},
            "which is wider than 0.02 and decides nothing; run a pilot with more targets",
        ),
        ({"counts": (1, 2, 4)}, "got 1, 2, 4; run a larger pilot"),
        (None, "has no power.parquet"),
    ],
)
def test_a_pilot_that_decides_nothing_is_refused(tmp_path, made, message):
    folder = tmp_path if made is None else pilot(tmp_path / "pilot", **made)
    with pytest.raises(ConfigError, match=message):
        pilot_curve(folder, "lira-online-shrunk")


def test_an_attack_without_a_curve_and_dedicated_targets_are_refused(tmp_path):
    folder = pilot(tmp_path / "pilot")
    with pytest.raises(
        ConfigError, match="no power curve of rmia-online; it has lira-online-shrunk"
    ):
        pilot_curve(folder, "rmia-online")
    split = {"mode": "dedicated", "targets": 2, "shadows": 8, "population": 20}
    with pytest.raises(ConfigError, match=r"or split.pairs: true of dedicated"):
        needed_references(
            {**RAW, "split": split}, pilot_curve(folder, "lira-online-shrunk"), lambda _: 0.0
        )


def test_the_plan_shows_them(tmp_path, capsys):
    config = tmp_path / "audit.yaml"
    config.write_text(yaml.safe_dump(RAW))
    folder = pilot(tmp_path / "pilot")
    assert (
        main(["plan", str(config), "--store", str(tmp_path / "store"), "--pilot", str(folder)]) == 0
    )
    printed = capsys.readouterr().out
    assert "A = 0.802 [0.799, 0.804], B = 0.100" in " ".join(printed.split())
    lines = [line.split() for line in printed.splitlines() if line.startswith(("4 ", "8 ", "all"))]
    assert [line[:2] for line in lines] == [["4", "2"], ["8", "4"], ["all", "(matched)"]]
    assert not (tmp_path / "store").exists()
