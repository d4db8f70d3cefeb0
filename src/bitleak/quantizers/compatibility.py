"""Check of a network against a quantizer, before anything is trained or learnt."""

import copy

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bitleak.quantizers.brecq import BRECQ
from bitleak.quantizers.network.layer_inputs import layer_order
from bitleak.quantizers.network.norm_folding import check_norms
from bitleak.quantizers.network.norm_statistics import batch_norms
from bitleak.quantizers.network.reconstruction_units import units
from bitleak.quantizers.scheme import Scheme, layer_levels, quantizable


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
