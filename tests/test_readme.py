"""The README's Python runs as it stands, given the four names that it takes for granted."""

import re
from pathlib import Path

import numpy as np
import torch
from toy_target import DEVIATION, MEAN, toy

import bitleak

README = Path(__file__).parents[1] / "README.md"


def world(records=4000, models=10):
    """A view of a target whose members are one standard deviation more confident, and its membership."""
    rng = np.random.default_rng(0)
    half = rng.random((models // 2, records)).argsort(axis=1) < records // 2
    member = np.concatenate([half, ~half])
    signals = np.zeros((models, records, 1, 6))
    signals[..., 1] = (rng.normal(size=member.shape) + member)[..., None]
    rest = [row for row in range(models) if row not in (0, models // 2)]
    view = bitleak.attack_view(
        target=signals[0],
        references=signals[rest],
        member=member[rest],
        use=np.ones((len(rest), records), bool),
        population_target=np.zeros((0, 1, 6)),
        population_references=np.zeros((len(rest), 0, 1, 6)),
        labels=np.zeros(records, np.int64),
    )
    return view, member[0]


def python_blocks():
    """The README's Python: the model that somebody has, then single functions."""
    return re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_the_audit_of_the_readme_runs(capsys, tmp_path, monkeypatch, undrawn):
    monkeypatch.chdir(tmp_path)
    target = toy(records=500)
    images = (target.images / 255 - np.reshape(MEAN, (3, 1, 1))) / np.reshape(DEVIATION, (3, 1, 1))
    names = {
        "bitleak": bitleak,
        "network": target.network,
        "images": images.astype(np.float32),
        "labels": target.labels,
        "members": target.members,
    }
    with undrawn():
        exec(compile(python_blocks()[0], "README.md", "exec"), names)
    assert capsys.readouterr().out.startswith("Tier 0: one target, nothing was trained.")
    assert (tmp_path / "my-model" / "report.html").is_file()


def test_the_python_of_the_readme_runs(capsys):
    _, block = python_blocks()
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(12, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)
    )
    before = network[1].weight.detach().clone()
    view, member = world()
    block = block.replace("AdaRound(levels=4)", "AdaRound(levels=4, iterations=20)")
    names = {
        "network": network.eval(),
        "calibration": torch.randn(32, 3, 2, 2),
        "view": view,
        "member": member,
    }
    exec(compile(block, "README.md", "exec"), names)
    assert "Measure(value=0." in capsys.readouterr().out
    assert isinstance(names["smaller"], bitleak.Weights)
    assert not torch.equal(network[1].weight, before)
    assert max(len(row.unique()) for row in network[1].weight) <= 4
    assert names["metrics"].aggregate["auc"].value > 0.7
