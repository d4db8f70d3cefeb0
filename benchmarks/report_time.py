"""CPU seconds of the figures and the page of a finished audit, by this code and by another version.

    python benchmarks/report_time.py --folder AUDIT --other SRC [--turns 3]

AUDIT is the output folder of an audit, of which each run gets a copy; SRC is the folder `src` of
another checkout. A run imports the command line and the report, and writes figures and page from
the tables, as the last part of an audit does. Versions take turns. Printed are the seconds of the
imports, of the writing and of both together, their medians and the ratio. Bytes of the page are
printed, and figures (PNG) whose pixels differ.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).resolve()
RUN = """
import sys, time
from pathlib import Path
import bitleak.cli
from bitleak.report import write_report
imported = time.process_time()
write_report(Path(sys.argv[1]))
print(imported, time.process_time() - imported)
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--other", type=Path, required=True)
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    sources = {"this": HERE.parents[1] / "src", "other": options.other.resolve()}
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in sources}
    with tempfile.TemporaryDirectory() as temporary:
        for turn in range(options.turns):
            for name in list(sources)[:: 1 if turn % 2 == 0 else -1]:
                folder = Path(temporary, name)
                shutil.rmtree(folder, ignore_errors=True)
                shutil.copytree(options.folder, folder)
                seconds[name].append(written(folder, sources[name]))
                print(
                    "{}: imports {:.2f}, figures and page {:.2f} CPU s".format(
                        name, *seconds[name][-1]
                    )
                )
        for name in sources:
            print(f"{name}: page of {Path(temporary, name, 'report.html').stat().st_size:,} bytes")
        different = [
            path.name
            for path in sorted(Path(temporary, "this", "figures").glob("*.png"))
            if pixels(path) != pixels(Path(temporary, "other", "figures", path.name))
        ]
        print(f"figures that differ: {', '.join(different) or 'none'}")
    totals = {name: statistics.median(map(sum, runs)) for name, runs in seconds.items()}
    print(
        f"this {totals['this']:.2f}, other {totals['other']:.2f}, this / other {totals['this'] / totals['other']:.2f}"
    )


def written(folder: Path, source: Path) -> tuple[float, float]:
    """Return CPU seconds of the imports and of figures and page."""
    environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-c", RUN, str(folder)],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    imports, writing = map(float, run.stdout.split()[-2:])
    return imports, writing


def pixels(path: Path) -> bytes:
    """Return the pixels of a figure; nothing if it does not exist."""
    if not path.exists():
        return b""
    with Image.open(path) as image:
        return np.asarray(image).tobytes()


if __name__ == "__main__":
    main()
