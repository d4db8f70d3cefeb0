"""Clusters of records in an audit: the config's spellings, the plan, the file, and the report."""

import numpy as np
import pytest
from stage_calls import run_stage

from bitleak.audit.audit_warnings import copy_warnings
from bitleak.audit.graph import plan
from bitleak.config import resolved, validate
from bitleak.core.errors import ConfigError, DataError
from bitleak.core.types import Description, Images
from bitleak.data import make_splits
from bitleak.steps.find_copies import groups_of
from bitleak.steps.scale import NetworkSize

RAW = {
    "data": "digits",
    "split": {"models": 6, "targets": 2, "population": 60},
    "model": {"name": "cnn", "width": 4},
    "calibration": {"records": 64},
    "quantize": [{"name": "rtn", "levels": 4}],
    "attacks": ["lira", "threshold"],
    "utility_matched": True,
}
DIGITS = Description(1797, 0, 10, 1, 8, "digits")
NETWORK = NetworkSize(5000, 100_000, ((16, 9), (16, 144), (10, 32)))
WITH_INTERVALS = {"measure", "estimate", "compare", "utility", "power", "play", "strongest"}


def planned(**entries):
    return plan(validate({**RAW, **entries}), DIGITS, NETWORK)


def file_of(folder, groups, name="groups.npy"):
    np.save(folder / name, groups)
    return str(folder / name)


def test_steps_with_intervals_read_the_clusters_and_no_other_key_changes(tmp_path):
    without, copies = planned(), planned(clusters="copies")
    assert (without.clusters, copies.clusters) == (None, copies.copies)
    assert {task.key for task in planned(clusters="none").tasks} == {
        task.key for task in without.tasks
    }
    reads = {task.stage for task in copies.tasks if "clusters" in task.inputs}
    assert reads == WITH_INTERVALS
    kept = {task.key for task in without.tasks if task.stage not in WITH_INTERVALS}
    assert kept <= {task.key for task in copies.tasks}


def test_a_file_of_clusters_is_known_by_its_numbers(tmp_path):
    first = planned(clusters=file_of(tmp_path, np.arange(1797) // 2))
    assert first.clusters != first.copies
    assert first.clusters == planned(clusters=file_of(tmp_path, np.arange(1797) // 2)).clusters
    assert first.clusters != planned(clusters=file_of(tmp_path, np.arange(1797) // 3)).clusters


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (np.arange(90), r"expected one number per record of the data set, 1797 .* got 90"),
        (np.zeros(1797), r"expected integers \[records\], got float64"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_before_work(tmp_path, groups, message):
    with pytest.raises(DataError, match=message):
        planned(clusters=file_of(tmp_path, groups))


def test_a_missing_file_is_refused_before_work(tmp_path):
    with pytest.raises(DataError, match=r"no such file; give an \.npy file, or `copies`"):
        planned(clusters=str(tmp_path / "none.npy"))


@pytest.mark.parametrize("entry", ["patients", 3, ["copies"]])
def test_other_spellings_are_refused(entry):
    with pytest.raises(ConfigError, match=r"clusters: expected none, copies or an \.npy file, got"):
        validate({**RAW, "clusters": entry})


def test_a_file_numbers_all_records_so_none_may_be_left_out():
    with pytest.raises(ConfigError, match=r"data\.limit and data\.held_out must not be given"):
        validate({**RAW, "data": {"name": "digits", "limit": 400}, "clusters": "groups.npy"})


def test_the_entry_is_written_out_and_read_again():
    config = validate({**RAW, "clusters": "copies"})
    assert resolved(config)["clusters"] == "copies"
    assert validate(resolved(config)) == config
    assert "clusters" not in resolved(validate(RAW))


def test_the_step_gives_the_numbers_of_the_pool(tmp_path):
    pixels = np.zeros((60, 1, 2, 2), np.uint8)
    images = Images(pixels, np.arange(60) % 2, ("a", "b"), np.zeros(60, bool))
    options = {"targets": 2, "models": 6, "calibration": 0, "population": 5, "seed": 0}
    splits = make_splits(images, mode="population", **options)
    groups = np.arange(60) // 4
    from bitleak.data.cluster_file import read_groups

    path = file_of(tmp_path, groups)
    _, digest = read_groups(tmp_path / "groups.npy")
    inputs = {"images": images, "splits": splits}
    stored = run_stage("copies", {"file": path, "digest": digest}, inputs)
    assert groups_of(stored).tolist() == groups[splits.pool].tolist()
    with pytest.raises(DataError, match="has changed since the audit began"):
        run_stage("copies", {"file": path, "digest": "0"}, inputs)


def test_copies_are_no_reason_for_narrow_intervals_once_they_are_clusters():
    counts = {"exact": 4, "near": 0, "held_out": 0, "contradicting": 0, "distance": 0.2}
    (before,) = copy_warnings(counts, records=100, held_out=50)
    (after,) = copy_warnings(counts, records=100, held_out=50, clustered=True)
    assert "intervals are too narrow; remove copies from the data set, or write" in before
    assert "intervals" not in after
    assert "leakage looks smaller than it is" in after
