"""Checks of a network against a quantizer, before anything is trained or learnt.

A layer may be refused. And codes replace the weights of `nn.Conv1d` to `nn.Conv3d` and `nn.Linear`
alone: a network may keep most of its weights elsewhere, in convolutions written by hand
(`nn.Parameter` and `F.conv2d`), recurrent layers, transposed convolutions. They stay float32, and
the precision in a variant's name is then about the rest.
"""

import copy

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from bitleak.quantizers.brecq import BRECQ
from bitleak.quantizers.network.layer_inputs import layer_order
from bitleak.quantizers.network.norm_folding import check_norms
from bitleak.quantizers.network.norm_statistics import batch_norms
from bitleak.quantizers.network.reconstruction_units import units
from bitleak.quantizers.scheme import Scheme, layer_levels, left_out, quantizable

LEAST_SHARE = 0.9
"""Share of the weights with codes below which a variant's name misleads."""


@torch.no_grad()
def check_network(
    network: nn.Module, quantizer: object, images: Float[Tensor, "records *sample"]
) -> None:
    """Refuse a network that the quantizer would refuse with any weights.

    Args:
        network: As it is used, not a copy; it is not changed.
        quantizer: A quantizer that is no `Scheme` is not checked.
        images: At least one, of the shape that the network takes; their values do not matter.

    Raises:
        QuantizationError: A layer or a batch norm cannot be quantized as it is, a layer is called
            never or twice, a name in `layers` matches nothing, or a quantizer that needs the
            network's graph does not get it.

    Example:
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        >>> check_network(network, Scheme(layers={"2": 16}), torch.zeros(1, 1, 2, 2))
        Traceback (most recent call last):
        ...
        bitleak.core.errors.QuantizationError: layers['2'] matches no layer; the layers are 1
    """
    if not isinstance(quantizer, Scheme):
        return
    names = list(quantizable(network, quantizer))
    copied = copy.deepcopy(network).eval()
    layer_levels(quantizer, layer_order(copied, names, images))
    if getattr(quantizer, "reestimate", "none") != "none":
        batch_norms(copied, quantizer)
    if isinstance(quantizer, BRECQ):
        check_norms(copied, quantizer)
        units(copied, quantizer)


def uncoded_weights(network: nn.Module, quantizer: object) -> str:
    """Return a sentence if codes replace less than `LEAST_SHARE` of a network's weights, else "".

    Weights are parameters of two or more dimensions. The quantizer's option `layers: fp32` leaves
    weights out by name; these are not counted.

    Args:
        network: As it is used.
        quantizer: A quantizer that is no `Scheme` is not judged.

    Example:
        >>> network = nn.Sequential(nn.ConvTranspose2d(4, 8, 3), nn.Flatten(), nn.Linear(32, 2))
        >>> print(uncoded_weights(network, Scheme(levels=3)))
        Only 64 of 352 weights (18 %) become codes; the others stay float32 (0.weight, 288 numbers): ...
    """
    if not isinstance(quantizer, Scheme):
        return ""
    # Vectors (norms, biases) are coded by no quantizer and count for neither share.
    coded = {f"{name}.weight".lstrip(".") for name in quantizable(network, quantizer)}
    total, uncoded = 0, dict[str, int]()
    for name, parameter in network.named_parameters():
        if isinstance(parameter, UninitializedParameter) or parameter.ndim < 2:
            continue
        if name in coded:
            total += parameter.numel()
        elif not left_out(quantizer, name.rpartition(".")[0]):
            total += parameter.numel()
            uncoded[name] = parameter.numel()
    remaining = sum(uncoded.values())
    if total - remaining >= LEAST_SHARE * total:
        return ""

    largest = sorted(uncoded, key=lambda name: -uncoded[name])[:3]
    listed = ", ".join(f"{name}, {uncoded[name]:,} numbers" for name in largest)
    more = f", and {len(uncoded) - 3} more" if len(uncoded) > 3 else ""
    share = 100 * (total - remaining) / total
    return (
        f"Only {total - remaining:,} of {total:,} weights ({share:.0f} %) become codes; the others stay float32 "
        f"({listed}{more}): the precision in a variant's name is that of these few, so accuracy and leakage say "
        "little about quantizing the network. Codes replace the weights of nn.Conv1d to nn.Conv3d and nn.Linear alone."
    )
