"""The package's public names: typed for those who check types, light for those who only import it."""

import subprocess
import sys
import tomllib
from pathlib import Path

import bitleak

ROOT = Path(__file__).parents[1]

MYPY = f"""
[mypy]
mypy_path = {ROOT / "src"}
[mypy-torch.*,numpy.*,scipy.*,sklearn.*,datasets.*,pyarrow.*,matplotlib.*,PIL.*,pydantic.*,typer.*,rich.*,jinja2.*]
follow_imports = skip
[mypy-fsspec.*,safetensors.*,pandas.*,yaml.*,markupsafe.*,threadpoolctl.*]
follow_imports = skip
[mypy-bitleak.*]
ignore_errors = True
"""  # without the other packages, which it takes a minute to read, and without bodies of functions

USE = """
import bitleak

bitleak.AdaRound(lvels=4)
bitleak.nonsense
bitleak.AdaRound(levels=4)
bitleak.auc
reveal_type(bitleak.__version__)
"""


def test_type_checkers_refuse_unknown_names_and_arguments(tmp_path):
    (tmp_path / "use.py").write_text(USE)
    (tmp_path / "mypy.ini").write_text(MYPY)
    call = [sys.executable, "-m", "mypy", "--config-file", tmp_path / "mypy.ini", "--no-pretty"]
    call += ["--cache-dir", ROOT / ".mypy_cache" / "public", tmp_path / "use.py"]
    checked = subprocess.run(call, cwd=ROOT, capture_output=True, text=True)
    lines = [
        line.partition("use.py:")[2] for line in checked.stdout.splitlines() if "use.py:" in line
    ]
    assert [line.split(" ")[0] for line in lines if "error:" in line] == ["4:", "5:"], (
        checked.stdout
    )
    assert '4: error: Unexpected keyword argument "lvels" for "AdaRound"' in lines[0]
    assert any(line.startswith('8: note: Revealed type is "str"') for line in lines)


def test_every_public_name_exists_and_type_checkers_know_it():
    source = (ROOT / "src" / "bitleak" / "__init__.py").read_text()
    typed = source.partition("if TYPE_CHECKING:")[2].partition("_PUBLIC")[0]
    for name in bitleak.__all__:
        assert getattr(bitleak, name) is not None
        assert f" as {name}" in typed or f"{name}: str" in typed, name


def test_the_version_is_that_of_the_distribution():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert bitleak.__version__ == declared
    call = [sys.executable, "-m", "bitleak", "--version"]
    printed = subprocess.run(call, capture_output=True, text=True, check=True).stdout
    assert printed == f"bitleak {declared}\n"
