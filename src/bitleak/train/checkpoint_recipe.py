"""The recipe of a trained network, as far as its checkpoint says it.

A checkpoint that real code saves holds more than weights: the arguments of the command (`args`,
`hyper_parameters`, ...), the number of epochs, the optimizer's state. Fields are taken in this order,
so that an argument is preferred to a state after the training:

1. a mapping of arguments, under one of `ARGUMENTS`;
2. the same names at the top of the file (`epoch`, `lr`, ...);
3. the first group of the optimizer: its rate at the start (`initial_lr`), momentum, weight decay.

References are trained by SGD, so the rate and the decay of an optimizer of another kind are not taken.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bitleak.train.recipe import Recipe

ARGUMENTS = (
    "args",
    "hyper_parameters",
    "hparams",
    "hyperparameters",
    "config",
    "cfg",
    "options",
    "opt",
)
"""Keys under which checkpoints keep the arguments of the training."""

OPTIMIZERS = ("optimizer", "optimizer_state_dict", "optimizer_states", "optim")
"""Keys under which they keep the optimizer's state."""

_NAMES: Mapping[str, tuple[str, ...]] = {
    "epochs": ("epochs", "max_epochs", "num_epochs", "n_epochs"),
    "batch": ("batch_size", "train_batch_size", "batchsize", "batch"),
    "learning_rate": ("lr", "learning_rate", "base_lr", "max_lr"),
    "momentum": ("momentum",),
    "weight_decay": ("weight_decay", "wd"),
    "nesterov": ("nesterov",),
    "schedule": ("schedule", "scheduler", "lr_scheduler", "lr_schedule"),
}
"""Names of arguments in common use, by field of a recipe."""

OF_SGD = ("learning_rate", "momentum", "weight_decay", "nesterov")
"""Fields that mean something else for other optimizers."""


@dataclass(frozen=True)
class GuessedRecipe:
    """A recipe of which some fields come from a checkpoint.

    Attributes:
        recipe: The recipe.
        sentence: The fields with their origins, for people; empty if the checkpoint says nothing.
    """

    recipe: Recipe
    sentence: str


def guessed_recipe(facts: Mapping[str, Any], recipe: Recipe, given: Sequence[str]) -> GuessedRecipe:
    """Return the recipe with fields of a checkpoint in the place of defaults.

    Args:
        facts: The checkpoint's entries besides weights, plain values.
        recipe: The config's recipe.
        given: Fields that the config gives, which are kept.

    Example:
        >>> facts = {"args": {"lr": 0.05, "epochs": 40, "batch_size": 64}, "epoch": 39}
        >>> guess = guessed_recipe(facts, Recipe(), ["batch"])
        >>> guess.recipe.learning_rate, guess.recipe.epochs, guess.recipe.batch
        (0.05, 40, 128)
    """
    other = _other_optimizer(facts)
    taken: dict[str, str] = {}
    for field, value, place in _candidates(facts):
        if field in taken or field in given or (other and field in OF_SGD):
            continue
        read = _read(field, value)
        if read is None:
            continue
        try:
            # A value out of range belongs to another kind of training: the default stays.
            recipe = replace(recipe, **{field: read})
        except (ValueError, TypeError):
            continue
        taken[field] = f"{field} {read} ({place})"
    if not taken and not other:
        return GuessedRecipe(recipe, "")
    default = [name for name in Recipe.__dataclass_fields__ if name not in {*taken, *given}]
    origin = ", ".join(taken.values()) or "nothing"
    sentence = f"Recipe of references: from the checkpoint {origin}"
    if given:
        sentence += f"; from the config {', '.join(given)}"
    sentence += f"; defaults for {', '.join(default)}."
    if other:
        sentence += (
            f" The checkpoint's optimizer is {other}; references are trained by SGD, so give train.learning_rate "
            "and train.weight_decay."
        )
    return GuessedRecipe(recipe, sentence)


def _candidates(facts: Mapping[str, Any]) -> Iterator[tuple[str, Any, str]]:
    """Yield every field with its value and its place, the most trusted first."""
    arguments = [(key, facts[key]) for key in ARGUMENTS if isinstance(facts.get(key), Mapping)]
    for key, values in [*arguments, ("", facts)]:
        for field, names in _NAMES.items():
            for name in names:
                if name in values:
                    yield field, values[name], f"{key}.{name}" if key else name
    # The number of the last epoch, or of epochs done: they differ by one.
    if "epoch" in facts:
        yield "epochs", facts["epoch"], "epoch"
    group, place = _group(facts)
    for field, names in (
        ("learning_rate", ("initial_lr",)),
        ("momentum", ("momentum",)),
        ("weight_decay", ("weight_decay",)),
        ("nesterov", ("nesterov",)),
    ):
        for name in names:
            if name in group:
                yield field, group[name], f"{place}.{name}"
    # Without a schedule in the file, the rate at the end is that of the start.
    scheduled = any("sched" in str(key) for key in facts)
    if "lr" in group and "initial_lr" not in group and not scheduled:
        yield "learning_rate", group["lr"], f"{place}.lr"


def _group(facts: Mapping[str, Any]) -> tuple[Mapping[str, Any], str]:
    """Return the first group of the optimizer's parameters, and its place."""
    for key in OPTIMIZERS:
        state = facts.get(key)
        if isinstance(state, list | tuple) and state:
            state = state[0]
        groups = state.get("param_groups") if isinstance(state, Mapping) else None
        if isinstance(groups, list | tuple) and groups and isinstance(groups[0], Mapping):
            return groups[0], f"{key}.param_groups"
    return {}, ""


def _other_optimizer(facts: Mapping[str, Any]) -> str:
    """Return the name of an optimizer that is not SGD; empty if it is, or is not known."""
    group, _ = _group(facts)
    if "betas" in group:
        return "of Adam's kind (it has betas)"
    if "alpha" in group and "centered" in group:
        return "RMSprop"
    for key in ARGUMENTS:
        values = facts.get(key)
        if not isinstance(values, Mapping):
            continue
        for name in ("optimizer", "optim", "opt"):
            named = values.get(name)
            if isinstance(named, str) and "sgd" not in named.lower():
                return named
    return ""


def _read(field: str, value: Any) -> Any:
    """Return a value as a recipe has it; None if it cannot be one."""
    if field == "schedule":
        text = str(value).lower() if isinstance(value, str) else ""
        if "cos" in text:
            return "cosine"
        return "constant" if text in ("none", "constant") else None
    if field == "nesterov":
        return value if isinstance(value, bool) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if field in ("epochs", "batch"):
        return int(value) if int(value) == value and value >= 1 else None
    return float(value)
