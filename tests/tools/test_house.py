"""The measures of `tools/house.py` on a package whose counts are known."""

import subprocess
import sys
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[2] / "tools" / "house.py"

FILES = {
    "__init__.py": '"""A package."""\n',
    "first/__init__.py": "__all__ = []\n",
    # Two bound names (`load`, `found`), one of them a pronoun.
    "first/files.py": '''"""Of files."""

from made.second import files


def load():
    """Load a file.

    Args:
        path: Of the file.
        mode: Whether to read or write.
    """
    found = files.load_all()  # a reason
    return found  # noqa: RET504
''',
    "second/__init__.py": "",
    # `load` and LIMIT again; the function-level import closes no circle.
    "second/files.py": '''"""Other files."""

LIMIT = 3


def load_all():
    from made.first import files

    return files


def load(path): return path
''',
    # Five comprehensions: one with two `for`, one inside another, one unpacked.
    "second/loops.py": """from . import circle
LIMIT = 4
_HIDDEN = 5
pairs = [(row, column) for row in range(2) for column in range(2)]
sums = {sum(row for row in rows) for rows in pairs}
print(*(row for row in pairs))
names = {load: 1 for load in "ab"}
""",
    "second/circle.py": "from made.second.loops import pairs\n",
    # 26 lines of code without a comment, 25 without, 27 with one; a line of 101 characters.
    "long.py": "def long():\n" + "    step()\n" * 25 + "def right():\n" + "    step()\n" * 24
    + "def said():\n    # a reason\n" + "    step()\n" * 25 + "#" * 101 + "\n",
}  # fmt: skip

VALUES = {
    "modules": "8",
    "short": "5",
    "long": "0",
    "file-names": "1",
    "public-names": "1",
    "constants": "1",
    "pronouns": "9.5 % (2)",
    "comments": "3.2 % (3)",
    "comprehensions": "5.0",
    "nested": "2",
    "unpacked": "1",
    "uncommented": "1",
    "cycles": "1",
    "heads": "2",
}


@pytest.fixture
def package(tmp_path):
    for name, text in FILES.items():
        path = tmp_path / "made" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "made"


def run(*arguments):
    call = [sys.executable, HOUSE, *map(str, arguments)]
    return subprocess.run(call, capture_output=True, text=True, check=False)


def table(printed):
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in printed.splitlines()]
    return {row[0]: row[2:] for row in cells}


def test_measures_of_a_known_package(package):
    printed = run(package)
    assert printed.returncode == 0, printed.stderr
    values = table(printed.stdout)
    assert {name: values[name][0] for name in VALUES} == VALUES


@pytest.mark.parametrize(
    ("name", "places"),
    [
        ("pronouns", ["first/files.py:13: found", "long.py:52: said"]),
        (
            "cycles",
            [
                f"second/{name}.py:1: made.second.circle <-> made.second.loops"
                for name in ("circle", "loops")
            ],
        ),
        ("unpacked", ["second/loops.py:6: print(*(row for row in pairs))"]),
        ("heads", ["first/files.py:1: Of files.", "first/files.py:10: path: Of the file."]),
        ("long-lines", ["long.py:79: 101 characters"]),
        ("uncommented", ["long.py:1: long, 26 lines"]),
        ("public-names", ["first/files.py:6: load", "second/files.py:12: load"]),
    ],
)
def test_places_are_listed_with_their_lines(package, name, places):
    assert run(package, "--list", name).stdout.splitlines() == places


def test_two_trees_stand_side_by_side(package, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "only.py").write_text("value = 1\n")
    assert table(run(package, "--against", tmp_path / "other").stdout)["modules"] == ["8", "1"]


def test_unknown_measures_and_empty_folders_are_refused(package, tmp_path):
    unknown = run(package, "--list", "beauty")
    assert unknown.returncode == 2
    assert "unknown measure 'beauty'; known: modules, lines, short" in unknown.stderr
    (tmp_path / "empty").mkdir()
    empty = run(tmp_path / "empty")
    assert empty.returncode == 2
    assert "no Python file in" in empty.stderr
