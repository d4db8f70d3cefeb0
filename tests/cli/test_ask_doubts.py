"""`bitleak ask` with networks that fit their members: inputs and memberships that are not theirs."""

import numpy as np
import pytest
import torch
from toy_target import CLASSES, DEVIATION, MEAN, linear, toy

from bitleak.core.errors import ModelError
from bitleak.single_network.membership_doubts import membership_doubts

NETS = """
from torch import nn

def linear(classes, channels, size):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * size * size, classes))
"""


@pytest.fixture
def ask(bitleak, tmp_path, monkeypatch, without_new_process):
    """Two networks with their members; returns the exit code and the texts of `bitleak ask`."""
    target = toy()
    (tmp_path / "asknets.py").write_text(NETS)
    monkeypatch.syspath_prepend(tmp_path)
    np.savez(tmp_path / "toy.npz", pixels=target.images, labels=target.labels)
    mean, deviation = (np.reshape(values, (3, 1, 1)) for values in (MEAN, DEVIATION))
    member = np.zeros((2, 800), bool)
    for seed in range(2):
        chosen = np.random.default_rng(seed + 1).permutation(800)[:150]
        member[seed, chosen] = True
        columns = ((target.images[chosen] / 255 - mean) / deviation).reshape(150, -1)
        gram = columns @ columns.T + 1e-3 * np.eye(150)
        weight = columns.T @ np.linalg.solve(gram, 8.0 * np.eye(CLASSES)[target.labels[chosen]])
        network = linear()
        with torch.no_grad():
            network[1].weight.copy_(torch.from_numpy(weight.T))
            network[1].bias.zero_()
        torch.save(network.state_dict(), tmp_path / f"net{seed}.pt")

    def run(member=member, pixels=target.images, standardisation=None):
        np.savez(tmp_path / "toy.npz", pixels=pixels, labels=target.labels)
        np.save(tmp_path / "members.npy", member)
        given = (",".join(map(str, values)) for values in (MEAN, DEVIATION))
        texts = iter(standardisation or given)
        options = ["--model", "asknets:linear", "--members", "members.npy", "--out", "asked"]
        weights = ["--weights", "net0.pt", "--weights", "net1.pt"]
        return bitleak(
            "ask", "--data", "arrays:toy.npz", "--mean", next(texts), "--std", next(texts),
            *options, *weights,
        )  # fmt: skip

    return run, member, target.images


def test_the_right_members_and_inputs_are_not_doubted(ask):
    code, out, err = ask[0]()
    assert code == 0, err
    assert "--members" not in out


def test_a_network_that_a_new_process_makes_differently_is_refused(ask, monkeypatch):
    def refuse(spec):
        raise ModelError(f"{spec.options['factory']}: a new process makes another network")

    monkeypatch.setattr("bitleak.models.new_process.check_in_new_process", refuse)
    code, _, err = ask[0]()
    assert code == 2
    assert "--model: asknets:linear: a new process makes another network" in err


@pytest.mark.parametrize(
    ("change", "title"),
    [
        (lambda pixels: pixels[:, ::-1], "with channels exchanged: store the images"),
        (lambda pixels: pixels.swapaxes(2, 3), "with height and width exchanged: store the images"),
    ],
)
def test_other_inputs_are_refused_with_the_spelling_that_fits(ask, tmp_path, change, title):
    run, _, images = ask
    code, _, err = run(pixels=np.ascontiguousarray(change(images)))
    assert code == 2
    assert "--mean, --std: net0.pt is right on" in err
    assert title in err
    assert not (tmp_path / "asked").exists()


def test_the_advice_on_other_inputs_is_an_option_that_helps(ask, tmp_path):
    run, _, _ = ask
    # The same networks for inputs from 0 to 255: W (p / 255 - mean) / deviation = V p + b.
    for seed in range(2):
        path = tmp_path / f"net{seed}.pt"
        tensors = torch.load(path)
        weight = tensors["1.weight"].reshape(CLASSES, 3, -1) / torch.tensor(DEVIATION)[:, None]
        tensors["1.weight"] = weight.reshape(CLASSES, -1).float() / 255
        tensors["1.bias"] = -(weight * torch.tensor(MEAN)[:, None]).sum((1, 2)).float()
        torch.save(tensors, path)
    code, _, err = run()
    assert code == 2
    assert "with inputs from 0 to 255: give --mean 0 --std 0.0039216," in " ".join(err.split())
    code, _, err = run(standardisation=("0", "0.0039216"))
    assert code == 0, err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda member: np.roll(member, 1, axis=1), "surer of the records before the members"),
        (lambda member: member[::-1], "net0.pt is row 0, and fits row 1 (AUC"),
        (
            lambda member: ~member,
            "2 of 2 networks, such as net0.pt, are less sure of their members",
        ),
    ],
)
def test_members_that_do_not_fit_are_noted(ask, change, message):
    run, member, _ = ask
    code, out, err = run(member=np.ascontiguousarray(change(member)))
    assert code == 0, err
    assert message in " ".join(out.split())


def test_networks_that_do_not_leak_are_not_doubted():
    rng = np.random.default_rng(0)
    member = rng.random((20, 500)) < 0.5
    earlier = np.roll(member, -1, axis=1)
    names = [str(row) for row in range(20)]
    assert membership_doubts(rng.normal(size=(20, 500)), member, earlier, names) == ()
