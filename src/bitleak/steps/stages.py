"""Every step as the engine calls it, by the name of its stage.

Importing this module imports PyTorch and all that the steps need, so that workers which are forked afterwards start
warm. `bitleak.engine.worker` finds a stage here by its name.
"""

from collections.abc import Mapping

from bitleak import registry
from bitleak.engine.worker import Stage
from bitleak.steps import networks, noisy_accuracy  # noqa: F401
from bitleak.steps.step import stage_of
from bitleak.train import fit  # noqa: F401

STAGES: Mapping[str, Stage] = {
    name: stage_of(registry.find(registry.STEPS, name, kind="step")) for name in registry.STEPS
}


def __getattr__(name: str) -> Stage:
    """Return the stage with this name."""
    if name not in STAGES:
        raise AttributeError(f"module {__name__!r} has no stage {name!r}")
    return STAGES[name]
