"""Whether a file's answers depend on the optimisation of its graph, or differ from run to run.

An optimiser may replace operators by others that compute otherwise than the file says: products
that round activations, kernels for few bits with faults. A file is therefore answered by a session
as it is used and by one without optimisation, twice each, on a few records, before it is audited.

    float files:               max |a - b| <= 1e-4 max(1, max |b|)
    quantized activations:     rms(a - b) <= 0.03 rms(b)

since a rounding that falls to the other side moves an answer by a whole step of its grid.

Cost: four passes over `RECORDS` images and, if they differ, two with the outputs of all products.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from bitleak.core.errors import ModelError
from bitleak.core.types import NetworkFile
from bitleak.runtimes.onnx import OnnxNetwork, OnnxRuntime, make_session
from bitleak.runtimes.onnx_files import parse_content
from bitleak.runtimes.runtime import Standardised, runtime_of

RECORDS = 32
FLOAT_TOLERANCE = 1e-4
STEP_TOLERANCE = 0.03
PRODUCTS = ("Conv", "Gemm", "MatMul", "ConvTranspose")


def check_sessions(file: NetworkFile, images: Standardised) -> dict[str, float]:
    """Refuse a file whose answers are not those of its graph.

    Args:
        file: A file of the runtime `onnx`; files of other runtimes are not compared.
        images: Standardised images; the first `RECORDS` are used.

    Returns:
        Largest difference of two logits, by comparison.

    Raises:
        ModelError: Two runs of a session differ by more than rounding, an answer is not finite, or
            the sessions differ and the runtime's option `optimisation` does not say which one counts.
    """
    runtime = runtime_of(file.runtime, file.options)
    if not isinstance(runtime, OnnxRuntime):
        return {}
    shown = images[:RECORDS]
    sessions = {
        "used": runtime.open(file),
        "unoptimised": replace(runtime, optimisation="none").open(file),
    }
    answers = {name: network(shown) for name, network in sessions.items()}
    differences = {}
    for name, network in sessions.items():
        # A session of its own: a fault may be the same in every run of one session.
        again = replace(runtime, optimisation=network.facts["optimisation"]).open(file)(shown)
        differences[f"{name} twice"] = _largest(answers[name], again)
        if not _alike(again, answers[name], file):
            raise ModelError(
                f"{_version(network)} with graph optimisation {network.facts['optimisation']!r} answers the same "
                f"images otherwise the second time, by {_largest(answers[name], again):.3g}{_place(file, runtime)}"
            )
    used, plain = answers["used"], answers["unoptimised"]
    differences["used and unoptimised"] = _largest(used, plain)
    if runtime.optimisation is None and not _alike(used, plain, file):
        changed = int((used.argmax(axis=1) != plain.argmax(axis=1)).sum())
        raise ModelError(
            f"{_version(sessions['used'])} answers otherwise with its graph optimisations than without, by "
            f"{_largest(used, plain):.3g} (logits up to {float(np.abs(plain).max()):.3g}; {changed} of {len(plain)} "
            f"predictions change){_place(file, runtime)}. Export the network again, or choose the answers to audit by "
            "the runtime's option optimisation: all for those that users get, none for those of the graph"
        )
    return differences


def _version(network: OnnxNetwork) -> str:
    return str(network.facts["runtime"])


def _largest(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.abs(first - second).max(initial=0.0))


def _alike(first: np.ndarray, second: np.ndarray, file: NetworkFile) -> bool:
    """Return whether two answers differ by rounding alone."""
    if file.record.get("quantized_activations"):
        difference = np.sqrt(np.mean((first - second) ** 2))
        return bool(difference <= STEP_TOLERANCE * np.sqrt(np.mean(second**2)))
    return _largest(first, second) <= FLOAT_TOLERANCE * max(1.0, float(np.abs(second).max()))


def _place(file: NetworkFile, runtime: OnnxRuntime) -> str:
    """Return the first product whose output the optimised session computes otherwise, in words."""
    model = parse_content(file.content.tobytes(), "the stored file")
    products = [node for node in model.graph.node if node.op_type in PRODUCTS]
    known = {value.name for value in model.graph.output}
    for node in products:
        if node.output[0] not in known:
            model.graph.output.add(name=node.output[0])
    network = runtime.open(file)
    names = [node.output[0] for node in products]
    outputs = []
    for level in (runtime.optimisation or "all", "none"):
        session = make_session(model.SerializeToString(), level, runtime.accuracy_level)
        outputs.append(session.run(names, _zero_filled(network)))
    for node, optimised, plain in zip(products, *outputs, strict=True):
        if not np.isfinite(optimised).all() or _largest(optimised, plain) > FLOAT_TOLERANCE * max(
            1.0, float(np.abs(plain).max())
        ):
            return f"; the first operator that differs is {node.op_type} {node.name or node.output[0]!r}"
    return ""


def _zero_filled(network: OnnxNetwork) -> dict[str, Any]:
    """Return a batch of fixed random images as the file takes them."""
    spec = network.spec
    shape = (network.batch, *spec.input_shape)
    images = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    return {network.entry.name: network.entry.values(images, spec)}
