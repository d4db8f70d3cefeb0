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
    head = ["layer, dtype, levels", "ours, CPU s", "loop (rows at a time: CPU s)", "published / ours"]
    lines = []
    for name, group in _by_name(results(out, "obq")):
        loops = {
            rows: fmean(one["loop_seconds_by_rows_at_a_time"][rows] for one in group)
            for rows in group[0]["loop_seconds_by_rows_at_a_time"]
        }
        equal = fmean(share for one in group for share in one["equal_codes"].values())
        lines.append(
            [
                name + (" (in float64 all the same)" if group[0]["in_float64_all_the_same"] else ""),
                _spread([min(one["ours_seconds"]) for one in group], "{:.2f}"),
                ", ".join(f"{rows}: {seconds:.0f}" for rows, seconds in loops.items()),
                _spread([one["ratio_published"] for one in group], "{:.0f}"),
                _spread([one["ratio_best_loop"] for one in group], "{:.0f}"),
                f"{100 * equal:.3f}",
            ]
        )
    return _table([*head, "fastest loop / ours", "equal codes %"], lines)


def _grid(out: Path) -> str:
    lines = [
        [
            name,
            _spread([min(one["ours_seconds"]) for one in group], "{:.3f}"),
            _spread([min(one["loop_seconds"]) for one in group], "{:.2f}"),
            _spread([one["ratio"] for one in group], "{:.1f}"),
            f"{sum(one['layers_equal'] for one in group)} of {sum(one['layers'] for one in group)}",
        ]
        for name, group in _by_name(results(out, "grid"))
    ]
    return _table(["grid", "ours, CPU s", "loop over channels, CPU s", "ratio", "layers bit-equal"], lines)


def _adaround(out: Path) -> str:
    found = results(out, "adaround")
    loops = {(_levels(one), one["seed"]): one for one in found if one["name"].startswith("loop")}
    rows: dict[tuple[int, str], list[tuple[float, float | None, float]]] = defaultdict(list)
    for one in found:
        loop = loops.get((_levels(one), one["seed"]))
        if loop is None or one is loop:
            continue
        rows[_levels(one), f"loop, {loop['iterations']} steps"].append((loop["cpu_seconds"], 1.0, 1.0))
        for name, figures in one["found"].items():
            seconds = figures["cpu_seconds"]
            faster = loop["cpu_seconds"] / seconds if seconds else None  # rounding to nearest takes no time
            rows[_levels(one), name].append((seconds, faster, figures["error"] / loop["error"]))
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
        ["levels", "AdaRound on 64x576", "CPU s", "loop's time / its time", "its error / loop's error"], lines
    )


def _brecq(out: Path) -> str:
    found = results(out, "brecq")
    lines = [
        [
            name,
            _spread([fmean(one["ours_cpu_seconds"]) for one in group], "{:.0f}"),
            _spread([one["loop_cpu_seconds"] for one in group], "{:.0f}"),
            _spread([one["ratio"] for one in group], "{:.0f}"),
        ]
        for name, group in _by_name(one for one in found if "loop_cpu_seconds" in one)
    ]
    full = [
        f"\n{one['name']}, seed {one['seed']}: {100 * one['accuracy']:.2f} % in {one['cpu_seconds']:.0f} CPU s"
        for one in found
        if "accuracy" in one
    ]
    table = _table(["BRECQ", "ours (defaults), CPU s", "loop in full (by its slope), CPU s", "ratio"], lines)
    return table + "\n".join(full)


def _accuracy(out: Path) -> str:
    """Return the package's and other tools' methods, by levels."""
    base = {one["seed"]: one["accuracy"] for one in results(out, "accuracy") if one["name"] == "fp32"}
    rows = _accuracy_rows(out)
    lines = []
    for (levels, name), group in sorted(rows.items(), key=lambda item: (-item[0][0], item[0][1])):
        lines.append(
            [
                str(levels),
                name,
                _spread([100 * one["accuracy"] for one in group], "{:.2f}"),
                _spread(
                    [100 * (one["accuracy"] - base[one["seed"]]) for one in group if one["seed"] in base], "{:+.2f}"
                ),
                _spread([one["logit_error"] for one in group], "{:.3g}"),
                _spread([one["layer_error"] for one in group if one.get("layer_error") is not None], "{:.3g}"),
                _spread([one["cpu_seconds"] for one in group], "{:.1f}"),
                str(max((one["codes"] for one in group if "codes" in one), default="")),  # "": they were not counted
                str(len(group)),
            ]
        )
    head = ["levels", "method", "test accuracy %", "minus fp32", "error of the logits", "mean error of the layers"]
    note = f"fp32: {_spread([100 * value for value in base.values()], '{:.2f}')} %, seeds: {len(base)}\n\n"
    return note + _table([*head, "CPU s", "codes per channel, at most", "seeds"], lines) if lines else ""


def _accuracy_rows(out: Path) -> dict[tuple[int, str], list[dict[str, Any]]]:
    """Return the figures of each method by levels and name; a change of batch norm makes another
    row.
    """
    rows: dict[tuple[int, str], list[dict[str, Any]]] = defaultdict(list)
    for one in results(out, "accuracy"):
        if one["name"] == "fp32":
            continue
        name = one["name"].split("@")[0]
        rows[_levels(one), name].append(one)
        if "accuracy_before_statistics" in one:
            before = {**one, "accuracy": one["accuracy_before_statistics"], "logit_error": one["logit_error_before"]}
            rows[_levels(one), f"{name}, statistics as trained"].append(before)
    for one in results(out, "peers"):
        name = one["name"].split("@")[0]
        rows[_levels(one), name].append(one)
        again = {key.removesuffix("_reestimated"): one[key] for key in one if key.endswith("_reestimated")}
        if not again:
            continue
        seconds = one["cpu_seconds"] + one["cpu_seconds_reestimation"]
        rows[_levels(one), f"{name}, statistics re-estimated"].append({**one, **again, "cpu_seconds": seconds})
    return rows


def _paired(out: Path) -> str:
    """Compare the best layer-wise methods with each of the other tools' at the same levels."""
    lines = [line for best in BEST for line in _paired_with(out, best)]
    return _table(["ours", "minus", "points of test accuracy (95 %)", "by seed", "its CPU s / ours"], lines)


def _paired_with(out: Path, best: str) -> Iterator[list[str]]:
    ours = {(_levels(one), one["seed"]): one for one in results(out, "accuracy") if one["name"].split("@")[0] == best}
    for name, group in _by_name(results(out, "peers")):
        pairs = [(ours[_levels(one), one["seed"]], one) for one in group if (_levels(one), one["seed"]) in ours]
        for key in ("correct", "correct_reestimated"):
            if not pairs or any(key.replace("correct", "accuracy") not in other for _, other in pairs):
                continue
            differences = np.stack(
                [array(out, own, "correct").astype(float) - array(out, other, key) for own, other in pairs]
            )
            extra = "cpu_seconds_reestimation" if key != "correct" else None
            own_seconds = fmean(own["cpu_seconds"] for own, _ in pairs)
            its_seconds = fmean(other["cpu_seconds"] + (other[extra] if extra else 0.0) for _, other in pairs)
            yield [
                best,
                name + (", statistics re-estimated" if key != "correct" else ""),
                *_points(differences),
                f"{its_seconds / own_seconds:.2f}",
            ]


def _loops(out: Path) -> str:
    """Compare the presets `paper` with the published loops, both cut short, on the same networks."""
    lines = []
    rows = _by_name(one for one in results(out, "accuracy") if "-paper-" in one["name"] or "-loop-" in one["name"])
    found = {name: {one["seed"]: one for one in group} for name, group in rows}
    for name in [name for name in found if "-paper-" in name and name.replace("-paper-", "-loop-") in found]:
        loops = found[name.replace("-paper-", "-loop-")]
        pairs = [(one, loops[seed]) for seed, one in sorted(found[name].items()) if seed in loops]
        right = [[array(out, one, "correct").astype(float) for one in pair] for pair in pairs]
        cells = [
            ", ".join(_spread([scale * one[key] for one in side], form) for side in zip(*pairs, strict=True))
            for key, scale, form in COMPARED
        ]
        lines.append([name, *cells, *_points(np.stack([own - other for own, other in right]))])
    head = ["preset", "test accuracy %, loop's", "error of the logits, loop's", "CPU s, loop's"]
    return _table([*head, "points of test accuracy (95 %)", "by seed"], lines) if lines else ""


def _points(differences: np.ndarray) -> tuple[str, str]:
    """Return the mean difference with its interval, and the differences by seed, in points."""
    low, high = interval(differences)
    each = ", ".join(f"{100 * value:+.2f}" for value in differences.mean(1))
    return f"{100 * differences.mean():+.2f} ({100 * low:+.2f} to {100 * high:+.2f})", each


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
            f"{one['images']:,}",
            ", ".join(map(str, one["levels"])),
            f"{fmean(one['one_cpu_seconds']):.0f}",
            f"{one['together_cpu_seconds']:.0f}",
            f"{one['ratio']:.2f}",
            f"{one['layers_equal']} of {one['layers']}",
        ]
        for one in results(out, "together")
    ]
    return _table(["images", "levels", "one, CPU s", "all at once, CPU s", "ratio", "layers equal"], lines)


def _memory(out: Path) -> str:
    lines = [
        [one["name"], f"{one['extra_megabytes']:.0f}", f"{one['before_megabytes']:.0f}"]
        for one in results(out, "memory")
    ]
    return _table(["method", "extra peak, MB", "network, images and libraries, MB"], lines)


def _profile(out: Path) -> str:
    found = results(out, "profile")
    lines = [
        [one["name"], f"{one['cpu_seconds_unprofiled']:.2f}", _operations(one["top"])] for one in found if "top" in one
    ]
    limits = [f"\n- {key}: {value:.1f} GFLOP/s" for one in found for key, value in one.get("matmul_gflops", {}).items()]
    limits += [
        f"\n- copy: {one[key]:.1f} GB/s read and written"
        for one in found
        for key in one
        if key.startswith("copy_gigabytes")
    ]
    table = _table(["what", "CPU s", "share of the time by operation (calls)"], lines)
    return table + "\n\nOne thread of this machine, at most:\n" + "".join(limits) if found else ""


def _operations(top: Iterable[Figures]) -> str:
    return ", ".join(
        f"{one['operation'].removeprefix('aten::')} {100 * one['share']:.0f} % ({one['calls']})" for one in top
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


def _by_name(found: Iterable[Any]) -> list[tuple[str, list[Any]]]:
    groups: dict[str, list[Any]] = defaultdict(list)
    for figures in found:
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
