"""The interface of a runtime, and of a network that it has opened.

A runtime is a frozen dataclass of options. Its smallest member reads

```
@dataclass(frozen=True)
class OnnxRuntime:
    optimisation: str = "all"                            # options are fields

    def read(self, path, spec): ...                      # -> NetworkFile; nothing is executed
    def open(self, file): ...                            # -> OpenNetwork
```

A runtime computes with one thread and a fixed batch, so that an image is answered alike alone and
in company. Nothing of a file is executed but its graph.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from bitleak import registry
from bitleak.core.checks import unknown_name
from bitleak.core.errors import ModelError, NotFinite
from bitleak.core.types import ModelSpec, NetworkFile
from bitleak.runtimes.operator_places import GraphOperator, first_not_finite

NOT_PLACED = "the operator is not known, since all outputs that the runtime hands out are in order"

Standardised = Float32[np.ndarray, "records channels *size"]
Logits = Float32[np.ndarray, "records classes"]


@runtime_checkable
class OpenNetwork(Protocol):
    """A network that a runtime has opened.

    Attributes:
        facts: Name and version of the runtime, its provider and its arithmetic: JSON values only.
    """

    facts: Mapping[str, Any]

    def __call__(self, images: Standardised) -> Logits:
        """Return the logits of standardised images, or log-probabilities."""


@runtime_checkable
class NetworkRuntime(Protocol):
    """Reads and opens files of one kind."""

    def read(self, path: Path, spec: ModelSpec) -> NetworkFile:
        """Return a file's content, checked; its graph is not executed.

        Args:
            path: The file.
            spec: Shape of the images, number of classes and standardisation.

        Raises:
            ModelError: It is no file of this runtime, is not allowed, or does not fit the images.
        """

    def open(self, file: NetworkFile) -> OpenNetwork:
        """Return the network, ready to answer.

        Raises:
            ModelError: The runtime cannot load it.
        """

    def version(self) -> str:
        """Return name and version of the runtime, which decide the last bits of its answers."""


@runtime_checkable
class ComparableRuntime(NetworkRuntime, Protocol):
    """A runtime that rewrites a graph before it runs it, and can be told not to.

    Attributes:
        optimisation: Level of the rewriting: `none`, `all` or one between; None is `all`, checked by
            `bitleak.runtimes.session_comparison`.
    """

    optimisation: Any


@runtime_checkable
class TracedRuntime(ComparableRuntime, Protocol):
    """A runtime that hands out the output of any operator."""

    def operators(self, file: NetworkFile) -> Sequence[GraphOperator]:
        """Return the operators of a file in the graph's order; the last one is that of the answers."""

    def operator_outputs(
        self, file: NetworkFile, optimisation: str, places: Sequence[int], images: Standardised
    ) -> list[np.ndarray]:
        """Return outputs of operators; empty arrays for those that are no floats.

        Args:
            file: The file.
            optimisation: Level of the rewriting.
            places: Numbers of the operators.
            images: Images of at most one run.
        """


@runtime_checkable
class ProductRuntime(ComparableRuntime, Protocol):
    """A runtime that hands out the outputs of products alone."""

    def product_outputs(self, file: NetworkFile, optimisation: str) -> Mapping[str, np.ndarray]:
        """Return the outputs of all products on the images of `random_batch`, in the graph's order.

        Args:
            file: The file.
            optimisation: Level of the rewriting.
        """


def random_batch(spec: ModelSpec, batch: int) -> Standardised:
    """Return fixed random images on which layers are compared."""
    shape = (batch, *spec.input_shape)
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def runtime_for(path: Path, options: Mapping[str, Any] | None = None) -> tuple[str, NetworkRuntime]:
    """Return the name of the runtime of a file, by its suffix, and the runtime.

    Raises:
        ModelError: There is none for the suffix, or an option is wrong.

    Example:
        >>> runtime_for(Path("network.pth"))
        Traceback (most recent call last):
        ...
        bitleak.core.errors.ModelError: network.pth: no runtime for files of this kind; expected .onnx, .xml, .tflite
    """
    name = registry.RUNTIME_OF_SUFFIX.get(path.suffix.lower())
    if name is None:
        known = ", ".join(registry.RUNTIME_OF_SUFFIX)
        raise ModelError(f"{path}: no runtime for files of this kind; expected {known}")
    return name, runtime_of(name, options or {})


def runtime_of(name: str, options: Mapping[str, Any]) -> NetworkRuntime:
    """Return a runtime by its name, or by `package.module:Name`.

    Raises:
        ModelError: The name is not known, or an option is wrong.

    Example:
        >>> runtime_of("onnx", {"optimization": "none"})
        Traceback (most recent call last):
        ...
        bitleak.core.errors.ModelError: runtime onnx: unknown option 'optimization': did you mean 'optimisation'? ...
    """
    try:
        kind = registry.resolve(registry.RUNTIMES, name, kind="runtime")
        known = [field.name for field in fields(kind)]
        for option in options:
            if option not in known:
                raise ValueError(unknown_name("option", option, known))
        runtime: NetworkRuntime = kind(**options)
    except (ValueError, TypeError) as error:
        raise ModelError(f"runtime {name}: {error}") from error
    return runtime


def open_network(file: NetworkFile) -> OpenNetwork:
    """Open a file in its runtime; answers that are not finite are refused with their operator.

    Raises:
        ModelError: As `NetworkRuntime.open`.
    """
    runtime = runtime_of(file.runtime, file.options)
    return CheckedNetwork(runtime.open(file), runtime, file)


class CheckedNetwork:
    """An opened file that names the operator at which its answers stop being finite.

    Args:
        opened: The network.
        runtime: The runtime that opened it.
        file: The file.
    """

    def __init__(self, opened: OpenNetwork, runtime: NetworkRuntime, file: NetworkFile) -> None:
        self.opened, self.runtime, self.file = opened, runtime, file
        self.facts = opened.facts

    def __call__(self, images: Standardised) -> Logits:
        """Return the logits of standardised images, or log-probabilities.

        Raises:
            NotFinite: An answer is NaN or infinite.
            ModelError: The runtime fails.
        """
        try:
            return self.opened(images)
        except NotFinite as error:
            raise NotFinite(f"{error}{self._place(images)}") from None

    def _place(self, images: Standardised) -> str:
        """Return the first operator whose output is not finite, in words; empty if it is not known."""
        runtime, level = self.runtime, str(self.facts.get("optimisation", "none"))
        label = None
        if isinstance(runtime, TracedRuntime):
            operators, batch = runtime.operators(self.file), int(self.facts["batch"])
            for start in range(0, len(images), batch):
                shown = images[start : start + batch]
                outputs = partial(runtime.operator_outputs, self.file, level, images=shown)
                place = first_not_finite(operators, outputs)
                if place is not None:
                    label = operators[place].label
                    break
        elif isinstance(runtime, ProductRuntime):
            products = runtime.product_outputs(self.file, level)
            label = next((key for key in products if not np.isfinite(products[key]).all()), None)
        if label is None:
            return f"; {NOT_PLACED}"
        return f"; the first operator that is not finite is {label}"
