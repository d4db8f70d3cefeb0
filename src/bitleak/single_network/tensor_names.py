"""Names of tensors in files: wrappers put a prefix before all of them, which says nothing about the network."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

INNER = ("_orig_mod.", "module.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
"""What PyTorch's wrappers put into names, also of parts: `torch.compile`, data parallelism, sharding, recomputation."""
_COUNTER = "n_averaged"
"""The only tensor of `torch.optim.swa_utils.AveragedModel` that is none of the network's."""


def with_shared_names(tensors: Mapping[str, Any], shared: Iterable[Sequence[str]]) -> dict[str, Any]:
    """Return the tensors with those that the file holds under another name of the same tensor.

    `safetensors.torch.save_model` writes a tensor that a network has under several names once.

    Args:
        tensors: By the names that the network has for them.
        shared: Names that are one tensor in the network.

    Example:
        >>> with_shared_names({"a.weight": 1}, [("a.weight", "b.weight")])
        {'a.weight': 1, 'b.weight': 1}
    """
    found = dict(tensors)
    for names in shared:
        held = next((name for name in names if name in tensors), None)
        if held is not None:
            found |= {name: tensors[held] for name in names if name not in tensors}
    return found


def fitted_names(tensors: Mapping[str, Any], expected: Collection[str]) -> tuple[dict[str, Any], str]:
    """The tensors under the names that the network has for them, if a prefix is all that keeps them from it.

    Args:
        tensors: By the names in the file.
        expected: Names of the network's tensors.

    Returns:
        The tensors, and a sentence that says how names were changed. They are unchanged, and the sentence is empty, if
        the names fit already or no prefix makes all of them fit.

    Example:
        >>> tensors = {"module._orig_mod.weight": 2, "module._orig_mod.bias": 1}
        >>> found, said = fitted_names(tensors, ["weight", "bias"])
        >>> list(found), said
        (['weight', 'bias'], "the prefix 'module._orig_mod.' was removed from the names of all tensors")
    """
    wanted = set(expected)
    if set(tensors) == wanted or not tensors:
        return dict(tensors), ""
    stripped = _stripped({name: value for name, value in tensors.items() if name != _COUNTER}, wanted)
    if stripped is not None:
        return stripped
    unwrapped = _unwrapped(tensors)
    if set(unwrapped) == wanted and len(unwrapped) == len(tensors):
        return unwrapped, "the prefixes of PyTorch's wrappers were removed from the names of tensors"
    added = common_prefix(wanted)
    if added and {f"{added}{name}" for name in tensors} == wanted:
        return {f"{added}{name}": value for name, value in tensors.items()}, (
            f"the prefix {added!r} was put before the names of all tensors"
        )
    return dict(tensors), ""


def common_prefix(names: Collection[str]) -> str:
    """The first part of a name, with its dot, if all names begin with it; else empty."""
    parts = {name.partition(".")[0] for name in names}
    only = next(iter(parts)) if len(parts) == 1 else ""
    return f"{only}." if only and all("." in name for name in names) else ""


def _stripped(tensors: Mapping[str, Any], wanted: set[str]) -> tuple[dict[str, Any], str] | None:
    removed, found = "", dict(tensors)
    while prefix := common_prefix(found):
        removed, found = removed + prefix, {name.removeprefix(prefix): value for name, value in found.items()}
        if set(found) == wanted:
            return found, f"the prefix {removed!r} was removed from the names of all tensors"
    return None


def _unwrapped(tensors: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for name, value in tensors.items():
        short = name
        for part in INNER:
            short = short.replace(part, "")
        found[short] = value
    return found
