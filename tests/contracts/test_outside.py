"""Entries of every table from outside the package, named as `package.module:Name` in a config."""

import sys
import textwrap

import pytest

from bitleak.attacks import attack_entries, expand
from bitleak.config import validate
from bitleak.core.errors import ConfigError, ModelError
from bitleak.core.outside import versioned
from bitleak.core.types import ModelSpec
from bitleak.models import build

RAW = {"data": "digits", "model": "cnn", "quantize": [{"name": "rtn", "levels": 4}]}

ATTACK = """
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Loudest:
        name = "loudest"
        signal = "logit_scaled"
        uses_references = False
        fewest_population = 0

        def __call__(self, view):
            return view.target[..., 1].max(axis=1)

    class Silent(Loudest):
        name = "a&b"

    class Again(Loudest):
        name = "lira-online-fixed"

    NONE = ()
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Writes a module of a package `zoo` that can be imported in this test."""
    folder = tmp_path / "outside" / "zoo"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(folder.parent)

    def write(name, text):
        (folder / f"{name}.py").write_text(textwrap.dedent(text))

    yield write
    for module in [module for module in sys.modules if module.partition(".")[0] == "zoo"]:
        del sys.modules[module]


def test_an_attack_stands_for_its_default_form_and_keeps_its_name_in_parameters(package):
    package("attacks", ATTACK)
    assert [form.name for form in expand("zoo.attacks:Loudest@2")] == ["loudest"]
    assert attack_entries(["gap", "zoo.attacks:Loudest@2"]) == ["threshold-correct", "zoo.attacks:Loudest@2"]
    assert validate({**RAW, "attacks": ["zoo.attacks:Loudest"]}).attacks == ("zoo.attacks:Loudest",)


def test_the_version_of_a_distribution_is_a_part_of_the_name_in_parameters():
    assert versioned("yaml:load").startswith("yaml:load@PyYAML ")
    assert versioned("yaml:load@3").startswith("yaml:load@3, PyYAML ")
    assert versioned("adaround") == "adaround"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("zoo.attacks", "unknown attack 'zoo.attacks'"),
        ("zoo.attacks:", r"attack must be a known name, 'package.module:Name' or .*, got 'zoo.attacks:'"),
        ("zoo.nothing:Loudest", r"cannot import zoo.nothing: No module named 'zoo.nothing' \(is it installed"),
        ("zoo.attacks:Louder", "module zoo.attacks has no Louder"),
        ("zoo.attacks:dataclass", r"must be an attack with name, signal, .*, got function"),
        ("zoo.attacks:NONE", "names an empty tuple"),
        ("zoo.attacks:Silent", r"name must hold at most 60 letters, .*, got 'a&b'"),
        ("zoo.attacks:Again", "another attack is called 'lira-online-fixed' too"),
        ("__main__:Loudest", "is in the script that was started; put it in a module of its own"),
        ("zoo.broken:Loudest", "cannot import zoo.broken: ZeroDivisionError: division by zero"),
    ],
)
def test_an_attack_that_cannot_be_used_is_refused_before_any_work(package, entry, message):
    package("attacks", ATTACK)
    package("broken", "1 / 0")
    with pytest.raises(ConfigError, match=rf"^attacks: .*{message}"):
        validate({**RAW, "attacks": ["threshold", entry]})


def test_weights_cannot_name_code_as_a_model_of_the_registry():
    with pytest.raises(ModelError, match="unknown model 'os:getcwd'"):
        build(ModelSpec("os:getcwd", {}, 10, 1, 8, (0.3,), (0.4,)))
