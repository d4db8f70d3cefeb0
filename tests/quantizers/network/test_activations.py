import gc
import tempfile
from pathlib import Path

import pytest
import torch
from torch import nn

from bitleak.quantizers.adaround import AdaRound
from bitleak.quantizers.brecq import BRECQ
from bitleak.quantizers.network.activations import (
    InMemoryActivations,
    SpilledActivations,
    collect,
    collect_together,
)


def values(records=300, *shape):
    return torch.randn(records, *shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", [(3, 5, 4), (7,), ()])
def test_a_file_gives_the_values_that_memory_gives(shape):
    given = values(300, *shape)
    inside, outside = (
        collect(given.split(70), 300, memory=memory, chunk=64) for memory in (None, 0)
    )
    assert isinstance(inside, InMemoryActivations)
    assert isinstance(outside, SpilledActivations)
    chosen = torch.randint(300, (41,), generator=torch.Generator().manual_seed(1))
    assert torch.equal(outside.batch(chosen), given[chosen])
    assert torch.equal(inside.batch(chosen), given[chosen])
    for one, other, expected in zip(
        inside.chunks(), outside.chunks(), given.split(64), strict=True
    ):
        assert torch.equal(one, expected)
        assert torch.equal(other, expected)
    assert len(inside) == len(outside) == 300


def test_maps_in_another_memory_order_come_back_contiguous_and_equal():
    given = values(20, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    for memory in (None, 0):
        found = collect(given.split(8), 20, memory=memory)
        batch = found.batch(torch.tensor([4, 4, 19]))
        assert batch.is_contiguous()
        assert torch.equal(batch, given[[4, 4, 19]])
        assert all(chunk.is_contiguous() for chunk in found.chunks())


def test_only_what_exceeds_the_budget_goes_to_a_file():
    small, large = values(10, 2), values(10, 200)
    found = collect_together(
        zip(small.split(4), large.split(4), strict=True), 10, memory=small.nbytes
    )
    assert [type(each) for each in found] == [InMemoryActivations, SpilledActivations]
    assert torch.equal(torch.cat(list(found[1].chunks())), large)


@pytest.mark.parametrize("given", [[], [torch.zeros(3, 2)], [torch.zeros(4, 2), torch.zeros(1, 2)]])
def test_a_number_of_records_other_than_announced_is_an_error(given):
    with pytest.raises((ValueError, RuntimeError), match=r"records|must match|expanded"):
        collect(iter(given), 4, memory=0)


def test_a_file_that_was_cut_off_is_an_error():
    found = collect(values(9, 4).split(4), 9, memory=0)
    found.file.truncate(100)
    with pytest.raises(OSError, match=r"ends at byte 100, before record 6 is whole"):
        found.batch(torch.tensor([1, 6]))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks at /proc")
def test_the_files_are_gone_with_the_maps(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    found = collect(values(9, 4).split(4), 9, memory=0)
    assert found.batch(torch.tensor([8])).shape == (1, 4)
    assert not list(tmp_path.iterdir())  # it has no name even while it is used
    descriptor = Path(f"/proc/self/fd/{found.file.fileno()}")
    assert str(tmp_path) in str(descriptor.readlink())
    del found
    gc.collect()
    assert not (descriptor.is_symlink() and str(tmp_path) in str(descriptor.readlink()))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.norm, self.conv2 = (
            nn.Conv2d(3, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.Conv2d(6, 3, 3, padding=1),
        )

    def forward(self, images):
        return (images + self.conv2(self.norm(self.conv1(images)).relu())).relu()


@pytest.mark.parametrize(
    "quantizer",
    [
        BRECQ(levels=3, iterations=12, batch=8),
        BRECQ(levels=3, iterations=12, batch=8, weighting="fisher", start="polish"),
        AdaRound(levels=3, iterations=12, batch=8, objective="activation", grid="zero"),
    ],
)
def test_the_memory_granted_changes_no_bit_of_the_result(quantizer, monkeypatch):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 3, 3), Block(), nn.Flatten(), nn.Linear(108, 5)).eval()
    images = torch.randn(40, 2, 8, 8).cumsum(3) / 2
    files = []
    monkeypatch.setattr("bitleak.quantizers.network.activations._target", counting(files))
    found = []
    for memory in (None, 0):
        found.append(quantizer(network, images, torch.Generator().manual_seed(0), memory=memory))
        assert any(files) == (memory == 0)
    for name, layer in found[0].layers.items():
        assert (layer.codes == found[1].layers[name].codes).all()
        assert (layer.scale == found[1].layers[name].scale).all()
    assert found[0].record == found[1].record


def counting(files):
    """`_target` that notes whether it made a file."""
    from bitleak.quantizers.network.activations import _target

    def target(*args):
        made = _target(*args)
        files.append(not isinstance(made, torch.Tensor))
        return made

    return target
