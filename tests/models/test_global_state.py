"""Global generators and settings: a model depends on its seed alone, whatever the process did before."""

import random
import sys
import types

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from bitleak.core.errors import ModelError
from bitleak.core.types import Images, ModelSpec
from bitleak.models import build, state
from bitleak.models.external import trial_of
from bitleak.models.global_state import draws_so_far
from bitleak.train.fit import fit
from bitleak.train.recipe import Recipe

RECIPE = Recipe(epochs=2, batch=8, learning_rate=0.05, augment=())


class Dropping(nn.Module):
    """Drops features in training mode, by one of the generators."""

    def __init__(self, num_classes, in_chans):
        super().__init__()
        self.body = nn.Linear(64 * in_chans, 16)
        self.head = nn.Linear(16, num_classes)

    def drop(self, x):
        return functional.dropout(x, 0.5)

    def forward(self, x):
        x = self.body(x.flatten(1))
        return self.head(self.drop(x) if self.training else x)


class ByPython(Dropping):
    def drop(self, x):
        return x if random.random() < 0.5 else 0.5 * x


class ByNumpy(Dropping):
    def drop(self, x):
        return x * float(np.random.binomial(1, 0.5))  # noqa: NPY002


class Unseeded(Dropping):
    def drop(self, x):
        return x if np.random.default_rng().random() < 0.5 else 0.5 * x


class InitialisedByNumpy(Dropping):
    def __init__(self, num_classes, in_chans):
        super().__init__(num_classes, in_chans)
        values = np.random.normal(size=tuple(self.body.weight.shape))  # noqa: NPY002
        self.body.weight.data = torch.from_numpy(values).float()


class Listed(Dropping):
    """Keeps a layer in a plain list, so that it is neither trained nor saved."""

    def __init__(self, num_classes, in_chans):
        super().__init__(num_classes, in_chans)
        self.blocks = [nn.Linear(16, 16)]

    def forward(self, x):
        return self.head(self.blocks[0](self.body(x.flatten(1))))


def spec(kind):
    module = types.ModuleType("global_zoo")
    setattr(module, kind.__name__, kind)
    sys.modules["global_zoo"] = module
    options = {"factory": f"global_zoo:{kind.__name__}"}
    return ModelSpec("external", options, 3, 1, 8, mean=(0.4,), std=(0.3,))


def trained(kind):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (24, 1, 8, 8)).astype(np.uint8)
    labels = rng.integers(0, 3, 24)
    images = Images(pixels, labels, ("a", "b", "c"), np.zeros(24, dtype=bool))
    return fit(images, np.arange(24), RECIPE, spec=spec(kind), seed=3).tensors


@pytest.mark.parametrize("kind", [Dropping, ByPython, ByNumpy])
def test_training_depends_on_its_seed_and_on_no_draw_before_it(kind):
    torch.manual_seed(1)
    first = trained(kind)
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    before = draws_so_far()
    second = trained(kind)
    # Not the state of `random`, from which the checks of types in tests draw.
    assert [draws_so_far()[index] for index in (0, 2, 3)] == [before[index] for index in (0, 2, 3)]
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_initial_weights_drawn_by_numpy_depend_on_the_seed():
    weights = [
        state(build(spec(InitialisedByNumpy), seed=seed))["body.weight"] for seed in (1, 1, 2)
    ]
    assert np.array_equal(weights[0], weights[1])
    assert not np.array_equal(weights[0], weights[2])


def test_a_note_says_that_training_draws_what_no_seed_reaches():
    (note,) = trial_of(spec(Unseeded)).notes
    assert "Unseeded draws numbers in training mode that no seed reaches" in note
    for kind in (Dropping, ByPython, ByNumpy):
        assert trial_of(spec(kind)).notes == ()


def test_layers_in_a_plain_list_are_refused_by_name():
    with pytest.raises(ModelError, match=r"the state dict does not hold \(attribute 'blocks'\)"):
        trial_of(spec(Listed))


def test_a_module_that_changes_settings_at_import_changes_them_for_itself_alone(
    tmp_path, monkeypatch
):
    text = "import torch\ntorch.set_grad_enabled(False)\ntorch.set_default_dtype(torch.float64)\n"
    text += "torch.set_num_threads(3)\nmake = lambda num_classes: torch.nn.Sequential(\n"
    text += "    torch.nn.Flatten(), torch.nn.Linear(64, num_classes))\n"
    (tmp_path / "settings_zoo.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    threads = torch.get_num_threads()
    options = {"factory": "settings_zoo:make"}
    network = build(ModelSpec("external", options, 3, 1, 8, mean=(0.4,), std=(0.3,)), seed=0)
    assert torch.is_grad_enabled()
    assert torch.get_default_dtype() == torch.float32
    assert torch.get_num_threads() == threads
    assert network[1].weight.dtype == torch.float32
