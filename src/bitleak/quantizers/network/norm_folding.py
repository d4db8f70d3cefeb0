"""Batch norm folded into the layer before it, without changing the architecture.

Where a convolution or linear layer feeds one batch norm and nothing else, and with
sigma = sqrt(running variance + eps), per output channel,

    weight <- weight * gamma / sigma,    bias <- 0 (where the layer has one),
    batch norm <- the pure shift x + beta + (bias - running mean) * gamma / sigma.

The state dict keeps its names and shapes, so the folded network is only another set of weights for
the same network: the batch norm stays as running mean 0, running variance 1 - eps, gamma 1, and the
shift in beta (in the running mean, negated, where the batch norm has no gamma and beta). With the
variance 1 - eps the scale is 1 to the last bit. All of the shift lies in the batch norm, whether or
not the layer has a bias.

This is the first step of BRECQ (Li et al. 2021, arXiv 2102.05426, section 4); there the batch norm
is replaced by an identity and the shift becomes the layer's bias. The arithmetic is in float64.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.parametrize import is_parametrized

from bitleak.core.errors import QuantizationError
from bitleak.models.layer_kinds import deviation, fed_by_one
from bitleak.quantizers.network.plain_copy import evaluation_copy
from bitleak.quantizers.network.reconstruction_units import trace
from bitleak.quantizers.scheme import Layer, Scheme, left_out, norms_left, spelling

COMPARED_IMAGES = 4  # images on which the folded network is compared with the original
# Of the largest output: far above float32's loss by folding, far below a wrong fold's change.
FOLD_ROUNDING = 1e-3


def fold(
    network: nn.Module,
    images: Float[Tensor, "records *sample"] | None = None,
    scheme: Scheme | None = None,
) -> nn.Module:
    """Return a copy of a network in evaluation mode, with batch norms as pure shifts if possible.

    A batch norm is left as it is where anything but a single layer feeds it, where the layer's
    output is used elsewhere too, where either is called more than once, where either has a
    forward pass of its own or hooks, or where the batch norm keeps no running statistics.
    After a linear layer on tokens, `records tokens features`, a batch norm normalises the tokens
    and is left as it is.

    Args:
        network: Any network that `torch.fx` traces; it is not changed.
        images: Images; the first one is run to see which linear layers are given tokens. None: a
            linear layer's output is taken to be `records features` if the sizes allow it.
        scheme: Layers and batch norms that it leaves in full precision are left as they are.

    Raises:
        QuantizationError: `torch.fx` cannot trace the network.

    Example:
        >>> folded = fold(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)))
        >>> folded[1].weight.tolist(), folded[1].running_mean.tolist()
        ([1.0, 1.0], [0.0, 0.0])
    """
    folded = evaluation_copy(network)
    # An output of rank 3 of a linear layer has tokens on axis 1, which the batch norm normalises.
    pairs = [(layer, norm) for *names, layer, norm in _pairs(folded) if not _left(scheme, names)]
    ranks = _ranks([layer for layer, _ in pairs if isinstance(layer, nn.Linear)], folded, images)
    for layer, norm in pairs:
        if norm.num_features == len(layer.weight) and ranks.get(layer, 2) == 2:
            _fold_pair(layer, norm)
    return folded


def check_norms(network: nn.Module, scheme: Scheme | None = None) -> None:
    """Refuse batch norms that would be folded if they were plain ones of their class.

    Raises:
        QuantizationError: A batch norm that one layer alone feeds has a forward pass of its own or
            hooks, and the scheme does not leave it as it is; or `torch.fx` cannot trace the
            network.
    """
    reasons: dict[str, str] = {}
    for layer_name, name, _, norm in _pairs(network):
        reason = deviation(norm)
        if reason is not None and not _left(scheme, (layer_name, name)):
            reasons[name] = (
                f"batch norm {name!r} cannot be folded into layer {layer_name!r}: {reason}"
            )
    if reasons:
        raise QuantizationError(
            f"{next(iter(reasons.values()))}. Make it a plain batch norm, or leave it as it is by the quantizer's "
            f"option {norms_left(network, reasons)}"
        )


@torch.no_grad()
def check_folded(
    network: nn.Module, folded: nn.Module, images: Float[Tensor, "records *sample"]
) -> None:
    """Compare a folded network with the original, batch norm after batch norm, and the outputs.

    Args:
        network: In any mode.
        folded: Result of `fold` for it.
        images: The first `COMPARED_IMAGES` are run through both.

    Raises:
        QuantizationError: The outputs of a batch norm differ beyond rounding; the first one is
            named.
    """
    expected_outputs = _outputs(evaluation_copy(network), images[:COMPARED_IMAGES])
    folded_outputs = _outputs(folded, images[:COMPARED_IMAGES])
    for name, expected in expected_outputs.items():
        actual = folded_outputs.get(name)
        if actual is None or not _alike(actual, expected):
            place = f"batch norm {name!r} gives" if name else "the network gives"
            advice = f", or leave it as it is by the quantizer's option {spelling(name)}"
            raise QuantizationError(
                f"{place} other outputs once batch norms are folded into the layers before them: it does not compute "
                "in evaluation mode what its running statistics, weight and bias say. Make it a plain batch norm in "
                f"evaluation mode{advice if name else ''}"
            )


def _outputs(network: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Return the batch norms' outputs by name, in order of execution, and the network's by ""."""
    outputs: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        # A copy: the activation after the batch norm may work in place.
        return lambda _, __, output: outputs.update({name: output.clone()})

    handles = []
    for name, module in network.named_modules():
        if isinstance(module, _BatchNorm):
            handles.append(module.register_forward_hook(keep(name)))
    try:
        result = network(images.clone())
    finally:
        for handle in handles:
            handle.remove()
    return {**outputs, "": result} if isinstance(result, Tensor) else outputs


def _alike(actual: Tensor, expected: Tensor) -> bool:
    """Return whether two outputs differ by float32 rounding in a deep network at most."""
    if actual.shape != expected.shape:
        return False
    return bool(
        (actual - expected).abs().max()
        <= FOLD_ROUNDING * expected.abs().max().clamp(min=FOLD_ROUNDING)
    )


@torch.no_grad()
def _ranks(
    layers: list[nn.Linear], network: nn.Module, images: Tensor | None
) -> dict[nn.Module, int]:
    """Return the number of axes of each layer's output for an image; empty without images."""
    ranks: dict[nn.Module, int] = {}
    if images is None or not layers or not len(images):
        return ranks
    hook = lambda layer, inputs, output: ranks.update({layer: output.ndim})  # noqa: E731
    handles = [layer.register_forward_hook(hook) for layer in layers]
    network(images[:1].clone())
    for handle in handles:
        handle.remove()
    return ranks


def with_affine_norms(piece: fx.GraphModule) -> fx.GraphModule:
    """Return the same function, with each batch norm of maps written out as x * scale + shift.

    With the scale 1 it is a mere addition, whose backward pass costs nothing, where the backward
    pass of a batch norm takes several passes over the maps. Scale and shift are constants, not
    learnt.

    Args:
        piece: Its modules are shared, not copied.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).eval()
        >>> [node.op for node in with_affine_norms(fx.symbolic_trace(fold(network))).graph.nodes]
        ['placeholder', 'call_module', 'get_attr', 'call_function', 'output']
    """
    graph = fx.Graph()
    graph.output(graph.graph_copy(piece.graph, {}))
    result = fx.GraphModule(piece, graph)
    for node in list(graph.nodes):
        norm = result.get_submodule(str(node.target)) if node.op == "call_module" else None
        if (
            type(norm) is nn.BatchNorm2d
            and deviation(norm) is None
            and not norm.training
            and norm.running_mean is not None
        ):
            _write_out(result, node, norm)
    result.recompile()
    return result


def _write_out(piece: fx.GraphModule, node: fx.Node, norm: _BatchNorm) -> None:
    """Replace the node of a batch norm by its arithmetic."""
    scale, shift = _affine(norm)
    graph, source = piece.graph, node.args[0] if node.args else node.kwargs["input"]

    def constant(name: str, values: Tensor) -> fx.Node:
        piece.register_buffer(name, values.float()[:, None, None])
        return graph.get_attr(name)

    with graph.inserting_before(node):
        if bool((scale.float() == 1).all()):
            result = graph.call_function(torch.add, (source, constant(f"{node.name}_shift", shift)))
        else:
            factor = constant(f"{node.name}_scale", scale)
            offset = constant(f"{node.name}_shift", shift)
            result = graph.call_function(torch.addcmul, (offset, source, factor))
    node.replace_all_uses_with(result)
    graph.erase_node(node)


def _affine(norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """Return scale and shift of a batch norm in evaluation mode, in float64."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    gamma = 1.0 if norm.weight is None else norm.weight.detach().double()
    beta = 0.0 if norm.bias is None else norm.bias.detach().double()
    scale = gamma / (norm.running_var.double() + norm.eps).sqrt()
    return scale, beta - norm.running_mean.double() * scale


def _pairs(network: nn.Module) -> Iterator[tuple[str, str, Layer, _BatchNorm]]:
    """Yield the layers with the batch norm that they alone feed, after the names of both."""
    for source, node, layer, norm in fed_by_one(trace(network), network):
        if isinstance(layer, Layer):
            yield str(source.target), str(node.target), layer, norm


def _left(scheme: Scheme | None, names: Iterable[str]) -> bool:
    return scheme is not None and any(left_out(scheme, name) for name in names)


@torch.no_grad()
def _fold_pair(layer: Layer, norm: _BatchNorm) -> None:
    """Move the scale of a batch norm into the layer's weight, all shifts into the batch norm."""
    plain = not any(deviation(module) or is_parametrized(module) for module in (layer, norm))
    if not plain or norm.running_mean is None or norm.running_var is None:
        return

    # weight * gamma / sigma, bias 0, and all of the shift in the batch norm
    factor, shift = _affine(norm)
    if layer.bias is not None:
        shift = shift + layer.bias.double() * factor
    layer.weight.copy_(layer.weight.double() * factor.reshape(-1, *[1] * (layer.weight.ndim - 1)))
    if layer.bias is not None:
        layer.bias.zero_()

    # sqrt(running_var + eps) = 1 to the last bit
    norm.running_var.fill_(1 - norm.eps)
    norm.running_mean.copy_(-shift if norm.bias is None else torch.zeros_like(shift))
    if norm.bias is not None:
        norm.bias.copy_(shift)
    if norm.weight is not None:
        norm.weight.fill_(1)
