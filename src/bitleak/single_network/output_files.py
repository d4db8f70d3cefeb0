"""Output of a job: codes and state dicts per precision, `summary.json`, `table.csv` and
`layers.csv`.
"""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from bitleak.config.fields import plain_values
from bitleak.core.errors import StoreError
from bitleak.core.types import Measure, QuantizedWeights
from bitleak.core.variants import FULL
from bitleak.quantizers.scheme import Scheme
from bitleak.single_network.network_figures import LayerFigures, NetworkFigures, layer_figures
from bitleak.single_network.quantization_job import QuantizationJob
from bitleak.single_network.quantized_files import save_quantized, save_weights


@dataclass(frozen=True)
class PrecisionResult:
    """The result at a precision.

    Attributes:
        levels: Grid points per weight.
        quantized: Codes, grids and the rest.
        figures: Accuracy, agreement and size.
        seconds: Wall-clock seconds by layer, and `total`. A layer's are counted from the layer
            before it; work that precisions share is counted for the first of them.
        files: Names of its files.
    """

    levels: int
    quantized: QuantizedWeights
    figures: NetworkFigures
    seconds: Mapping[str, float]
    files: tuple[str, ...]


def write_precision(
    job: QuantizationJob, quantizer: Scheme, quantized: QuantizedWeights, out: Path
) -> tuple[str, ...]:
    """Write `NAME-LEVELS.safetensors`, `NAME-LEVELS.json` and `weights-NAME-LEVELS.safetensors`.

    Returns:
        The files' names, in this order.

    Raises:
        StoreError: A file cannot be written.
    """
    name = f"{job.label}-{quantizer.levels}"
    fields = {"name": job.request.quantizer, **plain_values(quantizer)}
    pair = save_quantized(quantized, out / name, quantizer=fields)
    weights = save_weights(quantized.dequantize(), out / f"weights-{name}")
    return tuple(path.name for path in (*pair, weights))


def write_job_tables(
    job: QuantizationJob, full: NetworkFigures, results: Sequence[PrecisionResult], out: Path
) -> None:
    """Write `summary.json`, `table.csv` (a line per precision) and `layers.csv` (a line per layer
    and precision).

    Raises:
        StoreError: A file cannot be written.
    """
    try:
        text = json.dumps(plain_values(job_summary(job, full, results)), indent=1)
        (out / "summary.json").write_text(text + "\n", encoding="utf-8")
        _write_table(out / "table.csv", _precisions(job, full, results))
        _write_table(out / "layers.csv", _layer_lines(job, results))
    except OSError as error:
        raise StoreError(
            f"--out {out}: cannot be written ({error.strerror or error}); give another folder"
        ) from error


def job_summary(
    job: QuantizationJob, full: NetworkFigures, results: Sequence[PrecisionResult]
) -> dict[str, Any]:
    """Return the job and its results as JSON values."""
    request, spec = job.request, job.weights.spec
    # Fields that all precisions have in common.
    fields = asdict(job.quantizers[0])
    del fields["levels"]
    return {
        "network": None if spec is None else asdict(spec),
        "weights": str(request.weights),
        "data": request.data,
        "quantizer": {"name": request.quantizer, "preset": request.preset, **fields},
        "calibration": {"source": request.source, "records": len(job.calibration)},
        "test": {"records": len(job.test), "drawn_here": job.drawn},
        "seed": request.seed,
        "device": request.device,
        "versions": {name: metadata.version(name) for name in ("bitleak", "torch", "numpy")},
        "full_precision": _figures(full),
        "precisions": [_precision_entry(result) for result in results],
    }


def _precision_entry(result: PrecisionResult) -> dict[str, Any]:
    return {
        "levels": result.levels,
        "full_precision_layers": result.quantized.full_precision,
        **_figures(result.figures),
        "seconds": result.seconds["total"],
        "files": result.files,
    }


def _figures(figures: NetworkFigures) -> dict[str, Any]:
    return {
        "accuracy": _measure(figures.accuracy),
        "agreement": None if figures.agreement is None else _measure(figures.agreement),
        "bytes": figures.bytes,
        "bits_per_weight": figures.bits_per_weight,
    }


def _measure(measure: Measure) -> dict[str, Any]:
    """Return the fields of a measure that are neither None nor empty."""
    return {key: value for key, value in asdict(measure).items() if value not in (None, "")}


def _precisions(
    job: QuantizationJob, full: NetworkFigures, results: Sequence[PrecisionResult]
) -> list[dict[str, Any]]:
    """Return the lines of `table.csv`: full precision, then the others in order."""
    lines = [_precision_line("fp32", None, full, None)]
    for result in results:
        lines.append(
            _precision_line(
                job.request.quantizer, result.levels, result.figures, result.seconds["total"]
            )
        )
    return lines


def _precision_line(
    quantizer: str, levels: int | None, figures: NetworkFigures, seconds: float | None
) -> dict[str, Any]:
    return {
        "quantizer": quantizer,
        "levels": levels,
        "accuracy": figures.accuracy.value,
        "accuracy_low": figures.accuracy.low,
        "accuracy_high": figures.accuracy.high,
        "accuracy_difference": figures.accuracy.difference,
        "agreement": None if figures.agreement is None else figures.agreement.value,
        "bytes": figures.bytes,
        "bits_per_weight": figures.bits_per_weight,
        "seconds": None if seconds is None else round(seconds, 3),
    }


def _layer_lines(job: QuantizationJob, results: Sequence[PrecisionResult]) -> list[dict[str, Any]]:
    """Return the lines of `layers.csv`."""
    lines = []
    for result in results:
        for layer in layer_figures(result.quantized):
            lines.append(_layer_line(job, result, layer))
    return lines


def _layer_line(
    job: QuantizationJob, result: PrecisionResult, layer: LayerFigures
) -> dict[str, Any]:
    return {
        "quantizer": job.request.quantizer,
        "precision": result.levels,
        "layer": layer.name,
        "shape": "x".join(map(str, layer.shape)),
        "levels": FULL if layer.levels is None else layer.levels,
        "levels_counted": layer.counted,
        "relative_error": layer.relative_error,
        "damping": layer.damping,
        "seconds": round(result.seconds.get(layer.name, 0.0), 4),
        "record": json.dumps(plain_values(layer.facts)),
    }


def _write_table(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
