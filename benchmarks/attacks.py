"""Seconds and memory of every attack on one target, and of two published ways to compute the same.

    python benchmarks/attacks.py [--only lira joint] [--json FILE]

64 references, 50,000 records, 2 queries and 10,000 population records, of made-up logit-scaled
confidences. The signals are first stored, one file per model, as an audit stores them. Every attack
then runs in a process of its own, one after the other, on one thread: it loads the files into a
view as the audit's step does, runs the attack once to warm up on a few records, then `REPEATS`
times, without shared intermediate results. The CPU seconds of the attack (the median) and of the
loading are printed, and the peak memory of the whole process, view and libraries included.

Two attacks are compared with plain versions, written here from their description:

- `lira-online-per_record` with a Python loop over records, as the published implementations have
  it: gather the record's IN and OUT scores, their means and deviations, and
  `scipy.stats.norm.logpdf` of the target's score under both. The loop runs on `LOOP_RECORDS`
  records spread over the file, and its time is scaled up.
- RMIA's comparison of every record with every population record, all N Z ratios being formed,
  `PAIRS` at a time, with the sorted one. It is timed in full, and the counts of all records must be
  equal. The means over the references, which both need, are not part of it.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import norm

from bitleak.attacks import RMIA, Joint, LiRA, attack_view, expand, forms_by_word, two_class_signals
from bitleak.attacks.rmia import dominated
from bitleak.core.types import SIGNALS, AttackView

REFERENCES, RECORDS, QUERIES, POPULATION = 64, 50_000, 2, 10_000
REPEATS = 3
LOOP_RECORDS = 1000
PAIRS = 1 << 22
ATTACKS = {attack.name: attack for word in forms_by_word() for attack in expand(word)}
JOINT = Joint().name
COMPARED = ("lira loop", "rmia pairs")
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS")}


def store(
    folder: Path, references: int = REFERENCES, records: int = RECORDS, population: int = POPULATION
) -> None:
    """Store signals of a target and of complementary pairs of references, and their membership."""
    rng = np.random.default_rng(0)
    first = rng.random((references // 2, records)).argsort(axis=1) < records // 2
    member = np.stack([first, ~first], axis=1).reshape(references, records)
    inside = np.concatenate([rng.random((1, records)) < 0.5, member])
    difficulty, outside = rng.normal(4, 2, (records, 1)), rng.normal(4, 2, (population, 1))
    for row in range(references + 1):
        pool = difficulty + 2 * inside[row, :, None] + rng.standard_normal((records, QUERIES))
        np.save(folder / f"pool-{row}.npy", two_class_signals(pool))
        np.save(
            folder / f"population-{row}.npy",
            two_class_signals(outside + rng.standard_normal((population, QUERIES))),
        )
    np.save(folder / "member.npy", member)


def load(folder: Path) -> AttackView:
    """Return the view of the target, as an audit's step makes it from stored answers."""
    member = np.load(folder / "member.npy")
    pool, population = (
        [np.load(folder / f"{part}-{row}.npy") for row in range(len(member) + 1)]
        for part in ("pool", "population")
    )
    return attack_view(
        target=pool[0],
        references=np.stack(pool[1:]),
        member=member,
        use=np.ones_like(member),
        population_target=population[0],
        population_references=np.stack(population[1:]),
        labels=np.zeros(member.shape[1], np.int64),
    )


def measured(folder: Path, name: str) -> dict[str, Any]:
    """Return one process's CPU seconds and peak memory, and for comparisons the ratio of the times."""
    start = time.process_time()
    view = load(folder)
    loading = time.process_time() - start
    if name == COMPARED[0]:
        figures = _lira_loop(view)
    elif name == COMPARED[1]:
        figures = _rmia_pairs(view)
    else:
        attack: Callable = (
            (lambda release: Joint()([release, release])) if name == JOINT else ATTACKS[name]
        )
        attack(_few(view, 500))
        figures = {
            "seconds": statistics.median(
                _seconds(lambda: attack(_fresh(view))) for _ in range(REPEATS)
            )
        }
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"name": name, "loading": loading, "peak": peak, **figures}


def published_lira(view: AttackView) -> np.ndarray:
    """Compute LiRA online with a variance per record, by a Python loop over the records."""
    target, references = (
        of[..., SIGNALS.index("logit_scaled")] for of in (view.target, view.references)
    )
    dat_in, dat_out = [], []
    for record in range(len(target)):
        dat_in.append(references[view.member[:, record], record, :])
        dat_out.append(references[~view.member[:, record], record, :])
    scores = []
    for record, score in enumerate(target):
        mean_in, mean_out = np.mean(dat_in[record], 0), np.mean(dat_out[record], 0)
        std_in, std_out = np.std(dat_in[record], 0, ddof=1), np.std(dat_out[record], 0, ddof=1)
        log_in, log_out = norm.logpdf(score, mean_in, std_in), norm.logpdf(score, mean_out, std_out)
        scores.append((log_in - log_out).mean())
    return np.array(scores)


def compared_pairs(of_x: np.ndarray, of_z: np.ndarray, gamma: float) -> np.ndarray:
    """Compute RMIA's counts with every likelihood ratio formed."""
    x, z = np.exp(of_x), np.exp(of_z)
    counts = np.empty(len(x), np.int64)
    step = max(1, PAIRS // len(z))
    for start in range(0, len(x), step):
        counts[start : start + step] = (x[start : start + step, None] / z[None, :] >= gamma).sum(
            axis=1
        )
    return counts


def _lira_loop(view: AttackView) -> dict[str, Any]:
    attack, few = LiRA("online", "per_record"), _few(view, LOOP_RECORDS)
    alone = published_lira(few)
    loop = _seconds(lambda: published_lira(few)) * len(view.target) / len(few.target)
    ours = statistics.median(_seconds(lambda: attack(_fresh(view))) for _ in range(REPEATS))
    apart = np.abs(
        attack(few) / alone - 1
    ).max()  # the floor of the deviations is never reached here
    return {
        "seconds": ours,
        "replaced": loop,
        "times": loop / ours,
        "largest relative difference": float(apart),
    }


def _rmia_pairs(view: AttackView) -> dict[str, Any]:
    attack = RMIA("online", ties="kept")
    of_x, of_z = attack._ratios(view)
    counts = compared_pairs(of_x, of_z, attack.gamma)
    naive = _seconds(lambda: compared_pairs(of_x, of_z, attack.gamma))
    ours = statistics.median(_seconds(lambda: dominated(of_x, of_z, 0.0)) for _ in range(REPEATS))
    unequal = int((dominated(of_x, of_z, 0.0) != counts).sum())
    return {"seconds": ours, "replaced": naive, "times": naive / ours, "unequal counts": unequal}


def _fresh(view: AttackView) -> AttackView:
    """Return the view without the sums that earlier attacks have cached."""
    return replace(view)


def _few(view: AttackView, records: int) -> AttackView:
    chosen = np.linspace(0, len(view.target) - 1, records).astype(int)
    return replace(
        view,
        target=view.target[chosen],
        references=view.references[:, chosen],
        side=view.side[:, chosen],
        labels=view.labels[chosen],
    )


def _seconds(call: Callable[[], Any]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def _in_its_own_process(folder: Path, name: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--folder", str(folder), "--child", name]
    done = subprocess.run(
        command, env=os.environ | ONE_THREAD, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr}")
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", nargs="*", default=[""], help="only names with one of these in them"
    )
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measured(options.folder, options.child)))
        return
    names = [
        name for name in (*ATTACKS, JOINT, *COMPARED) if any(part in name for part in options.only)
    ]
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        store(Path(folder))
        print("| attack | CPU seconds | peak, GB | loading, CPU seconds | |\n|---|---|---|---|---|")
        for name in names:
            figures = _in_its_own_process(Path(folder), name)
            lines.append(figures)
            comparison = (
                f"replaces {figures['replaced']:.1f} s: {figures['times']:.0f} times"
                if "times" in figures
                else ""
            )
            print(
                f"| `{name}` | {figures['seconds']:.3f} | {figures['peak'] / 1e9:.2f} "
                f"| {figures['loading']:.2f} | {comparison} |",
                flush=True,
            )
    if options.json:
        options.json.write_text(json.dumps(lines, indent=1))


if __name__ == "__main__":
    main()
