"""Does the float simulation leak what the file leaks? Networks of a finished audit through several kits.

    python benchmarks/shipped_files.py answer --data FOLDER --config examples/cifar10-small.yaml \
        --store STORE --cache CACHE [--rows 10] [--records 1500] [--share 0/2]
    python benchmarks/shipped_files.py table --data FOLDER ... --cache CACHE --out shipped.csv

STORE is that of an audit by the config, whose trained networks and codes of `obc` are taken. The
first call answers some of the pool's records by every network in every variant, file by file in its
runtime (two shares are two processes; what is in CACHE is not done again). The second attacks: the
first of each pair of networks is a target, all others but its complement are references: in full
precision, recalibrated, or matched, which are quantized by the same kit and run in the same
runtime. Intervals of 95 % are from bootstrap
samples of the records, which all targets share.
"""

import argparse
import csv
import itertools
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from files import FPR
from scipy.stats import norm

from bitleak import audit as library
from bitleak.attacks import attack_view, expand, recalibrated
from bitleak.config import read_config, validate
from bitleak.core.signals import signals
from bitleak.core.types import NetworkFile, QuantizedWeights
from bitleak.data.augment import standardize
from bitleak.engine.codecs import decode
from bitleak.engine.store import Store
from bitleak.metrics.accuracy_and_size import weights_size
from bitleak.models import load
from bitleak.models.fused_network import fused
from bitleak.models.precision import exact_float32
from bitleak.quantizers.assembly import deployed
from bitleak.quantizers.network.input_grids import input_grids
from bitleak.runtimes.file_network import FileNetwork
from bitleak.runtimes.onnx_export import export_network
from bitleak.runtimes.runtime import open_network, runtime_for
from bitleak.steps.networks import calibration_images, spec_of
from bitleak.tools.brevitas_tool import quantize_with_brevitas
from bitleak.tools.onnxruntime_tool import quantize_static
from bitleak.tools.tool_results import apply_tool

ATTACKS = ("rmia-online", "lira-online-shrunk")
ADVERSARIES = ("fp32", "recalibrated", "matched")
POPULATION = 200
PAIRS = {
    "obc-4, file": "obc-4",
    "obc-2, file": "obc-2",
    "obc-4+act8, file": "obc-4+act8",
    "obc-4+act8": "obc-4",
    "static int8": "fp32",
    "gpfq-4": "fp32",
}
"""Each variant, and the one that it is compared with."""


class Networks:
    """Networks, codes and records of a finished audit."""

    def __init__(self, options: argparse.Namespace) -> None:
        config = validate(read_config(options.config))
        self.config = config
        prepared = library.prepare(config, data=options.data)
        self.store = Store(options.store)
        self.tasks = {task.label: task for task in prepared.plan.tasks}
        self.images = decode("images", self.store.read_key(prepared.plan.images))
        self.splits = decode("splits", self.store.read_key(prepared.plan.splits))
        chance = np.random.default_rng(0)
        self.chosen = np.sort(chance.permutation(len(self.splits.pool))[: options.records])
        self.records = np.concatenate(
            [self.splits.pool[self.chosen], self.splits.population[:POPULATION]]
        )

    def variants(self, row: int) -> Iterator[tuple[str, Any, dict[str, float]]]:
        """Yield name, answering network and facts of each variant of one network."""
        weights = decode("weights", self.store.read(self.tasks[f"train model {row}"]))
        spec, network = spec_of(weights), load(weights)
        calibration = calibration_images(
            self.images,
            self.splits,
            spec,
            self.config.quantize[0].calibration,
            model=row,
            seed=self.config.seed,
            device="cpu",
        )
        yield "fp32", fused(network), {"bytes": weights_size(weights)["bytes"]}
        for name in ("obc-4", "obc-2", "obc-4+act8"):
            label = f"{name.removesuffix('+act8')} of model {row}"
            codes = decode("quantized_weights", self.store.read(self.tasks[label]))
            if name.endswith("act8"):
                codes = _with_activations(network, codes, calibration)
            yield name, fused(load(codes.dequantize())), {"bytes": weights_size(codes)["bytes"]}
            content = export_network(deployed(network, codes), codes).content
            yield _opened(f"{name}, file", _read(content, spec))
        for name, function, arguments in (
            ("static int8", quantize_static, {}),
            ("gpfq-4", quantize_with_brevitas, {"bits": 4}),
        ):
            with tempfile.TemporaryDirectory() as folder:
                file = apply_tool(
                    function,
                    network,
                    calibration,
                    Path(folder),
                    spec=spec,
                    options=arguments,
                    runtime={},
                    name=name,
                    seed=row,
                    fresh=load,
                )
            assert isinstance(file, NetworkFile)
            yield _opened(name, file)

    def logits(self, network: Any, spec: Any) -> np.ndarray:
        """Return the logits of the chosen records."""
        parts = []
        with torch.inference_mode(), exact_float32():
            for start in range(0, len(self.records), 64):
                pixels = torch.from_numpy(self.images.pixels[self.records[start : start + 64]])
                parts.append(network(standardize(pixels, spec.mean, spec.std)).numpy())
        return np.concatenate(parts)


def _with_activations(
    network: torch.nn.Module, codes: QuantizedWeights, images: torch.Tensor
) -> QuantizedWeights:
    """Return the codes with 8-bit grids for the inputs of their layers."""
    weights = {
        f"{name}.weight": torch.from_numpy(layer.dequantize())
        for name, layer in codes.layers.items()
    }
    grids = input_grids(deployed(network, codes), weights, images, bits=8)
    record = {name: {**codes.record.get(name, {}), "activations": grids[name]} for name in grids}
    return replace(codes, record=record)


def _read(content: bytes, spec: Any) -> NetworkFile:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        path.write_bytes(content)
        return runtime_for(path)[1].read(path, spec)


def _opened(name: str, file: NetworkFile) -> tuple[str, Any, dict[str, float]]:
    record = file.record
    facts = {
        "bytes": float(file.size),
        "levels": float(max(record["levels_counted"].values())),
        "float layers": float(len(record["float_layers"])),
        "quantized activations": float(record["quantized_activations"]),
    }
    return name, FileNetwork(open_network(file)), facts


def answer(options: argparse.Namespace) -> None:
    """Answer the records by every variant of this share's networks."""
    networks = Networks(options)
    options.cache.mkdir(parents=True, exist_ok=True)
    number, of = (int(part) for part in options.share.split("/"))
    for row in range(options.rows)[number::of]:
        path = options.cache / f"{row}.npz"
        if path.exists():
            continue
        spec = spec_of(decode("weights", networks.store.read(networks.tasks[f"train model {row}"])))
        arrays: dict[str, np.ndarray] = {}
        for name, network, facts in networks.variants(row):
            arrays[f"{name}|logits"] = networks.logits(network, spec)
            for fact, value in facts.items():
                arrays[f"{name}|{fact}"] = np.array(value)
        np.savez(path.with_suffix(".part.npz"), **arrays)
        path.with_suffix(".part.npz").rename(path)
        print(f"network {row}", flush=True)


def table(options: argparse.Namespace) -> None:
    """Attack the targets in every variant, and write one line per variant."""
    networks = Networks(options)
    rows = sorted(int(path.stem) for path in options.cache.glob("*.npz"))
    rows = [row for row in rows if row ^ 1 in rows]
    stored = {row: dict(np.load(options.cache / f"{row}.npz")) for row in rows}
    names = [key.partition("|")[0] for key in stored[rows[0]] if key.endswith("|logits")]
    labels = networks.images.labels[networks.records]
    count, targets = len(networks.chosen), rows[::2]
    inside = networks.splits.member[:, networks.chosen][targets]
    answers = {
        name: np.stack([stored[row][f"{name}|logits"] for row in rows]).astype(np.float64)
        for name in names
    }
    print(
        f"{len(rows)} networks, {len(targets)} targets, {count} records, {POPULATION} population records"
    )
    scores = attacked(answers, labels, networks.splits.member[:, networks.chosen], rows)
    # How often each record is drawn: once, and then as often as in each bootstrap sample.
    chance = np.random.default_rng(0)
    counts = chance.multinomial(count, np.full(count, 1 / count), options.samples)
    counts = np.concatenate([np.ones((1, count), int), counts])
    figures = {key: mean_figures(values, inside, counts) for key, values in scores.items()}
    lines, tests = [], []
    for name in names:
        right = answers[name][::2, :count].argmax(-1) == labels[:count]
        other = PAIRS.get(name)
        line: dict[str, Any] = {
            "variant": name,
            "compared with": other or "",
            "accuracy on others %": f"{100 * right[~inside].mean():.1f}",
            "accuracy on members %": f"{100 * right[inside].mean():.1f}",
        }
        for fact in ("levels", "float layers", "quantized activations", "bytes"):
            values = [float(stored[row].get(f"{name}|{fact}", np.nan)) for row in targets]
            line[fact] = f"{np.mean(values):.0f}" if np.isfinite(values).all() else ""
        if other is not None:
            pair = answers[name], answers[other]
            changed = int((pair[0].argmax(-1) != pair[1].argmax(-1)).sum())
            line["largest difference"] = f"{np.abs(pair[0] - pair[1]).max():.2g}"
            line["changed predictions"] = f"{changed} of {pair[0][..., 0].size}"
        for attack_name, adversary in itertools.product(ATTACKS, ADVERSARIES):
            own = figures[name, attack_name, adversary]
            for metric, values in own.items():
                column = f"{attack_name}, {adversary}, {metric}"
                line[column] = interval_text(values)
                if other is None or adversary != "matched":
                    continue
                change = values - figures[other, attack_name, adversary][metric]
                line[f"{column}, difference"] = interval_text(change, sign="+")
                tests.append((line, f"{column}, verdict", change))
        lines.append(line)
    judge(tests)
    columns: dict[str, None] = {}
    for line in lines:
        columns.update(dict.fromkeys(line))
    with options.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(columns))
        writer.writeheader()
        writer.writerows(lines)
    for line in lines:
        print("; ".join(f"{key} {value}" for key, value in line.items() if value))


def attacked(
    answers: dict[str, np.ndarray], labels: np.ndarray, member: np.ndarray, rows: list[int]
) -> dict[tuple[str, str, str], np.ndarray]:
    """Return scores, targets x records, by variant, attack and adversary.

    Args:
        answers: Logits by variant, networks x records x classes; the pool's records come first.
        labels: Classes of the records.
        member: Membership of the pool's records, for all networks of the audit.
        rows: Numbers of the answered networks; the first of each pair is a target.
    """
    count = member.shape[1]
    known = {
        name: np.stack([signals(part, labels)[:, None] for part in logits])
        for name, logits in answers.items()
    }
    parts: dict[tuple[str, str, str], list[np.ndarray]] = {}
    for name, adversary in itertools.product(known, ADVERSARIES):
        if name == "fp32" and adversary != "matched":
            continue  # references in full precision are matched ones here
        asked = known[name if adversary == "matched" else "fp32"]
        for place in range(0, len(rows), 2):
            others = [index for index in range(len(rows)) if index not in (place, place + 1)]
            sides = member[[rows[index] for index in others]]
            view = attack_view(
                target=known[name][place, :count],
                references=asked[others, :count],
                member=sides,
                use=np.ones(sides.shape, bool),
                population_target=known[name][place, count:],
                population_references=asked[others, count:],
                labels=labels[:count],
            )
            view = recalibrated(view) if adversary == "recalibrated" else view
            for attack_name in ATTACKS:
                (attack,) = expand(attack_name)
                parts.setdefault((name, attack_name, adversary), []).append(attack(view))
    scores = {key: np.stack(values) for key, values in parts.items()}
    for attack_name, adversary in itertools.product(ATTACKS, ADVERSARIES):
        scores.setdefault(("fp32", attack_name, adversary), scores["fp32", attack_name, "matched"])
    return scores


def mean_figures(
    scores: np.ndarray, member: np.ndarray, counts: np.ndarray
) -> dict[str, np.ndarray]:
    """Return AUC and TPR, means over the targets, for every way of counting the records.

    Args:
        scores: Targets x records.
        member: Likewise.
        counts: How often each record counts, samples x records.
    """
    areas, rates = [], []
    for row, inside in zip(scores, member, strict=True):
        values, group = np.unique(-row, return_inverse=True)  # descending
        sums = []
        for side in (inside, ~inside):
            part = np.zeros((len(values), len(counts)))
            np.add.at(part, group[side], counts[:, side].T)
            sums.append(part)
        true, false = (part.cumsum(axis=0) for part in sums)
        # A member before a non-member counts 1, in one group with it 1/2.
        pairs = (sums[1] * (true - sums[0] / 2)).sum(axis=0)
        areas.append(pairs / (true[-1] * false[-1]))
        # Members strictly above the score of the non-member after the allowed ones.
        last = (false > np.floor(FPR * false[-1])).argmax(axis=0)
        rates.append((true - sums[0])[last, np.arange(len(counts))] / true[-1])
    return {"AUC": np.mean(areas, axis=0), f"TPR at {FPR:g}": np.mean(rates, axis=0)}


def interval_text(values: np.ndarray, sign: str = "") -> str:
    """Return a figure with its interval."""
    low, high = np.quantile(values[1:], (0.025, 0.975))
    return f"{values[0]:{sign}.4f} [{low:{sign}.4f}, {high:{sign}.4f}]"


def judge(tests: list[tuple[dict[str, Any], str, np.ndarray]]) -> None:
    """Write a verdict into each line: Holm's correction over all comparisons, at 5 %."""
    sizes = []
    for _, _, values in tests:
        spread = values[1:].std()
        sizes.append(2 * norm.sf(abs(values[0]) / spread) if spread else 1.0)
    rejected = True
    for rank, index in enumerate(np.argsort(sizes)):
        line, column, values = tests[index]
        rejected = rejected and sizes[index] <= 0.05 / (len(tests) - rank)
        line[column] = (
            ("lower" if values[0] < 0 else "higher") if rejected else "not distinguishable"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("verb", choices=("answer", "table"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=10)
    parser.add_argument("--records", type=int, default=1500)
    parser.add_argument("--share", default="0/1")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("shipped.csv"))
    options = parser.parse_args()
    {"answer": answer, "table": table}[options.verb](options)


if __name__ == "__main__":
    main()
