"""An audit of a given target in tier 1 that is killed among its references, and started again."""

import os
import signal
from multiprocessing import get_context

import pytest
import yaml
from target_config import target_of

from bitleak.cli import main
from bitleak.train import fit as training

REFERENCES = 3


def killed_in_its_third_training(arguments):
    """Run a command; SIGKILL ends this process after the first epoch of the third training."""
    fit, started = training.fit, []

    def counted(*positional, on_epoch, **options):
        started.append(True)

        def after_epoch(epoch, loss):
            if len(started) == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            on_epoch(epoch, loss)

        return fit(*positional, on_epoch=after_epoch, **options)

    training.fit = counted
    main(arguments)


@pytest.mark.usefixtures("without_figures", "without_new_process")
def test_tier_1_killed_among_its_references_goes_on_to_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = target_of(tmp_path, monkeypatch)
    config |= {"train": {"learning_rate": 0.02, "batch": 64, "epochs": 3, "augment": []}}
    config |= {"fpr": [0.1]}
    coarse = {"coarse": {"name": "rtn", "levels": 3}}
    config["target"] |= {"references": REFERENCES, "releases": coarse}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))

    def arguments(name):
        places = ["--out", f"{name}/out", "--store", f"{name}/store"]
        return ["audit", "config.yaml", "--tier", "1", *places, "--executor", "serial"]

    def trained(name):
        manifests = (tmp_path / name / "store").glob("train/*/*/manifest.json")
        return {path: path.stat().st_mtime_ns for path in manifests}

    # Forked, the process has PyTorch loaded already.
    process = get_context("fork").Process(
        target=killed_in_its_third_training, args=(arguments("killed"),)
    )
    process.start()
    process.join(600)
    assert process.exitcode == -signal.SIGKILL
    before = trained("killed")
    assert len(before) == 2
    assert not (tmp_path / "killed" / "out" / "results.csv").exists()

    # The references that are finished are not trained again.
    assert main(arguments("killed")) == 0
    assert main(arguments("undisturbed")) == 0
    after = trained("killed")
    assert {path: after[path] for path in before} == before
    assert len(after) == len(trained("undisturbed")) == REFERENCES
    results = [tmp_path / name / "out" / "results.csv" for name in ("killed", "undisturbed")]
    assert results[0].read_bytes() == results[1].read_bytes()
