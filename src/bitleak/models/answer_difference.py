"""Differences between answers of networks beyond rounding: how large, and by which layer."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

ANSWER_ROUNDING = 1e-4
"""Largest difference on one machine that is taken for rounding, relative to the largest logit."""


def differing(
    answers: Tensor | np.ndarray, expected: Tensor | np.ndarray, tolerance: float = ANSWER_ROUNDING
) -> str:
    """Return by how much two answers differ, in words; empty if it is rounding.

    Args:
        answers: Logits or other values.
        expected: Values that they are compared with.
        tolerance: Largest difference that counts as rounding, relative to the largest expected
            magnitude.

    Example:
        >>> differing(np.array([1.0, 2.5]), np.array([1.0, 2.0]), 1e-3)
        'by up to 0.5 in logits of up to 2'
    """
    first, second = _doubles(answers), _doubles(expected)
    if first.shape != second.shape:
        return f"with shape {tuple(first.shape)} in the place of {tuple(second.shape)}"
    difference, largest = float((first - second).abs().max()), float(second.abs().max())
    if difference <= tolerance * max(largest, 1e-12):
        return ""
    return f"by up to {difference:.2g} in logits of up to {largest:.2g}"


def _doubles(values: Tensor | np.ndarray) -> Tensor:
    # Arrays are copied: they may be read-only pages of a store, of which PyTorch warns.
    return torch.as_tensor(values if isinstance(values, Tensor) else np.array(values)).double()


def differing_layer(network: nn.Module, batches: list[Tensor], compared: str) -> str:
    """Name the innermost module with equal inputs and other outputs for the first image.

    Args:
        network: A network in evaluation mode.
        batches: Batches with the same first image.
        compared: `itself` compares all records of a batch, `mates` the first one.
    """
    # Calls end from the inside out, so the first one that differs is the innermost.
    runs = [_recorded(network, batch) for batch in batches]
    names = {id(module): name for name, module in network.named_modules()}
    for calls in zip(*runs, strict=False):
        module, *_ = calls[0]
        if any(call[0] is not module for call in calls):
            break
        inputs, outputs = _rows(calls[0][1], compared), _rows(calls[0][2], compared)
        for _, repeated_inputs, repeated_outputs in calls[1:]:
            same_inputs = _are_equal(inputs, _rows(repeated_inputs, compared))
            if same_inputs and not _are_equal(outputs, _rows(repeated_outputs, compared)):
                kind, where = type(module).__name__, names[id(module)]
                return (
                    f"layer {where!r} ({kind}) does"
                    if where
                    else f"the forward of {kind} itself does"
                )
    return "no single layer does"


def _recorded(
    network: nn.Module, batch: Tensor
) -> list[tuple[nn.Module, list[Tensor], list[Tensor]]]:
    """Return all calls of modules in the order in which they end: module, inputs, outputs."""
    calls: list[tuple[nn.Module, list[Tensor], list[Tensor]]] = []

    def hook(module: nn.Module, inputs: Any, answer: Any) -> None:
        calls.append((module, _tensors(inputs), _tensors(answer)))

    handles = [module.register_forward_hook(hook) for module in network.modules()]
    try:
        with torch.no_grad():
            network(batch.clone())
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value.clone()]
    if isinstance(value, dict):
        value = list(value.values())
    tensors: list[Tensor] = []
    if isinstance(value, tuple | list):
        for part in value:
            tensors += _tensors(part)
    return tensors


def _rows(tensors: list[Tensor], compared: str) -> list[Tensor]:
    return [tensor[:1] if compared == "mates" and tensor.ndim else tensor for tensor in tensors]


def _are_equal(first: list[Tensor], second: list[Tensor]) -> bool:
    if len(first) != len(second):
        return False
    for values, other_values in zip(first, second, strict=True):
        if values.shape != other_values.shape or (
            values.numel() and differing(values, other_values)
        ):
            return False
    return True
