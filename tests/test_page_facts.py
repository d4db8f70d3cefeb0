"""Facts in the pages that a machine can check: commands and options, configs, modules, files, exit codes."""

import ast
import importlib
import math
import re
from pathlib import Path

import pytest
import typer
import yaml

from bitleak.attacks import known_names
from bitleak.cli import app, exit_codes
from bitleak.config import resolved, validate, yaml_files
from bitleak.core import archive, footer
from bitleak.core.errors import ConfigError
from bitleak.core.limits import MOST_MODELS, MOST_QUERIES, MOST_RATES, MOST_ROUNDS, MOST_VARIANTS
from bitleak.data import decode
from bitleak.data.class_labels import LABEL_NAMES
from bitleak.engine import manifest
from bitleak.report.row_files import ROWS_SCHEMA

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


def rows_of(page, head):
    """Cells of the table whose first line begins with `head`, one list per line."""
    table = text_of(ROOT / page).partition(head)[2].partition("\n\n")[0]
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]
    ]


def test_the_table_of_columns_is_that_of_results_csv_in_its_order():
    named = []
    for cells in rows_of("docs/results.md", "| column | meaning |"):
        named += re.findall(r"`([a-z_]+)`", cells[0])
    columns = list(ROWS_SCHEMA.names)
    assert sorted(named) == sorted(columns)
    assert named[:6] == columns[:6]


def test_every_attack_of_the_table_is_one_that_a_config_takes():
    known = known_names()
    for cells in rows_of("docs/results.md", "| word | name |"):
        for word in re.findall(r"`([^`]+)`", cells[0]):
            assert word in known
        for name in re.findall(r"`([a-z][^`]*)`", cells[1]):
            pattern = re.escape(name).replace(r"\.\.\.", ".+")
            assert any(re.fullmatch(pattern, entry) for entry in known), name


def test_limits_of_files_and_configs_are_those_of_the_code():
    limits = text_of(ROOT / "docs/running.md").partition("## Limits")[2]
    counts = [MOST_MODELS, MOST_VARIANTS, MOST_RATES, MOST_QUERIES, MOST_ROUNDS]
    words = ["models", "variants", "rates", "queries", "rounds of calibration"]
    for count, word in zip(counts, words, strict=True):
        assert re.search(rf"\b{count:,} {word}\b", limits), word
    side = math.isqrt(decode.MOST_PIXELS)
    assert f"{side} x {side} pixels" in limits
    assert f"{archive.ENTRIES} arrays; an entry of more than {archive.UNPACKED >> 20} MiB" in limits
    assert f"{archive.RATIO:,} times its packed bytes" in limits
    assert f"a footer of {footer.LARGEST_FOOTER >> 20} MiB" in limits
    config = f"{yaml_files.LARGEST_CONFIG >> 20} MiB, {yaml_files.DEEPEST_CONFIG} levels"
    assert f"{config}, {yaml_files.MOST_VALUES:,} values" in limits
    assert f"{manifest.LARGEST_MANIFEST >> 20} MiB, {manifest.DEEPEST_MANIFEST} levels" in limits


def test_names_of_label_columns_and_kinds_of_images_are_those_of_the_code():
    text = text_of(ROOT / "docs/data.md")
    sentence = re.search(r"the only one whose name is (.*?)\. Several", text, re.DOTALL)[1]
    assert set(re.findall(r"`(\w+)`", sentence)) == LABEL_NAMES
    kinds = re.search(r"\n([A-Za-z, ]+) are read, with suffixes in any case", text)[1]
    assert {kind.upper() for kind in re.findall(r"[A-Z]\w+", kinds)} == set(decode.IMAGE_FORMATS)


def test_defaults_of_the_table_of_results_are_those_of_a_config():
    config = resolved(validate(SMALL))
    for key, default, _ in rows_of("docs/results.md", "| key of the config | default |"):
        name, value = key.strip("`"), yaml.safe_load(default.strip("`"))
        assert config.get(name, "none") == value, name
