"""Whether the weight of a layer is stored where nothing else of the network is.

Codes replace a weight. If another module has the same memory as a parameter or buffer (a transposed
convolution, an embedding, a transposed view, a slice of one large tensor), a state dict holds it
under both names, loading writes one over the other, and the layer that should lie on its grid has
full precision. PyTorch compares parameters by identity; here the memory that each tensor reaches is
compared, so views count, and slices that do not meet do not.

Copies of a module (`copy.deepcopy`, `Module.to` of another device) lose what views share, so the
network itself must be looked at.

Cost: none where no two tensors have a storage in common; else a mark per element of that storage.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping

import torch
from torch import Tensor, nn


def shared_weights(network: nn.Module, names: Collection[str]) -> Iterator[tuple[str, str]]:
    """Layers whose weight shares memory, each with the name of a tensor that has some of it too.

    Args:
        network: As it is used, not a copy.
        names: Qualified names of layers; their weights are parameters.

    Example:
        >>> network = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
        >>> network[1].weight = nn.Parameter(network[0].weight.data.t())
        >>> list(shared_weights(network, ["0"]))
        [('0', '1.weight')]
    """
    tensors = dict(_tensors(network))
    together: dict[int, list[str]] = defaultdict(list)
    for name, tensor in tensors.items():
        if tensor.numel() and tensor.layout == torch.strided and tensor.device.type != "meta":
            together[tensor.untyped_storage().data_ptr()].append(name)
    for name in names:
        weight = f"{name}.weight" if name else "weight"
        others = together.get(tensors[weight].untyped_storage().data_ptr(), []) if tensors[weight].numel() else []
        for other in others:
            if other != weight and _overlap(tensors[weight], tensors[other]):
                yield name, other


def _tensors(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters, buffers, and tensors that are mere attributes, by qualified name; a tensor may have several."""
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
    elif isinstance(value, list | tuple):
        yield from (item for item in value if isinstance(item, Tensor))
    elif isinstance(value, Mapping):
        yield from (item for item in value.values() if isinstance(item, Tensor))


def _overlap(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors of one storage have a byte in common."""
    first, second = (_reach(tensor) for tensor in (one, other))
    if first[1] <= second[0] or second[1] <= first[0]:
        return False
    if one.dtype != other.dtype:  # a view of the bytes as another type: strides count other units
        return True
    marks = torch.zeros(one.untyped_storage().nbytes() // one.element_size(), dtype=torch.bool)
    marks.as_strided(one.shape, one.stride(), one.storage_offset()).fill_(True)
    return bool(marks.as_strided(other.shape, other.stride(), other.storage_offset()).any())


def _reach(tensor: Tensor) -> tuple[int, int]:
    """First byte and the one after the last, from the start of the storage."""
    steps = [(int(size) - 1) * int(stride) for size, stride in zip(tensor.shape, tensor.stride(), strict=True)]
    start, size = int(tensor.storage_offset()), tensor.element_size()
    return size * start, size * (start + sum(steps) + 1)
