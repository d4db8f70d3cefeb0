"""Checks of a network under trial in evaluation mode: a pass, a second one, and other company."""

import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bitleak.core.errors import ModelError
from bitleak.core.types import input_shape
from bitleak.models.answer_difference import ANSWER_ROUNDING, differing, differing_layer
from bitleak.models.global_state import draws_so_far
from bitleak.models.logit_output import Choice, output_in_words

_REPEATS = 20
"""Passes that look for a difference if a pass draws random numbers."""
_SMALL = 1e-2
"""Parameters whose largest magnitude is below it are drawn anew."""

_NOISE = "a dropout that is always on, perhaps (`F.dropout(x)` needs `training=self.training`)"
_MATES = (
    "what it says about a record would leak the membership of its batch mates. A norm needs running statistics "
    "(`track_running_stats=True`), or to work on each image alone (nn.GroupNorm, nn.LayerNorm)"
)


@dataclass(frozen=True)
class Shape:
    """Shape of the data: numbers of classes and channels, height and width of images in pixels.

    A table has columns in the place of channels, and the size 0.
    """

    classes: int
    channels: int
    size: int

    @property
    def of_input(self) -> tuple[int, ...]:
        """Shape of one image or row."""
        return input_shape(self.channels, self.size)

    def __str__(self) -> str:
        return (
            "x".join(map(str, self.of_input)) if self.size else f"a table ({self.channels} columns)"
        )


def draw_zeros(network: nn.Module, generator: torch.Generator) -> None:
    """Draw parameters anew that are nearly zero: a head that starts at zero hides all before it."""
    with torch.no_grad():
        for parameter in network.parameters():
            if (
                parameter.is_floating_point()
                and parameter.numel()
                and parameter.abs().max() < _SMALL
            ):
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))


class NetworkTrial:
    """A network under trial, and checks of its answers in evaluation mode."""

    def __init__(
        self, network: Any, name: str, shape: Shape, device: torch.device | None = None
    ) -> None:
        if not isinstance(network, nn.Module):
            raise ModelError(f"{name} must make a torch.nn.Module, got {type(network).__name__}")
        self.network, self.name, self.shape = network.eval(), name, shape
        # No number of records that could be taken for the number of classes.
        self.records = 4 if shape.classes != 4 else 5
        self.generator, self.device = (
            torch.Generator().manual_seed(0),
            device or torch.device("cpu"),
        )
        self.choice = Choice()

    def images(self) -> Tensor:
        """Draw a few random images."""
        size = (self.records, *self.shape.of_input)
        return torch.randn(size, generator=self.generator).to(self.device)

    def output(self, images: Tensor, mode: str = "") -> Any:
        """Return the network's output of any type, without gradients."""
        try:
            with torch.no_grad():
                return self.network(images)
        except Exception as error:  # foreign code may raise anything
            raise ModelError(
                refusal_of_images(self.name, self.shape, len(images), error, mode)
            ) from error

    def logits(self, images: Tensor) -> Tensor:
        """Return the answers about images, or refuse them unless they are logits of that shape."""
        output = self.output(images.clone())
        try:
            logits: Tensor = self.choice.of(output)
            right = tuple(logits.shape) == (len(images), self.shape.classes)
        except Exception:  # a structure that depends on the batch
            right = False
        if not right:
            count = "one image" if len(images) == 1 else f"{len(images)} images"
            raise ModelError(
                f"{self.name} must answer {count} with shape ({len(images)}, {self.shape.classes}), got "
                f"{output_in_words(output)} (a `squeeze()` without an axis, or a fixed batch size?)"
            )
        return logits

    def check_precision(self) -> None:
        """Refuse parameters that are not real float32."""
        for name, parameter in self.network.named_parameters():
            if parameter.is_complex():
                raise ModelError(
                    f"{self.name}: parameter {name!r} is complex, which is not trained here: keep its real and "
                    "imaginary parts as one parameter, `torch.view_as_real(values)`, and put them together in `forward`"
                )
            if parameter.is_floating_point() and parameter.dtype != torch.float32:
                kind = str(parameter.dtype).removeprefix("torch.")
                raise ModelError(
                    f"{self.name}: parameter {name!r} is {kind}; networks are trained and asked in float32: call "
                    "`.float()` in the factory"
                )

    def check_twice(self, images: Tensor, first: Tensor) -> None:
        """Refuse other answers about the same images."""
        # A pass that draws random numbers may give the same answer once, by chance.
        before = draws_so_far()
        difference = differing(self.logits(images), first)
        if before == draws_so_far():
            if difference:
                raise ModelError(self._answers_differ(images, difference))
            return
        for _ in range(_REPEATS):
            difference = difference or differing(self.logits(images), first)
        if difference:
            raise ModelError(self._answers_differ(images, difference))

    def _answers_differ(self, images: Tensor, difference: str) -> str:
        runs = [images] * _REPEATS
        return (
            f"{self.name} answers the same images differently each time in evaluation mode ({difference}): "
            f"{differing_layer(self.network, runs, 'itself')}; {_NOISE}"
        )

    def check_company(self, images: Tensor, first: Tensor) -> None:
        """Refuse other answers about an image among others, alone, or in another place."""
        # First, since a network that remembers may forget when the number of images changes.
        difference = differing(self.logits(images.flip(0)), first.flip(0))
        if difference:
            raise ModelError(
                f"{self.name}: the answer about an image depends on its place in the batch ({difference}), or on an "
                "earlier pass that the network remembers; it must depend on the image alone"
            )

        # Mates of another scale: statistics of the batch would differ by far more than rounding.
        company = torch.cat([images[:1], 3 * self.images()[1:] + 1])
        alone = images[:1]
        for batch in (company, alone):
            difference = differing(self.logits(batch)[:1], first[:1])
            if difference:
                raise ModelError(
                    f"{self.name}: the answer about an image depends on the other images of the batch ({difference}): "
                    f"{differing_layer(self.network, [images, batch], 'mates')}; {_MATES}"
                )


def check_scale(name: str, logits: Tensor) -> None:
    """Refuse answers that are not finite, or probabilities."""
    if not bool(torch.isfinite(logits).all()):
        raise ModelError(f"{name} answers random images with NaN or infinite values")
    sums = logits.sum(dim=1)
    if bool((logits >= 0).all()) and bool(((sums - 1).abs() < ANSWER_ROUNDING).all()):
        raise ModelError(
            f"{name} answers with probabilities (rows sum to 1); leave out the softmax: logits are needed"
        )


def refusal_of_images(name: str, shape: Shape, count: int, error: Exception, mode: str) -> str:
    """Return the message for a network that raises an error on images."""
    reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
    text = f"{name} does not take {mode}{'one image' if count == 1 else f'{count} images'} of {shape}: {reason}"
    if not shape.size:
        return f"{text} (rows of a table come as (records, columns); its factory is given the columns as in_features)"
    if "channels" in reason:
        return f"{text} (is the number of channels fixed in the factory?)"
    if re.search("size|shape|kernel|multipl", reason.lower()):
        return (
            f"{text} (a network for images of another size? give its factory the size under `options`, such as "
            f"{{img_size: {shape.size}}}, if it takes one)"
        )
    return text
