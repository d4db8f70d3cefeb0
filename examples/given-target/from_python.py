"""Audits the target from Python, after prepare.py and pictures.train.

python from_python.py TIER
"""

import sys

import numpy as np
import torch
from pictures import make_network

import bitleak

MEAN, DEVIATION = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


def main(tier, **options):
    """Print the summary of one tier, and write its report."""
    stored, members = np.load("pictures.npz"), np.load("members.npy")
    weights = torch.load("checkpoint.pt", weights_only=True)["model"]["state_dict"]
    network = make_network(width=options.pop("width", 16))
    network.load_state_dict(
        {name.removeprefix("module._orig_mod."): value for name, value in weights.items()}
    )

    releases = {"rtn2": bitleak.RoundToNearest(levels=4, layers={"aux": "fp32"})}
    standardisation = {"mean": MEAN, "deviation": DEVIATION}
    audit = bitleak.audit_model(
        network,
        stored["pixels"],
        stored["labels"],
        members,
        releases=releases,
        tier=tier,
        **standardisation,
        **options,
    )
    print(audit.summary())
    return audit.report(f"python-tier-{tier}")


if __name__ == "__main__":
    recipe = bitleak.Recipe(epochs=25, batch=64, learning_rate=0.05, augment=())
    print(main(int(sys.argv[1]), recipe=recipe, shadows=8, fpr=0.01))
