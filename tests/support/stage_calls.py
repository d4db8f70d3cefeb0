"""Runs one step as a worker does, with the parameters and inputs that it knows of those given."""

from bitleak import registry
from bitleak.engine.worker import Runtime
from bitleak.steps import stages


def run_stage(name, params, inputs, runtime=None):
    """Return the artifacts of one task; names that are another step's are left out."""
    kind = registry.find(registry.STEPS, name, kind="step")
    known = {key: value for key, value in params.items() if key in kind.__dataclass_fields__}
    read = {key: value for key, value in inputs.items() if key in kind.Inputs._fields}
    (made,) = stages.STAGES[name]([known], read, runtime or Runtime(), lambda done: None)
    return made
