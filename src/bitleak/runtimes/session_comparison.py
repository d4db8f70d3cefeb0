"""Whether a file's answers depend on the optimisation of its graph, on the batch, or on the run.

An optimiser may replace operators by others that compute otherwise than the file says: products
that round activations, kernels for few bits with faults. A file is therefore answered by a session
as it is used and by one without optimisation, twice each, on a few records, before it is audited.

    float files:               max |a - b| <= 1e-4 max(1, max |b|)
    quantized activations:     rms(a - b) <= 0.03 rms(b)

since a rounding that falls to the other side moves an answer by a whole step of its grid.

A scale that is computed from the whole batch, as dynamic quantization computes it, moves the answer
about one record with its neighbours. A user who sends one image then gets another answer than an audit
of many, so that the first image is answered among others and alone as well.

Cost: six passes over `RECORDS` images and, if they differ, those of `operator_places`.
"""

from dataclasses import replace
from typing import Any, cast

import numpy as np

from bitleak.core.errors import ModelError
from bitleak.core.types import NetworkFile
from bitleak.runtimes.integer_products import ADVICE, products_saturate
from bitleak.runtimes.operator_places import first_difference
from bitleak.runtimes.runtime import (
    NOT_PLACED,
    CheckedNetwork,
    ComparableRuntime,
    Logits,
    OpenNetwork,
    ProductRuntime,
    Standardised,
    TracedRuntime,
    runtime_of,
)

RECORDS = 32
FLOAT_TOLERANCE = 1e-4
STEP_TOLERANCE = 0.03
_SUM_TOLERANCE = 1e-3


def check_sessions(file: NetworkFile, images: Standardised) -> dict[str, float]:
    """Refuse a file whose answers are not those of its graph.

    Args:
        file: A file; that of a runtime without levels of optimisation is opened in one way alone.
        images: Standardised images; the first `RECORDS` are used.

    Returns:
        Largest difference of two logits, by comparison.

    Raises:
        ModelError: An image is answered otherwise alone, two runs of a session differ by more than
            rounding, an answer is not finite, the sessions differ and the runtime's option
            `optimisation` does not say which one counts, or logits are probabilities and the option
            `answers` does not say what they are.
    """
    runtime = runtime_of(file.runtime, file.options)
    shown = images[:RECORDS]
    used = CheckedNetwork(runtime.open(file), runtime, file)
    first = used(shown)
    if "answers" not in file.options:
        _check_range(used, first)
    differences = {"alone and in company": _check_company(used, first, shown)}
    if not isinstance(runtime, ComparableRuntime):
        return differences
    sessions: dict[str, OpenNetwork] = {"used": used}
    unoptimised = _at_level(runtime, "none")
    sessions["unoptimised"] = CheckedNetwork(unoptimised.open(file), unoptimised, file)
    answers = {"used": first, "unoptimised": sessions["unoptimised"](shown)}
    for name, network in sessions.items():
        # A session of its own: a fault may be the same in every run of one session.
        again = _at_level(runtime, network.facts["optimisation"]).open(file)(shown)
        differences[f"{name} twice"] = _largest(answers[name], again)
        if not _alike(again, answers[name], file):
            raise ModelError(
                f"{_version(network)} with graph optimisation {network.facts['optimisation']!r} answers the same "
                f"images otherwise the second time, by {_largest(answers[name], again):.3g}"
                f"{_place(file, runtime, shown)}"
            )
    optimised, plain = answers["used"], answers["unoptimised"]
    differences["used and unoptimised"] = _largest(optimised, plain)
    if runtime.optimisation is None and not _alike(optimised, plain, file):
        changed = int((optimised.argmax(axis=1) != plain.argmax(axis=1)).sum())
        scale = float(np.abs(plain).max())
        raise ModelError(
            f"{_version(used)} answers otherwise with its graph optimisations than without, by "
            f"{_largest(optimised, plain):.3g} (logits up to {scale:.3g}; {changed} of {len(plain)} "
            f"predictions change){_place(file, runtime, shown)}. {_advice(file)}"
        )
    return differences


def _check_range(network: OpenNetwork, answers: Logits) -> None:
    """Refuse logits that are probabilities, as those of a Softmax in several operators or of a Sigmoid.

    Raises:
        ModelError: All of them lie from 0 to 1.
    """
    if network.facts["answers"] != "logits" or answers.min() < 0 or answers.max() > 1:
        return
    if np.abs(answers.sum(axis=1) - 1).max() < _SUM_TOLERANCE:
        raise ModelError(
            "its answers are probabilities (from 0 to 1, of sum 1 per image), though no Softmax is the last operator: "
            "name the tensor before by the runtime's option output, or set answers: probabilities"
        )
    raise ModelError(
        f"its answers lie from {answers.min():.3g} to {answers.max():.3g}, as those of a Sigmoid, which are no logits: "
        "name the tensor before it by the runtime's option output, or set answers: logits if they are"
    )


def _check_company(network: OpenNetwork, answers: Logits, images: Standardised) -> float:
    """Return how far the first image's logits move with the other images of its run.

    Args:
        network: The network.
        answers: Its logits of the images.
        images: The images.

    Raises:
        ModelError: By more than rounding, for integer arithmetic too, which is exact.
    """
    # Mates of another scale, as in `models.network_trial`: a range of the batch moves by far more than rounding.
    company = np.concatenate([images[:1], 3 * images[1:] + 1])
    first = [network(batch)[:1] for batch in (company, images[:1])]
    difference = max(_largest(answer, answers[:1]) for answer in first)
    scale = float(np.abs(answers[:1]).max())
    if difference <= FLOAT_TOLERANCE * max(1.0, scale):
        return difference

    # The same images once more show whether it is the company, or chance.
    moved = _largest(network(images), answers)
    if moved > FLOAT_TOLERANCE * max(1.0, scale):
        raise ModelError(
            f"{_version(network)} answers the same images otherwise in its next run, by {moved:.3g} (logits up to "
            f"{scale:.3g}): the graph draws random numbers, as dropout in training mode does. Export the network in "
            "evaluation mode"
        )
    raise ModelError(
        f"{_version(network)}: the answer about an image depends on the other images of its run, by "
        f"{difference:.3g} (logits up to {scale:.3g}). Dynamic quantization, for one, takes "
        "its scale from the whole batch. Answers of one image at a time are the ones to audit: set the runtime's "
        "option batch to 1, or, if the file fixes more images per run, export it anew for one"
    )


def _at_level(runtime: ComparableRuntime, level: str) -> ComparableRuntime:
    changed: Any = replace(cast(Any, runtime), optimisation=level)
    return cast(ComparableRuntime, changed)


def _advice(file: NetworkFile) -> str:
    rounded = file.record.get("quantized_activations")
    if file.runtime == "onnx" and rounded and products_saturate():
        return ADVICE
    return (
        "Export the network again, or choose the answers to audit by the runtime's option optimisation: all for those "
        "that users get, none for those of the graph"
    )


def _version(network: OpenNetwork) -> str:
    return str(network.facts["runtime"])


def _largest(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.abs(first - second).max(initial=0.0))


def _alike(first: np.ndarray, second: np.ndarray, file: NetworkFile) -> bool:
    """Return whether two answers differ by rounding alone."""
    if file.record.get("quantized_activations"):
        difference = np.sqrt(np.mean((first - second) ** 2))
        return bool(difference <= STEP_TOLERANCE * np.sqrt(np.mean(second**2)))
    return _largest(first, second) <= FLOAT_TOLERANCE * max(1.0, float(np.abs(second).max()))


def _place(file: NetworkFile, runtime: ComparableRuntime, images: Standardised) -> str:
    """Return the first operator whose output the optimised session computes otherwise, in words."""
    level = runtime.optimisation or "all"
    label: str | None = None
    if isinstance(runtime, TracedRuntime):
        operators, shown = runtime.operators(file), images[: int(runtime.open(file).facts["batch"])]

        def differs(place: int) -> bool:
            (values,) = runtime.operator_outputs(file, level, [place], shown)
            (plain,) = runtime.operator_outputs(file, "none", [place], shown)
            return bool(plain.size) and not _alike(values, plain, file)

        place = first_difference(operators, differs)
        label = None if place is None else operators[place].label
    elif isinstance(runtime, ProductRuntime):
        optimised = runtime.product_outputs(file, level)
        plain = runtime.product_outputs(file, "none")
        for name, values in optimised.items():
            limit = FLOAT_TOLERANCE * max(1.0, float(np.abs(plain[name]).max()))
            if not np.isfinite(values).all() or _largest(values, plain[name]) > limit:
                label = name
                break
    return f"; the first operator that differs is {label}" if label else f"; {NOT_PLACED}"
