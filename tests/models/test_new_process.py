"""Networks that are the same within a process and differ between processes; the new processes here are real ones."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from bitleak.core.errors import ModelError
from bitleak.core.types import Images, ModelSpec
from bitleak.engine.codecs import decode, encode
from bitleak.models import build, load
from bitleak.models.fingerprint import answer_fingerprint
from bitleak.models.new_process import check_in_new_process
from bitleak.models.unsaved_values import unsaved
from bitleak.models.weight_noise import noise_for
from bitleak.train.fit import fit
from bitleak.train.recipe import Recipe

ZOO = """
import os
import random
import time

import torch
from torch import nn

ORDER = torch.randperm(64, generator=torch.Generator().manual_seed(time.time_ns() % 2**60))
SCALES = {"a%d" % index: index + 1.0 for index in range(12)}


class Net(nn.Module):
    def __init__(self, num_classes, in_chans):
        super().__init__()
        self.head = nn.Linear(64 * in_chans, num_classes)

    def mixed(self, x):
        return x

    def forward(self, x):
        return self.head(self.mixed(x.flatten(1)))


class AtImport(Net):
    def mixed(self, x):
        return x[:, ORDER]


class Buffered(Net):
    def __init__(self, num_classes, in_chans):
        super().__init__(num_classes, in_chans)
        self.register_buffer("order", ORDER, persistent=False)

    def mixed(self, x):
        return x[:, self.order]


class Saved(Buffered):
    def __init__(self, num_classes, in_chans):
        super().__init__(num_classes, in_chans)
        self.register_buffer("order", ORDER)


class SetOrder(Net):
    def __init__(self, num_classes, in_chans):
        super().__init__(num_classes, in_chans)
        self.scales = [SCALES[name] for name in set(SCALES)]

    def mixed(self, x):
        return x * torch.tensor(self.scales).repeat(6)[:64]


def enclosed(num_classes, in_chans):
    order = ORDER

    class Enclosed(Net):
        def forward(self, x):
            return self.head(x.flatten(1)[:, order])

    return Enclosed(num_classes, in_chans)


class Counting(Net):
    # Training changes an attribute that is not saved, too late for a trial to see.
    steps = 0

    def forward(self, x):
        if self.training:
            self.steps += 1
        return super().forward(x) * (1 + self.steps // 4)
"""
RECIPE = Recipe(epochs=2, batch=16, learning_rate=0.05, augment=())


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    (tmp_path / "process_zoo.py").write_text(ZOO)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("process_zoo", None)


def spec(name):
    return ModelSpec("external", {"factory": f"process_zoo:{name}"}, 3, 1, 8, (0.5,), (0.25,))


def images():
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (60, 1, 8, 8)).astype(np.uint8), rng.integers(0, 3, 60)
    return Images(pixels, labels, ("a", "b", "c"), np.zeros(60, dtype=bool))


def trained(name):
    return fit(images(), np.arange(48), RECIPE, spec=spec(name), seed=0)


def another_process():
    """Stands in for a new worker: the module is imported once more."""
    del sys.modules["process_zoo"]


def test_the_order_of_a_set_is_refused_before_work(zoo):
    with pytest.raises(ModelError, match="other values there: attribute 'scales'"):
        check_in_new_process(spec("SetOrder"))


def test_a_permutation_that_is_saved_is_the_same_in_every_process(zoo):
    check_in_new_process(spec("Saved"))


def test_a_network_that_only_this_process_can_make_is_refused(zoo):
    build(spec("Net"), seed=0)
    (zoo / "process_zoo.py").write_text("raise OSError('not on this machine')")
    with pytest.raises(
        ModelError, match=r"a new one cannot, and every worker is a new one: .*not on this machine"
    ):
        check_in_new_process(spec("Net"))


@pytest.mark.parametrize(
    ("name", "unsaved_value"),
    [
        ("AtImport", "variable 'ORDER' of module process_zoo"),
        ("Buffered", "buffer 'order'"),
        ("enclosed", "variable 'order' around the forward of Enclosed"),
    ],
)
def test_weights_are_refused_where_their_network_is_made_differently(zoo, name, unsaved_value):
    weights = trained(name)
    load(weights, allow_external=True)
    another_process()
    with pytest.raises(
        ModelError, match=f"process_zoo:{name}: with its stored weights.*not in its state dict"
    ) as caught:
        load(weights, allow_external=True)
    assert unsaved_value in str(caught.value)
    assert "raise `version` and train again" in str(caught.value)
    with pytest.raises(ModelError, match="with its stored weights"):
        noise_for(weights, 0, allow_external=True)


def test_an_attribute_that_training_changed_is_noticed_in_the_same_process(zoo):
    with pytest.raises(
        ModelError, match="answers fixed images otherwise than when they were stored"
    ):
        load(trained("Counting"), allow_external=True)


def test_code_that_was_changed_without_a_new_version_is_noticed(zoo):
    weights = trained("Net")
    another_process()
    (zoo / "process_zoo.py").write_text(ZOO.replace("x.flatten(1)))", "x.flatten(1).square()))"))
    with pytest.raises(ModelError, match="Its code was changed since"):
        load(weights, allow_external=True)


@pytest.mark.parametrize("name", ["Net", "Saved"])
def test_weights_of_a_network_that_is_its_state_dict_are_loaded_by_another_process(zoo, name):
    weights = trained(name)
    another_process()
    network = load(weights, allow_external=True)
    np.testing.assert_array_equal(answer_fingerprint(network, spec(name)), weights.fingerprint)


def test_rounding_is_no_other_network_and_one_percent_is(zoo):
    weights = trained("Net")
    load(
        replace(weights, fingerprint=weights.fingerprint * np.float32(1 + 3e-4)),
        allow_external=True,
    )
    with pytest.raises(ModelError, match="by up to"):
        load(
            replace(weights, fingerprint=weights.fingerprint * np.float32(1.01)),
            allow_external=True,
        )


def test_a_fingerprint_is_stored_of_outside_networks_alone(zoo):
    weights = trained("Net")
    artifacts = encode(weights)
    np.testing.assert_array_equal(decode("weights", artifacts).fingerprint, weights.fingerprint)
    own = fit(
        images(),
        np.arange(48),
        RECIPE,
        spec=ModelSpec("cnn", {"width": 4}, 3, 1, 8, (0.5,), (0.25,)),
        seed=0,
    )
    assert own.fingerprint is None
    assert "fingerprint" not in encode(own)


def test_values_outside_the_state_dict_are_found_where_they_are(zoo):
    network = build(spec("Buffered"), seed=0)
    names = unsaved(network)
    assert "buffer 'order'" in names
    assert "variable 'SCALES' of module process_zoo" in names
    assert not any("head" in name for name in names)
    first = dict(names)
    network.order = torch.arange(64)
    assert unsaved(network)["buffer 'order'"] != first["buffer 'order'"]
