"""LiteRT files (`.tflite`), answered by LiteRT's interpreter on the CPU.

By default LiteRT hands the graph to XNNPACK; `optimisation: none` uses its builtin
kernels. (Its reference kernels lack the newer versions of operators.)
"""

import hashlib
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from bitleak.core.checks import one_of
from bitleak.core.errors import ModelError
from bitleak.core.types import ModelSpec, NetworkFile
from bitleak.runtimes.fixed_batches import BatchedNetwork
from bitleak.runtimes.litert_files import (
    PURPOSE,
    operators,
    packed_tflite,
    parse_tflite,
    read_tflite,
    text,
)
from bitleak.runtimes.litert_layers import PRODUCTS, check_products, tflite_facts
from bitleak.runtimes.litert_ports import TensorPlace, read_tflite_input, read_tflite_output
from bitleak.runtimes.network_ports import (
    InputPort,
    PortOptions,
    changed_options,
)
from bitleak.runtimes.packages import import_extra
from bitleak.runtimes.runtime import random_batch

Kernels = Literal["none", "all"]
RESOLVERS = {"none": "BUILTIN_WITHOUT_DEFAULT_DELEGATES", "all": "AUTO"}
PROVIDERS = {"none": "builtin kernels", "all": "XNNPACK"}


@dataclass(frozen=True)
class LiteRtRuntime(PortOptions):
    """Answers of a LiteRT file by its interpreter.

    Attributes:
        optimisation: `all` for XNNPACK, `none` for the builtin kernels. None is `all`, and refuses a
            file whose answers depend on it (see `bitleak.runtimes.session_comparison`).
    """

    optimisation: Kernels | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.optimisation is not None:
            one_of("optimisation", self.optimisation, get_args(Kernels))

    def version(self) -> str:
        """Return name and version of LiteRT.

        Raises:
            ModelError: It is not installed.
        """
        import_extra("ai_edge_litert.interpreter", "litert", PURPOSE)
        return f"ai-edge-litert {metadata.version('ai-edge-litert')}"

    def read(self, path: Path, spec: ModelSpec) -> NetworkFile:
        """Return a file's content, checked; see `NetworkRuntime.read`."""
        content = read_tflite(path)
        model = parse_tflite(content, str(path))
        check_products(model, str(path))
        self._ports(model, spec, str(path))
        return NetworkFile(
            content=np.frombuffer(content, np.uint8),
            runtime="litert",
            options=changed_options(self),
            size=len(content),
            digest=hashlib.sha256(content).hexdigest(),
            spec=spec,
            record=tflite_facts(model, content),
        )

    def open(self, file: NetworkFile) -> BatchedNetwork:
        """Return the network; see `NetworkRuntime.open`."""
        content = file.content.tobytes()
        model = parse_tflite(content, "the stored file")
        entry, place = self._ports(model, file.spec, "the stored file")
        graph = model.subgraphs[0]
        # A tensor inside the graph becomes an output.
        if place.index not in graph.outputs:
            graph.outputs = [*graph.outputs, place.index]
            content = packed_tflite(model)
        level = self.optimisation or "all"
        interpreter = make_interpreter(content, level, (entry.batch, *entry.shape(file.spec)))
        facts = {
            "runtime": self.version(),
            "provider": PROVIDERS[level],
            "optimisation": level,
            "threads": 1,
            "batch": entry.batch,
            "answers": place.port.answers,
        }
        run = partial(run_interpreter, interpreter, place.index)
        return BatchedNetwork(run, entry, place.port, file.spec, facts)

    def product_outputs(self, file: NetworkFile, optimisation: str) -> dict[str, np.ndarray]:
        """Return the outputs of all products on fixed random images; see `ComparableRuntime`."""
        model = parse_tflite(file.content.tobytes(), "the stored file")
        entry, place = self._ports(model, file.spec, "the stored file")
        graph, labels = model.subgraphs[0], {}
        for name, operator in operators(model):
            if name in PRODUCTS:
                index = int(operator.outputs[0])
                labels[index] = f"{name} {text(graph.tensors[index].name)!r}"
        graph.outputs = [*graph.outputs, *(index for index in labels if index not in graph.outputs)]
        shape = (entry.batch, *entry.shape(file.spec))
        interpreter = make_interpreter(packed_tflite(model), optimisation, shape)
        images = random_batch(file.spec, entry.batch)
        run_interpreter(interpreter, place.index, entry.values(images, file.spec))
        values = {}
        for index, label in labels.items():
            grid = graph.tensors[index].quantization
            scale = 1.0 if grid is None or np.size(grid.scale) != 1 else float(grid.scale[0])
            # Steps of a grid as the numbers that they stand for, up to the zero point.
            values[label] = scale * interpreter.get_tensor(index).astype(np.float32)
        return values

    def _ports(self, model: Any, spec: ModelSpec, path: str) -> tuple[InputPort, TensorPlace]:
        entry = read_tflite_input(model, spec, path, self)
        return entry, read_tflite_output(model, spec, path, self)


def make_interpreter(content: bytes, level: str, shape: tuple[int, ...]) -> Any:
    """Return an interpreter with one thread.

    Args:
        content: The file's bytes.
        level: `all` for XNNPACK, `none` for the builtin kernels.
        shape: Shape of its input.

    Raises:
        ModelError: LiteRT cannot load it, such as a file with a newer operator.
    """
    kit = import_extra("ai_edge_litert.interpreter", "litert", PURPOSE)
    try:
        interpreter = kit.Interpreter(
            model_content=content,
            num_threads=1,
            experimental_op_resolver_type=getattr(kit.OpResolverType, RESOLVERS[level]),
        )
        entry = interpreter.get_input_details()[0]
        if tuple(entry["shape"]) != shape:
            interpreter.resize_tensor_input(entry["index"], shape, strict=True)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise ModelError(
            f"LiteRT {metadata.version('ai-edge-litert')} cannot load the file with {PROVIDERS[level]}: "
            f"{_line(error)} (an operator, a version or a type that it does not have; convert the network again, or "
            "use a newer release)"
        ) from error
    return interpreter


def run_interpreter(interpreter: Any, index: int, values: np.ndarray) -> np.ndarray:
    """Return a tensor of the graph for one batch.

    Raises:
        ModelError: The graph fails.
    """
    try:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], values)
        interpreter.invoke()
    except (ValueError, RuntimeError) as error:
        raise ModelError(f"LiteRT cannot run the file: {_line(error)}") from error
    return np.asarray(interpreter.get_tensor(index))


def _line(error: Exception) -> str:
    """Return an error's text in one line."""
    return " ".join(str(error).split())[:400]
