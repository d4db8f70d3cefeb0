"""Check that the memory of a layer's weight holds nothing else of the network.

Codes replace a weight. If another module has the same memory as a parameter or buffer (a transposed
convolution, an embedding, a transposed view, a slice of one large tensor), a state dict holds it
under both names, loading writes one over the other, and the layer that should lie on its grid has
full precision. PyTorch compares parameters by identity; here the memory that each tensor reaches is
compared, so views count, and slices that do not meet do not.

In copies of a module (`copy.deepcopy`, `Module.to` of another device), views share no memory any
more, so the network itself must be checked.

Cost: none if no two tensors have a storage in common; else a mark per element of that storage.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping

import torch
from torch import Tensor, nn


def shared_weights(network: nn.Module, names: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield layers whose weight shares memory, each with the name of a tensor that shares it.

    Args:
        network: As it is used, not a copy.
        names: Qualified names of layers; their weights are parameters.

    Example:
        >>> network = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
        >>> network[1].weight = nn.Parameter(network[0].weight.data.t())
        >>> list(shared_weights(network, ["0"]))
        [('0', '1.weight')]
    """
    # Only tensors of one storage can overlap; the others need no look.
    tensors = dict(_tensors(network))
    by_storage: dict[int, list[str]] = defaultdict(list)
    for name, tensor in tensors.items():
        if tensor.numel() and tensor.layout == torch.strided and tensor.device.type != "meta":
            by_storage[tensor.untyped_storage().data_ptr()].append(name)
    for name in names:
        weight_name = f"{name}.weight" if name else "weight"
        weight = tensors[weight_name]
        if not weight.numel():
            continue
        for tensor_name in by_storage.get(weight.untyped_storage().data_ptr(), []):
            if tensor_name != weight_name and _overlap(weight, tensors[tensor_name]):
                yield name, tensor_name


def _tensors(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield parameters, buffers and tensors that are attributes, by all their qualified names."""
    yield from network.named_parameters(remove_duplicate=False)
    yield from network.named_buffers(remove_duplicate=False)
    for name, module in network.named_modules():
        for attribute, value in vars(module).items():
            if attribute in ("_parameters", "_buffers", "_modules"):
                continue
            for tensor in _within(value):
                yield f"{name}.{attribute}" if name else attribute, tensor


def _within(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple | Mapping):
        for item in value.values() if isinstance(value, Mapping) else value:
            if isinstance(item, Tensor):
                yield item


def _overlap(first: Tensor, second: Tensor) -> bool:
    """Return whether two tensors of one storage have a byte in common."""
    (first_start, first_end), (second_start, second_end) = _reach(first), _reach(second)
    if first_end <= second_start or second_end <= first_start:
        return False
    # A view of the bytes as another type: strides count other units.
    if first.dtype != second.dtype:
        return True
    # Interleaved slices reach over each other without an element in common, so elements are marked.
    marks = torch.zeros(first.untyped_storage().nbytes() // first.element_size(), dtype=torch.bool)
    marks.as_strided(first.shape, first.stride(), first.storage_offset()).fill_(True)
    return bool(marks.as_strided(second.shape, second.stride(), second.storage_offset()).any())


def _reach(tensor: Tensor) -> tuple[int, int]:
    """Return the first byte and the one after the last, from the start of the storage."""
    start = last = int(tensor.storage_offset())
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        last += (int(size) - 1) * int(stride)
    return tensor.element_size() * start, tensor.element_size() * (last + 1)
