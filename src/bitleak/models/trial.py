"""A foreign network is tried once, on random images, before anything is trained, quantized or asked.

Figures of leakage are worth something only if the answer about an image depends on that image and the weights
alone, so the trial asks twice, alone and in company, in both orders of memory, and makes one training step:

| found | then |
|---|---|
| another answer the second time (dropout that is always on) | refused, with the module's name |
| an answer that depends on the other images of the batch (norms without running statistics) | refused, likewise |
| an answer that depends on the place in the batch, on the pass before, or on no image at all | refused |
| images that the network changes in place, probabilities, integers, half precision | refused |
| a mapping or tuple with the logits in it | the logits are taken |
| no answer, or another one, in channels-last memory (`view`) | it always runs in contiguous order |
| in training mode, further heads | the main one is trained; a note names the others |

The trial has a network of its own. Parameters that are initialised to zero, or nearly so, are drawn anew in it, since
a head or a branch that starts at zero would hide everything before it.

Cost: about 40 images through the network, once per process.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bitleak.core.errors import ModelError
from bitleak.models.fingerprint import REMEDY, differing
from bitleak.models.logit_output import Choice, Choices, logit_candidates, output_in_words, preferred
from bitleak.models.precision import exact_float32
from bitleak.models.unsaved_values import differing_names, unsaved

ROUNDING = 1e-4
"""Largest difference that is taken for rounding, relative to the largest logit."""
_REPEATS = 20
"""Passes that look for a difference if a pass draws random numbers."""
_STARTS = 3
"""Initialisations that may answer every image alike before the network is refused for it."""
_OTHER_START = 2_718
"""Seed of a second network of the same factory."""
_SMALL = 1e-2
"""Parameters whose largest magnitude is below it are drawn anew."""

_NOISE = "a dropout that is always on, perhaps (`F.dropout(x)` needs `training=self.training`)"
_MATES = (
    "what it says about a record would leak the membership of its batch mates. A norm needs running statistics "
    "(`track_running_stats=True`), or to work on each image alone (nn.GroupNorm, nn.LayerNorm)"
)


@dataclass(frozen=True)
class Shape:
    """The shape of the data: numbers of classes and channels, and the images' height and width in pixels."""

    classes: int
    channels: int
    size: int

    def __str__(self) -> str:
        return f"{self.channels}x{self.size}x{self.size}"


@dataclass(frozen=True)
class Trial:
    """What a trial found.

    Attributes:
        choices: Where the logits are in what the network returns.
        channels_last: Whether it gives the same answers in channels-last memory, training included.
        notes: Sentences for the one who brought the network.
    """

    choices: Choices
    channels_last: bool
    notes: tuple[str, ...]


def trial(make: Callable[[], Any], name: str, shape: Shape) -> Trial:
    """Try what `make` makes.

    Args:
        make: Makes the network; draws from PyTorch's global generator, which is left as it was.
        name: Of the factory, for messages.
        shape: Of the data.

    Raises:
        ModelError: The network cannot be audited on such data; says why, and what to change.
    """
    # The caller may be one that only evaluates.
    with torch.inference_mode(mode=False), torch.enable_grad(), torch.random.fork_rng(devices=[]), exact_float32():
        for seed in range(_STARTS):  # a narrow network may start dead by chance
            torch.default_generator.manual_seed(seed)
            tried = _Trial(make(), name, shape)
            found = tried.run()
            if found is not None:
                _check_state(make, tried)
                return found
        raise ModelError(f"{name} answers every image alike, {_STARTS} times: does its forward use the image?")


def _check_state(make: Callable[[], Any], tried: "_Trial") -> None:
    """Refuse a network whose answers depend on tensors that its state dict does not hold.

    Models are stored as state dicts, and a stored one is built anew: with other draws, it would be another network.
    """
    torch.default_generator.manual_seed(_OTHER_START)
    other = _Trial(make(), tried.name, tried.shape)
    images = tried.images()
    other._raw(images[:2])  # makes what is lazy
    other.choice = tried.choice
    other.network.load_state_dict(tried.network.eval().state_dict())
    apart = _apart(other.logits(images), tried.logits(images))
    if apart:
        names = differing_names(unsaved(tried.network), unsaved(other.network))
        listed = f" ({', '.join(names[:6])})" if names else ""
        raise ModelError(
            f"{tried.name}: two networks of the factory with one state dict answer differently, {apart}: it draws "
            f"values that the state dict does not hold{listed}; {REMEDY}"
        )


def draw_zeros(network: nn.Module, generator: torch.Generator) -> None:
    """Draw the parameters anew that are zero, or nearly so: a head that starts at zero hides all before it."""
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.is_floating_point() and parameter.numel() and parameter.abs().max() < _SMALL:
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))


def check_answers(network: nn.Module, shape: Shape, device: torch.device | str) -> bool:
    """Try a network as it is, in evaluation mode alone, without making another.

    Args:
        network: In evaluation mode, on the device; answers with logits.
        shape: Of the data.
        device: Where the network is.

    Returns:
        Whether it gives the same answers in channels-last memory.

    Raises:
        ModelError: Its answers are not logits, or are not the same twice, alone and in company.
    """
    with torch.random.fork_rng(devices=[]), exact_float32():
        tried = _Trial(network, type(network).__name__, shape, torch.device(device))
        images = tried.images()
        first = tried.logits(images)
        if not bool(torch.isfinite(first).all()):  # the records themselves will say
            return True
        _check_scale(tried.name, first)
        tried.check_twice(images, first)
        tried.check_company(images, first)
        return _same_in_channels_last(network, images, Choice())


def _same_in_channels_last(network: nn.Module, images: Tensor, choice: Choice) -> bool:
    """Whether a network in evaluation mode answers the same in that order; it is left in it if so."""
    with torch.no_grad():
        expected = choice.of(network(images.clone()))
        try:
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            found = choice.of(network(images.clone(memory_format=torch.channels_last)))
            same = found.shape == expected.shape and not _apart(found, expected)
        except Exception:  # foreign code may raise anything
            same = False
    if not same:
        network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return same


class _Trial:
    """One network under trial."""

    def __init__(self, network: Any, name: str, shape: Shape, device: torch.device | None = None) -> None:
        if not isinstance(network, nn.Module):
            raise ModelError(f"{name} must make a torch.nn.Module, got {type(network).__name__}")
        self.network, self.name, self.shape = network.eval(), name, shape
        # No number of records that could be taken for the number of classes.
        self.records = 4 if shape.classes != 4 else 5
        self.chance, self.device = torch.Generator().manual_seed(0), device or torch.device("cpu")
        self.choice = Choice()

    def run(self) -> Trial | None:
        """All of it, in the order in which a fault explains those after it; None if all answers are the same."""
        images = self.images()
        self._raw(images[:2])  # makes what is lazy
        self._check_precision()
        draw_zeros(self.network, self.chance)
        before = images.clone()
        self.choice = self._choose(self._raw(images))
        first = self.logits(images)
        if not torch.equal(images, before):
            raise ModelError(
                f"{self.name} changes its images in place (`inplace=True`, `+=`): the next pass would see other "
                "images; let it work on a copy"
            )
        _check_scale(self.name, first)
        if torch.equal(first, first[:1].expand_as(first)):
            return None
        self.check_twice(images, first)
        self.check_company(images, first)
        same = _same_in_channels_last(self.network, images, self.choice)
        training, notes = self._choose_for_training(images)
        same = self._train(images, training, channels_last=same)
        if not same:
            notes.append(
                f"{self.name} does not work in channels-last memory (a `view`, perhaps): it is trained and asked in "
                "contiguous order"
            )
        return Trial(Choices(self.choice, training), same, tuple(notes))

    def images(self) -> Tensor:
        """A few random images."""
        size = (self.records, self.shape.channels, self.shape.size, self.shape.size)
        return torch.randn(size, generator=self.chance).to(self.device)

    def _raw(self, images: Tensor, mode: str = "") -> Any:
        try:
            with torch.no_grad():
                return self.network(images)
        except Exception as error:  # foreign code may raise anything
            raise ModelError(_does_not_take(self.name, self.shape, len(images), error, mode)) from error

    def logits(self, images: Tensor) -> Tensor:
        """The answers about images, if they are logits of the right shape."""
        output = self._raw(images.clone())
        try:
            found: Tensor = self.choice.of(output)
            right = tuple(found.shape) == (len(images), self.shape.classes)
        except Exception:  # a structure that depends on the batch
            right = False
        if not right:
            count = "one image" if len(images) == 1 else f"{len(images)} images"
            raise ModelError(
                f"{self.name} must answer {count} with shape ({len(images)}, {self.shape.classes}), got "
                f"{output_in_words(output)} (a `squeeze()` without an axis, or a fixed batch size?)"
            )
        return found

    def _check_precision(self) -> None:
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

    def _choose(self, output: Any) -> Choice:
        found = logit_candidates(output, self.records, self.shape.classes)
        chosen = preferred(output, found)
        if chosen is None:
            raise ModelError(self._no_logits(output, found))
        dtype = found[chosen].dtype
        if dtype not in (torch.float32, torch.float64):
            kind = str(dtype).removeprefix("torch.")
            raise ModelError(f"{self.name} answers in {kind}; answers must be float32: leave out the cast or autocast")
        return chosen

    def _no_logits(self, output: Any, found: dict[Choice, Tensor]) -> str:
        expected = f"{self.name} must answer {self.records} images with shape ({self.records}, {self.shape.classes})"
        if isinstance(output, Tensor):
            text = f"{expected}, got {output_in_words(output)}"
            if self.shape.classes == 2 and output.numel() == self.records:
                return f"{text}: one number for two classes; give it two outputs, trained by cross-entropy"
            if output.numel() == self.records * self.shape.classes or not output.is_floating_point():
                return f"{text}; expected logits in floating point, one row per image"
            return text
        which = ", ".join(str(choice) for choice in found) or "none"
        return (
            f"{expected}, or have such a tensor as 'logits' or 'out'; got {output_in_words(output)}, of which {which} "
            "would do: let forward return the logits alone"
        )

    def check_twice(self, images: Tensor, first: Tensor) -> None:
        """Refuse other answers about the same images."""
        state = torch.get_rng_state()
        apart = _apart(self.logits(images), first)
        if torch.equal(state, torch.get_rng_state()):
            if apart:
                raise ModelError(self._answers_differ(images, apart))
            return
        for _ in range(_REPEATS):
            apart = apart or _apart(self.logits(images), first)
        if apart:
            raise ModelError(self._answers_differ(images, apart))

    def _answers_differ(self, images: Tensor, apart: str) -> str:
        runs = [images] * _REPEATS
        return (
            f"{self.name} answers the same images differently each time in evaluation mode ({apart}): "
            f"{_culprit(self.network, runs, 'itself')}; {_NOISE}"
        )

    def check_company(self, images: Tensor, first: Tensor) -> None:
        """Refuse other answers about an image among others, alone, or in another place."""
        # First, since a network that remembers may forget when the number of images changes.
        apart = _apart(self.logits(images.flip(0)), first.flip(0))
        if apart:
            raise ModelError(
                f"{self.name}: the answer about an image depends on its place in the batch ({apart}), or on an earlier "
                "pass that the network remembers; it must depend on the image alone"
            )
        others = torch.cat([images[:1], 3 * self.images()[1:] + 1])
        alone = images[:1]
        for batch in (others, alone):
            apart = _apart(self.logits(batch)[:1], first[:1])
            if apart:
                raise ModelError(
                    f"{self.name}: the answer about an image depends on the other images of the batch ({apart}): "
                    f"{_culprit(self.network, [images, batch], 'mates')}; {_MATES}"
                )

    def _choose_for_training(self, images: Tensor) -> tuple[Choice, list[str]]:
        """The output of training mode that has the values of evaluation mode while layers compute as there."""
        expected = self.logits(images)
        with _training(self.network, layers=False):
            output = self._raw(images.clone(), "in training mode ")
        found = logit_candidates(output, self.records, self.shape.classes)
        same = {choice: value for choice, value in found.items() if not _apart(value, expected)}
        chosen = preferred(output, same) if same else preferred(output, found)
        if chosen is None and same:
            chosen = next(iter(same))
        if chosen is None:
            raise ModelError(
                f"{self.name} returns {output_in_words(output)} in training mode, and none of it is known "
                "to be what it answers in evaluation mode: let it return the logits alone, or call them 'logits'"
            )
        others = [str(choice) for choice in found if choice != chosen]
        if not others:
            return chosen, []
        return chosen, [
            f"{self.name} returns further heads in training mode: {chosen} is trained, {', '.join(others)} are not"
        ]

    def _train(self, images: Tensor, choice: Choice, *, channels_last: bool) -> bool:
        """One step; returns whether it works in channels-last memory."""
        labels = torch.arange(self.records) % self.shape.classes
        formats = (torch.channels_last, torch.contiguous_format) if channels_last else (torch.contiguous_format,)
        for layout in formats:
            self.network.to(memory_format=layout)  # type: ignore[call-overload]
            try:
                with _training(self.network, layers=True):
                    logits = choice.of(self.network(images.clone(memory_format=layout)))
                    loss = nn.functional.cross_entropy(logits.float(), labels)
                    if not loss.requires_grad:
                        break
                    loss.backward()
                break
            except Exception as error:  # foreign code may raise anything
                if layout == torch.contiguous_format:
                    mode = "in training mode "
                    text = _does_not_take(self.name, self.shape, self.records, error, mode)
                    raise ModelError(text) from error
        gradients = [parameter.grad for parameter in self.network.parameters()]
        if not any(gradient is not None and bool(gradient.abs().sum() > 0) for gradient in gradients):
            raise ModelError(f"{self.name} cannot be trained: no parameter has a gradient (`no_grad`, `detach`?)")
        return layout == torch.channels_last


@contextmanager
def _training(network: nn.Module, *, layers: bool) -> Iterator[None]:
    """The network in training mode; without `layers`, its innermost modules stay in evaluation mode."""
    network.train()
    if not layers:
        for module in network.modules():
            if module is not network and not any(True for _ in module.children()):
                module.eval()
    try:
        yield
    finally:
        network.eval()


def _check_scale(name: str, logits: Tensor) -> None:
    if not bool(torch.isfinite(logits).all()):
        raise ModelError(f"{name} answers random images with NaN or infinite values")
    sums = logits.sum(dim=1)
    if bool((logits >= 0).all()) and bool(((sums - 1).abs() < ROUNDING).all()):
        raise ModelError(f"{name} answers with probabilities (rows sum to 1); leave out the softmax: logits are needed")


def _apart(found: Tensor, expected: Tensor) -> str:
    return differing(found, expected, ROUNDING)


def _does_not_take(name: str, shape: Shape, count: int, error: Exception, mode: str) -> str:
    told = f"{type(error).__name__}: {' '.join(str(error).split())}"
    text = f"{name} does not take {mode}{'one image' if count == 1 else f'{count} images'} of {shape}: {told}"
    if "channels" in told:
        return f"{text} (is the number of channels fixed in the factory?)"
    if any(word in told.lower() for word in ("size", "shape", "kernel", "multipl")):
        return (
            f"{text} (a network for images of another size? give its factory the size under `options`, such as "
            f"{{img_size: {shape.size}}}, if it takes one)"
        )
    return text


def _culprit(network: nn.Module, batches: list[Tensor], compared: str) -> str:
    """The innermost module that is given the same and answers differently about the first image.

    Args:
        network: In evaluation mode.
        batches: Whose first image is the same.
        compared: `itself` compares all records of a batch, `mates` the first one.
    """
    runs = [_recorded(network, batch) for batch in batches]
    names = {id(module): name for name, module in network.named_modules()}
    for calls in zip(*runs, strict=False):
        module, *_ = calls[0]
        if any(other[0] is not module for other in calls):
            break
        first, *others = [(_rows(given, compared), _rows(answer, compared)) for _, given, answer in calls]
        if any(_same(first[0], given) and not _same(first[1], answer) for given, answer in others):
            kind = type(module).__name__
            where = names[id(module)]
            return f"layer {where!r} ({kind}) does" if where else f"the forward of {kind} itself does"
    return "no single layer does"


def _recorded(network: nn.Module, batch: Tensor) -> list[tuple[nn.Module, list[Tensor], list[Tensor]]]:
    """Every call of a module in the order in which calls end: module, tensors given, tensors answered."""
    calls: list[tuple[nn.Module, list[Tensor], list[Tensor]]] = []

    def hook(module: nn.Module, given: Any, answer: Any) -> None:
        calls.append((module, _tensors(given), _tensors(answer)))

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
    return [tensor for part in value for tensor in _tensors(part)] if isinstance(value, tuple | list) else []


def _rows(tensors: list[Tensor], compared: str) -> list[Tensor]:
    return [tensor[:1] if compared == "mates" and tensor.ndim else tensor for tensor in tensors]


def _same(first: list[Tensor], second: list[Tensor]) -> bool:
    pairs = zip(first, second, strict=False)
    return len(first) == len(second) and all(a.shape == b.shape and not (a.numel() and _apart(a, b)) for a, b in pairs)
