"""Inputs that are prepared otherwise than in the training, though nearly all members stay right."""

import numpy as np
import pytest
import torch
from onnx_networks import require_onnx
from toy_target import CLASSES, DEVIATION, MEAN, SIZE, linear, toy

import bitleak
from bitleak.audit.target.file_releases import ReleaseFile
from bitleak.audit.target.input_spelling import InputSpelling
from bitleak.audit.target.member_check import check_on_members
from bitleak.audit.target.network_answers import Records
from bitleak.audit.target.preparation_search import LOGIT_SIZE, fit_of_logits
from bitleak.core.errors import ConfigError
from bitleak.core.types import ModelSpec, Weights
from bitleak.data.standardisations import STANDARDS


@pytest.fixture(scope="module")
def target():
    return toy()


def trained_under(target, spelling):
    """The toy's network by least squares, on inputs of another spelling."""
    pixels = torch.from_numpy(target.images[target.members])
    inputs = spelling.inputs(pixels, 255.0).flatten(1).double().numpy()
    columns = np.concatenate([inputs, np.ones((len(inputs), 1))], axis=1)
    goal = 3.0 * np.eye(CLASSES)[target.labels[target.members]]
    gram = columns @ columns.T + 1e-3 * np.eye(len(inputs))
    weight = columns.T @ np.linalg.solve(gram, goal)
    network = linear()
    with torch.no_grad():
        network[1].weight.copy_(torch.from_numpy(weight[:-1].T))
        network[1].bias.copy_(torch.from_numpy(weight[-1]))
    return network


def checked(target, network, spelling):
    records = Records(target.images, target.labels, CLASSES, spelling)
    return check_on_members(network, records, target.members, seed=0)


@pytest.mark.parametrize("given", ["CIFAR-100", "from -1 to 1"])
def test_a_wrong_mean_under_which_all_members_stay_right_is_doubted(target, given):
    network = trained_under(target, InputSpelling(*STANDARDS["ImageNet"]))
    check = checked(target, network, InputSpelling(*STANDARDS[given]))
    assert check.accuracy == 1
    (doubt,) = check.warnings
    assert "fits its own members better with ImageNet's mean and deviation" in doubt
    assert "write mean=[0.485, 0.456, 0.406], deviation=[0.229, 0.224, 0.225] in the call" in doubt
    audit = bitleak.audit_model(
        network,
        target.images,
        target.labels,
        target.members,
        mean=STANDARDS[given][0],
        deviation=STANDARDS[given][1],
        fpr=0.05,
    )
    assert doubt in audit.summary()


@pytest.mark.parametrize("name", sorted(set(STANDARDS) - {"MNIST"}))
def test_right_inputs_are_not_doubted(target, name):
    """Smaller deviations stretch the inputs, and so the logits, under which plain losses shrink."""
    spelling = InputSpelling(*STANDARDS[name])
    check = checked(target, trained_under(target, spelling), spelling)
    assert check.accuracy == 1
    assert check.warnings == ()


def test_losses_are_those_of_logits_of_one_size():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(3, 1, (50, 4)), rng.integers(0, 4, 50)
    fit = fit_of_logits(logits, labels)
    assert fit_of_logits(7 * logits + 5, labels).loss == pytest.approx(fit.loss)
    centred = logits - logits.mean(axis=1, keepdims=True)
    sized = torch.from_numpy(LOGIT_SIZE * centred / np.sqrt((centred**2).mean()))
    expected = torch.nn.functional.cross_entropy(sized, torch.from_numpy(labels), reduction="none")
    assert fit.loss == pytest.approx(expected.numpy())


def unit_file(network, path):
    """Write a network that takes pixels from 0 to 1 as a file."""
    require_onnx()
    from bitleak.runtimes.onnx_export import export_network

    spec = ModelSpec("toy", {}, CLASSES, 3, SIZE, (0.0,) * 3, (1.0,) * 3)
    tensors = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    path.write_bytes(export_network(network.eval(), Weights(tensors, spec)).content)
    return path


def with_standardisation(network):
    """Return the toy with its standardisation in the weights."""
    folded = linear()
    folded.load_state_dict(network.state_dict())
    mean, deviation = (
        torch.tensor(values).repeat_interleave(SIZE**2) for values in (MEAN, DEVIATION)
    )
    with torch.no_grad():
        folded[1].bias -= folded[1].weight @ (mean / deviation)
        folded[1].weight /= deviation
    return folded


@pytest.mark.parametrize("spelling", [{}, {"mean": MEAN, "deviation": DEVIATION}])
def test_bytes_for_a_file_that_takes_pixels_from_0_to_1(target, tmp_path, spelling):
    path = unit_file(with_standardisation(target.network), tmp_path / "unit.onnx")

    def audited(pixels):
        file = ReleaseFile(path, {"pixels": pixels})
        records = (target.images, target.labels, target.members)
        return bitleak.audit_model(file, *records, fpr=0.05, **spelling)

    pattern = (
        r"network: the target is right on \d+\.\d % of its own members, but on 100.0 % with a file that takes "
        r"pixels from 0 to 1: write ReleaseFile\(path, {'pixels': 'unit'}\) in the call"
    )
    with pytest.raises(ConfigError, match=pattern):
        audited("bytes")
    right = audited("unit")
    assert right.figure("train_accuracy").value == 1
    assert right.facts.warnings == ()


def test_bytes_for_such_a_file_whose_answers_stay_right_are_doubted(target, tmp_path):
    """With a small bias, larger pixels change the logits' size and little else."""
    path = unit_file(trained_under(target, InputSpelling()), tmp_path / "unit.onnx")
    records = (target.images, target.labels, target.members)
    audit = bitleak.audit_model(ReleaseFile(path, {"pixels": "bytes"}), *records, fpr=0.05)
    assert audit.figure("train_accuracy").value == 1
    (doubt,) = audit.facts.warnings
    assert "with a file that takes pixels from 0 to 1" in doubt
    assert "write ReleaseFile(path, {'pixels': 'unit'}) in the call" in doubt
