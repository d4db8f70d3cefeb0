"""The prepared script for a GPU, at toy size on the CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.sh"


def run(*arguments):
    environment = {**os.environ, "PYTHON": sys.executable}
    command = ["bash", str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """Pictures in the layout of CIFAR-100 on the Hub, packed by the script."""
    folder = tmp_path_factory.mktemp("cifar")
    rng = np.random.default_rng(0)
    for part, records in (("train", 300), ("test", 100)):
        rows = []
        for index in range(records):
            path = folder / "picture.png"
            Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(path)
            rows.append(
                {"img": {"bytes": path.read_bytes(), "path": None}, "fine_label": index % 4}
            )
        path.unlink()
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{part}-00000-of-00001.parquet")
    result = run("pack", folder, folder / "packed")
    assert result.returncode == 0, result.stderr
    return folder / "packed"


def test_records_are_packed_as_one_file_per_part(packed):
    tables = {path.name: pq.read_table(path) for path in packed.iterdir()}
    assert {name: len(table) for name, table in tables.items()} == {
        "train-00000-of-00001.parquet": 300,
        "test-00000-of-00001.parquet": 100,
    }


def test_a_folder_without_shards_is_named(tmp_path):
    result = run("pack", tmp_path, tmp_path / "packed")
    assert result.returncode == 1
    assert "expected files train-*.parquet, found none" in result.stderr


@pytest.mark.slow
def test_every_part_leaves_its_file_and_is_not_repeated(packed, tmp_path):
    arguments = ("run", packed, tmp_path / "out", "--toy", "--device", "cpu", "--minutes", 8)
    result = run(*arguments)
    assert result.returncode == 0, result.stdout + result.stderr
    measured = json.loads((tmp_path / "out" / "rates.json").read_text())
    assert measured["complete"]
    kinds = {task["task"].split(" ")[0] for task in measured["tasks"]["quantize"]}
    assert {"rtn-4", "adaround-4", "brecq-4", "obc-4"} <= kinds
    assert "expected:" in (tmp_path / "out" / "plan.txt").read_text()
    trainer = json.loads((tmp_path / "out" / "trainer.json").read_text())["gpu"]
    assert trainer["training"]["common"] > 0
    assert (tmp_path / "out" / "results.bitleak").stat().st_size > 0
    again = run(*arguments)
    assert again.stdout.splitlines() == [
        f"{part}: done before" for part in ("rates", "trainer", "models")
    ]
