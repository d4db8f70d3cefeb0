"""Markdown tables of the jobs' results."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
from benchmarks.quantizers.jobs import array, results

Figures = Mapping[str, Any]

DRAWS = 10_000
BEST = ("adaround-polish", "obc-quantized-polish", "obc-quantized-polish-kept")
COMPARED = (("accuracy", 100, "{:.2f}"), ("logit_error", 1, "{:.3f}"), ("cpu_seconds", 1, "{:.0f}"))
"""Figures that are shown side by side: their scales and forms."""


def tables(out: Path) -> str:
    """Return all tables for which there are results."""
    made = [(title, make(out)) for title, make in TABLES.items()]
    return "\n\n".join(f"### {title}\n\n{text}" for title, text in made if text)


def _obq(out: Path) -> str:
    head = [
        "layer, dtype, levels",
        "ours, CPU s",
        "loop (rows at a time: CPU s)",
        "published / ours",
    ]
    lines = []
    for name, group in _by_name(results(out, "obq")):
        loops = {
            rows: fmean(record["loop_seconds_by_rows_at_a_time"][rows] for record in group)
            for rows in group[0]["loop_seconds_by_rows_at_a_time"]
        }
        equal = fmean(share for record in group for share in record["equal_codes"].values())
        lines.append(
            [
                name
                + (" (in float64 all the same)" if group[0]["in_float64_all_the_same"] else ""),
                _spread([min(record["ours_seconds"]) for record in group], "{:.2f}"),
                ", ".join(f"{rows}: {seconds:.0f}" for rows, seconds in loops.items()),
                _spread([record["ratio_published"] for record in group], "{:.0f}"),
                _spread([record["ratio_best_loop"] for record in group], "{:.0f}"),
                f"{100 * equal:.3f}",
            ]
        )
    return _table([*head, "fastest loop / ours", "equal codes %"], lines)


def _grid(out: Path) -> str:
    lines = [
        [
            name,
            _spread([min(record["ours_seconds"]) for record in group], "{:.3f}"),
            _spread([min(record["loop_seconds"]) for record in group], "{:.2f}"),
            _spread([record["ratio"] for record in group], "{:.1f}"),
            f"{sum(record['layers_equal'] for record in group)} of {sum(record['layers'] for record in group)}",
        ]
        for name, group in _by_name(results(out, "grid"))
    ]
    return _table(
        ["grid", "ours, CPU s", "loop over channels, CPU s", "ratio", "layers bit-equal"], lines
    )


def _adaround(out: Path) -> str:
    records = results(out, "adaround")
    loops = {
        (_levels(record), record["seed"]): record
        for record in records
        if record["name"].startswith("loop")
    }
    rows: dict[tuple[int, str], list[tuple[float, float | None, float]]] = defaultdict(list)
    for record in records:
        loop = loops.get((_levels(record), record["seed"]))
        if loop is None or record is loop:
            continue
        rows[_levels(record), f"loop, {loop['iterations']} steps"].append(
            (loop["cpu_seconds"], 1.0, 1.0)
        )
        for name, figures in record["found"].items():
            seconds = figures["cpu_seconds"]
            faster = (
                loop["cpu_seconds"] / seconds if seconds else None
            )  # rounding to nearest takes no time
            rows[_levels(record), name].append((seconds, faster, figures["error"] / loop["error"]))
    lines = [
        [
            str(levels),
            name,
            _spread([row[0] for row in group], "{:.2f}"),
            _spread([row[1] for row in group if row[1] is not None], "{:.0f}"),
            _spread([row[2] for row in group], "{:.4f}"),
        ]
        for (levels, name), group in sorted(rows.items(), key=lambda item: -item[0][0])
    ]
    return _table(
        [
            "levels",
            "AdaRound on 64x576",
            "CPU s",
            "loop's time / its time",
            "its error / loop's error",
        ],
        lines,
    )


def _brecq(out: Path) -> str:
    records = results(out, "brecq")
    lines = [
        [
            name,
            _spread([fmean(record["ours_cpu_seconds"]) for record in group], "{:.0f}"),
            _spread([record["loop_cpu_seconds"] for record in group], "{:.0f}"),
            _spread([record["ratio"] for record in group], "{:.0f}"),
        ]
        for name, group in _by_name(record for record in records if "loop_cpu_seconds" in record)
    ]
    full = [
        f"\n{record['name']}, seed {record['seed']}: {100 * record['accuracy']:.2f} % "
        f"in {record['cpu_seconds']:.0f} CPU s"
        for record in records
        if "accuracy" in record
    ]
    table = _table(
        ["BRECQ", "ours (defaults), CPU s", "loop in full (by its slope), CPU s", "ratio"], lines
    )
    return table + "\n".join(full)


def _accuracy(out: Path) -> str:
    """Return the package's and other tools' methods, by levels."""
    base = {
        record["seed"]: record["accuracy"]
        for record in results(out, "accuracy")
        if record["name"] == "fp32"
    }
    rows = _accuracy_rows(out)
    lines = []
    for (levels, name), group in sorted(rows.items(), key=lambda item: (-item[0][0], item[0][1])):
        lines.append(
            [
                str(levels),
                name,
                _spread([100 * record["accuracy"] for record in group], "{:.2f}"),
                _spread(
                    [
                        100 * (record["accuracy"] - base[record["seed"]])
                        for record in group
                        if record["seed"] in base
                    ],
                    "{:+.2f}",
                ),
                _spread([record["logit_error"] for record in group], "{:.3g}"),
                _spread(
                    [
                        record["layer_error"]
                        for record in group
                        if record.get("layer_error") is not None
                    ],
                    "{:.3g}",
                ),
                _spread([record["cpu_seconds"] for record in group], "{:.1f}"),
                str(
                    max((record["codes"] for record in group if "codes" in record), default="")
                ),  # "": they were not counted
                str(len(group)),
            ]
        )
    head = [
        "levels",
        "method",
        "test accuracy %",
        "minus fp32",
        "error of the logits",
        "mean error of the layers",
    ]
    note = f"fp32: {_spread([100 * value for value in base.values()], '{:.2f}')} %, seeds: {len(base)}\n\n"
    return (
        note + _table([*head, "CPU s", "codes per channel, at most", "seeds"], lines)
        if lines
        else ""
    )


def _accuracy_rows(out: Path) -> dict[tuple[int, str], list[dict[str, Any]]]:
    """Return the figures of each method by levels and name; a change of batch norm makes another
    row.
    """
    rows: dict[tuple[int, str], list[dict[str, Any]]] = defaultdict(list)
    for record in results(out, "accuracy"):
        if record["name"] == "fp32":
            continue
        name = record["name"].split("@")[0]
        rows[_levels(record), name].append(record)
        if "accuracy_before_statistics" in record:
            before = {
                **record,
                "accuracy": record["accuracy_before_statistics"],
                "logit_error": record["logit_error_before"],
            }
            rows[_levels(record), f"{name}, statistics as trained"].append(before)
    for record in results(out, "peers"):
        name = record["name"].split("@")[0]
        rows[_levels(record), name].append(record)
        again = {
            key.removesuffix("_reestimated"): record[key]
            for key in record
            if key.endswith("_reestimated")
        }
        if not again:
            continue
        seconds = record["cpu_seconds"] + record["cpu_seconds_reestimation"]
        rows[_levels(record), f"{name}, statistics re-estimated"].append(
            {**record, **again, "cpu_seconds": seconds}
        )
    return rows


def _paired(out: Path) -> str:
    """Compare the best layer-wise methods with each of the other tools' at the same levels."""
    lines = [line for best in BEST for line in _paired_with(out, best)]
    return _table(
        ["ours", "minus", "points of test accuracy (95 %)", "by seed", "its CPU s / ours"], lines
    )


def _paired_with(out: Path, best: str) -> Iterator[list[str]]:
    ours = {
        (_levels(record), record["seed"]): record
        for record in results(out, "accuracy")
        if record["name"].split("@")[0] == best
    }
    for name, group in _by_name(results(out, "peers")):
        pairs = [
            (ours[_levels(record), record["seed"]], record)
            for record in group
            if (_levels(record), record["seed"]) in ours
        ]
        for key in ("correct", "correct_reestimated"):
            if not pairs or any(
                key.replace("correct", "accuracy") not in theirs for _, theirs in pairs
            ):
                continue
            differences = np.stack(
                [
                    array(out, mine, "correct").astype(float) - array(out, theirs, key)
                    for mine, theirs in pairs
                ]
            )
            extra = "cpu_seconds_reestimation" if key != "correct" else None
            own_seconds = fmean(mine["cpu_seconds"] for mine, _ in pairs)
            its_seconds = fmean(
                theirs["cpu_seconds"] + (theirs[extra] if extra else 0.0) for _, theirs in pairs
            )
            yield [
                best,
                name + (", statistics re-estimated" if key != "correct" else ""),
                *_points(differences),
                f"{its_seconds / own_seconds:.2f}",
            ]


def _loops(out: Path) -> str:
    """Compare the presets `paper` with the published loops, both cut short, on the same networks."""
    lines = []
    rows = _by_name(
        record
        for record in results(out, "accuracy")
        if "-paper-" in record["name"] or "-loop-" in record["name"]
    )
    records = {name: {record["seed"]: record for record in group} for name, group in rows}
    for name in [
        name
        for name in records
        if "-paper-" in name and name.replace("-paper-", "-loop-") in records
    ]:
        loops = records[name.replace("-paper-", "-loop-")]
        pairs = [
            (record, loops[seed]) for seed, record in sorted(records[name].items()) if seed in loops
        ]
        right = [[array(out, record, "correct").astype(float) for record in pair] for pair in pairs]
        cells = [
            ", ".join(
                _spread([scale * record[key] for record in side], form)
                for side in zip(*pairs, strict=True)
            )
            for key, scale, form in COMPARED
        ]
        lines.append([name, *cells, *_points(np.stack([ours - theirs for ours, theirs in right]))])
    head = ["preset", "test accuracy %, loop's", "error of the logits, loop's", "CPU s, loop's"]
    return _table([*head, "points of test accuracy (95 %)", "by seed"], lines) if lines else ""


def _points(differences: np.ndarray) -> tuple[str, str]:
    """Return the mean difference with its interval, and the differences by seed, in points."""
    low, high = interval(differences)
    by_seed = ", ".join(f"{100 * value:+.2f}" for value in differences.mean(1))
    return f"{100 * differences.mean():+.2f} ({100 * low:+.2f} to {100 * high:+.2f})", by_seed


def interval(differences: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of the mean over seeds and test images, (seeds, images): the same
    images are redrawn for all.
    """
    mean = differences.mean(0)
    rng = np.random.default_rng(0)
    draws = [mean[rng.integers(0, len(mean), len(mean))].mean() for _ in range(DRAWS)]
    return float(np.quantile(draws, 0.025)), float(np.quantile(draws, 0.975))


def _together(out: Path) -> str:
    lines = [
        [
            f"{record['images']:,}",
            ", ".join(map(str, record["levels"])),
            f"{fmean(record['one_cpu_seconds']):.0f}",
            f"{record['together_cpu_seconds']:.0f}",
            f"{record['ratio']:.2f}",
            f"{record['layers_equal']} of {record['layers']}",
        ]
        for record in results(out, "together")
    ]
    return _table(
        ["images", "levels", "one, CPU s", "all at once, CPU s", "ratio", "layers equal"], lines
    )


def _memory(out: Path) -> str:
    lines = [
        [record["name"], f"{record['extra_megabytes']:.0f}", f"{record['before_megabytes']:.0f}"]
        for record in results(out, "memory")
    ]
    return _table(["method", "extra peak, MB", "network, images and libraries, MB"], lines)


def _profile(out: Path) -> str:
    records = results(out, "profile")
    lines = [
        [record["name"], f"{record['cpu_seconds_unprofiled']:.2f}", _operations(record["top"])]
        for record in records
        if "top" in record
    ]
    limits = [
        f"\n- {key}: {value:.1f} GFLOP/s"
        for record in records
        for key, value in record.get("matmul_gflops", {}).items()
    ]
    limits += [
        f"\n- copy: {record[key]:.1f} GB/s read and written"
        for record in records
        for key in record
        if key.startswith("copy_gigabytes")
    ]
    table = _table(["what", "CPU s", "share of the time by operation (calls)"], lines)
    return table + "\n\nOne thread of this machine, at most:\n" + "".join(limits) if records else ""


def _operations(top: Iterable[Figures]) -> str:
    return ", ".join(
        f"{record['operation'].removeprefix('aten::')} {100 * record['share']:.0f} % ({record['calls']})"
        for record in top
    )


TABLES: dict[str, Callable[[Path], str]] = {
    "Exact OBQ against the published loop": _obq,
    "The searched grid": _grid,
    "AdaRound against the mini-batch loop": _adaround,
    "BRECQ against the mini-batch loop": _brecq,
    "Accuracy": _accuracy,
    "Against other tools, on the same test images": _paired,
    "Presets `paper` against the published loops": _loops,
    "Several precisions at once": _together,
    "Extra peak memory": _memory,
    "Where the time goes": _profile,
}


def _levels(figures: Figures) -> int:
    return int(figures["name"].split("@")[1])


def _by_name(records: Iterable[Any]) -> list[tuple[str, list[Any]]]:
    groups: dict[str, list[Any]] = defaultdict(list)
    for figures in records:
        groups[figures["name"]].append(figures)
    return list(groups.items())


def _spread(values: Sequence[float], form: str) -> str:
    """Return the mean, and the standard deviation if there are several values."""
    if not values:
        return ""
    mean = form.format(fmean(values))
    return mean if len(values) == 1 else f"{mean} ± {form.replace('+', '').format(stdev(values))}"


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    if not lines:
        return ""
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
