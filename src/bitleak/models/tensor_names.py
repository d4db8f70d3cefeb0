"""Names of tensors in files, without the prefixes that PyTorch's wrappers put before all of
them.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

INNER = ("_orig_mod.", "module.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
"""Parts of names from PyTorch's wrappers of a network or of its parts: compilation, data
parallelism, sharding, recomputation."""
_COUNTER = "n_averaged"
"""The only tensor of `torch.optim.swa_utils.AveragedModel` that is not the network's."""


def with_shared_names(
    tensors: Mapping[str, Any], shared: Iterable[Sequence[str]]
) -> dict[str, Any]:
    """Return the tensors, and again those that the network has under further names.

    `safetensors.torch.save_model` writes a tensor once that a network has under several names.

    Args:
        tensors: Tensors by the network's names for them.
        shared: Groups of names, each of one tensor in the network.

    Example:
        >>> with_shared_names({"a.weight": 1}, [("a.weight", "b.weight")])
        {'a.weight': 1, 'b.weight': 1}
    """
    completed = dict(tensors)
    for names in shared:
        stored = next((name for name in names if name in tensors), None)
        if stored is None:
            continue
        for name in names:
            completed.setdefault(name, tensors[stored])
    return completed


def fitted_names(
    tensors: Mapping[str, Any], expected: Collection[str]
) -> tuple[dict[str, Any], str]:
    """Return the tensors under the network's names, if the names in the file differ from them by a
    prefix alone.

    Args:
        tensors: Tensors by their names in the file.
        expected: The network's names.

    Returns:
        The tensors, and a sentence on how their names were changed. They are unchanged, and the
        sentence is empty, if the names fit already or no prefix makes all of them fit.

    Example:
        >>> tensors = {"module._orig_mod.weight": 2, "module._orig_mod.bias": 1}
        >>> renamed, note = fitted_names(tensors, ["weight", "bias"])
        >>> list(renamed), note
        (['weight', 'bias'], "the prefix 'module._orig_mod.' was removed from the names of all tensors")
    """
    names = set(expected)
    if set(tensors) == names or not tensors:
        return dict(tensors), ""

    # The whole network was wrapped, perhaps more than once.
    stripped = _without_prefix(
        {name: value for name, value in tensors.items() if name != _COUNTER}, names
    )
    if stripped is not None:
        return stripped

    # Parts of it were; two tensors that would get the same name are a sign that this is not so.
    unwrapped = _without_wrappers(tensors)
    if set(unwrapped) == names and len(unwrapped) == len(tensors):
        return (
            unwrapped,
            "the prefixes of PyTorch's wrappers were removed from the names of tensors",
        )

    # The network given here is a wrapper of the one that was saved.
    prefix = common_prefix(names)
    prefixed = {f"{prefix}{name}": value for name, value in tensors.items()}
    if prefix and set(prefixed) == names:
        return prefixed, f"the prefix {prefix!r} was put before the names of all tensors"
    return dict(tensors), ""


def common_prefix(names: Collection[str]) -> str:
    """Return the first part of a name, with its dot, if all names begin with it; else an empty
    text.
    """
    first_parts = {name.partition(".")[0] for name in names}
    if len(first_parts) != 1 or not all("." in name for name in names):
        return ""
    (part,) = first_parts
    return f"{part}." if part else ""


def _without_prefix(
    tensors: Mapping[str, Any], names: set[str]
) -> tuple[dict[str, Any], str] | None:
    """Return the tensors without the common prefix that leaves these names; None if there is
    none.
    """
    removed, shortened = "", dict(tensors)
    while prefix := common_prefix(shortened):
        removed += prefix
        shortened = {name.removeprefix(prefix): value for name, value in shortened.items()}
        if set(shortened) == names:
            return shortened, f"the prefix {removed!r} was removed from the names of all tensors"
    return None


def _without_wrappers(tensors: Mapping[str, Any]) -> dict[str, Any]:
    unwrapped = {}
    for name, value in tensors.items():
        short = name
        for part in INNER:
            short = short.replace(part, "")
        unwrapped[short] = value
    return unwrapped
