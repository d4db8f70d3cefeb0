"""The pages: every one is in the index, every link leads somewhere, and the files about the project agree."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from bitleak.cli.check_command import CODES
from bitleak.cli.exit_codes import LEFT, OUTSIDE, SIGNALLED
from bitleak.core.interrupts import END_SIGNALS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [*ROOT.glob("*.md"), *DOCS.glob("*.md")]


def links(page):
    """Return the files that a page links to, relative to the root, and where it links to nothing."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text)]
    local = [target for target in targets if target and not re.match(r"[a-z]+:", target)]
    return [(page.parent / target).resolve() for target in local]


def test_the_index_links_every_page():
    assert set(links(DOCS / "index.md")) >= {page for page in PAGES if page != DOCS / "index.md"}


def group(title):
    """Return the pages below a heading of the index."""
    text = (DOCS / "index.md").read_text().partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    return {DOCS / target for target in re.findall(r"^- \[[^\]]+\]\(([^)]+)\)", text, flags=re.M)}


def test_the_readme_links_every_guide_and_fits_two_screens():
    assert len(group("Guides")) > 10
    assert set(links(ROOT / "README.md")) >= group("Guides")
    assert len((ROOT / "README.md").read_text().splitlines()) <= 100


def test_the_first_screen_of_the_readme_shows_a_call_and_the_report():
    first = "\n".join((ROOT / "README.md").read_text().splitlines()[:16])
    assert "bitleak.audit_model(" in first
    assert "docs/figures/report.png" in first


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file(page):
    assert [target for target in links(page) if not target.exists()] == []


def test_the_readme_names_no_page_as_plain_text():
    text = re.sub(
        r"```.*?```", "", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL
    )
    plain = re.sub(r"\[[^\]]*\]\([^)]*\)", "", text)
    assert re.findall(r"docs/[\w-]+\.md|[A-Z]+\.md", plain) == []


def test_the_citation_agrees_with_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"]
    assert citation["keywords"] == project["keywords"]


def test_files_named_by_the_contributing_page_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    table = text.partition("## Adding something")[2].partition("\n\n")[2].partition("\n\n")[0]
    named = re.findall(r"`((?:[a-z_]+/)*[a-z_]+\.py|(?:[a-z_]+/)+)(?:NAME\.py)?`", table)
    assert len(named) > 12
    package, tests = (
        ROOT / "src" / "bitleak",
        {path.name for path in (ROOT / "tests").rglob("test_*.py")},
    )
    assert [name for name in named if name not in tests and not (package / name).exists()] == []


def test_hooks_before_a_commit_are_the_checks_of_make_lint():
    makefile = (ROOT / "Makefile").read_text().partition("\nlint:")[2].partition("\n\n")[0]
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    entries = [
        hook["entry"].replace(".venv/bin/python", "$(PY)") for hook in config["repos"][0]["hooks"]
    ]
    commands = [line.strip() for line in makefile.splitlines()[1:]]
    assert [entry.replace(" --force-exclude", "") for entry in entries] == commands


def test_the_page_of_exit_codes_has_every_code_of_the_command_line():
    rows = re.findall(r"^\| ([\d, ]+) \|", (DOCS / "exit-codes.md").read_text(), flags=re.M)
    listed = [int(code) for row in rows for code in row.split(",")]
    signals = [SIGNALLED + number for number in END_SIGNALS]
    assert sorted(listed) == sorted({0, 1, 2, LEFT, OUTSIDE, *CODES.values(), *signals})
