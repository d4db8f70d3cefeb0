"""Mistakes that people make with their own model, and the message that each of them gets."""

import pickle

import numpy as np
import pytest
import torch
from torch import nn
from toy_target import DEVIATION, MEAN, SIZE, linear, toy

import bitleak
from bitleak.audit.target.record_lists import known_records
from bitleak.core.errors import ConfigError, ModelError
from bitleak.models.checkpoint import read_checkpoint

RIGHT = {"mean": MEAN, "deviation": DEVIATION}


@pytest.fixture(scope="module")
def target():
    return toy()


def audited(target, **changes):
    options = {"images": target.images, "labels": target.labels, "members": target.members}
    network = changes.pop("network", target.network)
    return bitleak.audit_model(network, **{**options, **RIGHT, **changes})


def refused(target, pattern, **changes):
    with pytest.raises((ConfigError, ModelError), match=pattern):
        audited(target, **changes)


def test_a_mean_of_another_data_set(target):
    data = target.images.reshape(len(target.images), 3, -1) / 255
    standard = (data.mean(axis=(0, 2)), data.std(axis=(0, 2)))
    images, labels = target.images, target.labels
    inputs = torch.from_numpy(images[target.members]).float() / 255
    mean, std = (torch.tensor(values).float().view(3, 1, 1) for values in standard)
    columns = ((inputs - mean) / std).flatten(1).double()
    goal = 8 * nn.functional.one_hot(torch.from_numpy(labels[target.members]), 4).double()
    network = linear()
    with torch.no_grad():
        network[1].weight.copy_(torch.linalg.lstsq(columns, goal).solution.T)
        network[1].bias.zero_()
    pattern = r"right on \d+.\d % of its own members, but on 100.0 % with the data's own mean"
    refused(target, pattern, network=network, mean=0.0, deviation=1.0, scale=255)


def test_pixels_from_0_to_255_for_a_network_of_0_to_1(target):
    network = linear()
    network.load_state_dict(target.network.state_dict())
    with (
        torch.no_grad()
    ):  # the standardisation is in the weights, so that it takes pixels from 0 to 1
        deviation = torch.tensor(DEVIATION).repeat_interleave(SIZE * SIZE)
        mean = torch.tensor(MEAN).repeat_interleave(SIZE * SIZE)
        network[1].bias -= network[1].weight @ (mean / deviation)
        network[1].weight /= deviation
    plain = {"network": network, "mean": 0.0, "deviation": 1.0}
    refused(
        target,
        r"with inputs from 0 to 1: write mean=\[0\], deviation=\[1\], scale=1",
        **plain,
        scale=255,
    )
    assert audited(target, **plain).figure("train_accuracy").value == 1.0


def test_channels_in_another_order(target):
    refused(
        target, "100.0 % with channels exchanged: .*channels='bgr'", images=target.images[:, ::-1]
    )


def test_height_and_width_exchanged(target):
    turned = np.ascontiguousarray(target.images.transpose(0, 1, 3, 2))
    refused(target, "with height and width exchanged: .*layout='transposed'", images=turned)


def test_channels_last(target):
    last = target.images.transpose(0, 2, 3, 1)
    refused(
        target,
        r"expected channels before height and width, got shape \(800, 8, 8, 3\)",
        images=last,
    )


def test_truth_values_of_another_length(target):
    member = np.zeros(700, bool)
    refused(
        target,
        "members: truth values must be one per record, expected 800, got 700",
        members=member,
    )


def test_truth_values_stored_as_integers(target):
    member = np.isin(np.arange(800), target.members).astype(np.int64)
    refused(
        target,
        "800 zeros and ones, one per record, are truth values stored as integers",
        members=member,
    )


def test_record_numbers_of_another_data_set(target):
    numbers = np.append(target.members, [800, 5000])
    refused(target, r"2 of 152 record numbers are not from 0 to 799 \(800, 5000\)", members=numbers)


def test_members_that_are_others_too(target):
    others = np.arange(800)
    first = target.members[0]
    refused(target, rf"others: 150 of 800 records are members too \({first}, ", others=others)


def test_labels_of_classes_in_another_order(target):
    labels = np.array([1, 2, 3, 0])[target.labels]
    pattern = r"classes are in another order.* once outputs are renumbered \(0 is 1, 1 is 2, 2 is 3, 3 is 0\)"
    refused(target, pattern, labels=labels)


def test_labels_of_other_records(target):
    labels = np.random.default_rng(5).permutation(target.labels)
    refused(target, "no better than guessing .*labels those of other records", labels=labels)


def test_untrained_weights(target):
    torch.manual_seed(0)
    refused(target, "of its own members, no better than guessing", network=linear())


def test_weights_of_another_network(target):
    other = nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.ReLU(), nn.Linear(16, 4))
    pattern = (
        r"releases.small: weights of another network: 0 of the network's 2 tensors fit; 2 are not the network's, "
        r"such as '3.weight'; tensor '1.weight' must have shape \(4, 192\), got \(16, 192\)"
    )
    refused(target, pattern, releases={"small": other.state_dict()})


def test_a_pickle_is_not_run(tmp_path, target):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "exploded"), "w"))

    path = tmp_path / "model.pt"
    torch.save({"model": target.network.state_dict(), "run": Bomb()}, path)
    with pytest.raises(
        ModelError, match=r"holds Python objects besides tensors, .* so it is not read"
    ):
        read_checkpoint(path, "target.weights")
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ModelError, match=r"target.weights"):
        read_checkpoint(path, "target.weights")
    assert not (tmp_path / "exploded").exists()


def test_names_that_are_not_in_the_data_set():
    names = ["train/cat/1.png", "train/dog/1.png", "train/dog/2.png", "train/dog/3.png"]
    with pytest.raises(
        ConfigError, match=r"members: 1 of 2 names are not in the data set, such as 'cow/1.png'"
    ):
        known_records(["cat/1", "cow/1.png"], None, records=4, names=names)
    with pytest.raises(ConfigError, match=r"'1.png' names 2 records, such as 'train/cat/1.png'"):
        known_records(["1.png", "2.png"], None, records=4, names=names)
    found = known_records(["cat/1", "dog/2.png"], None, records=4, names=names)
    assert found.members.tolist() == [0, 2]
    assert found.others.tolist() == [1, 3]


def test_labels_of_another_length(target):
    refused(
        target,
        r"labels: expected one per record \(800\), got shape \(799,\)",
        labels=target.labels[:-1],
    )


def test_dropout_that_is_always_on(target):
    class Dropping(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = target.network

        def forward(self, images):
            return nn.functional.dropout(self.inner(images), 0.5, training=True)

    refused(target, "answers differ between two calls with the same images", network=Dropping())


def test_answers_that_depend_on_the_batch(target):
    class Centred(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = target.network

        def forward(self, images):
            return self.inner(images) - self.inner(images).mean()

    refused(target, "depends on the other images of the batch", network=Centred())


def test_members_and_others_exchanged(target):
    others = np.setdiff1d(np.arange(800), target.members)
    random = np.random.default_rng(3).integers(0, 4, 800)
    labels = np.where(np.isin(np.arange(800), others), target.labels, random)
    labels[others[::4]] = random[others[::4]]
    kept = np.where(np.isin(np.arange(800), target.members), target.labels, labels)
    audit = audited(target, members=others, labels=kept)
    assert "of the others: are members and others exchanged?" in audit.summary()
