"""Recipes that checkpoints of real code hold: the fields that are taken, and those that are not."""

import pytest

from bitleak.train.checkpoint_recipe import guessed_recipe
from bitleak.train.recipe import Recipe

SGD = {"lr": 1e-4, "initial_lr": 0.2, "momentum": 0.8, "weight_decay": 1e-3, "nesterov": True}
CASES = {
    "arguments": (
        {"args": {"lr": 0.05, "epochs": 40, "batch_size": 64, "wd": 0.0, "arch": "net"}},
        {"learning_rate": 0.05, "epochs": 40, "batch": 64, "weight_decay": 0.0},
    ),
    "the module that Lightning saves": (
        {
            "hyper_parameters": {"learning_rate": 0.1, "max_epochs": 12, "scheduler": "cosine"},
            "epoch": 11,
            "optimizer_states": [{"state": {}, "param_groups": [SGD]}],
        },
        {
            "learning_rate": 0.1, "epochs": 12, "schedule": "cosine", "momentum": 0.8, "weight_decay": 1e-3,
            "nesterov": True,
        },
    ),
    "the optimizer's rate at the start, not at the end": (
        {"epoch": 90, "optimizer": {"param_groups": [SGD]}, "best_acc": 0.9},
        {"epochs": 90, "learning_rate": 0.2, "momentum": 0.8, "weight_decay": 1e-3, "nesterov": True},
    ),
    "a rate after a schedule is none of the start": (
        {"optimizer": {"param_groups": [{"lr": 1e-5, "momentum": 0.9}]}, "lr_scheduler": {"step": 3}},
        {"momentum": 0.9},
    ),
    "a rate without a schedule": (
        {"optimizer": {"param_groups": [{"lr": 0.03, "momentum": 0.9}]}},
        {"learning_rate": 0.03, "momentum": 0.9},
    ),
    "values that no recipe can have": (
        {"args": {"lr": -1, "epochs": "many", "batch_size": 1, "momentum": True}},
        {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_fields_are_taken_from_the_most_trusted_place(name):
    facts, expected = CASES[name]
    guess = guessed_recipe(facts, Recipe(), ())
    assert guess.recipe == Recipe(**expected)
    assert all(f"{field} " in guess.sentence.split("defaults for")[0] for field in expected)
    assert bool(guess.sentence) == bool(expected)


def test_the_config_goes_before_the_checkpoint_and_the_sentence_names_every_origin():
    facts = {"args": {"lr": 0.05, "epochs": 40}}
    guess = guessed_recipe(facts, Recipe(epochs=3), ["epochs"])
    assert (guess.recipe.epochs, guess.recipe.learning_rate) == (3, 0.05)
    assert guess.sentence == (
        "Recipe of references: from the checkpoint learning_rate 0.05 (args.lr); from the config epochs; defaults for "
        "batch, momentum, weight_decay, nesterov, schedule, augment, autocast."
    )


def test_the_rate_of_another_optimizer_is_not_taken():
    group = {"lr": 1e-3, "betas": (0.9, 0.999), "weight_decay": 0.01}
    guess = guessed_recipe(
        {"epoch": 20, "args": {"lr": 1e-3}, "optimizer": {"param_groups": [group]}}, Recipe(), ()
    )
    assert guess.recipe == Recipe(epochs=20)
    assert "optimizer is of Adam's kind (it has betas); references are trained by SGD" in (
        guess.sentence
    )
