"""Writes 9,000 images of CIFAR-10 and the list of the 4,000 that the target is trained on.

python prepare.py FOLDER    # with train-*.parquet in the layout of the Hub's uoft-cs/cifar10
"""

import sys
from pathlib import Path

import numpy as np

from bitleak.data.hub import Hub

RECORDS, MEMBERS = 9000, 4000


def main(folder):
    """Draw the records and the members by seed."""
    images = Hub(path=folder).load(None)
    chosen = np.random.default_rng(0).permutation(np.flatnonzero(~images.held_out))[:RECORDS]
    np.savez(
        "pictures.npz",
        pixels=images.pixels[chosen],
        labels=images.labels[chosen],
        class_names=np.array(images.class_names),
    )
    members = np.sort(np.random.default_rng(1).permutation(RECORDS)[:MEMBERS])
    np.save("members.npy", members)
    print(f"{Path.cwd()}: pictures.npz, members.npy")


if __name__ == "__main__":
    main(sys.argv[1])
