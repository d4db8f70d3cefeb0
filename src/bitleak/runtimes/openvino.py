"""OpenVINO files, answered by OpenVINO's CPU plugin.

By default, OpenVINO computes in bfloat16 on processors that have it, and rounds the activations of
products with packed weights to 8 bits. Here float32 is requested, read back from the compiled
graph, and checked by a product of numbers that bfloat16 cannot hold. `precision: runtime` leaves
the choice to OpenVINO, for the answers that a default session gives; the arithmetic that it chose
is in the facts of the network.

OpenVINO has no switch that turns its rewriting off. `optimisation: none` hands out every product of
the graph as an output, which no fusion survives, and turns off its integer arithmetic
(`LP_TRANSFORMS_MODE`). `SNIPPETS_MODE` is left alone: without compiled subgraphs, OpenVINO 2026.4
answers wrongly once products are outputs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from bitleak.core.checks import one_of
from bitleak.core.errors import ModelError
from bitleak.core.types import ModelSpec, NetworkFile
from bitleak.runtimes.fixed_batches import BatchedNetwork
from bitleak.runtimes.network_ports import (
    InputPort,
    PortOptions,
    changed_options,
)
from bitleak.runtimes.openvino_files import PURPOSE, IrContent, core, last_line, parse_ir, read_ir
from bitleak.runtimes.openvino_layers import PRODUCTS, ir_facts
from bitleak.runtimes.openvino_ports import StoredPlace, read_ir_input, read_ir_output
from bitleak.runtimes.packages import import_extra
from bitleak.runtimes.runtime import random_batch

Rewriting = Literal["none", "all"]
InferencePrecision = Literal["float32", "runtime"]

DEVICE = "CPU"
ONE_THREAD = {"NUM_STREAMS": "1", "INFERENCE_NUM_THREADS": "1", "PERFORMANCE_HINT": "LATENCY"}
FLOAT32 = {
    "INFERENCE_PRECISION_HINT": "f32",
    "EXECUTION_MODE_HINT": "ACCURACY",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
}
UNOPTIMISED = {"LP_TRANSFORMS_MODE": "NO"}
PROBE = 1 + 2.0**-12
"""A number that float32 holds, and neither bfloat16 (8 bits) nor float16 (11 bits) does."""


@dataclass(frozen=True)
class OpenVinoRuntime(PortOptions):
    """Answers of an OpenVINO file on the CPU.

    Attributes:
        precision: `float32`, which is checked, or `runtime` for OpenVINO's own choice.
        optimisation: Rewriting of the graph. None is `all`, and refuses a file whose answers depend
            on it (see `bitleak.runtimes.session_comparison`).
    """

    precision: InferencePrecision = "float32"
    optimisation: Rewriting | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("precision", self.precision, get_args(InferencePrecision))
        if self.optimisation is not None:
            one_of("optimisation", self.optimisation, get_args(Rewriting))

    def version(self) -> str:
        """Return name and version of OpenVINO, and the arithmetic that it chose on this processor.

        Raises:
            ModelError: It is not installed.
        """
        kit = import_extra("openvino", "openvino", PURPOSE)
        name = f"openvino {kit.__version__.split('-')[0]}"
        return name if self.precision == "float32" else f"{name} in {chosen_arithmetic()}"

    def read(self, path: Path, spec: ModelSpec) -> NetworkFile:
        """Return a file's content, checked; see `NetworkRuntime.read`."""
        content = read_ir(path)
        model = parse_ir(content, str(path))
        self._ports(model, spec, str(path))
        return NetworkFile(
            content=np.frombuffer(content.packed(), np.uint8),
            runtime="openvino",
            options=changed_options(self),
            size=content.size,
            digest=content.digest,
            spec=spec,
            record=ir_facts(model),
        )

    def open(self, file: NetworkFile) -> BatchedNetwork:
        """Return the network; see `NetworkRuntime.open`."""
        model, entry, place = self._placed(file)
        compiled = _compile(model, self._settings())
        facts = {
            "runtime": self.version(),
            "provider": DEVICE,
            "optimisation": self.optimisation or "all",
            "arithmetic": self._arithmetic(compiled),
            "threads": int(compiled.get_property("INFERENCE_NUM_THREADS")),
            "batch": entry.batch,
            "answers": place.port.answers,
        }
        run = partial(_infer, compiled.create_infer_request(), place.index)
        return BatchedNetwork(run, entry, place.port, file.spec, facts)

    def product_outputs(self, file: NetworkFile, optimisation: str) -> dict[str, np.ndarray]:
        """Return the outputs of all products on fixed random images; see `ComparableRuntime`."""
        model, entry, _ = self._placed(file)
        labels = _with_products(model)
        settings = {**self._settings(), **(UNOPTIMISED if optimisation == "none" else {})}
        request = _compile(model, settings).create_infer_request()
        images = random_batch(file.spec, entry.batch)
        request.infer({0: entry.values(images, file.spec)})
        values = {}
        for index, label in labels.items():
            values[label] = request.get_output_tensor(index).data.astype(np.float32)
        return values

    def _ports(self, model: Any, spec: ModelSpec, path: str) -> tuple[InputPort, StoredPlace]:
        entry = read_ir_input(model, spec, path, self)
        return entry, read_ir_output(model, spec, path, self)

    def _placed(self, file: NetworkFile) -> tuple[Any, InputPort, StoredPlace]:
        """Return the graph with a fixed batch, its input and its output."""
        model = parse_ir(IrContent.unpacked(file.content), "the stored file")
        entry, place = self._ports(model, file.spec, "the stored file")
        model.reshape([entry.batch, *entry.shape(file.spec)])
        if self.optimisation == "none":
            _with_products(model)
        return model, entry, place

    def _settings(self) -> dict[str, str]:
        return {
            **ONE_THREAD,
            **(FLOAT32 if self.precision == "float32" else {}),
            **(UNOPTIMISED if self.optimisation == "none" else {}),
        }

    def _arithmetic(self, compiled: Any) -> str:
        """Return the number type of products, which must be float32 if it was asked for.

        Raises:
            ModelError: It is another one.
        """
        stated = str(compiled.get_property("INFERENCE_PRECISION_HINT").to_string())
        if self.precision == "runtime":
            return stated
        error = probe_error(tuple(self._settings().items()))
        if stated != "f32" or error > 0:
            raise ModelError(
                f"{self.version()} was asked for float32 and computes in {stated}, with an error of {error:.2g} on "
                "numbers that float32 holds; audit its own choice by the runtime's option precision: runtime"
            )
        return "float32"


@cache
def probe_error(settings: tuple[tuple[str, str], ...]) -> float:
    """Return the relative error of a product of numbers that only float32 holds.

    Args:
        settings: Settings of the plugin.
    """
    values = np.full((4, 32), PROBE, np.float32)
    found = _compile(_probe(), dict(settings))(values)[0].astype(np.float64)
    return float(np.abs(found / np.float64(np.float32(PROBE**2)) - 1).max())


@cache
def chosen_arithmetic() -> str:
    """Return the number type of products that OpenVINO chooses on this processor."""
    return str(_compile(_probe(), ONE_THREAD).get_property("INFERENCE_PRECISION_HINT").to_string())


def _probe() -> Any:
    """Return a graph of one product."""
    kit = import_extra("openvino", "openvino", PURPOSE)
    operators = import_extra("openvino.opset13", "openvino", PURPOSE)
    entry = operators.parameter([4, 32], kit.Type.f32)
    weight = operators.constant(np.eye(32, dtype=np.float32) * np.float32(PROBE))
    product = operators.matmul(entry, weight, False, True)
    return kit.Model([operators.result(product)], [entry], "probe")


def _with_products(model: Any) -> dict[int, str]:
    """Add every product as an output; return their labels by their place among the outputs."""
    places: dict[int, str] = {}
    for operator in model.get_ordered_ops():
        if operator.get_type_name() in PRODUCTS:
            label = f"{operator.get_type_name()} {operator.get_friendly_name()!r}"
            places[len(model.outputs)] = label
            model.add_outputs(operator.output(0))
    return places


def _infer(request: Any, index: int, values: np.ndarray) -> np.ndarray:
    """Return an output of a compiled graph, by its place, for one batch."""
    try:
        request.infer({0: values}, share_inputs=True)
    except RuntimeError as error:
        raise ModelError(f"OpenVINO cannot run the file: {last_line(error)}") from error
    return np.asarray(request.get_output_tensor(index).data)


def _compile(model: Any, settings: Mapping[str, str]) -> Any:
    try:
        return core().compile_model(model, DEVICE, dict(settings))
    except RuntimeError as error:
        kit = import_extra("openvino", "openvino", PURPOSE)
        raise ModelError(
            f"OpenVINO {kit.__version__.split('-')[0]} cannot load the file: {last_line(error)}"
        ) from error
