"""The values of all calibration records at one place of a network: in memory, or in a scratch file.

Learning on mini-batches needs the inputs and outputs of a piece of the network for all records, in
any order, to its end. A map that may not stay in memory is stored in an unnamed file in the folder
for temporary files, from which batches are read by position: the system caches as much of it as it
has room for, and none of it counts as memory of the process. The values are the same, bit for bit.

Cost of a file: writing the map once, and a copy of each batch, which memory would take as well.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from bitleak.core.spill import spill_file
from bitleak.quantizers.network.layer_pass import activation_budget

RECORDS_PER_CHUNK = 128  # records at a time where no gradient is needed, at most
PIXELS = 1 << 15  # of the images that belong to them


@runtime_checkable
class Activations(Protocol):
    """One tensor per record, all of one shape; classes below give contiguous float32 tensors."""

    @property
    def chunk(self) -> int:
        """Records at a time in a run through all; the same for every map of one network."""
        ...

    @property
    def index_device(self) -> torch.device:
        """Device on which `batch` takes the numbers of records."""
        ...

    def __len__(self) -> int:
        """Return the number of records."""
        ...

    def chunks(self) -> Iterator[Float[Tensor, "_ *shape"]]:
        """Yield all records in order, `chunk` at a time; not to be changed."""
        ...

    def batch(self, records: Int64[Tensor, "batch"]) -> Float[Tensor, "batch *shape"]:
        """Return a copy of some records, by number."""
        ...


@dataclass(frozen=True)
class InMemoryActivations:
    """Records as one tensor.

    Attributes:
        values: The tensor.
        chunk: Records at a time.

    Example:
        >>> InMemoryActivations(torch.arange(6.0).view(3, 2)).batch(torch.tensor([2, 0])).tolist()
        [[4.0, 5.0], [0.0, 1.0]]
    """

    values: Float[Tensor, "records *shape"]
    chunk: int = RECORDS_PER_CHUNK

    @property
    def index_device(self) -> torch.device:
        """Device on which `batch` takes the numbers of records."""
        return self.values.device

    def __len__(self) -> int:
        return len(self.values)

    def chunks(self) -> Iterator[Float[Tensor, "_ *shape"]]:
        """Yield all records in order."""
        for chunk in self.values.split(self.chunk):
            yield chunk.contiguous()

    def batch(self, records: Int64[Tensor, "batch"]) -> Float[Tensor, "batch *shape"]:
        """Return a copy of some records, by number."""
        return self.values.index_select(0, records).contiguous()


@dataclass(frozen=True)
class SpilledActivations:
    """Records one after the other in a file.

    Attributes:
        file: Open for reading; it ends with this object.
        records: Number of records.
        shape: Shape of one record.
        device: Device of batches and chunks.
        chunk: Records at a time.
    """

    file: IO[bytes]
    records: int
    shape: torch.Size
    device: torch.device
    chunk: int

    @property
    def index_device(self) -> torch.device:
        """Device on which `batch` takes the numbers of records."""
        return torch.device("cpu")

    def __len__(self) -> int:
        return self.records

    def chunks(self) -> Iterator[Float[Tensor, "_ *shape"]]:
        """Yield all records in order."""
        for start in range(0, self.records, self.chunk):
            count = min(self.chunk, self.records - start)
            values = torch.empty(count, *self.shape)
            self._read(values, start)
            yield values.to(self.device)

    def batch(self, records: Int64[Tensor, "batch"]) -> Float[Tensor, "batch *shape"]:
        """Return a copy of some records, by number."""
        values = torch.empty(len(records), *self.shape)
        for row, record in enumerate(records.tolist()):
            self._read(values[row : row + 1], record)
        return values.to(self.device)

    def _read(self, values: Tensor, record: int) -> None:
        """Fill a contiguous tensor with the records from `record` on."""
        target = values.numpy().data.cast("B") if values.numel() else memoryview(b"")
        place = record * self.shape.numel() * values.element_size()
        while target:
            # The system may give fewer bytes than asked for; at the end of the file it gives none.
            read = os.preadv(self.file.fileno(), [target], place)
            if not read:
                raise OSError(
                    f"the scratch file of activations ends at byte {place}, before record {record} is whole"
                )
            target, place = target[read:], place + read


def collect(
    chunks: Iterable[Float[Tensor, "_ *shape"]],
    records: int,
    *,
    memory: int | None,
    chunk: int = RECORDS_PER_CHUNK,
) -> InMemoryActivations | SpilledActivations:
    """Collect chunks of records into one map.

    Args:
        chunks: One after the other, of float32 values.
        records: Number of records of all chunks.
        memory: Bytes that may stay in memory; None: all of them.
        chunk: Records at a time in the result.

    Raises:
        ValueError: There are more or fewer records than that.

    Example:
        >>> values = torch.arange(6.0).view(3, 2)
        >>> filed = collect(values.split(2), 3, memory=8)
        >>> type(filed).__name__, filed.batch(torch.tensor([2, 0])).tolist()
        ('SpilledActivations', [[4.0, 5.0], [0.0, 1.0]])
    """
    (collected,) = collect_together(
        ((parts,) for parts in chunks), records, memory=memory, chunk=chunk
    )
    return collected


def collect_together(
    chunks: Iterable[Sequence[Float[Tensor, "..."]]],
    records: int,
    *,
    memory: int | None,
    chunk: int = RECORDS_PER_CHUNK,
) -> tuple[InMemoryActivations | SpilledActivations, ...]:
    """Collect several maps whose chunks come together; each may take `memory`."""
    targets: list[Tensor | IO[bytes]] = []
    samples: list[Tensor] = []
    done = 0
    for parts in chunks:
        # The first chunk shows how large each map is.
        if not targets:
            samples = [values[:1].clone() for values in parts]
            targets = [_target(sample, records, memory) for sample in samples]
        for target, values in zip(targets, parts, strict=True):
            if isinstance(target, Tensor):
                target[done : done + len(values)] = values
            else:
                target.write(values.detach().contiguous().cpu().numpy().data.cast("B"))
        done += len(parts[0])
    if not targets or done != records:
        raise ValueError(f"chunks must hold {records} records, got {done}")
    return tuple(
        _finished(target, records, sample, chunk)
        for target, sample in zip(targets, samples, strict=True)
    )


def _target(sample: Tensor, records: int, memory: int | None) -> Tensor | IO[bytes]:
    """Return a tensor or a file for the chunks of a map."""
    if memory is None or sample.nbytes * records <= memory:
        return sample.new_empty(records, *sample.shape[1:])
    return spill_file(sample.nbytes * records)


def _finished(
    target: Tensor | IO[bytes], records: int, sample: Tensor, chunk: int
) -> InMemoryActivations | SpilledActivations:
    if isinstance(target, Tensor):
        return InMemoryActivations(target, chunk)
    target.flush()
    return SpilledActivations(target, records, sample.shape[1:], sample.device, chunk)


def image_activations(calibration: Float[Tensor, "records *sample"]) -> InMemoryActivations:
    """Return the calibration images, in chunks of about 32,768 pixels.

    Example:
        >>> image_activations(torch.zeros(9, 3, 64, 64)).chunk, image_activations(torch.zeros(9, 3, 8, 8)).chunk
        (8, 128)
    """
    records = PIXELS // max(1, calibration[0, 0].numel())
    return InMemoryActivations(calibration, min(RECORDS_PER_CHUNK, max(1, records)))


def map_budget(
    calibration: Float[Tensor, "records *sample"], memory: int | None, *, maps: int
) -> int | None:
    """Return the bytes that each of some maps may take in memory; None if there is no limit.

    Args:
        calibration: The images.
        memory: Bytes for all maps; None: on a CPU the default of `layer_pass.activation_budget`,
            elsewhere no limit.
        maps: Number of maps at a time.

    Example:
        >>> map_budget(torch.zeros(1, 3, 32, 32), 1200, maps=3)
        400
    """
    if memory is None and calibration.device.type != "cpu":
        return None
    return activation_budget(calibration, memory) // maps
