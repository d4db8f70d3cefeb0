"""Answers of one network to records: logits in batches, and the signals that attacks read.

Evaluation mode and float32, always; the network's mode is restored. Anything with `predict_proba`
is evaluated too, one call per query, with the logarithms of its probabilities as logits; for rows of
a table, its probabilities are stored already (see `tabular_model`).

Cost: one forward pass per record and query.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor, nn

from bitleak.audit.target.input_spelling import InputSpelling, unit_of
from bitleak.audit.target.tabular_model import OnStep, StoredProbabilities, predicted
from bitleak.core.errors import ConfigError, ModelError
from bitleak.core.reused_memory import reuse_freed_memory
from bitleak.core.signals import signals
from bitleak.core.types import SIGNALS
from bitleak.data.augment import apply_query
from bitleak.models.answer_difference import differing
from bitleak.models.given_network import evaluation_mode
from bitleak.models.logit_output import Choice, chosen_output, output_width
from bitleak.models.network_trial import check_scale
from bitleak.models.precision import exact_float32

SMALLEST_PROBABILITY = 1e-12
"""Floor of a probability, whose logarithm is then finite."""

TRIED = 8
"""Images of the trial, which is made with every network."""


@dataclass(frozen=True)
class Records:
    """The records of an audit as a network takes them.

    Attributes:
        images: All records, `records channels height width`, or `records features`.
        labels: True classes.
        classes: Number of classes.
        spelling: Way from the images to the network's input.
        queries: Names of the augmentations, `identity` first.
        batch: Records per forward pass.
    """

    images: np.ndarray | Tensor
    labels: Int64[np.ndarray, "records"]
    classes: int
    spelling: InputSpelling
    queries: tuple[str, ...] = ("identity",)
    batch: int = 256

    def inputs(
        self, chosen: Int64[np.ndarray, "chosen"], query: str, spelling: InputSpelling | None = None
    ) -> Tensor:
        """Return the network's input of these records, on the CPU."""
        pixels = self.pixels(chosen)
        if query != "identity":
            pixels = apply_query(pixels, query)
        return self.as_inputs(pixels, spelling)

    def pixels(self, chosen: Int64[np.ndarray, "chosen"]) -> Tensor:
        """Return these records as they are stored."""
        if isinstance(self.images, Tensor):
            return self.images[torch.from_numpy(chosen)]
        return torch.from_numpy(np.ascontiguousarray(self.images[chosen]))

    def as_inputs(self, pixels: Tensor, spelling: InputSpelling | None = None) -> Tensor:
        """Return the network's input of stored records."""
        return (spelling or self.spelling).inputs(pixels, unit_of(self.images))


def logits_of(
    model: Any,
    records: Records,
    chosen: Int64[np.ndarray, "chosen"],
    *,
    spelling: InputSpelling | None = None,
) -> Float64[np.ndarray, "chosen classes"]:
    """Return the logits of these records, as they are.

    Args:
        model: A network, or anything with `predict_proba`.
        records: All records.
        chosen: Numbers of the records.
        spelling: Replaces that of the records.

    Raises:
        ModelError: An answer has another shape, is not finite, or depends on the batch.
    """
    if isinstance(model, StoredProbabilities):
        return model.logits(chosen)
    with _asked(model, records) as answer:
        parts = [np.empty((0, records.classes))]
        for batch in _batches(chosen, records.batch):
            parts.append(answer(records.inputs(batch, "identity", spelling)))
        return np.concatenate(parts)


def answered_signals(
    model: Any,
    records: Records,
    chosen: Int64[np.ndarray, "chosen"],
    on_step: OnStep,
    stage: str,
) -> Float64[np.ndarray, "chosen queries signals"]:
    """Return the `SIGNALS` of these records under every query; arguments as for `logits_of`."""
    if isinstance(model, StoredProbabilities):
        return model.signals(records.labels, chosen)[:, None]
    result = np.empty((len(chosen), len(records.queries), len(SIGNALS)))
    with _asked(model, records) as answer:
        for start in range(0, len(chosen), records.batch):
            batch = chosen[start : start + records.batch]
            for place, query in enumerate(records.queries):
                logits = answer(records.inputs(batch, query))
                result[start : start + len(batch), place] = signals(logits, records.labels[batch])
            on_step((start + len(batch)) / len(chosen), stage)
    return result


def with_output_classes(model: Any, records: Records) -> Records:
    """Return the records with the number of classes that the network answers with.

    A class without a record among the given ones still has its output.

    Raises:
        ConfigError: A label has no output.
        ModelError: The network does not take the records.
    """
    if not isinstance(model, nn.Module):
        return records
    _check_precision(model, "network")
    few = np.arange(min(TRIED, len(records.labels)))
    try:
        with _evaluated(model) as evaluate:
            width = output_width(evaluate(records.inputs(few, "identity")), len(few))
    except ModelError as error:
        raise ModelError(f"network: {error}") from None
    # One number per record is refused later, with what to do about it.
    if width is None or width == 1 or width == records.classes:
        return records
    if width > records.classes:
        return replace(records, classes=width)
    first, last = int(records.labels.min()), int(records.labels.max())
    hint = f": labels count from 0, subtract {first}" if first and last - first < width else ""
    raise ConfigError(
        f"labels: expected integers from 0 to {width - 1}, one per output of {type(model).__name__}, got {first} to "
        f"{last}{hint}"
    )


def check_answers_alone(model: Any, records: Records, name: str) -> None:
    """Refuse a network whose answers change between two calls, or with the rest of the batch.

    Raises:
        ModelError: They do, or the network does not take the records, or answers with probabilities.
    """
    if not isinstance(model, nn.Module):
        return
    _check_precision(model, name)
    few = np.arange(min(TRIED, len(records.labels)))
    try:
        with _asked(model, records) as answer:
            inputs = records.inputs(few, "identity")
            # Copies, since a network may change its input in place.
            first = answer(inputs.clone())
            again, alone = answer(inputs.clone()), answer(inputs[:1].clone())
    except ModelError as error:
        raise ModelError(f"{name}: {error}") from None
    check_scale(name, torch.from_numpy(first))
    changed = differing(again, first)
    if changed:
        raise ModelError(
            f"{name}: answers differ between two calls with the same images ({changed}): dropout or "
            "another draw is on in evaluation mode; turn it off"
        )
    changed = differing(alone, first[:1])
    if changed and records.batch > 1:
        raise ModelError(
            f"{name}: the answer to an image depends on the other images of the batch ({changed}), as "
            "with norms without running statistics, or dynamic quantization of activations; such answers cannot be "
            "audited record by record: with batch 1 each image is asked about alone"
        )


@contextmanager
def _asked(
    model: Any, records: Records
) -> Iterator[Callable[[Tensor], Float64[np.ndarray, "batch classes"]]]:
    """Yield a function from inputs to logits; a network is in evaluation mode meanwhile."""
    if not isinstance(model, nn.Module):
        yield lambda inputs: _log_probabilities(model, inputs.numpy(), records.classes)
        return
    choice: Choice | None = None
    order = torch.contiguous_format

    def answer(inputs: Tensor) -> np.ndarray:
        nonlocal choice, order
        if choice is None:
            few = inputs[:TRIED]
            output = evaluate(few)
            choice = chosen_output(output, type(model).__name__, len(few), records.classes)
            order = _faster_order(evaluate, few, choice, output)
        output = evaluate(inputs.contiguous(memory_format=order))
        return _checked(choice.of(output).detach().cpu().double().numpy(), type(model).__name__)

    with _evaluated(model) as evaluate:
        yield answer


@contextmanager
def _evaluated(model: nn.Module) -> Iterator[Callable[[Tensor], Any]]:
    """Yield a function from inputs to outputs; the network is in evaluation mode meanwhile."""
    modes = {module: module.training for module in model.modules()}
    device = next((tensor.device for tensor in model.parameters()), torch.device("cpu"))

    def evaluate(inputs: Tensor) -> Any:
        try:
            return model(inputs.to(device))
        except Exception as error:  # foreign code may raise anything
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise ModelError(
                f"{type(model).__name__} does not take float32 inputs of shape {tuple(inputs.shape)}: {reason}"
            ) from error

    reuse_freed_memory()
    evaluation_mode(model)
    try:
        with torch.inference_mode(), exact_float32():
            yield evaluate
    finally:
        for module, mode in modes.items():
            module.training = mode


def _faster_order(
    evaluate: Callable[[Tensor], Any], few: Tensor, choice: Choice, output: Any
) -> torch.memory_format:
    """Return channels-last, which halves the time of small networks, if the answers stay the same.

    A network with `view` may not work in it, and one that looks at the memory answers otherwise.
    """
    if few.ndim != 4 or few.shape[1] == 1:
        return torch.contiguous_format
    try:
        logits = choice.of(evaluate(few.contiguous(memory_format=torch.channels_last)))
    except ModelError:
        return torch.contiguous_format
    is_same = not differing(logits, choice.of(output))
    return torch.channels_last if is_same else torch.contiguous_format


def _check_precision(model: nn.Module, name: str) -> None:
    """Refuse parameters of another precision than the inputs'."""
    for parameter, tensor in model.named_parameters():
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            kind = str(tensor.dtype).removeprefix("torch.")
            raise ModelError(
                f"{name}: parameter {parameter!r} is {kind}; networks are asked in float32: give network.float(), "
                "which keeps the rounded weights"
            )


def _log_probabilities(model: Any, inputs: np.ndarray, classes: int) -> np.ndarray:
    name = type(model).__name__
    probabilities = np.asarray(predicted(model, inputs), np.float64)
    if probabilities.shape != (len(inputs), classes):
        raise ModelError(
            f"{name}.predict_proba must answer {len(inputs)} records with shape "
            f"({len(inputs)}, {classes}), got {probabilities.shape}"
        )
    return _checked(np.log(np.maximum(probabilities, SMALLEST_PROBABILITY)), name)


def _checked(logits: np.ndarray, name: str) -> np.ndarray:
    if not np.isfinite(logits).all():
        wrong = int((~np.isfinite(logits)).any(axis=1).sum())
        raise ModelError(f"{name}: answers are not finite for {wrong} of {len(logits)} records")
    return logits


def _batches(chosen: Sequence[int] | np.ndarray, size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(chosen), size):
        yield np.asarray(chosen[start : start + size])
