"""The example of a target in a package of its own, with its training and its config, at toy size."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pandas
import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "given-target"


@pytest.mark.usefixtures("without_figures")
def test_the_example_trains_its_target_and_audits_it(bitleak, tmp_path, monkeypatch):
    shutil.copytree(EXAMPLE, tmp_path, dirs_exist_ok=True)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 700)
    pixels = 128 + rng.normal(0, 25, (10, 3, 32, 32))[labels] + rng.normal(0, 40, (700, 3, 32, 32))
    np.savez(tmp_path / "pictures.npz", pixels=pixels.clip(0, 255).astype(np.uint8), labels=labels)
    np.save(tmp_path / "members.npy", np.sort(rng.permutation(700)[:250]))
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("pictures", "pictures.network", "pictures.train"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    from pictures.train import main

    options = ["--width", "4", "--epochs", "4"]
    monkeypatch.setattr(sys, "argv", ["train", *options])
    main()
    text = (tmp_path / "audit.yaml").read_text()
    toy = [
        ("{width: 16}", "{width: 4}"), ("references: 10", "references: 2"), ("fpr:    [0.01]", "fpr: [0.1]"),
        ("{records: 256}", "{records: 64}"),
    ]  # fmt: skip
    for whole, small in toy:
        assert whole in text
        text = text.replace(whole, small)
    call = ("audit", "config.yaml", "--tier", 1, "--executor", "serial")
    # The auxiliary head answers in training alone, which is known before a reference is trained.
    code, _, err = bitleak(*call, config=text.replace(", layers: {aux: fp32}", ""))
    assert code == 2
    assert "target.releases.rtn2: layer 'aux' is never called as a module" in err
    assert not list((tmp_path / "bitleak-store").rglob("manifest.json"))
    code, out, err = bitleak(*call, config=text)
    assert code == 0, err
    flat = " ".join(out.split())
    assert "the prefix 'module._orig_mod.' was removed" in flat
    taken = (
        "from the checkpoint epochs 4 (args.epochs), batch 64 (args.batch_size), learning_rate 0.05 (args.lr), "
        "schedule cosine (args.schedule), momentum 0.9 (optimizer.param_groups.momentum)"
    )
    assert taken in flat
    table = pandas.read_csv(tmp_path / "audits" / "config" / "results.csv")
    areas = table[(table.metric == "auc") & (table.target == "all")]
    assert {"fp32", "rtn2", "control"} == set(areas.variant)
    assert "matched" in set(areas.reference)
