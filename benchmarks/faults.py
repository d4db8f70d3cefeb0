"""Interrupt a small audit in every way, and print its message, its leftovers and the result of the
next run.

    python -m benchmarks.faults                 # thirty kills, signals, full disks (as root): some ten minutes
    python -m benchmarks.faults --kills 3       # fewer
    python -m benchmarks.faults --executor ray --kills 6  # a local Ray cluster: one kill of each of its processes

Every case starts from an empty store. An audit in a session of its own is disturbed at a moment
drawn by `--seed`, then its leftovers are listed, then the same command is run to its end. Its exit
code has to be one of those that are documented for the case, with a line unless it is 0. The last
columns show the expected result: the bytes of `results.csv` of an undisturbed run, and nothing
left: no temporary file, claim, scratch, log of a worker, process or socket. After a kill -9 of the
driver only the next run can tidy up, so the check follows that run. PyTorch's and Ray's own caches
in the folder for temporary files do not count.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

CONFIG = """
title: small
data: {name: digits, limit: 200}
split: {mode: population, models: 6, targets: 2, held_out: 0.3, population: 20}
model: {name: cnn, width: 4}
train: {epochs: 1, batch: 32, augment: []}
calibration: {records: 32}
quantize: [{name: rtn, levels: 4}]
attacks: [lira, threshold]
query: {augment: [identity]}
fpr: [0.05]
"""
TIMEOUT = 300
DONE = 0
KILLED = -signal.SIGKILL
LOST = 4
"""Exit code if a cluster has gone."""
KINDS: dict[str, dict[str, set[int]]] = {
    "processes": {"driver": {KILLED}, "worker": {DONE}, "fork server": {DONE}},
    "ray": {
        "driver": {KILLED},
        "worker": {DONE},
        "agent": {DONE, LOST},
        "raylet": {DONE, LOST},
        "GCS server": {DONE, LOST},
        "process that talks to Ray": {DONE, LOST},
    },
}
"""Processes that are killed, for each executor, and the exit codes that may follow: all is done if the
last result was there before."""
OTHERS = ("ray", "torchinductor")
"""How the names of caches begin that libraries keep in the folder for temporary files."""
SETTLE = {"processes": 10.0, "ray": 120.0}
"""Seconds for processes to notice that their parent has gone, for each executor: Ray's own agents
look for it once a minute."""


@dataclass(frozen=True)
class Place:
    """Folders of one case: everything that it may write to."""

    root: Path

    @property
    def temporary(self) -> Path:
        """The folder for temporary files."""
        return self.root / "tmp"

    @property
    def store(self) -> Path:
        """The store."""
        return self.root / "store"

    @property
    def out(self) -> Path:
        """The output folder."""
        return self.root / "out"


@dataclass(frozen=True)
class Found:
    """Result of a case: code and last line of the disturbed run, and whether they are as documented;
    leftovers and sameness after it and after the next run.
    """

    case: str
    code: int | None
    said: str
    documented: bool
    left: list[str]
    same: bool


class Runs:
    """The audit, ready to be started.

    Args:
        root: Folder of the cases.
        executor: Executor of the audit.
    """

    def __init__(self, root: Path, executor: str) -> None:
        self.root = root
        self.executor = executor
        self.settle = SETTLE[executor]
        self.config = root / "config.yaml"
        self.config.write_text(CONFIG)

    def start(self, place: Place) -> subprocess.Popen:
        """Start the audit in a session of its own."""
        place.temporary.mkdir(parents=True, exist_ok=True)
        command = [
            sys.executable,
            "-m",
            "bitleak",
            "audit",
            str(self.config),
            "--out",
            str(place.out),
        ]
        command += [
            "--store",
            str(place.store),
            "--executor",
            self.executor,
            "--workers",
            "2",
            "--device",
            "cpu",
        ]
        return self.popen(command, place)

    def popen(self, command: list[str], place: Place) -> subprocess.Popen:
        """Start a command whose output goes to the place's file `said`."""
        environment = {**os.environ, "TMPDIR": str(place.temporary), "OMP_NUM_THREADS": "1"}
        with (place.root / "said").open("wb") as said:
            return subprocess.Popen(
                command,
                stdout=said,
                stderr=said,
                start_new_session=True,
                env=environment,
                cwd=place.root,
            )

    def finish(self, place: Place) -> int:
        """Run the audit to its end."""
        return self.start(place).wait(TIMEOUT)


def said(place: Place) -> str:
    """Return the last line about the end of the run."""
    lines = (place.root / "said").read_text(errors="replace").splitlines()
    endings = [
        line for line in lines if line.startswith(("failed", "error", "interrupted", "ended"))
    ]
    return (endings or [""])[-1].replace(str(place.root), "...")[:150]


def family(place: Place) -> list[int]:
    """Return all processes that have this place's folder for temporary files: the driver and its
    descendants.
    """
    processes = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                environment = (entry / "environ").read_bytes()
            except OSError:
                continue
            if f"TMPDIR={place.temporary}\0".encode() in environment + b"\0":
                processes.append(int(entry.name))
    return sorted(processes)


def leftovers(place: Place, settle: float) -> list[str]:
    """Return the files that should not exist when nothing runs, and the processes that go on for
    longer than `settle` seconds.
    """
    start = time.monotonic()
    while family(place) and time.monotonic() < start + settle:
        time.sleep(0.1)
    if (waited := time.monotonic() - start) > SETTLE["processes"]:
        print(f"{place.root.name}: the last process was gone after {waited:.0f} s", flush=True)
    names = [f"process {number}" for number in family(place)]
    hidden = [
        path
        for top in (place.store, place.out)
        for path in top.rglob(".*")
        if path.name != ".claims"
    ]
    claims = list((place.store / ".claims").glob("*"))
    logs = list((place.store / "logs").glob("worker-*"))
    temporary = [path for path in place.temporary.iterdir() if not path.name.startswith(OTHERS)]
    return names + [
        str(path.relative_to(place.root)) for path in {*hidden, *claims, *logs, *temporary}
    ]


def kind_of(process: int) -> str:
    """Return the role of a process of an audit, by its command line."""
    try:
        line = (
            Path(f"/proc/{process}/cmdline")
            .read_bytes()
            .replace(b"\0", b" ")
            .decode(errors="replace")
        )
        parent = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
        above = Path(f"/proc/{parent}/cmdline").read_bytes()
    except (OSError, ValueError):
        return ""
    program = line.split(" ")[0]
    if "bitleak audit" in line:
        return "driver"
    if "resource_tracker" in line:
        return "tracker"
    if "forkserver" in line:
        return "worker" if b"forkserver" in above else "fork server"
    if "multiprocessing.spawn" in line:
        return "process that talks to Ray"
    if program.endswith(("/raylet", "/gcs_server")):
        return "raylet" if program.endswith("/raylet") else "GCS server"
    if "Agent" in line or "/agent" in line:
        return "agent"
    return "worker" if line.startswith("ray::") or "default_worker" in line else ""


def in_time(
    runs: Runs, place: Place, seconds: float, disturb: Callable[[subprocess.Popen, float], bool]
) -> int:
    """Disturb a run; if it has ended before, disturb another one twice as early.

    Args:
        runs: The audit.
        place: Folders of the case.
        seconds: Expected duration of a run.
        disturb: Disturbs a process within some seconds; returns whether it came in time.
    """
    while True:
        driver = runs.start(place)
        came = disturb(driver, seconds)
        code = driver.wait(TIMEOUT)
        if came:
            return code
        print(f"{place.root.name}: the run had ended before; again", flush=True)
        for folder in (place.store, place.out):
            shutil.rmtree(folder, ignore_errors=True)
        seconds /= 2


def killed(runs: Runs, place: Place, kind: str, chance: random.Random, seconds: float) -> int:
    """Kill one process of a kind at a moment, with kill -9."""

    def kill(driver: subprocess.Popen, seconds: float) -> bool:
        time.sleep(chance.uniform(0.05, 0.95) * seconds)
        while driver.poll() is None:
            candidates = [process for process in family(place) if kind_of(process) == kind]
            if candidates:
                os.kill(chance.choice(candidates), signal.SIGKILL)
                return True
            time.sleep(0.05)
        return False

    return in_time(runs, place, seconds, kill)


def signalled(
    runs: Runs, place: Place, numbers: list[int], chance: random.Random, seconds: float
) -> int:
    """Send signals to the driver, a twentieth of a second apart; SIGHUP to all of its group, as a
    terminal does.
    """

    def send(driver: subprocess.Popen, seconds: float) -> bool:
        time.sleep(chance.uniform(0.1, 0.9) * seconds)
        if driver.poll() is not None:
            return False
        for number in numbers:
            if driver.poll() is None:
                (os.killpg if number == signal.SIGHUP else os.kill)(driver.pid, number)
                time.sleep(0.05)
        return True

    return in_time(runs, place, seconds, send)


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    """Mount a file system of a given number of bytes."""
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def full_store(runs: Runs, place: Place) -> int:
    """Give the store's disk room for some of the results, and later for all."""
    with small_disk(place.store, 300_000):
        code = runs.finish(place)
        tidy = leftovers(place, runs.settle)
        message = (place.root / "said").read_text()
        subprocess.run(["mount", "-o", "remount,size=64m", str(place.store)], check=True)
        again = runs.finish(place)
        shutil.copytree(place.store, place.root / "kept")
    assert again == 0, (place.root / "said").read_text()
    (place.root / "said").write_text(message)
    shutil.rmtree(place.store)
    (place.root / "kept").rename(place.store)
    return code if not tidy else -1


def full_out(runs: Runs, place: Place) -> int:
    """Fill the disk of an output folder that has a run of another seed: not a byte of it changes."""
    with small_disk(place.out, 16 << 20):
        place.temporary.mkdir()
        command = [
            sys.executable,
            "-m",
            "bitleak",
            "audit",
            str(runs.config),
            "--out",
            str(place.out),
        ]
        command += ["--store", str(place.root / "other"), "--executor", "serial", "--set", "seed=7"]
        assert runs.popen(command, place).wait(TIMEOUT) == 0
        (place.out / "notes.txt").write_text("of a user")
        with (place.out / "ballast").open("wb", buffering=0) as ballast, suppress(OSError):
            while True:
                ballast.write(bytes(1024))
        before = contents(place.out)
        code = runs.finish(place)
        unchanged = contents(place.out) == before
        (place.out / "ballast").unlink()
        message = (place.root / "said").read_text()
        assert runs.finish(place) == 0
        assert (place.out / "notes.txt").read_text() == "of a user"
        (place.root / "said").write_text(message)
        shutil.copytree(place.out, place.root / "kept")
    shutil.rmtree(place.out)
    (place.root / "kept").rename(place.out)
    return code if unchanged else -1


def full_for_attack(runs: Runs, place: Place, disk: Path, answers: Path) -> int:
    """Run `bitleak attack` with a disk that is too small for its scratch files."""
    with small_disk(disk, 4 << 20):
        place.temporary.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "bitleak", "attack", str(answers), "--out", str(place.out)]
        command += ["--attacks", "lira-online-fixed", "--targets", "0", "--fpr", "0.05"]
        code = runs.popen(command, place).wait(TIMEOUT)
        empty = not list(disk.iterdir())
    return code if empty else -1


def contents(folder: Path) -> dict[str, bytes]:
    """Return the contents of all files of a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def case(
    runs: Runs,
    name: str,
    expected: bytes,
    disturb: Callable[[Place], int],
    codes: set[int],
) -> Found:
    """Run one case: disturb it, check it, run it again, check it again."""
    # a short name: the path of a Ray cluster's socket has at most 107 bytes
    place = Place(Path(tempfile.mkdtemp(prefix="case-", dir=runs.root)))
    code, line = disturb(place), said(place)
    documented = code in codes and bool(line or code in (DONE, KILLED))
    left = leftovers(place, runs.settle) if codes != {KILLED} else []
    again = runs.finish(place)
    left += leftovers(place, runs.settle)
    equal = again == 0 and (place.out / "results.csv").read_bytes() == expected
    if not equal or left or not documented:
        print((place.root / "said").read_text(errors="replace")[-2000:])
    shutil.rmtree(place.root)
    return Found(name, code, line, documented, left, equal)


def answers_of(path: Path) -> Path:
    """Write answers of enough models and records that their stacks are kept in files."""
    chance = np.random.default_rng(0)
    member = np.concatenate([half := chance.random((8, 30_000)) < 0.5, ~half])
    scores = chance.normal(size=(*member.shape, 5)) + member[..., None]
    np.savez_compressed(path, scores=scores, member=member)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--executor", default="processes", choices=["processes", "ray"])
    parser.add_argument(
        "--only", default="", help="Cases whose names hold one of these words (A,B,...)."
    )
    options = parser.parse_args()
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        runs = Runs(Path(folder), options.executor)
        place = Place(runs.root / "undisturbed")
        place.root.mkdir()
        start = time.monotonic()
        assert runs.finish(place) == 0, (place.root / "said").read_text()
        seconds = time.monotonic() - start
        expected = (place.out / "results.csv").read_bytes()
        left = ", ".join(leftovers(place, runs.settle)) or "nothing"
        print(f"undisturbed: {seconds:.0f} s, {len(expected)} bytes of results.csv, left: {left}")
        kinds = list(KINDS[options.executor].items())
        cases: list[tuple[str, Callable[[Place], int], set[int]]] = []
        for number in range(options.kills):
            kind, codes = kinds[number % len(kinds)]
            one = random.Random(chance.random())
            cases.append(
                (
                    f"kill -9 {number + 1}, {kind}",
                    lambda place, kind=kind, one=one: killed(runs, place, kind, one, seconds),
                    codes,
                )
            )
        for name, numbers in (
            ("Ctrl-C", [signal.SIGINT]),
            ("Ctrl-C twice", [signal.SIGINT, signal.SIGINT]),
            ("SIGTERM", [signal.SIGTERM]),
            ("SIGTERM and Ctrl-C", [signal.SIGTERM, signal.SIGINT]),
            ("SIGHUP", [signal.SIGHUP]),
        ):
            one = random.Random(chance.random())
            cases.append(
                (
                    name,
                    lambda place, numbers=numbers, one=one: signalled(
                        runs, place, numbers, one, seconds
                    ),
                    {128 + numbers[0]},
                )
            )
        if os.geteuid() == 0:
            answers = answers_of(runs.root / "answers.npz")
            cases += [
                ("disk full, store", lambda place: full_store(runs, place), {2}),
                ("disk full, out", lambda place: full_out(runs, place), {2}),
                (
                    "disk full, out of attack",
                    lambda place: full_for_attack(runs, place, place.out, answers),
                    {2},
                ),
                (
                    "disk full, TMPDIR of attack",
                    lambda place: full_for_attack(runs, place, place.temporary, answers),
                    {2},
                ),
            ]
        else:
            print("not root: no disks are filled")
        print("| case | code | said | documented | left | same bytes |\n|---|---|---|---|---|---|")
        bad = 0
        for name, disturb, codes in cases:
            if any(word in name for word in options.only.split(",")):
                outcome = case(runs, name, expected, disturb, codes)
                bad += bool(outcome.left) or not outcome.same or not outcome.documented
                left, equal = ", ".join(outcome.left) or "nothing", "yes" if outcome.same else "NO"
                documented = "yes" if outcome.documented else "NO"
                print(
                    f"| {outcome.case} | {outcome.code} | {outcome.said} | {documented} | {left} | {equal} |",
                    flush=True,
                )
    print(f"{bad} of the cases had no documented end, left something or came to other bytes")
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
