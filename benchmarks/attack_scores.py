"""CPU seconds and memory of `bitleak attack` on answers made elsewhere, by this code and by another
version.

    python benchmarks/attack_scores.py --other SRC [--models 256] [--records 50000] [--targets 4] [--turns 1]
    python benchmarks/attack_scores.py --other SRC --models 64 --queries 2 --classes 10

SRC is the folder `src` of another checkout. Without `--classes` every model gives one score per
record, normal with mean 1 for members; with it, float16 logits. CPU seconds are those of the
process and its children, memory is the largest resident set. The results folders of both are
compared, file by file.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--other", type=Path, required=True)
    parser.add_argument("--models", type=int, default=256)
    parser.add_argument("--records", type=int, default=50_000)
    parser.add_argument("--queries", type=int, default=1)
    parser.add_argument("--classes", type=int, default=0)
    parser.add_argument("--population", type=int, default=0)
    parser.add_argument("--targets", type=int, default=4)
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--attacks", help="as of `bitleak attack`; default: all that apply")
    options = parser.parse_args()
    if not (options.other / "bitleak" / "__init__.py").is_file():
        parser.error(
            f"--other must be a folder that holds the package bitleak, got {options.other}"
        )
    sources = {"this": HERE.parents[1] / "src", "other": options.other.resolve()}
    spent: dict[str, list[tuple[float, float, float]]] = {name: [] for name in sources}
    with tempfile.TemporaryDirectory() as folder:
        path = _made(Path(folder), options)
        for turn in range(options.turns):
            for name in list(sources) if turn % 2 == 0 else list(sources)[::-1]:
                spent[name].append(
                    _attacked(sources[name], path, Path(folder, f"{name}-{turn}"), options)
                )
                print(
                    "{}: CPU {:.1f} s, wall {:.1f} s, {:.2f} GB".format(name, *spent[name][-1]),
                    flush=True,
                )
        _compare(Path(folder, "this-0"), Path(folder, "other-0"))
    ours, theirs = (np.array(spent[name]) for name in ("this", "other"))
    print(f"CPU, this / other: {ours[:, 0].sum() / theirs[:, 0].sum():.2f}")
    print(f"memory, GB: this {ours[:, 2].max():.2f}, other {theirs[:, 2].max():.2f}")


def _made(folder: Path, options: argparse.Namespace) -> Path:
    """Write a file with answers: members score higher by 1 on average."""
    generator = np.random.default_rng(0)
    member = generator.random((options.models, options.records)) < 0.5
    arrays = {"member": member}
    for prefix, inside in (
        ("", member),
        ("population_", np.zeros((options.models, options.population), bool)),
    ):
        if not inside.shape[1]:
            continue
        shape = (*inside.shape, options.queries)
        score = generator.standard_normal((*shape, max(1, options.classes)), np.float32)
        labels = generator.integers(max(1, options.classes), size=inside.shape[1])
        score[:, np.arange(inside.shape[1]), :, labels] += inside.T[:, :, None]
        if options.classes:
            arrays[f"{prefix}logits"], arrays[f"{prefix}labels"] = score.astype(np.float16), labels
        else:
            arrays[f"{prefix}scores"] = score[..., 0].astype(np.float64)
    path = folder / "answers.npz"
    np.savez(path, **arrays)
    return path


def _attacked(
    source: Path, path: Path, out: Path, options: argparse.Namespace
) -> tuple[float, float, float]:
    """Return CPU seconds, wall seconds and gigabytes of one run of the command."""
    targets = ",".join(map(str, range(options.targets)))
    command = [
        sys.executable,
        "-m",
        "bitleak",
        "attack",
        str(path),
        "--targets",
        targets,
        "--out",
        str(out),
    ]
    command += ["--attacks", options.attacks] if options.attacks else []
    environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
    start = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
    cpu = usage.ru_utime + usage.ru_stime
    return (
        cpu,
        time.perf_counter() - start,
        usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9,
    )


def _compare(ours: Path, theirs: Path) -> None:
    """Print the files of the results that differ, and the differences of the figures of
    results.csv.
    """
    names = sorted(
        {path.name for folder in (ours, theirs) for path in folder.iterdir() if path.is_file()}
    )
    for name in names:
        pair = [folder / name for folder in (ours, theirs)]
        if not all(path.is_file() for path in pair):
            print(f"{name}: in one of the two only")
            continue
        equal = pair[0].read_bytes() == pair[1].read_bytes()
        print(f"{name}: {'the same bytes' if equal else 'differs' + _difference(*pair)}")


def _difference(this: Path, other: Path) -> str:
    import csv

    if this.suffix != ".csv":
        return ""
    tables = [list(csv.DictReader(path.open(encoding="utf-8"))) for path in (this, other)]
    if len(tables[0]) != len(tables[1]):
        return f", {len(tables[0])} rows and {len(tables[1])}"
    shared = [name for name in tables[0][0] if name in tables[1][0]]
    largest, words = 0.0, 0
    for rows in zip(*tables, strict=True):
        for name in shared:
            try:
                mine, theirs = (float(row[name]) for row in rows)
            except ValueError:
                words += rows[0][name] != rows[1][name]
                continue
            if np.isfinite(mine) and np.isfinite(theirs):
                largest = max(largest, abs(mine - theirs))
    return f", by at most {largest:.3g} in the columns of both; texts: {words}"


if __name__ == "__main__":
    main()
