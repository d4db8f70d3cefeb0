"""`--models`: parts of an audit that are made by machines without a common store."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from bitleak.cli.options import rows_of
from bitleak.core.errors import ConfigError

GIVEN = Path(__file__).parents[2] / "examples" / "given-target" / "audit.yaml"


@pytest.fixture(scope="module")
def config(tmp_path_factory, tiny_config):
    """Path of a config without much to do."""
    few = {
        "quantize": [{"name": "rtn", "levels": 4}],
        "attacks": ["lira-online-fixed"],
        "power": False,
    }
    train = {"epochs": 1, "batch": 32, "augment": []}
    path = tmp_path_factory.mktemp("parts") / "config.yaml"
    path.write_text(yaml.safe_dump({**tiny_config, **few, "train": train}))
    return path


@pytest.mark.usefixtures("without_figures", "shapes_unchecked")
def test_an_audit_made_in_two_parts_has_the_figures_of_one(config, bitleak, tmp_path):
    serial = ["--executor", "serial"]
    for part, rows in (("a", "0-2"), ("b", "3,4-5")):
        store = ["--store", tmp_path / part]
        code, out, _ = bitleak("audit", config, *store, *serial, "--models", rows)
        assert code == 0
        assert f"answers of 3 models are in {tmp_path / part}" in out
        assert not (tmp_path / "audits").exists()
        # Three trainings, their quantized versions, and nothing that needs the other models.
        assert len(list((tmp_path / part).glob("train/*/*"))) == 3
        assert not list((tmp_path / part).glob("attack/*"))
        stages = ["--stage", "query", "--stage", "weigh"]
        assert bitleak("store", "export", f"{part}.tar", *store, "--audit", config, *stages)[0] == 0
    whole = ["--store", tmp_path / "whole"]
    assert bitleak("store", "import", "a.tar", "b.tar", *whole)[0] == 0
    assert bitleak("audit", config, *whole, *serial, "--out", tmp_path / "out")[0] == 0
    one = ["--store", tmp_path / "one", "--out", tmp_path / "of-one"]
    assert bitleak("audit", config, *one, *serial)[0] == 0
    results = [(tmp_path / name / "results.csv").read_bytes() for name in ("out", "of-one")]
    assert results[0] == results[1]
    assert not list((tmp_path / "whole").glob("train/*/*"))


def test_the_plan_of_a_part_counts_its_tasks_alone(config, bitleak, tmp_path):
    code, out, _ = bitleak("plan", config, "--store", tmp_path / "none", "--models", "5")
    assert code == 0
    counts = dict(line.split()[:2] for line in out.splitlines() if len(line.split()) == 3)
    levels = len(yaml.safe_load(config.read_text())["quantize"])
    assert counts["train"] == "1"
    assert int(counts["quantize"]) >= levels
    assert int(counts["query"]) == 1 + int(counts["quantize"])
    assert "attack" not in counts


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0-2,x", "--models must be numbers and ranges such as 0-3,7, got '0-2,x'"),
        ("3-1", "--models must be numbers and ranges such as 0-3,7, got '3-1'"),
        ("", "--models: got an empty value; is a shell variable unset?"),
        ("6", "--models: this audit's models are 0 to 5, got 6"),
    ],
)
def test_models_that_the_audit_does_not_have_are_refused(config, bitleak, tmp_path, text, message):
    store = tmp_path / "none"
    options = ["--store", store, "--models", text]
    code, _, err = bitleak("audit", config, *options)
    assert code == 2
    assert message in err
    assert not store.exists()


def test_a_target_has_no_rows_to_choose(config, bitleak, tmp_path):
    options = ["--tier", "2", "--models", "0", "--store", tmp_path / "store"]
    code, _, err = bitleak("audit", config, *options)
    assert code == 2
    assert "--models is for configs without a target" in err


@pytest.mark.parametrize("command", ["audit", "plan"])
def test_a_config_with_a_target_has_no_rows_to_choose(bitleak, tmp_path, command):
    store = tmp_path / "store"
    code, _, err = bitleak(command, GIVEN, "--models", "0", "--store", store)
    assert code == 2
    assert "--models is for configs without a target" in err
    assert not store.exists()


def test_ranges_and_numbers_may_overlap():
    assert rows_of("2-4, 3,0") == (0, 2, 3, 4)
    with pytest.raises(ConfigError):
        rows_of("1-")


def test_a_config_is_refused_before_pytorch_is_loaded(tmp_path):
    """Else it would be loaded before the process that workers are forked from starts to load it."""
    (tmp_path / "config.yaml").write_text("data: {name: digits}")
    code = (
        "import sys; from bitleak.cli import main; "
        "print(main(['audit', 'config.yaml', '--models', '0']), 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["2", "False"]
