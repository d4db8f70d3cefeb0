"""The prepared script for a GPU, at toy size on the CPU."""

import json
import os
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from bitleak.engine.store import Store
from bitleak.engine.transfer import import_results

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
    result = run("pack", folder, folder / "packed.tar")
    assert result.returncode == 0, result.stderr
    return folder / "packed.tar"


def test_records_are_packed_as_one_file(packed):
    records = {}
    with tarfile.open(packed) as archive:
        for member in archive:
            records[member.name] = len(pq.read_table(archive.extractfile(member)))
    assert records == {
        "train-00000-of-00001.parquet": 300,
        "test-00000-of-00001.parquet": 100,
    }


def test_a_folder_without_shards_is_named(tmp_path):
    result = run("pack", tmp_path, tmp_path / "packed.tar")
    assert result.returncode == 1
    assert "expected files train-*.parquet, found none" in result.stderr


@pytest.mark.slow
def test_every_part_leaves_its_file_and_is_not_repeated(packed, tmp_path):
    # an interrupted part goes on: its measured lines are kept
    (tmp_path / "out").mkdir()
    kept = {"device": "cpu", "bfloat16_flops": 1e12, "training": {"common": 7.0}}
    (tmp_path / "out" / "trainer.unfinished.json").write_text(json.dumps(kept))
    arguments = ("run", packed, tmp_path / "out", "--toy", "--device", "cpu", "--minutes", 30)
    result = run(*arguments)
    assert result.returncode == 0, result.stdout + result.stderr
    measured = json.loads((tmp_path / "out" / "rates.json").read_text())
    assert measured["complete"]
    kinds = {task["task"].split(" ")[0] for task in measured["tasks"]["quantize"]}
    assert {"rtn-4", "adaround-4", "brecq-4", "obc-4"} <= kinds
    assert "expected:" in (tmp_path / "out" / "plan.txt").read_text()
    trainer = json.loads((tmp_path / "out" / "trainer.json").read_text())["gpu"]
    assert trainer["training"].keys() == trainer["query"].keys() == {"common", "1", "2"}
    assert (trainer["bfloat16_flops"], trainer["training"]["common"]) == (1e12, 7.0)
    assert min(*trainer["training"].values(), *trainer["query"].values()) > 0
    assert set(trainer["share_of_matrix_rate"]) == {"1", "2"}
    methods = json.loads((tmp_path / "out" / "methods.json").read_text())
    assert len(methods["variants"]) == 6
    seconds = [task["seconds"] for task in measured["tasks"]["quantize"]]
    assert 0 < methods["seconds"] < sum(seconds)
    import_results(Store(tmp_path / "store"), [tmp_path / "out" / "results.bitleak"])
    brought = Counter(
        path.relative_to(tmp_path / "store").parts[0]
        for path in (tmp_path / "store").glob("*/*/*/manifest.json")
    )
    assert brought["train"] >= 9  # a target and 8 shadows
    assert brought["query"] >= 9
    again = run(*arguments)
    assert again.stdout.splitlines() == [
        f"{part}: done before" for part in ("rates", "trainer", "methods", "models")
    ]
