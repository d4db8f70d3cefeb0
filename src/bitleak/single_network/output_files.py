"""The files that a job leaves: codes and state dicts per precision, `summary.json`, `table.csv`, `layers.csv`."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from bitleak.config.fields import plain_values
from bitleak.core.errors import StoreError
from bitleak.core.types import Measure, QuantizedWeights
from bitleak.core.variants import FULL
from bitleak.quant.scheme import Scheme
from bitleak.single_network.network_figures import LayerFigures, NetworkFigures, layer_figures
from bitleak.single_network.quantization_job import QuantizationJob
from bitleak.single_network.quantized_files import save_quantized, save_weights


@dataclass(frozen=True)
class PrecisionResult:
    """One precision.

    Attributes:
        levels: Grid points per weight.
        quantized: Codes, grids and the rest.
        figures: Accuracy, agreement and size.
        seconds: Wall-clock seconds by layer, since the layer before, of this precision or of one that shares its
            statistics; the first precision's hold what all share. And `total`.
        files: What was written for it, by name.
    """

    levels: int
    quantized: QuantizedWeights
    figures: NetworkFigures
    seconds: Mapping[str, float]
    files: tuple[str, ...]


def write_precision(job: QuantizationJob, quantizer: Scheme, quantized: QuantizedWeights, out: Path) -> tuple[str, ...]:
    """Writes `NAME-LEVELS.safetensors`, `NAME-LEVELS.json` and `weights-NAME-LEVELS.safetensors`.

    Returns:
        The files' names, in this order.

    Raises:
        StoreError: A file cannot be written.
    """
    name = f"{job.request.quantizer}-{quantizer.levels}"
    made = {"name": job.request.quantizer, **plain_values(asdict(quantizer))}
    pair = save_quantized(quantized, out / name, quantizer=made)
    return tuple(path.name for path in (*pair, save_weights(quantized.dequantize(), out / f"weights-{name}")))


def write_job_tables(job: QuantizationJob, full: NetworkFigures, results: Sequence[PrecisionResult], out: Path) -> None:
    """Writes `summary.json`, `table.csv` (a line per precision) and `layers.csv` (a line per layer of each).

    Raises:
        StoreError: A file cannot be written.
    """
    try:
        text = json.dumps(plain_values(job_summary(job, full, results)), indent=1)
        (out / "summary.json").write_text(text + "\n", encoding="utf-8")
        _write_table(out / "table.csv", _precisions(job, full, results))
        _write_table(out / "layers.csv", [_line(job, one, layer) for one in results for layer in _layers(one)])
    except OSError as error:
        raise StoreError(f"--out {out}: cannot be written ({error.strerror or error}); give another folder") from error


def job_summary(job: QuantizationJob, full: NetworkFigures, results: Sequence[PrecisionResult]) -> dict[str, Any]:
    """What was done and what came of it, as JSON values."""
    request, spec = job.request, job.weights.spec
    fields = {key: value for key, value in asdict(job.quantizers[0]).items() if key != "levels"}
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
        "precisions": [
            {
                "levels": one.levels,
                "full_precision_layers": one.quantized.full_precision,
                **_figures(one.figures),
                "seconds": one.seconds["total"],
                "files": one.files,
            }
            for one in results
        ],
    }


def _figures(found: NetworkFigures) -> dict[str, Any]:
    return {
        "accuracy": _measure(found.accuracy),
        "agreement": None if found.agreement is None else _measure(found.agreement),
        "bytes": found.bytes,
        "bits_per_weight": found.bits_per_weight,
    }


def _measure(measure: Measure) -> dict[str, Any]:
    return {key: value for key, value in asdict(measure).items() if value not in (None, "")}


def _precisions(job: QuantizationJob, full: NetworkFigures, results: Sequence[PrecisionResult]) -> list[dict[str, Any]]:
    lines = [("fp32", None, full, None), *((job.request.quantizer, r.levels, r.figures, r.seconds) for r in results)]
    return [
        {
            "quantizer": name,
            "levels": levels,
            "accuracy": found.accuracy.value,
            "accuracy_low": found.accuracy.low,
            "accuracy_high": found.accuracy.high,
            "accuracy_difference": found.accuracy.difference,
            "agreement": None if found.agreement is None else found.agreement.value,
            "bytes": found.bytes,
            "bits_per_weight": found.bits_per_weight,
            "seconds": None if seconds is None else round(seconds["total"], 3),
        }
        for name, levels, found, seconds in lines
    ]


def _layers(result: PrecisionResult) -> Iterable[LayerFigures]:
    return layer_figures(result.quantized)


def _line(job: QuantizationJob, result: PrecisionResult, layer: LayerFigures) -> dict[str, Any]:
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
