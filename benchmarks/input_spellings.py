"""How often the check on members doubts right inputs, and finds wrong ones: networks under every usual spelling.

    python benchmarks/input_spellings.py --data cifar10 [--seeds 1] [--epochs 20]

Small networks of four kinds are trained on 2,000 CIFAR-10 images under each of four standardisations,
every second seed with label smoothing. Each is then checked as an audit checks it, under its own
standardisation and under the others, on 1,000 members. A line per network and given spelling has the
accuracy on members, the AUC of the threshold attack with these inputs, and the answer: `refused`
(another spelling makes more members right), `doubted` (a warning), or `silent`. The last lines count
them, by the loss of AUC.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from bitleak.audit.target.input_spelling import InputSpelling
from bitleak.audit.target.member_check import check_on_members
from bitleak.audit.target.network_answers import Records, logits_of
from bitleak.core.errors import ConfigError
from bitleak.core.signals import signals
from bitleak.core.types import LOGIT_SCALED
from bitleak.data.hub import Hub
from bitleak.data.standardisations import STANDARDS
from bitleak.metrics.membership_fit import membership_fit

MEMBERS, OTHERS, BATCH = 2000, 1000, 64
SPELLINGS = {name: InputSpelling(*values) for name, values in STANDARDS.items() if name != "MNIST"}


def convolutions(*, norms: bool, dropout: float = 0.0) -> nn.Sequential:
    """Return two strided convolutions and two linear layers."""
    layers: list[nn.Module] = []
    channels = 3
    for width in (16, 32):
        layers += [nn.Conv2d(channels, width, 3, stride=2, padding=1)]
        layers += [nn.BatchNorm2d(width)] if norms else []
        layers += [nn.ReLU()]
        channels = width
    return nn.Sequential(
        *layers,
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(2048, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


NETWORKS: dict[str, Any] = {
    "norms": lambda: convolutions(norms=True),
    "plain": lambda: convolutions(norms=False),
    "dropout": lambda: convolutions(norms=False, dropout=0.3),
    "mlp": lambda: nn.Sequential(nn.Flatten(), nn.Linear(3072, 64), nn.ReLU(), nn.Linear(64, 10)),
}


def trained(kind: str, records: Records, *, epochs: int, smoothing: float, seed: int) -> nn.Module:
    """Return a network that was trained on the first `MEMBERS` records."""
    torch.manual_seed(seed)
    network = NETWORKS[kind]()
    inputs = records.inputs(np.arange(MEMBERS), "identity")
    labels = torch.from_numpy(records.labels[:MEMBERS])
    optimizer = torch.optim.SGD(network.parameters(), 0.03, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in range(epochs):
        for batch in torch.randperm(MEMBERS).split(BATCH):
            output = network(inputs[batch])
            loss = nn.functional.cross_entropy(output, labels[batch], label_smoothing=smoothing)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
    return network.eval()


def area(network: nn.Module, records: Records) -> float:
    """Return the AUC of the threshold attack on 1,000 members and the others."""
    chosen = np.concatenate([np.arange(1000), np.arange(MEMBERS, MEMBERS + OTHERS)])
    confidence = signals(logits_of(network, records, chosen), records.labels[chosen])
    listed = (chosen < MEMBERS)[None]
    return float(membership_fit(confidence[None, :, LOGIT_SCALED], listed).auc[0, 0])


def answer(network: nn.Module, records: Records) -> tuple[str, str]:
    """Return the check's answer, and its text."""
    try:
        check = check_on_members(network, records, np.arange(MEMBERS), seed=0)
    except ConfigError as error:
        return "refused", str(error)
    return ("doubted", check.inputs_doubt) if check.inputs_doubt else ("silent", "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    images = Hub(path=str(options.data)).load(None)
    answers: list[tuple[bool, float, str]] = []
    for number, seed in enumerate(range(options.seeds)):
        drawn = np.random.default_rng(seed).permutation(len(images.labels))[: MEMBERS + OTHERS]
        pixels, labels = images.pixels[drawn], images.labels[drawn].astype(np.int64)
        for name, own in SPELLINGS.items():
            for kind in NETWORKS:
                start, smoothing = time.process_time(), 0.1 * (number % 2)
                right = Records(pixels, labels, 10, own)
                settings = {"epochs": options.epochs, "smoothing": smoothing, "seed": seed}
                network = trained(kind, right, **settings)
                best = area(network, right)
                for given, spelling in SPELLINGS.items():
                    records = Records(pixels, labels, 10, spelling)
                    share = (
                        logits_of(network, records, np.arange(1000)).argmax(axis=1) == labels[:1000]
                    ).mean()
                    lost = best - area(network, records)
                    word, text = answer(network, records)
                    answers.append((given == name, lost, word))
                    print(
                        f"{kind}, {name}, smoothing {smoothing:g}; given {given}: right on {100 * share:.1f} %, AUC "
                        f"{best - lost:.3f} for {best:.3f}: {word} {text[:110]}",
                        flush=True,
                    )
                print(f"  {time.process_time() - start:.1f} CPU seconds", flush=True)

    rights = [word for is_own, _, word in answers if is_own]
    print(f"right inputs: {len(rights)}, silent {rights.count('silent')}")
    for low, high in ((-1.0, 0.005), (0.005, 0.01), (0.01, 0.03), (0.03, 1.0)):
        words = [word for is_own, lost, word in answers if not is_own and low <= lost < high]
        counts = ", ".join(
            f"{words.count(word)} {word}" for word in ("refused", "doubted", "silent")
        )
        print(f"wrong inputs, AUC lower by {low:g} to {high:g}: {counts}")


if __name__ == "__main__":
    main()
