"""An audit of a table in the layout of Purchase-100, from the file to the report."""

import csv
import json
import sys

import numpy as np
import pytest

CONFIG = {
    "data": {"name": "table", "path": "purchases.csv", "label": 0, "header": False},
    "split": {"models": 6, "targets": 1, "population": 20},
    "model": {"name": "mlp", "hidden": [12], "activation": "tanh"},
    "train": {"epochs": 8, "batch": 16, "learning_rate": 0.05},
    "calibration": {"records": 32},
    "quantize": [{"name": "rtn", "levels": 4}, {"name": "obc", "levels": 4}],
    "attacks": ["lira-online-fixed", "rmia-offline", "population", "threshold"],
    "fpr": [0.1],
    "power": False,
}
NET = """
from torch import nn

def net(in_features, num_classes, width=8):
    return nn.Sequential(nn.Linear(in_features, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, num_classes))
"""


@pytest.fixture
def purchases(tmp_path):
    """200 rows of 600 purchases, four classes, two rows that are equal; the label is the first column."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 200)
    habits = rng.random((4, 600))
    features = (rng.random((200, 600)) < 0.5 + 0.3 * (habits[labels] - 0.5)).astype(int)
    features[7], labels[7] = features[3], labels[3]
    lines = []
    for label, row in zip(labels, features, strict=True):
        lines.append(",".join(map(str, [label + 1, *row])))
    (tmp_path / "purchases.csv").write_text("\n".join(lines))


def rows_of(folder):
    with (folder / "results.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.usefixtures("purchases", "without_figures", "shapes_unchecked")
def test_purchases_go_from_the_file_to_the_report(bitleak, tmp_path):
    code, out, err = bitleak("audit", "config.yaml", "--executor", "serial", config=CONFIG)
    assert code == 0, out + err
    assert "data: labels from column '0', 600 columns of features" in out
    assert "data: 200 rows, 4 classes (" in out
    folder = tmp_path / "audits" / "config"
    rows = [row for row in rows_of(folder) if row["target"] == "all"]

    # Every quantizer has its figures, under every adversary.
    auc = {
        (row["variant"], row["reference"]): float(row["value"])
        for row in rows
        if row["metric"] == "auc" and row["attack"] == "lira-online-fixed"
    }
    for name in ("rtn", "obc"):
        for reference in ("fp32", "matched", "recalibrated"):
            assert 0.3 < auc[f"{name}-2", reference] <= 1
    # A network of 7,200 weights on 70 rows of noise knows them by heart, and betrays them.
    assert auc["fp32", "fp32"] > 0.75
    accuracy = {row["metric"]: float(row["value"]) for row in rows if row["variant"] == "fp32"}
    assert accuracy["train_accuracy"] > 0.95

    # Single records have their deviations, and no picture.
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["copies"]["near"] == 0
    described = dict(summary["exposed"]["rows"])
    full = summary["exposed"]["variants"][0]
    assert set(described) == {entry["record"] for entry in (*full["most"], *full["least"])}
    assert all(text.count(" = ") == 3 for text in described.values())
    page = (folder / "report.html").read_text()
    assert "largest deviations from the mean" in page
    assert "<img" not in page
    assert not (folder / "gallery").exists()


@pytest.mark.usefixtures("purchases", "without_new_process", "without_figures")
def test_a_network_of_ones_own_is_given_the_columns(bitleak, tmp_path, monkeypatch):
    (tmp_path / "table_zoo.py").write_text(NET)
    monkeypatch.syspath_prepend(tmp_path)
    model = {"name": "external", "factory": "table_zoo:net", "options": {"width": 4}}
    config = {
        **CONFIG,
        "model": model,
        "quantize": [{"name": "rtn", "levels": 4}],
        "attacks": ["threshold"],
    }
    config["train"] = {**CONFIG["train"], "epochs": 1}
    code, out, err = bitleak("audit", "config.yaml", "--executor", "serial", config=config)
    assert code == 0, out + err
    assert "channels-last" not in out
    del sys.modules["table_zoo"]


@pytest.mark.usefixtures("purchases")
def test_one_network_of_a_table_is_quantized_and_exported(bitleak, tmp_path):
    from safetensors.numpy import save_file

    from bitleak.core.types import ModelSpec
    from bitleak.models import build, state

    spec = ModelSpec("mlp", {"hidden": [8]}, 4, 600, 0, (0.5,) * 600, (0.5,) * 600)
    save_file(state(build(spec, seed=0)), tmp_path / "net.safetensors")
    code, out, err = bitleak(
        "quantize", "--weights", "net.safetensors", "--model", "mlp:hidden=[8]",
        "--data", "table:purchases.csv,label=0,header=false", "--quantizer", "obc", "--levels", "4", "--out", "q",
    )  # fmt: skip
    assert code == 0, out + err
    code, _, err = bitleak(
        "quantize", "--weights", "net.safetensors", "--model", "cnn:width=4",
        "--data", "table:purchases.csv,label=0,header=false", "--quantizer", "obc", "--levels", "4", "--out", "q2",
    )  # fmt: skip
    assert code == 2
    assert "size of the images for model cnn must be" in err

    pytest.importorskip("onnxscript", reason="needs the extra: pip install 'bitleak[onnx]'")
    pytest.importorskip("onnxruntime", reason="needs the extra: pip install 'bitleak[onnx]'")
    code, out, err = bitleak("export", "--weights", "q/obc-4.safetensors", "--out", "net.onnx")
    assert code == 0, out + err
    assert "0 predictions changed" in out
