"""Facts in the pages that a machine can check: commands and options, configs, modules, files, exit codes."""

import ast
import importlib
import re
from pathlib import Path

import pytest
import typer
import yaml

from bitleak.cli import app, exit_codes
from bitleak.config import validate
from bitleak.core.errors import ConfigError

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md"))]
TODAY = [page for page in PAGES if page.name != "CHANGELOG.md"]  # the log names what was

each_page = pytest.mark.parametrize("page", TODAY, ids=lambda page: page.name)


def options_of_commands():
    """Options by command, such as `store verify`."""
    found = {}

    def visit(group, prefix):
        for name, command in group.commands.items():
            path = f"{prefix} {name}".strip()
            if hasattr(command, "commands"):
                visit(command, path)
            else:
                names = {"--help"}
                for parameter in command.params:
                    names.update(parameter.opts, parameter.secondary_opts)
                found[path] = names

    visit(typer.main.get_command(app), "")
    return found


COMMANDS = options_of_commands()


def text_of(page):
    return page.read_text(encoding="utf-8").replace("\\\n", " ")


def code_of(page):
    """Lines of code blocks, and code inside of sentences."""
    text = text_of(page)
    lines = []
    for block in re.findall(r"```.*?```", text, flags=re.DOTALL):
        lines += block.splitlines()
    plain = re.sub(r"```.*?```", "", text, flags=re.DOTALL).replace("\n", " ")
    return [*lines, *re.findall(r"`([^`]+)`", plain)]


def named_options(text):
    return re.findall(r"(?<![\w-])--[a-z][a-z-]*", text)


@each_page
def test_every_command_has_the_options_that_the_page_names(page):
    wrong = []
    for line in code_of(page):
        for call in re.findall(r"(?:^|[\s$(])bitleak ([a-z].*)", line):
            call = re.split(r" (?:&&|\|\||[;|]) |#", call)[0]
            words = call.split()
            command = next(
                (name for name in (" ".join(words[:2]), words[0]) if name in COMMANDS), None
            )
            if command is None:
                wrong += [] if words[0] == "store" and len(words) == 1 else [call]
                continue
            wrong += [
                f"{command} {name}" for name in named_options(call) if name not in COMMANDS[command]
            ]
    assert wrong == []


@each_page
def test_an_option_without_its_command_is_one_of_some_command_or_script(page):
    known = {"--version"}.union(*COMMANDS.values())
    wrong = []
    for line in code_of(page):
        # Options of scripts are looked for in their text; other programs are not checked.
        scripts = re.findall(r"((?:benchmarks|tools)[./]\w+)", line)
        if not scripts and re.fullmatch(r"--[a-z][a-z-]*( \S+)?", line):
            near = "".join(source(script) for script in re.findall(SCRIPT, text_of(page)))
            wrong += [
                name for name in named_options(line) if name not in known and name not in near
            ]
        for script in scripts:
            wrong += [name for name in named_options(line) if name not in source(script)]
    assert wrong == []


SCRIPT = r"\b((?:benchmarks|tools)[./]\w+)"


def source(script):
    """Text of a script of the repository, named with a point or a slash."""
    path = ROOT / script.replace(".", "/", 1)
    files = path.glob("*.py") if path.is_dir() else [path.with_suffix(".py")]
    return "".join(file.read_text(encoding="utf-8") for file in files if file.is_file())


@each_page
def test_scripts_and_files_that_the_page_names_exist(page):
    text = text_of(page)
    wrong = [
        name for name in re.findall(SCRIPT, text) if not source(name) and name.startswith("bench")
    ]
    for name in re.findall(r"\b((?:tests|examples|tools|findings)/[\w/-]+\.\w+)", text):
        wrong += [] if (ROOT / name).exists() or "NAME" in name else [name]
    # `src/bitleak/` is left out where a page is about the package.
    wrong = [name for name in wrong if not (ROOT / "src/bitleak" / name).exists()]
    assert wrong == []


@each_page
def test_names_of_the_package_exist(page):
    wrong = []
    for name in set(re.findall(r"\bbitleak((?:\.[A-Za-z_]\w*)+)", text_of(page))):
        value = importlib.import_module("bitleak")
        for part in name.strip(".").split("."):
            if not hasattr(value, part):
                try:
                    importlib.import_module(f"{value.__name__}.{part}")
                except (ImportError, AttributeError):
                    wrong.append(f"bitleak{name}")
                    break
            value = getattr(value, part)
    assert wrong == []


SMALL = {"data": "digits", "model": {"name": "cnn", "width": 4}, "split": {"models": 16}}


@each_page
def test_configs_and_their_parts_are_accepted(page):
    wrong = []
    for block in re.findall(r"```ya?ml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        raw = yaml.safe_load(block)
        try:
            validate({**SMALL, **(raw if isinstance(raw, dict) else {"quantize": raw})})
        except ConfigError as error:
            # Names of somebody's own package cannot be imported here.
            wrong += [line for line in str(error).splitlines() if "cannot import m" not in line]
    assert wrong == []


def test_sections_that_pages_name_with_a_field_have_it():
    wrong = []
    for page in TODAY:
        for section, name in re.findall(
            r"`(split|query|train|headline)\.([a-z_]+)`", text_of(page)
        ):
            if (section, name) == ("train", "csv"):  # a file
                continue
            try:
                validate({**SMALL, section: {**SMALL.get(section, {}), name: object}})
            except ConfigError as error:
                wrong += [f"{page.name}: {error}"] if "unknown key" in str(error) else []
    assert wrong == []


def test_the_table_of_exit_codes_has_every_code():
    page = (ROOT / "docs/exit-codes.md").read_text(encoding="utf-8")
    table = page.partition("| exit code |")[2].partition("\n\n")[0]
    rows = [line.split("|")[1] for line in table.splitlines()[2:]]
    documented = {int(code) for row in rows for code in re.findall(r"\d+", row)}
    tree = ast.parse(Path(exit_codes.__file__).read_text())
    named = {
        node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, int)
    }
    codes = {code for code in named if code < 128} | {128 + number for number in (2, 15, 1)}
    assert documented >= codes
    assert {0, 1, 2, 3, 4, 5, 6, 7} <= documented
