"""Seconds that `store import` and `store export` take for many small results, by this code and by
another version.

    python benchmarks/store_import.py --other SRC [--results 20000] [--turns 1] [--folder /on/the/disk]

SRC is the folder `src` of another checkout. Every result has one array of 100 numbers and a
manifest. The results are made once by this code; each version writes them all to a tar file, and
takes all of them from one tar file into an empty store. The versions take turns; the stores must be
the same byte for byte, and free of damage.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--other", type=Path, required=True)
    parser.add_argument("--results", type=int, default=20_000)
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument(
        "--folder", type=Path, help="where the stores are; default: the folder of temporary files"
    )
    parser.add_argument("--job", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not (options.other / "bitleak" / "__init__.py").is_file():
        parser.error(
            f"--other must be a folder that holds the package bitleak, got {options.other}"
        )
    if options.job:
        print(json.dumps(_job(*options.job)))
        return
    sources = {"this": HERE.parents[1] / "src", "other": options.other.resolve()}
    spent: dict[str, dict[str, list[float]]] = {
        name: {"import": [], "export": []} for name in sources
    }
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        made = Path(folder, "made.tar")
        _call(sources["this"], options.other, "make", str(made), str(options.results))
        for turn in range(options.turns):
            digests = set()
            for name in list(sources) if turn % 2 == 0 else list(sources)[::-1]:
                # Nothing is removed in between: ext4 looks at every inode that was freed in the last minutes.
                store, tar = (
                    Path(folder, f"store-{name}-{turn}"),
                    Path(folder, f"{name}-{turn}.tar"),
                )
                os.sync()
                for job in ("import", "export"):
                    arguments = (str(store), str(made if job == "import" else tar))
                    seconds, digest = _call(sources[name], options.other, job, *arguments)
                    spent[name][job].append(seconds)
                    print(
                        f"{name}: {job} of {options.results} results: {seconds:.1f} s", flush=True
                    )
                digests.add((digest, hashlib.sha256(tar.read_bytes()).hexdigest()))
            if len(digests) > 1:
                raise SystemExit("the two versions made different stores")
    for job in ("import", "export"):
        ours, theirs = (sum(spent[name][job]) for name in ("this", "other"))
        print(f"{job}: this {ours:.1f} s, other {theirs:.1f} s, other / this: {theirs / ours:.1f}")


def _call(source: Path, other: Path, *job: str) -> tuple[float, str]:
    """Return the seconds of a job in a process of its own, and a digest of the store's files after
    an import.
    """
    command = [sys.executable, str(HERE), "--other", str(other), "--job", *job]
    environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE, text=True)
    seconds, digest = json.loads(done.stdout)
    return seconds, digest


def _job(job: str, place: str, argument: str) -> tuple[float, str]:
    from bitleak.engine.store import Store
    from bitleak.engine.transfer import export_results, import_results

    if job == "make":
        _make(Path(place), int(argument))
        return 0.0, ""
    store = Store(place)
    start = time.perf_counter()
    if job == "import":
        import_results(store, [Path(argument)])
    else:
        export_results(store, Path(argument))
    seconds = time.perf_counter() - start
    digest = hashlib.sha256()
    for path in sorted(path for path in Path(place).rglob("*") if path.is_file()):
        digest.update(str(path.relative_to(place)).encode() + path.read_bytes())
    return seconds, digest.hexdigest()


def _make(path: Path, count: int) -> None:
    """Write a tar file with small results, as an export does, without a store of them."""
    import io
    import tarfile

    import numpy as np

    from bitleak.engine.keys import Task

    generator = np.random.default_rng(0)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for number in range(count):
            task = Task("query", "1", {"n": number}, label=f"query {number}")
            content = io.BytesIO()
            np.save(content, generator.normal(size=100))
            file = {
                "size": len(content.getvalue()),
                "sha256": hashlib.sha256(content.getvalue()).hexdigest(),
            }
            manifest = {
                "task": task.identity,
                "label": task.label,
                "runtime": {},
                "files": {"x.npy": file},
            }
            manifest["created"] = "2026-01-01T00:00:00+00:00"
            for name, data in (
                ("manifest.json", json.dumps(manifest).encode()),
                ("x.npy", content.getvalue()),
            ):
                member = tarfile.TarInfo(f"query/{task.key[:2]}/{task.key}/{name}")
                member.size, member.mode = len(data), 0o644
                archive.addfile(member, io.BytesIO(data))


if __name__ == "__main__":
    main()
