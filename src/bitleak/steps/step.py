"""The interface of a step, and the two ways in which it is used: to plan a task, and to run one.

A step of an audit is one file with one frozen dataclass. Its smallest member reads

```
@dataclass(frozen=True)
class WeighWeights:
    STAGE: ClassVar = "weigh"            # folder in the store
    VERSION: ClassVar = "1"              # raised when the meaning of the result changes

    class Inputs(NamedTuple):            # read from the store
        weights: Weights | QuantizedWeights

    def cost(self, scale): ...           # expected seconds, bytes on disk and bytes of memory
    def bytes(self, scale): ...
    def memory(self, scale): ...
    def run(self, inputs, runtime, progress) -> WeightSizes: ...
```

The fields are the parameters. All of them are part of the key, so everything that decides the
columns of a result (attacks, metrics, rates) is a field. A field that is added later is declared
with `core.params.later`, which leaves it out of the key while it has its default. Tasks that can
share work have `run_together`, a static method for several instances with the same inputs, instead
of `run`.

A step imports PyTorch inside of its functions only, so that planning, and attacking answers made elsewhere, need none.
"""

import functools
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

from pydantic import TypeAdapter

from bitleak.core.params import params_of
from bitleak.engine.keys import Task
from bitleak.engine.worker import Runtime, Stage
from bitleak.steps.scale import Scale

MANIFEST_BYTES = 4096
"""Room that a manifest takes on disk."""

OnProgress = Callable[[float], None]
"""Takes the fraction done of the task that is running, 0 to 1."""

InputKeys = Mapping[str, str | tuple[str, ...]]
"""Keys of the tasks that make a step's inputs, by the names of its `Inputs`."""


@runtime_checkable
class Step(Protocol):
    """Parameters of one task, with everything that is known about it before it runs."""

    STAGE: ClassVar[str]
    VERSION: ClassVar[str]

    @property
    def Inputs(self) -> Any:
        """The named tuple of the results that the step reads, a class of its own in every step."""

    def cost(self, scale: Scale) -> float:
        """Return the expected seconds on one worker."""

    def bytes(self, scale: Scale) -> int:
        """Return the expected size of the result, in bytes."""

    def memory(self, scale: Scale) -> int:
        """Return the expected peak memory on top of an idle worker, in bytes."""


def planned(
    step: Step,
    inputs: InputKeys,
    scale: Scale,
    label: str,
    *,
    cost: float | None = None,
    group: str | None = None,
) -> Task:
    """Return the task of a step.

    Args:
        step: Its parameters.
        inputs: Keys of the tasks that make its inputs.
        scale: Numbers of records and models, for the expected seconds and bytes.
        label: For people, such as `train model 3`.
        cost: Expected seconds, if they differ from the step's own.
        group: Tasks with the same group and inputs are run together; None runs alone.

    Raises:
        TypeError: An input has another name than the step reads, or one is missing.
    """
    # A misspelt input would only fail in a worker, after hours of other tasks.
    known, optional = step.Inputs._fields, step.Inputs._field_defaults
    wrong = [name for name in inputs if name not in known]
    wrong += [name for name in known if name not in inputs and name not in optional]
    if wrong:
        raise TypeError(
            f"stage {step.STAGE}: expected the inputs {', '.join(known)}, not so for {', '.join(wrong)}"
        )
    return Task(
        step.STAGE,
        step.VERSION,
        params_of(step),
        inputs,
        label=label,
        cost=step.cost(scale) if cost is None else cost,
        memory=step.memory(scale),
        bytes=step.bytes(scale) + MANIFEST_BYTES,
        group=group,
    )


def stage_of(kind: Any) -> Stage:
    """Return a step as the engine calls it: parameters and inputs as they were stored, artifacts back."""

    def stage(
        params: Sequence[Mapping[str, Any]],
        inputs: Mapping[str, Any],
        runtime: Runtime,
        progress: OnProgress,
    ) -> Iterator[Any]:
        steps = [step_of(kind, one_task) for one_task in params]
        hints = typing.get_type_hints(kind.Inputs)
        values = kind.Inputs(**{name: _typed(hints[name], value) for name, value in inputs.items()})
        if hasattr(kind, "run_together"):
            yield from kind.run_together(steps, values, runtime, progress)
            return
        for step in steps:
            result = step.run(values, runtime, progress)
            yield result.artifacts() if hasattr(result, "artifacts") else result

    return stage


def step_of(kind: Any, params: Mapping[str, Any]) -> Any:
    """Return the step with parameters as they are stored, which `params_of` gave.

    Raises:
        TypeError: A parameter has a name that the step does not know.
        pydantic.ValidationError: One has another type.
    """
    unknown = [name for name in params if name not in kind.__dataclass_fields__]
    if unknown:
        raise TypeError(f"stage {kind.STAGE} has no parameter {', '.join(unknown)}")
    return _adapter(kind).validate_python(params)


@functools.cache
def _adapter(kind: Any) -> TypeAdapter:
    return TypeAdapter(kind)


def _typed(hint: Any, value: Any) -> Any:
    """Return a decoded input as the type that the step names: one with a method `read` makes it from artifacts."""
    if isinstance(value, tuple):
        element = next(
            kind for kind in (hint, *typing.get_args(hint)) if typing.get_origin(kind) is tuple
        )
        return tuple(_typed(typing.get_args(element)[0], entry) for entry in value)
    kinds = (hint, *typing.get_args(hint))
    reader = next((kind for kind in kinds if hasattr(kind, "read")), None)
    return value if reader is None else reader.read(value)
