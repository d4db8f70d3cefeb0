"""Stochastic gradient descent by PyTorch's own fused kernel, without its class around it."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim.sgd import sgd


class SGD:
    """The steps of `torch.optim.SGD(..., fused=True)`, bit for bit.

    The first use of a `torch.optim` class loads PyTorch's compiler, which takes a worker a second
    and 75 MB.

    Args:
        parameters: Parameters; a step moves those that have a gradient.
        rate: The learning rate, which may be set anew at any time.
        momentum: In [0, 1).
        weight_decay: At least 0.
        nesterov: Whether the gradient is taken ahead of the momentum.

    Example:
        >>> weight = nn.Parameter(torch.ones(1))
        >>> descent = SGD([weight], rate=0.25, momentum=0.9, weight_decay=0.0, nesterov=False)
        >>> (2 * weight).sum().backward()
        >>> descent.step()
        >>> weight.item()
        0.5
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        rate: float,
        momentum: float,
        weight_decay: float,
        nesterov: bool,
    ) -> None:
        self.rate = rate
        self._parameters = list(parameters)
        # From zero, the first step gives the gradient itself, as PyTorch does without a buffer.
        self._momenta = [torch.zeros_like(parameter) for parameter in self._parameters]
        self._momentum, self._weight_decay, self._nesterov = momentum, weight_decay, nesterov

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Move the parameters by their gradients."""
        # A parameter without a gradient stays, and so does its momentum.
        parameters: list[Tensor] = []
        gradients: list[Tensor] = []
        momenta: list[Tensor | None] = []
        for parameter, momentum in zip(self._parameters, self._momenta, strict=True):
            if parameter.grad is not None:
                parameters.append(parameter)
                gradients.append(parameter.grad)
                momenta.append(momentum)
        sgd(
            parameters,
            gradients,
            momenta,
            fused=True,
            lr=self.rate,
            momentum=self._momentum,
            weight_decay=self._weight_decay,
            nesterov=self._nesterov,
            dampening=0.0,
            maximize=False,
        )
