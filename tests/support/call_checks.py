"""Checks of shapes and types for every call of the package, installed before it is imported.

As jaxtyping's own import hook does it, each function's arguments and result are compared with its
annotations, and each dataclass's fields when it is made. Three things make it cheap enough for
thousands of tests: a function is prepared at its first call and not at import; only functions
that name arrays open a scope for the sizes of axes; and arguments are checked once per call.
"""

import ast
import functools
import hashlib
import inspect
import sys
import types
import typing
from dataclasses import is_dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder, SourceFileLoader
from pathlib import Path

import jaxtyping
from beartype import BeartypeConf, beartype
from jaxtyping import AbstractArray, jaxtyped

MARK = "__checked_call__"
TAG = "checked" + hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]
"""Part of the names of bytecode files, so that a change of this file makes them anew."""

typed = beartype(conf=BeartypeConf(violation_type=jaxtyping.TypeCheckError))


def install(package):
    """Check every call of a package, which is not yet imported."""
    assert package not in sys.modules, f"{package} is imported already"
    sys.meta_path.insert(0, Finder(package))


class Finder(MetaPathFinder):
    """Modules of one package, whose functions and dataclasses are checked."""

    def __init__(self, package):
        self.package = package

    def find_spec(self, fullname, path=None, target=None):
        if fullname.split(".")[0] != self.package:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = Loader(spec.loader.name, spec.loader.path)
        return spec


class Loader(SourceFileLoader):
    """A module with a decorator at every function and class; its bytecode has a file of its own."""

    def exec_module(self, module):
        setattr(module, MARK, checked)
        super().exec_module(module)

    def source_to_code(self, data, path, *, _optimize=-1):
        tree = ast.parse(data, path)
        for node in ast.walk(tree):
            # first at a class, whose dataclass is made before; last at a function, which others wrap
            place = {ast.ClassDef: 0, ast.FunctionDef: len(getattr(node, "decorator_list", ()))}
            if type(node) in place:
                decorator = ast.copy_location(ast.Name(MARK, ast.Load()), node)
                node.decorator_list.insert(place[type(node)], decorator)
        return compile(tree, path, "exec", dont_inherit=True, optimize=_optimize)

    def get_data(self, path):
        return super().get_data(own_file(path))

    def set_data(self, path, data, **options):
        super().set_data(own_file(path), data, **options)


def own_file(path):
    return f"{path.removesuffix('.pyc')}.{TAG}.pyc" if str(path).endswith(".pyc") else path


def checked(subject):
    """The function whose calls are checked, or the dataclass whose fields are."""
    if not inspect.isclass(subject):
        return checked_function(subject)
    if is_dataclass(subject) and not hasattr(subject.__init__, MARK):
        subject.__init__ = checked_function(subject.__init__)
    return subject


def checked_function(function):
    if not function.__annotations__:
        return function
    prepared = None

    @functools.wraps(function)
    def call(*args, **kwargs):
        nonlocal prepared
        __tracebackhide__ = True
        if jaxtyping.config.jaxtyping_disable:
            return function(*args, **kwargs)
        if prepared is None:
            prepared = prepare(function)
        return prepared(*args, **kwargs)

    setattr(call, MARK, True)
    return call


def prepare(function):
    """The function with its checks, made when the names of its annotations are all defined."""
    if inspect.isgeneratorfunction(function) or inspect.iscoroutinefunction(function):
        return jaxtyped(function, typechecker=beartype)  # its result is the generator, not a value
    hints = {
        name: resolved(hint, function.__globals__)
        for name, hint in function.__annotations__.items()
    }
    same = types.FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )  # fmt: skip
    same.__kwdefaults__ = function.__kwdefaults__
    same.__qualname__, same.__module__ = function.__qualname__, function.__module__
    same.__annotations__ = hints
    narrow = typed(same)
    if not any(map(names_arrays, hints.values())):
        return narrow

    def scoped(*args, **kwargs):
        __tracebackhide__ = True
        with jaxtyped("context"):
            return narrow(*args, **kwargs)

    return scoped


def resolved(hint, names):
    """The annotation as a type; `Any` if it names something that exists for type checkers only."""

    def holder(value: hint): ...

    try:
        return typing.get_type_hints(holder, names, include_extras=True)["value"]
    except Exception:
        return typing.Any


def names_arrays(hint):
    if inspect.isclass(hint) and issubclass(hint, AbstractArray):
        return True
    return any(map(names_arrays, typing.get_args(hint)))
