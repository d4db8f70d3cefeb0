"""A whole audit from the command line: what it leaves, that it resumes, and that nothing but the config decides."""

import csv
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from multiprocessing import get_context
from pathlib import Path

import pytest
import yaml

from bitleak import audit as library
from bitleak.attacks import known_names
from bitleak.cli import main
from bitleak.config import read_config, validate
from bitleak.engine.store import Store
from bitleak.report import read_influences, read_rows
from bitleak.report.run_pairing import RunPair
from bitleak.steps.step import MANIFEST_BYTES

VARIANTS = ["fp32", "rtn-2", "rtn-1.58", "control", "positive_control"]


def table(folder):
    with (folder / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, tiny_config):
    """The output folder of an audit that nobody disturbed, and the config's path."""
    from bitleak.cli import main

    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "config.yaml").write_text(yaml.safe_dump(tiny_config))
    arguments = ["--out", folder / "out", "--store", folder / "store", "--executor", "serial"]
    assert main(["audit", str(folder / "config.yaml"), *map(str, arguments)]) == 0
    return folder


def test_an_audit_leaves_everything(undisturbed):
    out = undisturbed / "out"
    names = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert {
        "config.yaml",
        "results.csv",
        "results.parquet",
        "roc.parquet",
        "summary.json",
        "report.html",
    } <= names
    assert {Path(name).suffix for name in names if name.startswith("figures/")} == {".svg", ".png"}
    resolved = yaml.safe_load((out / "config.yaml").read_text())
    assert resolved["train"]["momentum"] == 0.9
    assert "# torch " in (out / "config.yaml").read_text()


def test_two_variants_of_one_run_differ_as_its_table_says(undisturbed):
    """The influences that an audit leaves give the paired differences that the audit made itself."""
    out = undisturbed / "out"
    rows = [row for row in read_rows(out) if row.measure.difference is not None]
    differences = {}
    for row in rows:
        if row.target == "all":
            differences[row.variant, row.attack, row.reference, row.metric] = row.measure
    influences = read_influences(out)
    exact = 0
    for key in influences.figures:
        if key.variant == "fp32":
            continue
        full = ("fp32", key.attack, key.reference)
        pair = RunPair(influences, influences)
        new = (key.variant, key.attack, key.reference)
        paired = pair.difference(full, new, key.metric)
        reported = differences[*new, key.metric]
        ends = [reported.difference_low, reported.difference_high, reported.p_value]
        # the strongest pairs draw records to repeat the choice, with an error of a few percent
        close = 0.1 * (ends[1] - ends[0]) if key.attack == "strongest" else 1e-5
        assert paired.basis == "models and records"
        assert list(paired.difference[1:3]) == pytest.approx(ends[:2], abs=close)
        exact += key.attack != "strongest"
    assert exact == 8


def test_a_run_compared_with_itself_is_identical(undisturbed, capsys):
    out = str(undisturbed / "out")
    assert main(["compare", out, out]) == 0
    shown = capsys.readouterr().out
    assert "note: the runs are identical in every figure that is compared" in shown
    assert "+0.0000 [+0.0000, +0.0000]   identical" in shown


def test_the_forecast_of_the_disk_is_right_within_a_factor_of_two(undisturbed):
    config = validate(read_config(undisturbed / "config.yaml"))
    planned = Counter()
    for task in library.prepare(config, device="cpu").plan.tasks:
        planned[task.stage] += task.bytes - MANIFEST_BYTES
    sizes = {stage: size for stage, (_, size) in Store(undisturbed / "store").sizes().items()}
    assert set(sizes) == set(planned)
    wrong = {stage: planned[stage] / size for stage, size in sizes.items() if size > 4096}
    assert len(wrong) > 8
    assert {stage: ratio for stage, ratio in wrong.items() if not 0.5 < ratio < 2} == {}


def test_the_table_has_every_combination_once(undisturbed):
    rows = table(undisturbed / "out")
    keys = [
        tuple(row[name] for name in ("variant", "attack", "reference", "target", "metric"))
        for row in rows
    ]
    assert len(set(keys)) == len(keys)
    assert list(dict.fromkeys(row["variant"] for row in rows)) == VARIANTS
    assert {row["target"] for row in rows} == {"all", "0", "2"}
    for variant in VARIANTS[1:3]:
        found = {
            row["reference"] for row in rows if row["variant"] == variant and row["metric"] == "auc"
        }
        assert found == {"", "fp32", "matched", "recalibrated"}
    metrics = {row["metric"] for row in rows}
    assert {
        "auc",
        "tpr@0.05",
        "tpr@0.1",
        "balanced_accuracy",
        "test_accuracy",
        "train_accuracy",
    } <= metrics
    assert {"agreement", "bytes", "bits_per_weight"} <= metrics


def test_verdicts_are_corrected_over_the_whole_table(undisturbed):
    rows = [row for row in table(undisturbed / "out") if row["p_value"]]
    # full precision too: recalibrated against not; a target that memorises by design against nothing
    assert {row["variant"] for row in rows} == set(VARIANTS[:-1])
    for row in rows:
        assert float(row["p_adjusted"]) >= float(row["p_value"])
        assert (row["verdict"] == "not distinguishable") == (float(row["p_adjusted"]) >= 0.05)
        assert row["about"] == "records"
    planned = [row for row in rows if row["family"] == "headline"]
    assert [row["variant"] for row in planned] == VARIANTS[1:3]
    assert (
        len({(row["attack"], row["reference"], row["metric"], row["target"]) for row in planned})
        == 1
    )
    assert {row["family"] for row in rows if row["metric"] == planned[0]["metric"] and row["target"] == "all"} == {
        "headline", f"{planned[0]['metric']}/all", f"control/{planned[0]['metric']}/all",
    }  # fmt: skip
    family = [row for row in rows if row["family"] == "auc/all"]
    assert family == [
        row
        for row in rows
        if row["target"] == "all" and row["metric"] == "auc" and row["variant"] != "control"
    ]
    smallest = min(family, key=lambda row: float(row["p_value"]))
    expected = min(1.0, len(family) * float(smallest["p_value"]))
    assert float(smallest["p_adjusted"]) == pytest.approx(expected)


@pytest.mark.usefixtures("without_figures")
def test_the_resolved_config_gives_the_same_results(undisturbed, tmp_path):
    from bitleak.cli import main

    config = undisturbed / "out" / "config.yaml"
    arguments = [
        "--out",
        tmp_path / "again",
        "--store",
        undisturbed / "store",
        "--executor",
        "serial",
    ]
    before = {
        path: path.stat().st_mtime_ns for path in (undisturbed / "store").rglob("manifest.json")
    }
    assert main(["audit", str(config), *map(str, arguments)]) == 0
    after = {
        path: path.stat().st_mtime_ns for path in (undisturbed / "store").rglob("manifest.json")
    }
    assert after == before
    assert (tmp_path / "again" / "results.csv").read_bytes() == (
        undisturbed / "out" / "results.csv"
    ).read_bytes()


@pytest.mark.usefixtures("without_figures")
def test_the_number_of_workers_changes_no_byte(undisturbed, bitleak, tmp_path):
    """Two workers leave the bytes of the calling process alone."""
    options = ["--out", tmp_path / "out", "--store", tmp_path / "store", "--workers", 2]
    assert bitleak("audit", undisturbed / "config.yaml", *options)[0] == 0
    expected = (undisturbed / "out" / "results.csv").read_bytes()
    assert (tmp_path / "out" / "results.csv").read_bytes() == expected


@pytest.mark.usefixtures("without_figures")
def test_an_audit_killed_at_random_moments_ends_with_the_same_bytes(undisturbed, bitleak, tmp_path):
    """Once with a worker, and twice alone: forked, such a process has PyTorch loaded already."""
    chance = random.Random(0)
    tasks = results_in(undisturbed / "store")
    for share, start_audit in ((0.0, fork), (0.3, start_worker), (0.6, fork)):
        process = start_audit(undisturbed, tmp_path)
        before = results_in(tmp_path / "store")
        wait_for(process, tmp_path / "store", min(tasks, max(before, round(share * tasks)) + 1))
        time.sleep(chance.uniform(0.0, 0.5))
        process.send_signal(signal.SIGKILL)
        assert process.wait() in (-signal.SIGKILL, 0)
    options = ["--out", tmp_path / "out", "--store", tmp_path / "store", "--executor", "serial"]
    assert bitleak("audit", undisturbed / "config.yaml", *options)[0] == 0
    expected = (undisturbed / "out" / "results.csv").read_bytes()
    assert (tmp_path / "out" / "results.csv").read_bytes() == expected


def test_ctrl_c_ends_cleanly_with_130(undisturbed, tmp_path):
    process = start(undisturbed, tmp_path)
    wait_for(process, tmp_path / "store", 4)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=10) in (130, 0)
    assert not list((tmp_path / "store").glob("*/*/.tmp*"))


@pytest.mark.usefixtures("without_figures")
def test_a_model_that_diverges_fails_alone_with_exit_code_1(bitleak, tiny):
    tiny["train"]["learning_rate"] = 1e30
    code, out, err = bitleak("audit", "config.yaml", "--executor", "serial", config=tiny)
    assert code == 1
    assert "learning rate 1e+30" in err
    assert "were not run" in err
    assert "log:" in err
    assert "Traceback" not in out + err


def test_a_plan_says_what_is_to_do_and_does_nothing(bitleak, tiny, tmp_path):
    code, out, _ = bitleak("plan", "config.yaml", config=tiny)
    assert code == 0
    assert "expected:" in out
    assert "train" in out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml"]


def test_the_store_can_be_listed_checked_and_cleaned(undisturbed, bitleak):
    store = undisturbed / "store"
    code, out, _ = bitleak("store", "ls", "--store", store)
    assert (code, "train" in out) == (0, True)
    code, out, _ = bitleak("store", "verify", "--store", store)
    assert (code, "0 problems" in out) == (0, True)
    code, out, _ = bitleak(
        "store", "gc", undisturbed / "config.yaml", "--store", store, "--dry-run"
    )
    assert (code, out.split()[0]) == (0, "0")
    assert bitleak("store", "gc", "--store", store)[0] == 2


def test_the_registry_can_be_listed(bitleak):
    code, out, _ = bitleak("list")
    assert code == 0
    listed = set(out.split())
    assert {
        "digits",
        "resnet18",
        "adaround",
        "processes",
        "external",
        "advantage",
        "crop",
        "shift:DX,DY",
    } <= listed
    assert {"paper", "quick", "matched", "tpr,"} <= listed
    assert set(known_names()) <= listed
    assert {"gap", "signals", "lira-offline-two_sided-per_record"} <= set(known_names())


def test_help_is_quick_to_import():
    code = "import sys; from bitleak.cli import main; main(['audit', '--help']); print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.splitlines()[-1]
    assert not {name for name in ("torch", "numpy", "matplotlib", "yaml") if f"'{name}'" in loaded}


def results_in(store):
    return len(list(store.glob("*/*/*/manifest.json")))


def wait_for(process, store, results):
    """Wait until the store has this many results, or the process has ended."""
    end = time.monotonic() + 600  # a machine with other work takes minutes to load PyTorch
    while results_in(store) < results and process.poll() is None:
        if time.monotonic() > end:
            process.kill()
            pytest.fail(f"{results_in(store)} results after ten minutes")
        time.sleep(0.05)


def options_for(undisturbed, folder):
    folders = ["--out", folder / "out", "--store", folder / "store"]
    return ["audit", *map(str, [undisturbed / "config.yaml", *folders])]


def start(undisturbed, folder, *options):
    command = [sys.executable, "-m", "bitleak", *options_for(undisturbed, folder), *options]
    return subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        # a shell's background job inherits an ignored SIGINT, and would keep it
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def start_worker(undisturbed, folder):
    return start(undisturbed, folder, "--workers", "1")


class ForkedAudit:
    """A copy of this process that runs an audit without workers, with the methods of a `Popen`."""

    def __init__(self, arguments):
        from bitleak.cli import main

        self.process = get_context("fork").Process(
            target=lambda: sys.exit(main([*arguments, "--executor", "serial"]))
        )
        self.process.start()
        self.kill = self.process.kill

    def send_signal(self, number):
        os.kill(self.process.pid, number)

    def poll(self):
        return self.process.exitcode

    def wait(self):
        self.process.join()
        return self.process.exitcode


def fork(undisturbed, folder):
    return ForkedAudit(options_for(undisturbed, folder))
