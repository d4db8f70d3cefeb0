"""Checks of a network under trial in training mode: the output to train, and one training step."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from bitleak.core.errors import ModelError
from bitleak.models.answer_difference import differing
from bitleak.models.global_state import seeded_draws
from bitleak.models.logit_output import Choice, logit_candidates, output_in_words, preferred
from bitleak.models.network_trial import NetworkTrial, refusal_of_images

_PASSES = 8
"""Passes that are compared, since a draw may change the answers only now and then."""


def training_choice(tried: NetworkTrial, images: Tensor) -> tuple[Choice, list[str]]:
    """Return the output of training mode that is trained, and notes on the others.

    It is the one with the values of evaluation mode while the layers compute as in evaluation mode.
    """
    # The layers in evaluation mode: with dropout or batch statistics, no output would be equal.
    expected = tried.logits(images)
    with _training(tried.network, layers=False):
        output = tried.output(images.clone(), "in training mode ")
    tensors = logit_candidates(output, tried.records, tried.shape.classes)
    equal = {choice: value for choice, value in tensors.items() if not differing(value, expected)}
    chosen = preferred(output, equal) if equal else preferred(output, tensors)
    if chosen is None and equal:
        chosen = next(iter(equal))
    if chosen is None:
        raise ModelError(
            f"{tried.name} returns {output_in_words(output)} in training mode, and none of it is known "
            "to be what it answers in evaluation mode: let it return the logits alone, or call them 'logits'"
        )
    untrained = [str(choice) for choice in tensors if choice != chosen]
    if not untrained:
        return chosen, []
    return chosen, [
        f"{tried.name} returns further heads in training mode: {chosen} is trained, {', '.join(untrained)} are not"
    ]


def unseeded_training(tried: NetworkTrial, images: Tensor) -> str:
    """Return a note if training mode draws numbers that no seed of the trainer reaches; else nothing.

    Two copies of the network make the same passes with equal global generators.
    """
    try:
        first, second = (_training_passes(copy.deepcopy(tried.network), images) for _ in range(2))
    except Exception:  # foreign code may raise anything, also when it is copied
        return ""
    if not differing(first, second):
        return ""
    return (
        f"{tried.name} draws numbers in training mode that no seed reaches (`numpy.random.default_rng()`): every run "
        "trains other models, so its figures cannot be reproduced; `torch.rand`, `random` and `numpy.random` are seeded"
    )


def _training_passes(network: nn.Module, images: Tensor) -> Tensor:
    """Return all output tensors of several passes in training mode, joined."""
    passes: list[Tensor] = []
    with seeded_draws(0), torch.no_grad():
        for _ in range(_PASSES):
            output = network.train()(images.clone())
            passes += [value.reshape(-1) for value in _tensors(output)]
    return torch.nan_to_num(torch.cat(passes))


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from _tensors(value)
    elif isinstance(output, list | tuple):
        for value in output:
            yield from _tensors(value)


def training_step_in_channels_last(
    tried: NetworkTrial, images: Tensor, choice: Choice, *, channels_last: bool
) -> bool:
    """Make one training step, and return whether it works in channels-last memory.

    Args:
        tried: The network under trial.
        images: A few random images.
        choice: Output that is trained.
        channels_last: Whether channels-last memory is tried first.

    Raises:
        ModelError: The step fails in contiguous memory too, or no parameter has a gradient.
    """
    labels = torch.arange(tried.records) % tried.shape.classes
    formats = (
        (torch.channels_last, torch.contiguous_format)
        if channels_last
        else (torch.contiguous_format,)
    )
    for layout in formats:
        tried.network.to(memory_format=layout)  # type: ignore[call-overload]
        try:
            with _training(tried.network, layers=True):
                logits = choice.of(tried.network(images.clone(memory_format=layout)))
                loss = nn.functional.cross_entropy(logits.float(), labels)
                if not loss.requires_grad:
                    break
                loss.backward()
            break
        except Exception as error:  # foreign code may raise anything
            if layout == torch.contiguous_format:
                mode = "in training mode "
                text = refusal_of_images(tried.name, tried.shape, tried.records, error, mode)
                raise ModelError(text) from error

    # A step without gradients would train nothing, and no figure would show it.
    gradients = [parameter.grad for parameter in tried.network.parameters()]
    if not any(gradient is not None and bool(gradient.abs().sum() > 0) for gradient in gradients):
        raise ModelError(
            f"{tried.name} cannot be trained: no parameter has a gradient (`no_grad`, `detach`?)"
        )
    return layout == torch.channels_last


@contextmanager
def _training(network: nn.Module, *, layers: bool) -> Iterator[None]:
    """Put the network into training mode; without `layers`, not its innermost modules."""
    network.train()
    if not layers:
        for module in network.modules():
            if module is not network and next(module.children(), None) is None:
                module.eval()
    try:
        yield
    finally:
        network.eval()
