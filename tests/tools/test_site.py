"""The documentation site: its pages from the code are whole, and every link leads to a page and a section."""

import doctest
import re
import types

import docstrings
import method_pages
import pytest
import reference_pages
import site_source
import typer
import yaml

import bitleak
from bitleak import cli, registry
from bitleak.config import validate
from bitleak.config.validation import SECTIONS


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site") / "source"
    site_source.assemble(folder)
    return folder


METHODS = [*method_pages.attacks(), *method_pages.quantizers()]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_every_method_has_a_formula_a_source_a_cost_and_a_word_of_warning(method):
    assert method_pages.missing_parts(method) == []


def test_every_name_of_the_registry_has_a_page():
    words = {word for method in METHODS for word in method.words}
    assert words == {*registry.ATTACKS, *registry.audit_quantizers(), *registry.JOINT_ATTACKS}


def test_a_new_attack_has_a_page_by_itself_and_none_without_a_source(monkeypatch):
    monkeypatch.setitem(registry.ATTACKS, "loudest", "bitleak.attacks.attack:Attack")
    (added,) = [method for method in method_pages.attacks() if method.words == ("loudest",)]
    assert added.name == "loudest"
    module = types.ModuleType("made")
    module.__doc__ = "Loudest: which answer is largest?\n\n    s = max f\n\nCost: O(1).\n\n"
    module.__doc__ += "Misleading where all answers are loud."
    made = method_pages.Method("loudest", module, ("loudest",))
    with pytest.raises(ValueError, match="loudest: its module's docstring lacks source"):
        method_pages.method_page(made, "")
    module.__doc__ += " Somebody 2020 (arXiv 2001.00001)."
    page = method_pages.method_page(made, "details")
    assert page.startswith("# Loudest\n\nWhich answer is largest?\n")
    assert "```text\ns = max f\n```" in page
    assert "## When it misleads\n\nIt misleads where" in page
    assert "## Cost\n\nO(1).\n" in page
    assert "(https://arxiv.org/abs/2001.00001)" in page


def test_every_public_name_has_a_page_and_a_purpose(source):
    pages = {path.stem for path in (source / "reference" / "api").glob("*.rst")}
    assert pages == set(bitleak.__all__) - {"__version__"}
    index = (source / "reference" / "api" / "index.md").read_text()
    for name in pages:
        assert re.search(rf"\| \[`{name}`\]\({name}\.rst\) \| \S.{{10,}} \|", index), name


def test_the_page_of_a_quantizer_in_python_leads_to_its_method(source):
    text = (source / "reference" / "api" / "AdaRound.rst").read_text()
    assert ":doc:`The method: formula, source, cost </methods/quantizers/adaround>`" in text
    assert ":doc:" not in (source / "reference" / "api" / "measure.rst").read_text()


def test_the_page_of_the_config_has_every_section_with_its_keys(source):
    text = (source / "reference" / "config.md").read_text()
    parts = dict(re.findall(r"^## `(\w+)`\n(.*?)(?=^## |\Z)", text, flags=re.M | re.S))
    assert tuple(parts) == SECTIONS
    assert all(len(part.strip()) > 20 for part in parts.values())
    assert "| `learning_rate` | number | `0.1` | At the start. |" in parts["train"]
    assert "| `mode` | `population`, `dedicated` | `population` |" in parts["split"]
    assert "| `width` | integer | `16` | Channels of the first stage;" in parts["model"]
    assert "Default: `[0.001, 0.01]`." in parts["fpr"]


def test_a_field_without_a_meaning_is_refused():
    from dataclasses import dataclass

    @dataclass
    class Silent:
        """A class that does not explain its field."""

        field: int = 0

    with pytest.raises(ValueError, match="Silent: no meaning of the field field"):
        docstrings.field_table(Silent)


def test_the_page_of_the_command_line_has_every_option(source):
    text = (source / "reference" / "command-line.md").read_text()
    parts = dict(re.findall(r"^## `bitleak ([\w ]+)`\n(.*?)(?=^## |\Z)", text, flags=re.M | re.S))
    group = typer.main.get_command(cli.app)
    assert {name.split()[0] for name in parts} == set(group.commands)
    for name, command in reference_pages.commands().items():
        for parameter in command.params:
            if parameter.param_type_name != "argument" and "--help" not in parameter.opts:
                assert f"`{parameter.opts[0]}`" in parts[name], (name, parameter.opts)
    assert "| `--max` `METRIC=LIMIT` |  | Largest figure that may be released" in parts["check"]
    assert "store verify" in parts


def test_configs_on_generated_pages_are_valid(source):
    blocks = []
    for path in (source / "methods").rglob("*.md"):
        blocks += re.findall(r"```yaml\n(.*?)```", path.read_text(), flags=re.S)
    assert len(blocks) == len(registry.audit_quantizers())
    for block in blocks:
        validate({"data": "digits", "model": "cnn", **yaml.safe_load(block)})


def test_the_navigation_reaches_every_page(source):
    listed = set()
    for page in source.rglob("*.md"):
        for block in re.findall(r"```\{toctree\}\n(.*?)```", page.read_text(), flags=re.S):
            for entry in block.split("\n\n", 1)[1].splitlines():
                line = re.sub(r".*<(.*)>", r"\1", entry.strip())
                if not line:
                    continue
                path = page.parent / line
                exact = path if path.is_file() else None
                listed.add(exact or next(page.parent.glob(f"{line}.*")))
    pages = {*source.rglob("*.md"), *source.rglob("*.rst")} - {source / "index.md"}
    assert {page for page in pages if "examples" not in page.relative_to(source).parts} == listed


def test_the_examples_in_the_docstrings_of_the_generator_hold():
    tried = [doctest.testmod(module) for module in (docstrings, site_source)]
    assert [result.failed for result in tried] == [0, 0]
    assert sum(result.attempted for result in tried) > 5


def slugs(text):
    """Return the names of a page's headings as links spell them."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    heads = re.findall(r"^#+ (.+)$", text, flags=re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def test_every_link_of_the_source_leads_to_a_file_and_its_section(source):
    checked = 0
    for page in source.rglob("*.md"):
        text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"[a-z]+:", link):
                continue
            path, _, section = link.partition("#")
            goal = page.parent / path if path else page
            assert goal.is_file(), (page.name, link)
            if section:
                assert section in slugs(goal.read_text()), (page.name, link)
            checked += 1
    assert checked > 100
