"""Trial of an outside network on random images, before anything is trained, quantized or evaluated.

Figures of leakage mean something only if the answer about an image depends on that image and the
weights alone, so the trial evaluates each image twice, alone and in company, in both orders of
memory, and makes one training step:

| found | then |
|---|---|
| another answer the second time (dropout that is always on) | refused, with the module's name |
| an answer that depends on the batch's other images (norms without statistics) | refused likewise |
| an answer that depends on the place in the batch, the pass before, or no image at all | refused |
| images that the network changes in place, probabilities, integers, half precision | refused |
| a mapping or tuple with the logits in it | the logits are taken |
| no answer, or another one, in channels-last memory (`view`) | it always runs in contiguous order |
| in training mode, further heads | the main one is trained; a note names the others |

The trial has a network of its own. Parameters that are initialised to zero, or nearly so, are drawn
anew in it, since a head or a branch that starts at zero would hide everything before it.

Cost: about 40 images through the network, once per process.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from bitleak.core.errors import ModelError
from bitleak.models.answer_difference import differing
from bitleak.models.fingerprint import SAVE_REMEDY
from bitleak.models.global_state import seeded_draws
from bitleak.models.logit_output import Choice, Choices, chosen_output
from bitleak.models.network_tensors import check_nothing_shared, check_tensors_alone, sums_of
from bitleak.models.network_trial import NetworkTrial, Shape, check_scale, draw_zeros
from bitleak.models.precision import exact_float32
from bitleak.models.training_trial import (
    training_choice,
    training_step_in_channels_last,
    unseeded_training,
)
from bitleak.models.unsaved_values import differing_names, unsaved

_STARTS = 3
"""Initialisations that may answer every image alike before the network is refused for it."""
_OTHER_START = 2_718
"""Seed of a second network of the same factory."""


@dataclass(frozen=True)
class Trial:
    """Result of a trial.

    Attributes:
        choices: Places of the logits in the network's output.
        channels_last: Whether it gives the same answers in channels-last memory, training included.
        notes: Sentences for the owner of the network.
    """

    choices: Choices
    channels_last: bool
    notes: tuple[str, ...]


def trial(make: Callable[[], Any], name: str, shape: Shape) -> Trial:
    """Try a network on random images.

    Args:
        make: Makes the network; draws from PyTorch's global generator, which is left as it was.
        name: Name of the factory, for messages.
        shape: Shape of the data.

    Raises:
        ModelError: The network cannot be audited on such data; with the reason and the remedy.
    """
    # The caller may be one that only evaluates.
    with (
        torch.inference_mode(mode=False),
        torch.enable_grad(),
        seeded_draws(0),
        exact_float32(),
    ):
        # A narrow network may start dead by chance, and answer all images alike.
        for seed in range(_STARTS):
            torch.default_generator.manual_seed(seed)
            tried = NetworkTrial(make(), name, shape)
            check_tensors_alone(tried)
            start, before = sums_of(tried.network), unsaved(tried.network)
            result = _result(tried)
            if result is not None:
                state = _check_state(make, tried, start)
                common = _common_values(tried, before)
                notes = (state, common or unseeded_training(tried, tried.images()))
                return replace(result, notes=(*result.notes, *filter(None, notes)))
        raise ModelError(
            f"{name} answers every image alike, {_STARTS} times: does its forward use the image?"
        )


def _check_state(make: Callable[[], Any], tried: NetworkTrial, start: dict[str, float]) -> str:
    """Refuse a network whose answers depend on tensors that its state dict does not hold.

    Models are stored as state dicts, and a stored one is built anew: with other draws, it would be
    another network. The order is that of `bitleak.models.load`: the second network takes the
    tensors while it is in training mode, and some change their tensors when they change the mode.

    Args:
        make: Makes a network.
        tried: The network under trial.
        start: Sums of its parameters as the factory made them.

    Returns:
        A note if the second network starts from the same weights; else nothing.
    """
    torch.default_generator.manual_seed(_OTHER_START)
    second = NetworkTrial(make(), tried.name, tried.shape)
    is_alike = bool(start) and sums_of(second.network) == start
    images = tried.images()
    second.output(images[:2])  # creates lazy parameters
    second.choice = tried.choice
    check_nothing_shared(tried, second, images)
    expected = tried.logits(images)
    second.network.train().load_state_dict(tried.network.eval().state_dict())
    second.network.eval()
    difference = differing(second.logits(images), expected)
    if difference:
        names = differing_names(unsaved(tried.network), unsaved(second.network))
        listed = f" ({', '.join(names[:6])})" if names else ""
        raise ModelError(
            f"{tried.name}: two networks of the factory with one state dict answer differently, {difference}: it draws "
            f"values that the state dict does not hold{listed}, or eval() and train() change its weights; {SAVE_REMEDY}"
        )
    if not is_alike:
        return ""
    return (
        f"{tried.name} starts from the same weights every time (pretrained, or a seed that the factory sets): all "
        "models of the population do, so the references know where the target began; with an unknown start it may leak "
        "less"
    )


def _common_values(tried: NetworkTrial, before: Mapping[str, str]) -> str:
    """Return a note if passes change values that all networks of the factory share; else nothing."""
    changed = differing_names(before, unsaved(tried.network))
    common = [name for name in changed if " of class " in name or " of module " in name]
    if not common:
        return ""
    return (
        f"{tried.name}: {', '.join(common[:3])} {'changes' if len(common) == 1 else 'change'} when a network runs, and "
        "all networks of a process share it: if training reads it, a model depends on those trained before it; keep it "
        "in the network (`self`)"
    )


def check_answers(network: nn.Module, shape: Shape, device: torch.device | str) -> bool:
    """Try a network as it is, in evaluation mode alone, without making a second one.

    Args:
        network: In evaluation mode, on the device; answers with logits.
        shape: Shape of the data.
        device: Device that holds the network.

    Returns:
        Whether it gives the same answers in channels-last memory.

    Raises:
        ModelError: Its answers are not logits, or are not the same twice, alone and in company.
    """
    with seeded_draws(0), exact_float32():
        tried = NetworkTrial(network, type(network).__name__, shape, torch.device(device))
        images = tried.images()
        first = tried.logits(images)
        if not bool(torch.isfinite(first).all()):  # the records themselves will say
            return True
        check_scale(tried.name, first)
        tried.check_twice(images, first)
        tried.check_company(images, first)
        return _same_in_channels_last(network, images, Choice())


def _same_in_channels_last(network: nn.Module, images: Tensor, choice: Choice) -> bool:
    """Return whether a network in evaluation mode answers the same in channels-last memory.

    It is left there if so.
    """
    with torch.no_grad():
        expected = choice.of(network(images.clone()))
        try:
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            logits = choice.of(network(images.clone(memory_format=torch.channels_last)))
            is_same = logits.shape == expected.shape and not differing(logits, expected)
        except Exception:  # foreign code may raise anything
            is_same = False
    if not is_same:
        network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return is_same


def _result(tried: NetworkTrial) -> Trial | None:
    """Run all checks; None if every image gets the same answer.

    They are in the order in which one fault explains those after it.
    """
    # A pass at all, with parameters that hide nothing.
    images = tried.images()
    tried.output(images[:2])  # creates lazy parameters
    tried.check_precision()
    draw_zeros(tried.network, tried.generator)

    # Logits in the output, and images that are left as they were.
    before = images.clone()
    tried.choice = chosen_output(
        tried.output(images), tried.name, tried.records, tried.shape.classes
    )
    first = tried.logits(images)
    if not torch.equal(images, before):
        raise ModelError(
            f"{tried.name} changes its images in place (`inplace=True`, `+=`): the next pass would see other "
            "images; let it work on a copy"
        )
    check_scale(tried.name, first)
    if torch.equal(first, first[:1].expand_as(first)):
        return None

    # One answer per image, alone and in company, in both orders of memory.
    tried.check_twice(images, first)
    tried.check_company(images, first)
    channels_last = _same_in_channels_last(tried.network, images, tried.choice)
    training, notes = training_choice(tried, images)
    channels_last = training_step_in_channels_last(
        tried, images, training, channels_last=channels_last
    )
    if not channels_last and tried.shape.size:
        notes.append(
            f"{tried.name} does not work in channels-last memory (a `view`, perhaps): it is trained and asked in "
            "contiguous order"
        )
    return Trial(Choices(tried.choice, training), channels_last, tuple(notes))
