"""Influence of a unit's output elements on the prediction: the Fisher information's diagonal.

For the output z of a unit in the full-precision network, the second-order change of the loss when z
moves by e is 1/2 e^T H e. With the Jacobian J of the logits by z and the prediction p =
softmax(logits), the Gauss-Newton form of H is, for each record,

    F = J^T (diag(p) - p p^T) J = sum over classes c of p_c g_c g_c^T,
    g_c = the gradient of -log p_c by z,

which is the Fisher information, and the Hessian at z of the divergence from the full-precision
prediction. Its diagonal weights the squared error of a unit in BRECQ (Li et al. 2021, arXiv
2102.05426, section 3.3 and equation 10). The paper squares the gradient of the task loss; at
calibration there are no labels, and with the label that the network predicts, the gradient of a
confident record nearly vanishes for any runner-up. So the label's expectation under p is
taken, as the Fisher information is defined. It is drawn by one backward pass instead of one per
class: with independent signs s_c = +-1,

    v = sqrt(p) s - p (sqrt(p) . s)    has the covariance diag(p) - p p^T,

so the square of each element of J^T v has the expectation F_ii (the estimator of Hutchinson 1990
with the square root of the softmax's Hessian; no label is drawn, which varies more).

Weights are per record and element, not averaged over records, and scaled to mean 1, so that the
regulariser of `reconstruct` keeps its meaning.

Cost: a forward and a backward pass through the rest of the network over the calibration set, for
each unit.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from bitleak.quantizers.network.activations import Activations, collect
from bitleak.quantizers.network.reconstruction_units import Unit


def fisher(
    rest: Sequence[Unit],
    outputs: Activations,
    generator: torch.Generator,
    *,
    memory: int | None = None,
) -> Activations:
    """Return the weight of each element of a unit's output.

    Args:
        rest: The units after it, in the order of execution, in evaluation mode, with parameters
            that need no gradient; the last one returns logits, `records classes`. If empty, the
            outputs are the logits.
        outputs: The unit's outputs in the full-precision network.
        generator: Draws the signs.
        memory: Bytes that the weights may take in memory, see `activations.collect`.

    Returns:
        Weights of at least 0, on average 1; all 1 if no output has any effect on the prediction.
    """
    squares = collect(
        (_squares(rest, chunk, generator) for chunk in outputs.chunks()),
        len(outputs),
        memory=memory,
        chunk=outputs.chunk,
    )
    # Their mean in float64, chunk by chunk, as the squares may lie in a file.
    total: Tensor | int = 0
    for chunk in squares.chunks():
        total = total + len(chunk) * chunk.double().mean()
    mean = (total / torch.tensor(len(squares))).float()
    return collect(
        (torch.where(mean > 0, weights / mean, 1.0) for weights in squares.chunks()),
        len(squares),
        memory=memory,
        chunk=outputs.chunk,
    )


@torch.enable_grad()
def _squares(rest: Sequence[Unit], outputs: Tensor, generator: torch.Generator) -> Tensor:
    """Draw the diagonal of F once for some records."""
    moved = outputs.detach().requires_grad_()
    logits = moved.clone()  # units may change their argument
    for unit in rest:
        logits = unit.run(logits)
    # v = sqrt(p) s - p (sqrt(p) . s), then the square of J^T v
    probability = logits.detach().softmax(1)
    draws = torch.randint(2, logits.shape, generator=generator, device=generator.device).to(
        logits.device
    )
    spread = probability.sqrt() * (2 * draws - 1)
    direction = spread - probability * spread.sum(1, keepdim=True)
    (gradient,) = torch.autograd.grad(logits, moved, direction)
    return gradient.square_()
