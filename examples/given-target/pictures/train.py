"""Trains the network on the records of `members.npy`, and saves a checkpoint with all that belongs to it.

python -m pictures.train --data pictures.npz --members members.npy --out checkpoint.pt
"""

import argparse

import numpy as np
import torch
import torch.nn.functional as F

from pictures.network import make_network

MEAN = torch.tensor([0.4914, 0.4822, 0.4465]).view(3, 1, 1)
STD = torch.tensor([0.2470, 0.2435, 0.2616]).view(3, 1, 1)


def main():
    """Train, and save the checkpoint."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="pictures.npz")
    parser.add_argument("--members", default="members.npy")
    parser.add_argument("--out", default="checkpoint.pt")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.05)
    args = parser.parse_args()

    stored = np.load(args.data)
    members = np.load(args.members)
    images, labels = stored["pixels"][members], stored["labels"][members]
    inputs = (torch.from_numpy(images).float() / 255 - MEAN) / STD
    labels = torch.from_numpy(labels)

    torch.manual_seed(0)
    network = make_network(width=args.width)
    optimizer = torch.optim.SGD(network.parameters(), args.lr, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.epochs)
    for epoch in range(args.epochs):
        network.train()
        for chosen in torch.randperm(len(inputs)).split(args.batch_size):
            output = network(inputs[chosen])
            loss = F.cross_entropy(output["logits"], labels[chosen])
            loss = loss + 0.3 * F.cross_entropy(output["aux"], labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
        print(f"epoch {epoch + 1}: loss {loss.item():.3f}")

    # As after DistributedDataParallel and torch.compile.
    weights = {f"module._orig_mod.{name}": value for name, value in network.state_dict().items()}
    torch.save(
        {
            "epoch": args.epochs,
            "args": {**vars(args), "schedule": "cosine"},
            "model": {"state_dict": weights},
            "optimizer": optimizer.state_dict(),
        },
        args.out,
    )


if __name__ == "__main__":
    main()
