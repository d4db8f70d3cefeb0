"""Every command, config and piece of Python of the pages is run, or checked against the code that reads it."""

import functools
import inspect
import re
import shlex
import sys
import tomllib
import types
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
import typer
import yaml
from sklearn.ensemble import RandomForestClassifier

import bitleak
from bitleak import cli
from bitleak.cli.check_command import _limits
from bitleak.config import override, read_config, validate
from bitleak.metrics import measure, why_unmeasurable

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]

NOT_RUN = {
    "ray start --head": "starts servers; the tests of the executor have a cluster of their own",
}
"""Commands of other programs that nothing here can check, with the reason."""


class Block(NamedTuple):
    """A fenced block of a page."""

    page: str
    number: int  # of the block in the page, from 0
    language: str
    text: str


def blocks(*languages):
    """Return the blocks in these languages, in the order of the pages."""
    chosen = []
    for page in PAGES:
        fences = re.findall(r"^```(\S*)\n(.*?)^```$", page.read_text(), flags=re.M | re.S)
        for number, (language, text) in enumerate(fences):
            if language in languages:
                chosen.append(Block(page.name, number, language, text))
    return chosen


def ids(block):
    return f"{block.page}-{block.number}"


def commands(text):
    """Return the commands after the prompts of a block, comments left out, as lists of words."""
    lines = text.splitlines()
    found = []
    while lines:
        prompt = re.match(r"\w*\$ (.*)", line := lines.pop(0))
        if not prompt:
            continue  # output
        command = prompt[1]
        while True:
            try:
                words = shlex.split(command, comments=True)
                break
            except ValueError:  # an open quotation
                assert lines, line
                command += "\n" + lines.pop(0)
        found.append(words)
    return found


def test_all_blocks_are_in_a_language_that_is_checked():
    languages = {
        block.language for block in blocks("", "console", "python", "yaml", "sh", "json", "bash")
    }
    assert languages == {"", "console", "python", "yaml"}
    plain = [ids(block) for block in blocks("") if "$ " in block.text or "import " in block.text]
    assert plain == []
    assert (len(blocks("console")), len(blocks("python")), len(blocks("yaml"))) >= (20, 15, 11)


@functools.cache
def command_line():
    return typer.main.get_command(cli.app)


def parse_bitleak(words):
    """Parse the words of `bitleak` as its command line does, without running the command.

    Returns:
        Name of the command, and its options by name.
    """
    context, path = command_line().make_context("bitleak", list(words)), []
    while hasattr(context.command, "commands"):
        rest = [*context._protected_args, *context.args]
        name, command, rest = context.command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)
        path.append(name)
    return " ".join(path), context.params


def check_bitleak(words):
    name, options = parse_bitleak(words)
    for value in options.values():  # examples that are named exist
        if str(value).startswith("examples/"):
            assert (ROOT / str(value)).exists(), value
    if name in ("audit", "plan", "demo") and options["set_"]:
        base = ROOT / "examples" / "cifar10-small.yaml"
        validate(override(read_config(base), options["set_"]))
    if name == "check":
        drop, baseline = options["max_accuracy_drop"], options["no_worse_than"]
        _limits(options["most"] or (), drop, baseline, options["margin"] or ())
    if name == "quantize":
        assert options["quantizer"] in bitleak.registry.QUANTIZERS
        assert {int(text) for text in str(options["levels"]).split(",")} <= set(range(2, 257))


def check_script(words):
    """Check that a script of the repository is there, and knows its words."""
    text = (ROOT / words[0]).read_text()
    for word in words[1:]:
        if re.fullmatch(r"[a-z][a-z_-]*|--[a-z-]+", word):
            assert (
                word.removeprefix("--") in text or word.removeprefix("--").replace("-", "_") in text
            ), word


def check_command(words):
    """Check one command; return whether it was left unchecked on purpose."""
    while re.fullmatch(r"[A-Z_]+=\S*", words[0]):  # variables of the environment
        words = words[1:]
    program, *rest = words
    if program == "bitleak":
        check_bitleak(rest)
    elif program == "make":
        assert re.search(rf"^{rest[0]}:", (ROOT / "Makefile").read_text(), flags=re.M), rest
    elif program in ("python", ".venv/bin/python") and rest[0] == "-c":
        compile(rest[1], "page", "exec")
    elif program in ("python", ".venv/bin/python") and rest[0] == "-m":
        assert rest[1] == "pytest"
        assert all((ROOT / word).exists() for word in rest[2:] if "/" in word)
    elif program in ("python", ".venv/bin/python"):
        check_script(rest)
    elif (ROOT / program).is_file():
        check_script(words)
    elif program == "pip":
        (extra,) = re.findall(r"bitleak\[(\w+)\]", " ".join(rest))
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        assert extra in project["optional-dependencies"]
    else:
        assert shlex.join(words) in NOT_RUN, words
        return True
    return False


@pytest.mark.parametrize("block", blocks("console"), ids=ids)
def test_every_command_is_one_that_its_program_understands(block):
    assert commands(block.text)
    for words in commands(block.text):
        check_command(words)


def test_commands_that_nothing_checks_are_those_listed():
    everything = []
    for block in blocks("console"):
        everything += [shlex.join(words) for words in commands(block.text)]
    assert len(everything) > 50
    assert sorted(set(everything) & set(NOT_RUN)) == sorted(NOT_RUN)
    assert len(NOT_RUN) == 1


def test_a_command_with_an_unknown_option_or_limit_is_refused():
    for line in (
        "bitleak audit my.yaml --wrokers 8",
        "bitleak check audits/demo --max auc",
        "bitleak adit x",
    ):
        with pytest.raises(
            Exception, match=r"No such option|expected METRIC=NUMBER|expected|No such command"
        ):
            check_command(line.split())


@pytest.fixture
def outside_modules(monkeypatch):
    """Modules that the pages name in configs as the reader's own."""

    class Loudest(bitleak.Threshold):
        name = "loudest"

    class Signs(bitleak.RoundToNearest):
        name = "signs"

    class Blobs(
        type(bitleak.registry.find(bitleak.registry.DATASETS, "digits", kind="data set")())
    ):
        pass

    members = {
        "package.module": {"make": lambda **_: None},
        "mypackage.nets": {"make": lambda **_: None},
        "mypackage.attacks": {"Loudest": Loudest},
        "mypackage.quantizers": {"Signs": Signs},
        "mypackage.data": {"Blobs": Blobs},
        "mypackage.metrics": {
            "Gap": bitleak.registry.find(bitleak.registry.METRICS, "advantage", kind="metric")
        },
        "mine.quantizing": {"to_int4": lambda network, images, folder, *, group: folder},
    }
    for name, content in members.items():
        module = types.ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.setitem(sys.modules, name.partition(".")[0], types.ModuleType("outside"))


def configs(text):
    """Return the configs of a block: a mapping, or one for each line if lines are alternatives."""
    keys = re.findall(r"^(\w+):", text, flags=re.M)
    if len(keys) > len(set(keys)):
        return [yaml.safe_load(line) for line in text.splitlines()]
    return [yaml.safe_load(text)]


@pytest.mark.usefixtures("outside_modules")
@pytest.mark.parametrize("block", blocks("yaml"), ids=ids)
def test_every_config_is_valid_on_its_own_or_as_a_section(block):
    base = {"data": {"name": "digits"}, "model": {"name": "cnn"}}
    for config in configs(block.text):
        if "target" in config and "data" not in config:
            config["data"] = {"name": "hub", "path": "photos"}
        if config.get("data", {}).get("spread"):
            del config["data"]["spread"]  # a field of the reader's own class
        if config.get("data", {}).get("name") == "table" and "model" not in config:
            config["model"] = "mlp"
        validate({**base, **config})


def test_a_config_with_a_mistake_is_refused():
    with pytest.raises(Exception, match="quantize"):
        validate({"data": "digits", "model": "cnn", "quantize": [{"name": "obq", "levels": 4}]})


# ---- Python


def made_tables():
    """Return a small table of two classes with the numbers of half of its rows."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(60, 4))
    return rows, (rows[:, 0] + rng.normal(size=60) > 0).astype(int), np.arange(30)


def names_of_pages():
    """Return the names that each page takes for granted."""
    rows, labels, members = made_tables()
    network = torch.nn.Linear(4, 2)
    target = {
        "network": network, "images": rows, "labels": labels, "members": members, "rows": rows,
        "make": lambda: torch.nn.Linear(4, 2), "RandomForestClassifier": RandomForestClassifier,
    }  # fmt: skip
    rng = np.random.default_rng(1)
    scores, member = rng.normal(size=400), rng.random(400) < 0.5
    statistics = {
        "scores": scores, "member": member, "measure": measure, "why_unmeasurable": why_unmeasurable,
        "patients": np.arange(400) // 2, "scores_of_known_non_members": scores,
        "threshold_for": bitleak.threshold_for, "precision": bitleak.precision,
        "at_threshold": bitleak.at_threshold,
    }  # fmt: skip
    tables = {
        "RandomForestClassifier": lambda **kw: RandomForestClassifier(1, **kw),
        "X": rows,
        "y": labels,
        "members": members,
    }
    return {
        "target.md": target,
        "files.md": target,
        "statistics.md": statistics,
        "tables.md": tables,
    }


def checked_call(*arguments, **options):
    """Check the arguments of `audit_model`, as the tests of audits run it, and return a stand-in."""
    inspect.signature(AUDIT_MODEL).bind(*arguments, **options)
    return types.SimpleNamespace(summary=lambda: "", report=lambda folder: None, table=None)


AUDIT_MODEL = bitleak.audit_model


def python_pages():
    pages = {}
    for block in blocks("python"):
        if block.page != "README.md":  # test_readme.py runs its Python
            pages.setdefault(block.page, []).append(block)
    return pages


@pytest.mark.parametrize(("page", "texts"), python_pages().items(), ids=python_pages())
def test_the_python_of_every_page_runs(page, texts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bitleak, "audit_model", checked_call, raising=False)
    names = {"bitleak": bitleak, **names_of_pages().get(page, {})}
    for block in texts:
        exec(compile(block.text, ids(block), "exec"), names)
    if page == "networks.md":
        assert names["make"](10, 3)(torch.zeros(2, 3, 8, 8)).shape == (2, 10)
    for written in tmp_path.glob("*.npz"):
        arrays = np.load(written)
        assert {"labels", "member"} < set(arrays)
        outputs = arrays["logits"] if "logits" in arrays else arrays["probabilities"]
        assert outputs.shape[:2] == arrays["member"].shape
