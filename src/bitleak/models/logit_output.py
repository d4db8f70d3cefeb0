"""The tensor of a network's output with the logits, also in mappings and tuples."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bitleak.core.errors import ModelError

PREFERRED = ("logits", "out")
"""Names that libraries give to the logits of their main head."""


@dataclass(frozen=True)
class Choice:
    """The place of the logits in an output.

    Attributes:
        way: The output itself, an item of it (a mapping, a tuple) or an attribute of it (a
            dataclass).
        key: Key of the item, or name of the attribute; None for the output itself.
        flat: Whether axes of one element are removed, as of `records classes 1 1`.
    """

    way: Literal["itself", "item", "attribute"] = "itself"
    key: str | int | None = None
    flat: bool = False

    def of(self, output: Any) -> Any:
        """Return the logits, [records, classes]."""
        if self.way == "item":
            output = output[self.key]
        elif self.way == "attribute":
            output = getattr(output, str(self.key))
        return output.flatten(1) if self.flat else output

    def __str__(self) -> str:
        return "its output" if self.way == "itself" else f"{self.key!r}"


@dataclass(frozen=True)
class Choices:
    """The choices in evaluation mode and in training mode."""

    evaluation: Choice
    training: Choice


def logit_candidates(output: Any, records: int, classes: int) -> dict[Choice, Tensor]:
    """Return every tensor of an output that has one floating-point number per record and class."""
    tensors = {}
    for choice, value in _parts(output).items():
        shaped = value.ndim > 1 and value.shape[0] == records and value[0].numel() == classes
        if shaped and value.is_floating_point():
            tensors[Choice(choice.way, choice.key, flat=value.ndim > 2)] = value.flatten(1)
    return tensors


def preferred(output: Any, tensors: Mapping[Choice, Tensor]) -> Choice | None:
    """Return the candidate with a usual name, or the only one; None if neither decides."""
    by_key = {choice.key: choice for choice in tensors}
    parts = {choice.key for choice in _parts(output)}
    for name in PREFERRED:
        key: str | int = name
        if isinstance(output, tuple) and name in getattr(output, "_fields", ()):
            key = output._fields.index(name)  # type: ignore[attr-defined]
        # A part of this name that is no candidate is a fault of the network, not a reason to guess.
        if key in parts:
            return by_key.get(key)
    return next(iter(tensors)) if len(tensors) == 1 else None


def output_width(output: Any, records: int) -> int | None:
    """Return the number of classes that a network answers with; None if no part decides it."""
    tensors = {}
    for choice, value in _parts(output).items():
        if value.ndim > 1 and value.shape[0] == records and value.is_floating_point():
            tensors[choice] = value
    choice_ = preferred(output, tensors)
    return None if choice_ is None else int(tensors[choice_][0].numel())


def chosen_output(output: Any, name: str, records: int, classes: int) -> Choice:
    """Return the place of the logits in an output of evaluation mode.

    Args:
        output: Answer of a network about `records` images.
        name: Name of the network, for messages.
        records: Number of images, which is not the number of classes.
        classes: Number of classes.

    Raises:
        ModelError: No part of it can be taken for the logits, or they are of another precision.
    """
    tensors = logit_candidates(output, records, classes)
    choice = preferred(output, tensors)
    if choice is None:
        raise ModelError(_no_logits(output, tensors, name, records, classes))
    dtype = tensors[choice].dtype
    if dtype not in (torch.float32, torch.float64):
        kind = str(dtype).removeprefix("torch.")
        raise ModelError(
            f"{name} answers in {kind}; answers must be float32: leave out the cast or autocast"
        )
    return choice


def _no_logits(
    output: Any, tensors: Mapping[Choice, Tensor], name: str, records: int, classes: int
) -> str:
    """Return the message for an output without logits."""
    expected = f"{name} must answer {records} images with shape ({records}, {classes})"
    if isinstance(output, Tensor):
        text = f"{expected}, got {output_in_words(output)}"
        if classes == 2 and output.numel() == records:
            return (
                f"{text}: one number for two classes; give it two outputs, trained by cross-entropy"
            )
        if output.numel() == records * classes or not output.is_floating_point():
            return f"{text}; expected logits in floating point, one row per image"
        return text
    listed = ", ".join(map(str, tensors)) or "none"
    return (
        f"{expected}, or have such a tensor as 'logits' or 'out'; got {output_in_words(output)}, of which {listed} "
        "would do: let forward return the logits alone"
    )


def output_in_words(output: Any) -> str:
    """Return type and shapes of an output, for a message."""
    if isinstance(output, Tensor):
        return f"{output.dtype} of shape {tuple(output.shape)}".removeprefix("torch.")
    parts = [
        f"{choice.key!r}: {output_in_words(value)}" for choice, value in _parts(output).items()
    ]
    return type(output).__name__ + (f" ({'; '.join(parts)})" if parts else "")


def answering(network: nn.Module, choices: Choices) -> nn.Module:
    """Return the network with logits as its output; names of modules and tensors stay.

    Its class is replaced by a subclass whose `forward` takes the logits, so that tracing and
    copying see it too.
    """
    if choices == Choices(Choice(), Choice()):
        return network
    kind = type(network)

    def forward(self: Any, images: Any) -> Any:  # a proxy while torch.fx traces
        chosen = choices.training if self.training else choices.evaluation
        return chosen.of(kind.forward(self, images))

    made = type(
        kind.__name__,
        (kind,),
        {"forward": forward, "__module__": kind.__module__, "__doc__": kind.__doc__},
    )
    try:
        network.__class__ = made
    except TypeError:
        raise ModelError(
            f"{kind.__name__} does not answer with a tensor of records and classes, and its class cannot be extended; "
            "let its forward return the logits alone"
        ) from None
    return network


def _parts(output: Any) -> dict[Choice, Tensor]:
    """Return the tensors of an output, without those that are nested deeper."""
    if isinstance(output, Tensor):
        return {Choice(): output}
    pairs: dict[Choice, Any] = {}
    if isinstance(output, Mapping):
        for key, value in output.items():
            pairs[Choice("item", key)] = value
    elif isinstance(output, tuple | list):
        for index, value in enumerate(output):
            pairs[Choice("item", index)] = value
    elif is_dataclass(output) and not isinstance(output, type):
        for item in fields(output):
            pairs[Choice("attribute", item.name)] = getattr(output, item.name)
    return {choice: value for choice, value in pairs.items() if isinstance(value, torch.Tensor)}
