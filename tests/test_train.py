"""The trainer against a plain loop, and what it promises about seeds, divergence and batches."""

import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from bitleak.core.errors import TrainingError
from bitleak.core.seeds import seed_for
from bitleak.core.types import Images, ModelSpec
from bitleak.data.augment import Standard, augmented, standardize
from bitleak.models import build, load
from bitleak.models.layout import memory_format
from bitleak.train.fit import (
    TrainingRecords,
    fit,
    record_batches,
    records_on,
    settled,
    training_step,
)
from bitleak.train.recipe import Recipe, rate_at
from bitleak.train.sgd import SGD

SPEC = ModelSpec("cnn", {"width": 4}, 3, 1, 8, mean=(0.4,), std=(0.3,))


def images(records=50):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, records)
    pixels = rng.integers(0, 120, (records, 1, 8, 8)) + 40 * labels[:, None, None, None]
    return Images(pixels.astype(np.uint8), labels, ("a", "b", "c"), np.zeros(records, dtype=bool))


def plain_loop(data, members, recipe, seed):
    """The recipe spelled out: no fused optimiser, no channels-last, the learning rate by its formula."""
    network = build(SPEC, seed=seed_for(seed, "initialisation")).train()
    inputs = (torch.from_numpy(data.pixels[members]).float() / 255 - 0.4) / 0.3
    labels = torch.from_numpy(data.labels[members])
    velocity = [torch.zeros_like(p) for p in network.parameters()]
    order = torch.Generator().manual_seed(seed_for(seed, "order"))
    for epoch in range(recipe.epochs):
        rate = recipe.learning_rate * (1 + math.cos(math.pi * epoch / recipe.epochs)) / 2
        shuffled = torch.randperm(len(members), generator=order)
        for start in range(0, len(members), recipe.batch):
            chosen = shuffled[start : start + recipe.batch]
            loss = nn.functional.cross_entropy(network(inputs[chosen]), labels[chosen])
            network.zero_grad()
            loss.backward()
            with torch.no_grad():
                for value, moving in zip(network.parameters(), velocity, strict=True):
                    moving.mul_(recipe.momentum).add_(value.grad + recipe.weight_decay * value)
                    value.sub_(rate * moving)
    return network.eval()


def test_training_equals_a_plain_loop():
    data, members = images(), np.arange(40)
    recipe = Recipe(epochs=3, batch=16, learning_rate=0.05, augment=())
    found = load(fit(data, members, recipe, spec=SPEC, seed=5))
    expected = plain_loop(data, members, recipe, seed=5)
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], value, rtol=2e-3, atol=2e-4, msg=name)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not():
    data, members = images(), np.arange(30)
    recipe = Recipe(epochs=2, batch=8, autocast="bfloat16")
    first, again, other = (fit(data, members, recipe, spec=SPEC, seed=seed) for seed in (1, 1, 2))
    assert all(np.array_equal(first.tensors[name], again.tensors[name]) for name in first.tensors)
    assert not np.array_equal(first.tensors["conv.weight"], other.tensors["conv.weight"])


def test_training_ignores_who_is_not_a_member():
    data = images()
    changed = Images(data.pixels.copy(), data.labels, data.class_names, data.held_out)
    changed.pixels[40:] = 255 - changed.pixels[40:]
    recipe = Recipe(epochs=1, batch=16)
    first, second = (
        fit(each, np.arange(40), recipe, spec=SPEC, seed=1) for each in (data, changed)
    )
    assert all(np.array_equal(first.tensors[name], second.tensors[name]) for name in first.tensors)


def test_a_model_learns_what_can_be_learned():
    data = images(90)
    epochs = []
    recipe = Recipe(epochs=8, batch=16, learning_rate=0.05, augment=())
    fit(
        data,
        np.arange(90),
        recipe,
        spec=SPEC,
        seed=0,
        on_epoch=lambda epoch, loss: epochs.append((epoch, loss)),
    )
    assert [epoch for epoch, _ in epochs] == list(range(1, 9))
    assert epochs[-1][1] < 0.25 * math.log(3)


def test_a_batch_is_the_plain_gather_augmented_and_standardised_bit_for_bit():
    data, members = images(), np.arange(5, 45)
    records = records_on(
        torch.device("cpu"), data, members, Standard.on("cpu", SPEC.mean, SPEC.std)
    )
    rows = torch.tensor([7, 41, 7, 19])
    found, labels = records.batch(rows, ("flip", "crop"), torch.Generator().manual_seed(3))
    pixels = augmented(
        torch.from_numpy(data.pixels[rows.numpy()]),
        ("flip", "crop"),
        torch.Generator().manual_seed(3),
    )
    assert torch.equal(found, standardize(pixels, SPEC.mean, SPEC.std))
    assert labels.tolist() == data.labels[[7, 41, 7, 19]].tolist()
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_a_mapped_data_set_is_not_copied(tmp_path, recwarn):
    data = images()
    np.save(tmp_path / "pixels.npy", data.pixels)
    mapped = replace(data, pixels=np.load(tmp_path / "pixels.npy", mmap_mode="r"))
    records = records_on(
        torch.device("cpu"), mapped, np.arange(40), Standard.on("cpu", SPEC.mean, SPEC.std)
    )
    assert records.pixels.data_ptr() == mapped.pixels.ctypes.data
    recipe = Recipe(epochs=1, batch=16)
    first, second = (fit(each, np.arange(40), recipe, spec=SPEC, seed=1) for each in (data, mapped))
    assert all(np.array_equal(first.tensors[name], second.tensors[name]) for name in first.tensors)
    assert not recwarn.list


HOST = (
    "item",
    "cpu",
    "numpy",
    "tolist",
    "__bool__",
    "__float__",
    "__int__",
    "__index__",
    "nonzero",
    "to",
)
"""Methods of a tensor by which a program waits for the device (`to` is allowed between types and to where it is)."""


def test_no_step_waits_for_the_device_or_sends_anything_to_it(monkeypatch):
    data, members = images(), np.arange(40)
    standard = Standard.on("cpu", SPEC.mean, SPEC.std)
    records = records_on(torch.device("cpu"), data, members, standard)
    network = build(SPEC, seed=0)
    optimizer = SGD(network.parameters(), rate=0.1, momentum=0.9, weight_decay=0.0, nesterov=False)
    chance = torch.Generator().manual_seed(0)
    chosen = records.members[:16]
    training_step(
        network, optimizer, *records.batch(chosen, ("flip", "crop"), chance), autocast="bfloat16"
    )
    told = []

    def watched(name, method):
        return lambda *given, **named: told.append(name) or method(*given, **named)

    with monkeypatch.context() as patch:
        for name in HOST:
            patch.setattr(torch.Tensor, name, watched(name, getattr(torch.Tensor, name)))
        for name in ("tensor", "as_tensor", "from_numpy"):
            patch.setattr(torch, name, watched(name, getattr(torch, name)))
        total = torch.zeros(())
        inputs, labels = records.batch(chosen, ("flip", "crop"), chance)
        total += training_step(network, optimizer, inputs, labels, autocast="bfloat16") * len(
            chosen
        )
    assert set(told) <= {"to"}  # of the draws, to the device where they are already
    assert math.isfinite(float(total))


def test_a_step_runs_where_tensors_have_no_values():
    """On the meta device every look at a value is an error."""
    network = build(SPEC, seed=0).to("meta")
    optimizer = torch.optim.SGD(
        network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3
    )  # its kernel knows meta
    pixels = torch.zeros(30, 1, 8, 8, dtype=torch.uint8, device="meta")
    members = torch.arange(30, device="meta")
    records = TrainingRecords(pixels, members, members, Standard.on("meta", SPEC.mean, SPEC.std))
    inputs, labels = records.batch(members[:16], ("flip", "crop"), torch.Generator())
    loss = training_step(network, optimizer, inputs, labels, autocast="none")
    assert loss.shape == ()
    assert inputs.is_meta
    with pytest.raises(RuntimeError, match="meta"):
        loss.item()


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
def test_descent_is_that_of_pytorch_also_where_a_parameter_has_no_gradient(momentum, nesterov):
    how = {"momentum": momentum, "weight_decay": 1e-2, "nesterov": nesterov}
    chance = torch.Generator().manual_seed(0)
    start = [torch.randn(5, 3, generator=chance) for _ in range(3)]
    ours, theirs = ([nn.Parameter(value.clone()) for value in start] for _ in range(2))
    optimizer, oracle = (
        SGD(ours, rate=1.0, **how),
        torch.optim.SGD(theirs, lr=1.0, fused=True, **how),
    )
    for rate in (0.1, 0.05, 0.01):
        optimizer.zero_grad()
        for mine, other in list(zip(ours, theirs, strict=True))[:2]:  # the third never has one
            mine.grad = torch.randn(5, 3, generator=chance)
            other.grad = mine.grad.clone()
        optimizer.rate = oracle.param_groups[0]["lr"] = rate
        optimizer.step()
        oracle.step()
        assert all(torch.equal(mine, other) for mine, other in zip(ours, theirs, strict=True))
    assert torch.equal(ours[2], start[2])
    assert not torch.equal(ours[0], start[0])


def test_training_does_not_load_the_compiler():
    script = """
import sys, numpy as np
from bitleak.core.types import Images, ModelSpec
from bitleak.train.fit import fit
from bitleak.train.recipe import Recipe
pixels = np.random.default_rng(0).integers(0, 256, (8, 1, 8, 8)).astype(np.uint8)
images = Images(pixels, np.arange(8) % 2, ("0", "1"), np.zeros(8, bool))
spec = ModelSpec("cnn", {}, classes=2, channels=1, size=8, mean=(0.5,), std=(0.25,))
for autocast in ("none", "bfloat16"):
    fit(images, np.arange(8), Recipe(epochs=1, batch=4, autocast=autocast), spec=spec, seed=0)
print("torch._dynamo" in sys.modules)
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"


def test_auto_is_settled_by_the_device(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": False})
    assert settled(Recipe(autocast="auto"), "cpu") == Recipe(autocast="none")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": True})
    assert settled(Recipe(autocast="auto"), "cpu") == Recipe(autocast="bfloat16")
    assert settled(Recipe(autocast="none"), "cpu") == Recipe(autocast="none")


def test_narrow_networks_with_projections_keep_out_of_a_layout_that_is_not_safe_for_them():
    narrow, wide = (build(replace(SPEC, options={"width": width}), seed=0) for width in (4, 16))
    assert memory_format(narrow, "cpu") == torch.contiguous_format
    assert memory_format(narrow, "cuda") == torch.channels_last
    assert memory_format(wide, "cpu") == torch.channels_last


def test_divergence_is_an_error_that_names_epoch_and_rate():
    with pytest.raises(TrainingError, match=r"epoch 1 at learning rate 1e\+30"):
        fit(
            images(),
            np.arange(40),
            Recipe(epochs=2, batch=8, learning_rate=1e30),
            spec=SPEC,
            seed=0,
        )


def test_the_cosine_ends_near_zero_and_starts_at_the_rate():
    recipe = Recipe(epochs=100, learning_rate=0.1)
    assert rate_at(recipe, 0) == 0.1
    assert rate_at(recipe, 99) < 0.1 * 3e-4
    assert rate_at(Recipe(schedule="constant"), 99) == 0.1


def test_no_batch_has_a_single_record():
    groups = record_batches(torch.arange(33), 16)
    assert [len(group) for group in groups] == [16, 17]
    assert torch.cat(groups).tolist() == list(range(33))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"epochs": 0}, "epochs must be an integer of at least 1, got 0"),
        ({"learning_rate": float("nan")}, "learning_rate must be a number"),
        ({"momentum": 1.0}, r"momentum must be a number in \[0, 1\)"),
        ({"momentum": 0.0, "nesterov": True}, "nesterov needs a momentum"),
    ],
)
def test_a_recipe_that_cannot_work_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**fields)
