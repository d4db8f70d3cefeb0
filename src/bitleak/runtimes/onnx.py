"""ONNX files, answered by ONNX Runtime on the CPU.

A session has one thread, no waiting in circles, and a fixed batch: fewer images are filled up with
zeros, so that an image is answered alike alone and in company. By default it optimises the graph as
any session does, with one exception: ONNX Runtime replaces DequantizeLinear and MatMul by an
operator that rounds the activations to 8 bits, which the file does not say; `accuracy_level` 0
keeps float32 (4 is ONNX Runtime's own default). Where 8-bit products saturate (see `integer_products`),
the version says so. Level, version and provider are in the facts of the
network and in the key of its answers.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np

from bitleak.core.checks import integer_in, one_of
from bitleak.core.errors import ModelError
from bitleak.core.types import CUT_SUMS, ModelSpec, NetworkFile
from bitleak.runtimes.fixed_batches import BatchedNetwork
from bitleak.runtimes.integer_products import SAFE_CODE, SATURATES, products_saturate
from bitleak.runtimes.network_ports import (
    InputPort,
    OutputPort,
    PortOptions,
    changed_options,
)
from bitleak.runtimes.onnx_files import (
    OnnxContent,
    all_nodes,
    parse_content,
    read_content,
    stated_standardisation,
)
from bitleak.runtimes.onnx_layers import INTEGER_PRODUCTS, largest_code, layer_facts
from bitleak.runtimes.onnx_ports import read_input, read_output
from bitleak.runtimes.operator_places import GraphOperator
from bitleak.runtimes.packages import import_extra
from bitleak.runtimes.runtime import Standardised

Optimisation = Literal["none", "basic", "extended", "all"]

LEVELS = {
    "none": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}
JOINING = ("extended", "all")
"""Levels that replace products of dequantized values by products of integers."""

PROVIDER = "CPUExecutionProvider"
ACCURACY_KEY = "session.qdq_matmulnbits_accuracy_level"
QUANTIZING = ("QuantizeLinear", "DynamicQuantizeLinear")
"""Operators that round activations; integer operators follow them."""


@dataclass(frozen=True)
class OnnxRuntime(PortOptions):
    """Answers of an ONNX file by ONNX Runtime.

    Attributes:
        optimisation: Level of the graph's optimisation. None is `all`, and refuses a file whose
            answers depend on the level (see `bitleak.runtimes.session_comparison`).
        accuracy_level: Arithmetic of fused products with packed weights: 0 float32, 4 activations
            rounded to 8 bits.
    """

    optimisation: Optimisation | None = None
    accuracy_level: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        integer_in("accuracy_level", self.accuracy_level, 0, 4)
        if self.optimisation is not None:
            one_of("optimisation", self.optimisation, get_args(Optimisation))

    def version(self) -> str:
        """Return name and version of ONNX Runtime, and whether its 8-bit products saturate here.

        Raises:
            ModelError: It is not installed.
        """
        import_extra("onnxruntime", "onnx", "answering an .onnx file")
        name = f"onnxruntime {metadata.version('onnxruntime')}"
        return f"{name} ({SATURATES})" if products_saturate() else name

    def read(self, path: Path, spec: ModelSpec) -> NetworkFile:
        """Return a file's content, checked; see `NetworkRuntime.read`."""
        content = read_content(path)
        self._ports(content.model, spec, str(path))
        return NetworkFile(
            content=np.frombuffer(content.model.SerializeToString(deterministic=True), np.uint8),
            runtime="onnx",
            options=changed_options(self),
            size=content.size,
            digest=content.digest,
            spec=spec,
            record=_record(content),
        )

    def open(self, file: NetworkFile) -> BatchedNetwork:
        """Return the network; see `NetworkRuntime.open`."""
        model = parse_content(file.content.tobytes(), "the stored file")
        entry, output = self._ports(model, file.spec, "the stored file")
        # A tensor inside the graph becomes an output.
        if output.name not in [value.name for value in model.graph.output]:
            model.graph.output.add(name=output.name)
        session = make_session(
            model.SerializeToString(), self.optimisation or "all", self.accuracy_level
        )
        arithmetic = self._arithmetic(model)
        facts = {
            **({"arithmetic": arithmetic} if arithmetic else {}),
            "runtime": self.version(),
            "provider": PROVIDER,
            "optimisation": self.optimisation or "all",
            "accuracy_level": self.accuracy_level,
            "threads": 1,
            "batch": entry.batch,
            "answers": output.answers,
        }
        run = partial(run_session, session, entry.name, output.name)
        return BatchedNetwork(run, entry, output, file.spec, facts)

    def operators(self, file: NetworkFile) -> list[GraphOperator]:
        """Return the operators up to that of the answers; see `TracedRuntime`."""
        model = parse_content(file.content.tobytes(), "the stored file")
        _, answers = self._ports(model, file.spec, "the stored file")
        makers: dict[str, int] = {}
        operators = []
        for place, node in enumerate(model.graph.node):
            inputs = dict.fromkeys(makers[name] for name in node.input if name in makers)
            label = f"{node.op_type} {node.name or node.output[0]!r}"
            operators.append(GraphOperator(label, tuple(inputs)))
            makers.update(dict.fromkeys(node.output, place))
            if answers.name in node.output:
                break
        return operators

    def operator_outputs(
        self, file: NetworkFile, optimisation: str, places: Sequence[int], images: Standardised
    ) -> list[np.ndarray]:
        """Return the outputs of operators on images of at most one run; see `TracedRuntime`."""
        model = parse_content(file.content.tobytes(), "the stored file")
        entry, _ = self._ports(model, file.spec, "the stored file")
        names = [model.graph.node[place].output[0] for place in places]
        known = {value.name for value in model.graph.output}
        for name in dict.fromkeys(names):
            if name not in known:
                model.graph.output.add(name=name)
        session = make_session(
            model.SerializeToString(), cast(Optimisation, optimisation), self.accuracy_level
        )
        batch = entry.batch
        filled = np.zeros((batch, *images.shape[1:]), np.float32)
        filled[: len(images)] = images
        outputs = session.run(names, {entry.name: entry.values(filled, file.spec)})
        floats = []
        for values in outputs:
            if not isinstance(values, np.ndarray) or values.dtype.kind != "f":
                floats.append(np.empty(0, np.float32))
                continue
            # Images that fill the run up count for nothing.
            floats.append(values[: len(images)] if values.shape[:1] == (batch,) else values)
        return floats

    def _arithmetic(self, model: Any) -> str:
        """Return the number type of products of quantized activations; empty if none are of integers.

        Those of a file's own operators are at every level, those of products between QuantizeLinear and
        DequantizeLinear where optimisation joins them.
        """
        operators = {node.op_type for node in all_nodes(model)}
        joined = (self.optimisation or "all") in JOINING and operators & set(QUANTIZING)
        if not joined and not operators & set(INTEGER_PRODUCTS):
            return ""
        cut = products_saturate() and largest_code(model) > SAFE_CODE
        return CUT_SUMS if cut else "8-bit integers"

    def _ports(self, model: Any, spec: ModelSpec, path: str) -> tuple[InputPort, OutputPort]:
        entry = read_input(model, spec, path, self)
        return entry, read_output(model, spec, path, self)


def make_session(content: bytes, optimisation: Optimisation, accuracy_level: int | None) -> Any:
    """Return a session with one thread.

    Args:
        content: The file's bytes.
        optimisation: Level of the graph's optimisation.
        accuracy_level: See `OnnxRuntime`; None leaves ONNX Runtime's default.

    Raises:
        ModelError: ONNX Runtime cannot load it, such as a file of a newer opset.
    """
    runtime = import_extra("onnxruntime", "onnx", "answering an .onnx file")
    options = runtime.SessionOptions()
    options.graph_optimization_level = getattr(runtime.GraphOptimizationLevel, LEVELS[optimisation])
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = runtime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if accuracy_level is not None:
        options.add_session_config_entry(ACCURACY_KEY, str(accuracy_level))
    try:
        return runtime.InferenceSession(content, options, providers=[PROVIDER])
    except Exception as error:  # its errors have no common class
        remedy = "an opset, type or operator that it does not have; export for an older opset, or use a newer release"
        if optimisation in JOINING and re.search(r"tensor\(u?int2\)", str(error)):
            remedy = (
                "its optimiser joins 2-bit weights and rounded activations into an operator that takes none; set the "
                "runtime's option optimisation: basic, or store the weights in 4 bits"
            )
        raise ModelError(
            f"ONNX Runtime {metadata.version('onnxruntime')} cannot load the file: {first_line(error)} ({remedy})"
        ) from error


def run_session(session: Any, entry: str, output: str, values: np.ndarray) -> np.ndarray:
    """Return an output of a session for one batch.

    Raises:
        ModelError: The session fails.
    """
    try:
        (answers,) = session.run([output], {entry: values})
    except Exception as error:  # its errors have no common class
        raise ModelError(f"ONNX Runtime cannot run the file: {first_line(error)}") from error
    return np.asarray(answers)


def first_line(error: Exception) -> str:
    """Return the first line of an error's text, without ONNX Runtime's prefix and places in its source."""
    text = str(error).splitlines() or [type(error).__name__]
    line = text[0].rpartition("[ONNXRuntimeError] : ")[2]
    # Such as "/onnxruntime_src/onnxruntime/core/graph/model.cc:46 void onnxruntime::f(const T&) ".
    line = re.sub(r"\S*/onnxruntime/core/\S+:\d+ .*?\)(?: const)? ", "", line)
    return line[:400]


def _record(content: OnnxContent) -> dict[str, Any]:
    """Return the facts on a file that need no run."""
    operators = {node.op_type for node in all_nodes(content.model)}
    opset = max(
        entry.version for entry in content.model.opset_import if entry.domain in ("", "ai.onnx")
    )
    quantized = bool(operators & set(QUANTIZING)) or any("QLinear" in name for name in operators)
    facts = {"opset": opset, "quantized_activations": quantized, **layer_facts(content.model)}
    stated = stated_standardisation(content.model)
    return facts if stated is None else {**facts, "standardisation": stated}
