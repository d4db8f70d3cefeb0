"""Run the contracts with the newest of every dependency, and with all lower bounds of pyproject.toml at once.

    python tools/dependency_bounds.py [--only newest|lowest] [--folder FOLDER] [--resolve] [-- pytest arguments]

Each set is installed into a virtual environment of its own under `--folder` (a temporary folder by default), with torch
as constraints.txt has it in both, and `tests/contracts` are run there. `--resolve` only asks pip whether the sets can
be installed. Exits with 1 if one of them cannot, or if its tests fail.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BOUND = re.compile(r"([A-Za-z0-9_.-]+)>=([0-9][0-9a-z.]*)")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=("newest", "lowest"))
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--resolve", action="store_true")
    parser.add_argument("arguments", nargs="*", help="for pytest")
    options = parser.parse_args()
    kinds = [options.only] if options.only else ["newest", "lowest"]
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        failed = [
            kind
            for kind in kinds
            if not _passes(kind, folder, options.arguments, resolve=options.resolve)
        ]
    raise SystemExit(f"failed: {', '.join(failed)}" if failed else 0)


def _passes(kind: str, folder: Path, arguments: list[str], *, resolve: bool) -> bool:
    constraints = folder / f"{kind}.txt"
    constraints.parent.mkdir(parents=True, exist_ok=True)
    constraints.write_text(
        "\n".join(_torch() if kind == "newest" else [*_lowest(), *_torch()]) + "\n"
    )
    python = str(folder / kind / "bin" / "python")
    commands = [[sys.executable, "-m", "venv", "--clear", str(folder / kind)]]
    install = [python, "-m", "pip", "install", "--quiet", "--upgrade", "-c", str(constraints)]
    commands += [[*install, *(["--dry-run"] if resolve else []), "-e", f"{ROOT}[dev]"]]
    if not resolve:
        commands += [
            [python, "-m", "pip", "list"],
            [python, "-m", "pytest", "-q", "tests/contracts", *arguments],
        ]
    for command in commands:
        print("+", *command, flush=True)
        if subprocess.run(command, cwd=ROOT, check=False).returncode:
            return False
    return True


def _torch() -> list[str]:
    return [
        line
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line.startswith("torch==")
    ]


def _lowest() -> list[str]:
    """Every lower bound as the only version, but that of torch."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    bounds = [match for match in map(BOUND.match, listed) if match and match[1] != "torch"]
    return [f"{match[1]}=={match[2]}" for match in bounds]


if __name__ == "__main__":
    main()
