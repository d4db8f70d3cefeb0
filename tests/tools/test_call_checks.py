"""The checks of every call: that they are there, and that right calls pass."""

import importlib
import sys

import call_checks
import numpy as np
import pytest
from jaxtyping import TypeCheckError

import bitleak.core.types

CODE = """
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64

if TYPE_CHECKING:
    from nowhere import Unknown

Vector = Float64[np.ndarray, "records"]


@dataclass(frozen=True)
class Pair:
    first: Vector
    second: Vector

    def scaled(self, factor: float) -> "Pair":
        return Pair(self.first * factor, self.second * factor)

    @classmethod
    def twice(cls, values: Vector) -> "Pair":
        return cls(values, values)

    @property
    def size(self) -> int:
        return "two"


def weighted(values: Vector, weights: Vector | None = None, *, unknown: "Unknown" = 0) -> Vector:
    return values if weights is None else (values * weights)[: len(values) - unknown]


@cache
def name(number: int) -> str:
    return number if number < 0 else str(number)


def outer(value: object) -> int:
    def inner(number: int) -> int:
        return number

    return inner(value)


def numbers(count: int) -> Iterator[int]:
    yield from range(count)


def plain(value):
    return value
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checked")
    (folder / "checked_package.py").write_text(CODE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setattr(sys, "meta_path", list(sys.meta_path))
        call_checks.install("checked_package")
        yield importlib.import_module("checked_package")


ONE, TWO = np.ones(1), np.ones(2)

WRONG = {
    "another size": lambda package: package.weighted(TWO, ONE),
    "a result of another size": lambda package: package.weighted(TWO, TWO, unknown=1),
    "another dtype": lambda package: package.weighted(np.ones(2, np.float32)),
    "another rank": lambda package: package.weighted(np.ones((2, 2))),
    "a field": lambda package: package.Pair(TWO, ONE),
    "a method": lambda package: package.Pair(TWO, TWO).scaled("2"),
    "a class method": lambda package: package.Pair.twice("2"),
    "a property's result": lambda package: package.Pair(TWO, TWO).size,
    "an argument below a decorator": lambda package: package.name("1"),
    "a result below a decorator": lambda package: package.name(-1),
    "a function inside": lambda package: package.outer("1"),
    "a generator's argument": lambda package: package.numbers("1"),
}


@pytest.mark.parametrize("call", WRONG)
def test_a_wrong_call_is_refused(package, call):
    with pytest.raises(TypeCheckError):
        WRONG[call](package)


def test_right_calls_give_their_results(package):
    for _ in range(2):  # the first call prepares the check
        assert package.weighted(TWO).tolist() == [1, 1]
        assert package.weighted(ONE, ONE).tolist() == [1]
        assert package.Pair.twice(ONE).scaled(2.0).first.tolist() == [2]
        assert package.name(1) == "1"
        assert package.outer(1) == 1
        assert list(package.numbers(2)) == [0, 1]
        assert package.plain("x") == "x"


def test_checks_can_be_left_out_for_a_while(package, unchecked):
    with unchecked():
        assert package.outer("1") == "1"
    with pytest.raises(TypeCheckError):
        package.outer("1")


def test_the_package_itself_is_checked():
    with pytest.raises(TypeCheckError):
        bitleak.core.types.input_shape("3", 32)
