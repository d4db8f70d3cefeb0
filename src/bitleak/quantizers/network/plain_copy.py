"""The network that a quantizer works on, and its result in the original's names and types.

Statistics are those of a network in float32 whose layers can be reached. So, in a copy,

| given | worked on |
|---|---|
| float16, bfloat16, float64 | its weights in float32: exact for the narrower types, else rounded |
| `DataParallel`, `torch.compile`, `AveragedModel`, at the top or inside | the wrapped module |
| tensors in another order of memory | contiguous ones, so that `view` works |

and refused, with the way out: scripted modules, weights computed in a hook (`weight_norm`,
`prune`), parameters without values, other number types, forward passes that change the precision
(autocast, casts), and layers whose weight is also read outside of their call, where a quantizer
looks at the layer's inputs.

Codes and grids are float32 in any case. All other tensors of the result have the type of the
network's, except bfloat16, which NumPy has not and float32 holds exactly; those that were not
changed have the network's very values.

Cost: one image through the network; a copy if there is something to change.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import wraps
from itertools import chain
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.prune import BasePruningMethod
from torch.optim.swa_utils import AveragedModel

from bitleak.core.errors import QuantizationError
from bitleak.core.types import QuantizedWeights
from bitleak.models.precision import exact_float32
from bitleak.quantizers.network.weight_reads import WeightReads
from bitleak.quantizers.scheme import Layer, Scheme, leave_out, quantizable

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_SCRIPTED_LAYERS = ("Conv1d", "Conv2d", "Conv3d", "Linear")
_REMEDIES = {
    "WeightNorm": "torch.nn.utils.remove_weight_norm(module)",
    "SpectralNorm": "torch.nn.utils.remove_spectral_norm(module)",
}
Call = TypeVar("Call", bound=Callable[..., QuantizedWeights])


@dataclass(frozen=True)
class PlainCopy:
    """A network that a quantizer can work on.

    Attributes:
        network: A copy, or the original network if nothing had to be changed.
        images: The calibration images, in float32.
        original: The network that the quantizer was called with.
        names: The name in `original` of each module of `network`.
    """

    network: nn.Module
    images: Tensor
    original: nn.Module
    names: Mapping[str, str]

    def result(self, quantized: QuantizedWeights) -> QuantizedWeights:
        """Return the result for the original network, made from the result for `network`."""
        if self.network is self.original:
            return quantized
        layers = {self.names[name]: layer for name, layer in quantized.layers.items()}
        record = {self.names.get(name, name): facts for name, facts in quantized.record.items()}
        worked_on = {self._key(key): value for key, value in quantized.rest.items()}

        # A wrapper may hold tensors that the copy has not (a count of averaged models): they stay.
        rest: dict[str, np.ndarray] = {}
        for key, value in self.original.state_dict().items():
            if isinstance(value, Tensor) and _layer_of(key) not in layers:
                rest[key] = _typed(value, worked_on.get(key))
        return replace(quantized, layers=layers, rest=rest, record=record)

    def _key(self, key: str) -> str:
        module, _, tensor = key.rpartition(".")
        name = self.names[module]
        return f"{name}.{tensor}" if name else tensor


def plain_copy(
    schemes: Sequence[Scheme], network: nn.Module, calibration: Tensor, *, data_free: bool = False
) -> PlainCopy:
    """Return the network as a quantizer can work on it.

    Args:
        schemes: Schemes of the quantizers; they may leave layers out.
        network: Any network; it is not changed.
        calibration: Normalised images.
        data_free: Whether the quantizer uses no inputs of layers.

    Raises:
        QuantizationError: The network cannot be quantized; the message names the change that it
            needs.
    """
    _check_modules(network)
    _check_tensors(network)
    copied, names = network, {name: name for name, _ in network.named_modules()}
    if _wrapped(network) or _converted(network):
        with torch.no_grad():
            # Of the network itself: weights of a copy share no memory, so refusals would be missed.
            quantized_names(_unwrapped(network), schemes)
        copied, names = _copied(network)
    with torch.inference_mode(False):
        images = calibration.clone() if calibration.is_inference() else calibration
        images = images if images.dtype == torch.float32 else images.float()
    if len(images):
        _try([] if data_free else schemes, copied, images[:1])
    return PlainCopy(copied, images, network, names)


@contextmanager
def plain_arithmetic() -> Iterator[None]:
    """Compute in exact float32, with gradients if required, under any settings of the caller."""
    with exact_float32(), torch.inference_mode(False), torch.enable_grad():
        yield


def on_plain_copy(call: Call) -> Call:
    """Let a quantizer's `__call__` work on the copy, and convert its result for the original."""

    @wraps(call)
    def quantized(
        self: Scheme,
        network: nn.Module,
        calibration: Tensor,
        generator: torch.Generator,
        **options: Any,
    ) -> QuantizedWeights:
        with plain_arithmetic():
            copied = plain_copy([self], network, calibration)
            return copied.result(call(self, copied.network, copied.images, generator, **options))

    return cast(Call, quantized)


def evaluation_copy(network: nn.Module) -> nn.Module:
    """Return a deep copy in evaluation mode.

    Raises:
        QuantizationError: The network cannot be copied.
    """
    try:
        return copy.deepcopy(network).eval()
    except Exception as error:  # foreign code may raise anything
        raise QuantizationError(
            f"{type(network).__name__} cannot be copied by copy.deepcopy ({type(error).__name__}: {error}); quantizers "
            "never change the network they are given, so they need a copy"
        ) from error


def quantized_names(network: nn.Module, schemes: Sequence[Scheme]) -> list[str]:
    """Return the layers that at least one of the schemes quantizes."""
    names: dict[str, None] = {}
    for scheme in schemes:
        names.update(dict.fromkeys(quantizable(network, scheme)))
    return list(names)


def _check_modules(network: nn.Module) -> None:
    """Refuse scripted modules, and tensors that a hook computes from parameters."""
    for name, module in network.named_modules():
        if isinstance(module, torch.jit.ScriptModule) and (not name or _has_layers(module)):
            raise QuantizationError(
                f"{repr(name) if name else 'the network'} is a scripted module (torch.jit.script or trace), whose "
                "layers cannot be reached: quantize the module that it was made of, and script the result"
            )
        for attribute, value in vars(module).items():
            if (
                isinstance(value, Tensor) and not value.is_leaf
            ) or f"{attribute}_orig" in module._parameters:
                raise QuantizationError(
                    f"{'layer' if isinstance(module, Layer) else 'module'} {name!r}: its {attribute} is computed from "
                    f"other tensors; {_remedy(module, attribute)}"
                )


def _has_layers(module: torch.jit.ScriptModule) -> bool:
    return any(getattr(part, "original_name", "") in _SCRIPTED_LAYERS for part in module.modules())


def _remedy(module: nn.Module, attribute: str) -> str:
    """Return the advice on how to make the attribute a parameter."""
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, BasePruningMethod):
            return f"make it a parameter by torch.nn.utils.prune.remove(module, {attribute!r})"
        if type(hook).__name__ in _REMEDIES:
            return f"make it a parameter by {_REMEDIES[type(hook).__name__]}"
    return "make it a parameter or a buffer, or detach it"


def _check_tensors(network: nn.Module) -> None:
    """Refuse parameters and buffers without values, and weights that are no usual floats."""
    for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
        if is_lazy(tensor):
            raise QuantizationError(
                f"{name!r} has no values yet; run the network on an image, and train it, first"
            )
        if tensor.is_meta:
            raise QuantizationError(
                f"{name!r} is on the device `meta`, without values; load the trained weights first"
            )
        complex_weight = tensor.is_complex() and isinstance(
            network.get_submodule(name.rpartition(".")[0]), Layer
        )
        if complex_weight or (tensor.is_floating_point() and tensor.dtype not in _FLOATS):
            raise QuantizationError(
                f"{name!r} is of type {_text(tensor.dtype)}; a network to quantize has float16, bfloat16, float32 or "
                "float64 tensors"
            )


def _wrapped(network: nn.Module) -> bool:
    return any(_inner(module) is not None for module in network.modules())


def _inner(module: nn.Module) -> nn.Module | None:
    """Return the module that a wrapper calls; None for any other module."""
    if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel | AveragedModel):
        return cast(nn.Module, module.module)
    # By name, since the import of torch._dynamo takes seconds.
    return module._modules.get("_orig_mod") if type(module).__name__ == "OptimizedModule" else None


def _unwrapped(network: nn.Module) -> nn.Module:
    inner = _inner(network)
    return network if inner is None else _unwrapped(inner)


def _converted(network: nn.Module) -> bool:
    """Return whether a tensor is not float32, not in the usual order, or knows no gradients."""
    for tensor in chain(network.parameters(), network.buffers()):
        usual = tensor.dtype == torch.float32 and not tensor.is_inference() and _ordered(tensor)
        if tensor.is_floating_point() and not usual:
            return True
    return False


def _ordered(tensor: Tensor) -> bool:
    """Return whether the strides are those of a new tensor."""
    # Also along axes of size 1, which `is_contiguous` lets pass and `view` does not.
    return tensor.stride() == torch.empty(tensor.shape, device="meta").stride()


def _copied(network: nn.Module) -> tuple[nn.Module, dict[str, str]]:
    """Return the copy, and the name in the network of each of its modules."""
    copied = evaluation_copy(network)
    # Names before the wrappers go; afterwards the modules have shorter ones.
    before = {id(module): name for name, module in copied.named_modules()}
    plain = _unwrapped(copied)
    for module in list(plain.modules()):
        for name, child in module.named_children():
            if _inner(child) is not None:
                module._modules[name] = _unwrapped(child)
    plain = plain.float()
    for tensor in [*plain.parameters(), *plain.buffers()]:
        tensor.data = tensor.data.clone(memory_format=torch.contiguous_format)
    return plain, {name: before[id(module)] for name, module in plain.named_modules()}


def _typed(original: Tensor, made: np.ndarray | None) -> np.ndarray:
    """Return a tensor of the result in the original's type, with its very values if unchanged."""
    original = original.detach().cpu()
    array: np.ndarray = (
        (original.float() if original.dtype == torch.bfloat16 else original).numpy().copy()
    )
    if (
        made is None
        or not original.is_floating_point()
        or np.array_equal(original.float().numpy(), made)
    ):
        return array if made is None or original.is_floating_point() else made
    return made.astype(array.dtype)


def _layer_of(key: str) -> str:
    return key.removesuffix(".weight") if key.endswith(".weight") else ""


def _try(observing: Sequence[Scheme], network: nn.Module, image: Tensor) -> None:
    """Run an image; refuse a network that fails, casts, or reads observed weights elsewhere."""
    layers = {name: module for name, module in network.named_modules() if isinstance(module, Layer)}
    reads = WeightReads({id(layer.weight): name for name, layer in layers.items()})
    training = [module for module in network.modules() if module.training]
    handles = []
    for name, layer in layers.items():
        handles.append(layer.register_forward_pre_hook(reads.enters(name)))
        handles.append(layer.register_forward_hook(reads.leaves(name)))
    try:
        with torch.no_grad(), reads:
            output = network.eval()(image.clone())
    except Exception as error:  # foreign code may raise anything
        raise QuantizationError(
            f"{type(network).__name__} does not take calibration images of shape {tuple(image.shape[1:])} in float32 "
            f"({type(error).__name__}: {error})"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
        for module in training:
            module.training = True

    # An output in 16 bits means a cast inside, by which statistics would not be those of float32.
    places = {f"layer {name!r} gives": kind for name, kind in reads.kinds.items()}
    if isinstance(output, Tensor) and output.is_floating_point():
        places["the network answers in"] = output.dtype
    for place, kind in places.items():
        if kind != torch.float32:
            raise QuantizationError(
                f"{place} {_text(kind)} though its weights are float32: take the cast or autocast out of the forward "
                "pass"
            )

    # A weight that is read elsewhere multiplies inputs that no hook on the layer sees.
    for name in quantized_names(network, observing) if reads.outside else []:
        if name in reads.outside and name in reads.kinds:
            raise QuantizationError(
                f"layer {name!r} is also used otherwise: its weight is read or set outside of its call, so that not "
                f"all of its inputs can be observed; call the layer itself, or {leave_out(name)}"
            )


def _text(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
