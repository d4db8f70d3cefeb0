"""Names of tensors in files: a wrapper's prefix is taken off or put on if it is all that keeps them from fitting."""

import pytest
import torch
from safetensors.torch import load_file, save_model
from torch import nn

from bitleak.models.network_size import shared_names
from bitleak.models.tensor_names import fitted_names, with_shared_names

WANTED = ["stem.weight", "body.conv.weight"]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["stem.weight", "body.conv.weight"], ""),
        (
            ["n_averaged", "module.stem.weight", "module.body.conv.weight"],
            "the prefix 'module.' was removed",
        ),
        (
            ["stem._orig_mod.weight", "body.module.conv.weight"],
            "the prefixes of PyTorch's wrappers were removed",
        ),
    ],
)
def test_tensors_are_found_under_the_names_of_the_network(names, said):
    found, why = fitted_names(dict(zip(names, range(len(names)), strict=True)), WANTED)
    first = len(names) - 2
    assert found == {"stem.weight": first, "body.conv.weight": first + 1}
    assert why.startswith(said)
    assert bool(why) is bool(said)


def test_a_prefix_of_the_network_alone_is_put_on():
    found, why = fitted_names(
        {"stem.weight": 1, "body.conv.weight": 2}, [f"net.{name}" for name in WANTED]
    )
    assert found == {"net.stem.weight": 1, "net.body.conv.weight": 2}
    assert why == "the prefix 'net.' was put before the names of all tensors"


def test_names_that_no_prefix_makes_fit_stay():
    tensors = {"module.stem.weight": 1, "module.other": 2}
    assert fitted_names(tensors, WANTED) == (tensors, "")


def test_a_tensor_that_a_file_holds_once_is_given_all_its_names(tmp_path):
    network = nn.Sequential(nn.Linear(3, 3), nn.PReLU(3), nn.Linear(3, 3))
    network[2].weight = network[0].weight
    save_model(network, str(tmp_path / "net.safetensors"))
    stored = load_file(tmp_path / "net.safetensors")
    assert len(stored) == len(network.state_dict()) - 1
    found = with_shared_names(stored, shared_names(network))
    assert set(found) == set(network.state_dict())
    assert all(torch.equal(found[name], value) for name, value in network.state_dict().items())
