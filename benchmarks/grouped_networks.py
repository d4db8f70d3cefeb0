"""Convolutions of several small networks: one grouped call against one call per network.

    python benchmarks/grouped_networks.py

The layers are those of the demo's `cnn` of width 16 on 8x8 pixels. Each line has the CPU milliseconds
of `NETWORKS` convolutions, forward in inference mode as an audit asks networks, and forward and
backward as it trains them, and the rates in GFLOP/s. If one network's convolutions run at the rate of
a large product already, evaluating or training several networks in one call cannot gain more than the
time outside the convolutions.
"""

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

NETWORKS = 4
BATCHES = (128, 500)  # the demo's batches in training and queries
LAYERS = ((16, 8), (32, 4))  # channels, height
REPEATS, CALLS = 4, 10


def main() -> None:
    torch.set_num_threads(1)
    left, right = torch.randn(1024, 1024), torch.randn(1024, 1024)
    print(
        f"product of 1024 by 1024: {2 * 1024**3 / seconds(lambda: left @ right) / 1e9:.0f} GFLOP/s"
    )
    print("| batch, channels, height | pass | one by one, ms (GFLOP/s) | grouped | ratio |")
    print("|---|---|---|---|---|")
    for batch in BATCHES:
        for channels, height in LAYERS:
            compare(batch, channels, height)


def compare(batch: int, channels: int, height: int) -> None:
    """Print the lines of one layer."""
    images = torch.randn(batch, channels, height, height)
    together = images.repeat(1, NETWORKS, 1, 1)
    alone = [nn.Conv2d(channels, channels, 3, padding=1) for _ in range(NETWORKS)]
    width = NETWORKS * channels
    grouped = [nn.Conv2d(width, width, 3, padding=1, groups=NETWORKS)]
    operations = 2 * NETWORKS * batch * height**2 * channels**2 * 9
    for name, run, passes in (("forward", forward, 1), ("forward, backward", backward, 3)):
        times = [
            seconds(lambda run=run: run(alone, images)),
            seconds(lambda run=run: run(grouped, together)),
        ]
        cells = [f"{1e3 * one:.2f} ({passes * operations / one / 1e9:.0f})" for one in times]
        row = (f"{batch}, {channels}, {height}", name, *cells, f"{times[1] / times[0]:.2f}")
        print(f"| {' | '.join(row)} |")


@torch.inference_mode()
def forward(layers: Sequence[nn.Module], images: Tensor) -> None:
    """Call each layer."""
    for layer in layers:
        layer(images)


def backward(layers: Sequence[nn.Module], images: Tensor) -> None:
    """Call each layer, and form the gradients of its weight and its inputs."""
    for layer in layers:
        inputs = images.detach().requires_grad_()
        outputs = layer(inputs)
        outputs.backward(torch.ones_like(outputs))


def seconds(call: Callable[[], object]) -> float:
    """Return the CPU seconds of a call, the least of a few means."""
    call()
    means = []
    for _ in range(REPEATS):
        start = time.process_time()
        for _ in range(CALLS):
            call()
        means.append((time.process_time() - start) / CALLS)
    return min(means)


if __name__ == "__main__":
    main()
