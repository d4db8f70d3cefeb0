"""Arrays in files behave as arrays in memory, and memory holds no more of them than is being read."""

import errno
import os

import numpy as np
import pytest

from bitleak.attacks import attack_view, player_view, subset_view
from bitleak.attacks.attack import blocks, signal_of
from bitleak.attacks.reference_sums import sums
from bitleak.core import spill
from bitleak.core.errors import StoreError
from bitleak.core.spill import copy_rows, file_array, new_array, release, stack_arrays


def resident() -> int:
    """Bytes of files that are mapped by this process and in memory (temporary files in memory count as shared)."""
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            sizes = {
                line.split()[0]: int(line.split()[1]) for line in file if line.startswith("Rss")
            }
    except OSError:
        pytest.skip("only Linux says")
    return 1024 * (sizes["RssFile:"] + sizes["RssShmem:"])


@pytest.fixture
def small_is_large(monkeypatch):
    monkeypatch.setattr(spill, "LARGE", 1000)


def answers(count: int, records: int = 40) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.normal(size=(records, 2, 6)) for _ in range(count)]


def test_a_stack_in_a_file_is_the_stack(small_is_large, monkeypatch):
    parts = answers(5)
    monkeypatch.setattr(spill, "BLOCK_BYTES", 3000)
    whole = stack_arrays(parts)
    assert isinstance(whole, np.memmap)
    assert np.array_equal(whole, np.stack(parts))
    release(whole)
    assert np.array_equal(whole[3:, 1::2], np.stack(parts)[3:, 1::2])


def test_small_stacks_stay_in_memory():
    assert type(stack_arrays(answers(2))) is np.ndarray


def test_rows_of_a_stack_are_its_rows_in_a_file_and_in_memory(monkeypatch):
    whole = np.stack(answers(5))
    chosen = np.array([3, 0, 3]), np.array([True, False, False, True, True])
    inside = [copy_rows(whole, each) for each in chosen]
    monkeypatch.setattr(spill, "LARGE", 1000)
    monkeypatch.setattr(spill, "BLOCK_BYTES", 3000)
    outside = [copy_rows(stack_arrays(answers(5)), each) for each in chosen]
    for rows, left, right in zip(chosen, inside, outside, strict=True):
        assert isinstance(right, np.memmap)
        assert np.array_equal(left, whole[rows])
        assert np.array_equal(right, whole[rows])


def test_sums_over_blocks_are_the_same_from_a_file(small_is_large, monkeypatch):
    monkeypatch.setattr("bitleak.attacks.attack.SCORE_BLOCK", 100)
    parts = answers(6)
    used = np.random.default_rng(1).random((6, 40)) < 0.7
    used[:2] = True
    of_file, of_memory = (
        signal_of(whole, "logit_scaled") for whole in (stack_arrays(parts), np.stack(parts))
    )
    for left, right in zip(sums(of_file, used), sums(of_memory, used), strict=True):
        assert np.array_equal(left, right)


def test_what_only_this_process_sees_is_not_let_go_of(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros(5000))
    own = np.load(tmp_path / "x.npy", mmap_mode="c")
    own[:] = 1.0
    release(own)
    assert own.sum() == 5000.0
    memory = np.ones(10)
    release(memory)
    assert memory.sum() == 10.0


def test_memory_holds_a_block_and_not_the_stack(small_is_large, monkeypatch):
    monkeypatch.setattr("bitleak.attacks.attack.SCORE_BLOCK", 60_000)
    whole = stack_arrays(answers(30, 20_000))  # 58 MB
    references = signal_of(whole, "logit_scaled")
    before, most = resident(), 0
    for block in blocks(references):
        references[:, block].sum()
        most = max(most, resident() - before)
    assert most < 10 << 20
    whole.sum()
    assert resident() - before > 50 << 20  # what is measured is what would be seen


def test_what_a_player_and_fewer_references_see_lies_in_files_too(small_is_large, monkeypatch):
    monkeypatch.setattr(spill, "BLOCK_BYTES", 1 << 20)
    count, records = 30, 20_000
    half = np.random.default_rng(1).random((count // 2, records)) < 0.5
    view = attack_view(
        target=answers(1, records)[0],
        references=stack_arrays(answers(count, records)),  # 58 MB
        member=np.concatenate([half, ~half]),
        use=np.ones((count, records), bool),
        population_target=answers(1)[0],
        population_references=stack_arrays(answers(count)),
        labels=np.zeros(records, np.int64),
    )
    before = resident()
    played, _ = player_view(view, np.random.default_rng(0))
    few = subset_view(view, 7, np.random.default_rng(0))
    for each in (played, few):
        assert isinstance(each.references, np.memmap)
        each.target.sum()
    assert resident() - before < 10 << 20


def test_a_mapped_file_has_no_name(tmp_path):
    array = file_array((300, 1000), np.dtype(np.float64), tmp_path)
    assert array.shape == (300, 1000)
    assert not array.any()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_disk_without_room_is_told_with_folder_and_bytes_before_anything_is_mapped(
    tmp_path, monkeypatch, code
):
    monkeypatch.setattr(spill, "LARGE", 1000)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def full(*about):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(
        StoreError,
        match=rf"^{tmp_path}: 1.6 MB are needed for a while \({os.strerror(code)}\); .*TMPDIR",
    ):
        new_array((2, 100_000), np.dtype(np.float64))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.EINVAL, None])
def test_where_room_cannot_be_reserved_it_is_written(tmp_path, monkeypatch, code):
    def none(*about):
        raise OSError(code, "no") if code else AttributeError

    monkeypatch.setattr(os, "posix_fallocate", none, raising=False)
    monkeypatch.setattr(spill, "BLOCK_BYTES", 1000)
    sizes = []
    flush = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (sizes.append(os.fstat(file)), flush(file)))
    array = file_array((3, 1001), np.dtype(np.float32), tmp_path)
    (status,) = sizes
    assert status.st_size == 12_012
    assert 512 * status.st_blocks >= status.st_size
    array[:] = np.arange(3003).reshape(3, 1001)
    assert array.sum() == 3003 * 3002 / 2
