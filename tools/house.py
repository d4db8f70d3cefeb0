"""Measure how a package is built: names, files, comments, comprehensions, import cycles.

    python tools/house.py src/bitleak                          # the table
    python tools/house.py src/bitleak --against OTHER/bitleak  # two trees side by side
    python tools/house.py src/bitleak --list pronouns          # every place, as FILE:LINE: text

Nothing is imported or run: the files are parsed. Standard library only, so it measures any package.
The measures:

modules, lines   Python files, and their lines.
short, long      modules under 80 lines (`__init__` and `__main__` aside), and over 400.
file-names       file names used in two or more folders, `__init__` and `__main__` aside.
public-names     functions, classes and types at a module's top level, without a leading underscore,
                 whose name is defined in two or more modules. Imported names do not count.
constants        constants likewise (names in capitals).
pronouns         bound names that are in PRONOUNS, as a share of all bound names. Every place that
                 binds a name counts once: parameters, assignments, loop variables, fields, `with`,
                 `except`, functions and classes. Not imports.
comments         lines that hold a comment, as a share of lines that hold code. Marks for tools
                 (`noqa`, `type: ignore`, `pragma`, `fmt`) do not count.
comprehensions   comprehensions and generator expressions per 100 statements.
nested           comprehensions inside a comprehension, or with two `for`.
unpacked         comprehensions and generator expressions unpacked with `*`.
long-lines       lines of more than 100 characters, as a share of all lines.
uncommented      functions of more than 25 lines, docstring aside, without a comment.
median           median number of lines of a function, docstring aside.
cycles           groups of modules that import each other in a circle when they are loaded. Imports
                 inside functions and under TYPE_CHECKING are left out.
heads            docstrings, and entries of their Args or fields, that begin with a word of HEADS.
phrases          places in docstrings and comments that match PHRASES.
"""

import argparse
import ast
import io
import re
import statistics
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_WORDS = """
    about all another any anything asked both each either everything found given had here it its
    itself kept many more most much neither none nobody nothing one ones other others own said same
    several some something such that their them there these they this those told wanted what
    whatever which who whoever whole whom whose
"""
PRONOUNS = frozenset(_WORDS.split())
HEADS = ("Of", "Those", "The same", "What")
PHRASES = re.compile(
    r"\b(a side|so many|so much|none where|whoever|whatever|nobody|lest|shall|behind|is asked|are asked"
    r"|what (?!to\b)\w+)\b",
    re.IGNORECASE,
)
TOOL_MARKS = re.compile(r"#\s*(noqa|type:|pragma|fmt:|ruff:|mypy:|!)")
ENTRY = re.compile(r"^\s+\*{0,2}\w+(?: \([^)]*\))?: (.*)$")
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
DOCUMENTED = (ast.Module, ast.ClassDef, *FUNCTIONS)
SHORT_MODULE, LONG_MODULE, LONG_FUNCTION, LONG_LINE = 80, 400, 25, 100


@dataclass(frozen=True)
class Place:
    """A line of a file, with its text or the name that was counted there."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}"


@dataclass(frozen=True)
class Module:
    """A parsed file of the package."""

    path: Path
    name: str  # dotted, from the outermost package
    shown: str  # the path in lists of places
    text: str
    tree: ast.Module
    comments: dict[int, str]  # line -> comment, marks for tools left out
    code: frozenset[int]  # lines that hold code
    docstrings: frozenset[int]  # lines of docstrings

    @property
    def lines(self) -> list[str]:
        """Lines of the text."""
        return self.text.splitlines()

    @property
    def is_entry(self) -> bool:
        """Whether every package may have a file of this name."""
        return self.path.stem in ("__init__", "__main__")


@dataclass
class Measure:
    """A figure, with the places that it counts."""

    title: str
    value: str = ""
    places: list[Place] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="the package's folder")
    parser.add_argument("--against", type=Path, help="another tree, shown beside it")
    parser.add_argument(
        "--list", dest="listed", metavar="NAME", help="print the places of a measure"
    )
    options = parser.parse_args()
    for folder in (options.folder, options.against):
        if folder is not None and not any(folder.rglob("*.py")):
            parser.error(f"no Python file in {folder}")

    measures = measure_package(options.folder)
    if options.listed:
        if options.listed not in measures:
            parser.error(f"unknown measure {options.listed!r}; known: {', '.join(measures)}")
        for place in measures[options.listed].places:
            print(place)
        return
    columns = [measures]
    if options.against is not None:
        columns.append(measure_package(options.against))
    print(side_by_side(columns, [str(options.folder), str(options.against)]))


def side_by_side(columns: list[dict[str, Measure]], heads: list[str]) -> str:
    """Return a Markdown table with a line for each measure and a column for each tree."""
    rows = [["measure", "", *heads[: len(columns)]], ["---"] * (2 + len(columns))]
    for name, measure in columns[0].items():
        values = [column[name].value for column in columns]
        rows.append([name, measure.title, *values])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def measure_package(folder: Path) -> dict[str, Measure]:
    """Measure every Python file below a folder.

    Args:
        folder: Folder of a package, or a folder inside one.

    Returns:
        Measures by name, in the order of the module docstring.

    Raises:
        SyntaxError: If a file is not Python.
    """
    modules = [_read(path, folder) for path in sorted(folder.rglob("*.py"))]
    return {
        "modules": _modules(modules),
        "lines": Measure("lines", str(sum(len(module.lines) for module in modules))),
        "short": _short(modules),
        "long": _long(modules),
        "file-names": _file_names(modules),
        "public-names": _public_names("public names", modules, constants=False),
        "constants": _public_names("public constants", modules, constants=True),
        "pronouns": _pronouns(modules),
        "comments": _comments(modules),
        "comprehensions": _comprehensions(modules),
        "nested": _nested(modules),
        "unpacked": _unpacked(modules),
        "long-lines": _long_lines(modules),
        "uncommented": _uncommented(modules),
        "median": _median(modules),
        "cycles": _cycles(modules),
        "heads": _heads(modules),
        "phrases": _phrases(modules),
    }


# Reading


def _read(path: Path, folder: Path) -> Module:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text, filename=str(path))
    docstrings = frozenset(
        line for node in _docstrings(tree) for line in range(node.lineno, _end(node) + 1)
    )
    comments, code = _tokens(text)
    return Module(
        path=path,
        name=_dotted(path),
        shown=str(path.relative_to(folder)),
        text=text,
        tree=tree,
        comments=comments,
        code=code - docstrings,
        docstrings=docstrings,
    )


def _dotted(path: Path) -> str:
    """Return a module's dotted name: its folders upward for as long as they hold an `__init__.py`."""
    parts = [] if path.stem == "__init__" else [path.stem]
    folder = path.parent
    while (folder / "__init__.py").exists():
        parts.insert(0, folder.name)
        folder = folder.parent
    return ".".join(parts)


def _tokens(text: str) -> tuple[dict[int, str], frozenset[int]]:
    """Return comments by line, and the lines that hold anything else."""
    comments, code = {}, set()
    layout = {tokenize.NEWLINE, tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            if not TOOL_MARKS.match(token.string):
                comments[token.start[0]] = token.string
        elif token.type not in layout:
            code.update(range(token.start[0], token.end[0] + 1))
    return comments, frozenset(code)


def _docstrings(tree: ast.AST) -> Iterator[ast.Constant]:
    """Yield the string constants that are docstrings."""
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and node.body and isinstance(node.body[0], ast.Expr):
            value = node.body[0].value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield value


def _end(node: ast.AST) -> int:
    return getattr(node, "end_lineno", None) or node.lineno


def _functions(module: Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(module.tree):
        if isinstance(node, FUNCTIONS):
            yield node


def _length(module: Module, function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the number of lines of a function, from `def` to its end, docstring aside."""
    lines = range(function.lineno, _end(function) + 1)
    return sum(line not in module.docstrings for line in lines)


# Files and names


def _modules(modules: list[Module]) -> Measure:
    places = [Place(module.shown, 1, f"{len(module.lines)} lines") for module in modules]
    return Measure("modules", str(len(modules)), places)


def _short(modules: list[Module]) -> Measure:
    measure = Measure(f"modules under {SHORT_MODULE} lines")
    for module in modules:
        if not module.is_entry and len(module.lines) < SHORT_MODULE:
            measure.places.append(Place(module.shown, 1, f"{len(module.lines)} lines"))
    measure.value = str(len(measure.places))
    return measure


def _long(modules: list[Module]) -> Measure:
    measure = Measure(f"modules over {LONG_MODULE} lines")
    for module in modules:
        if len(module.lines) > LONG_MODULE:
            measure.places.append(Place(module.shown, 1, f"{len(module.lines)} lines"))
    measure.value = str(len(measure.places))
    return measure


def _file_names(modules: list[Module]) -> Measure:
    by_name: dict[str, list[Place]] = defaultdict(list)
    for module in modules:
        if not module.is_entry:
            by_name[module.path.name].append(Place(module.shown, 1, module.path.name))
    return _twice("file names used twice or more", by_name)


def _public_names(title: str, modules: list[Module], *, constants: bool) -> Measure:
    by_name: dict[str, list[Place]] = defaultdict(list)
    for module in modules:
        # Overloads and branches (`if`, `try`) define a name once for this module.
        defined: dict[str, int] = {}
        for name, line in _top_level(module.tree.body):
            if not name.startswith("_") and name.isupper() == constants:
                defined.setdefault(name, line)
        for name, line in defined.items():
            by_name[name].append(Place(module.shown, line, name))
    return _twice(f"{title} defined twice or more", by_name)


def _twice(title: str, by_name: dict[str, list[Place]]) -> Measure:
    """Return the names that have two or more places."""
    repeated = {name: places for name, places in sorted(by_name.items()) if len(places) > 1}
    measure = Measure(title, str(len(repeated)))
    for places in repeated.values():
        measure.places.extend(places)
    return measure


def _top_level(statements: list[ast.stmt]) -> Iterator[tuple[str, int]]:
    """Yield the functions, classes and constants that are defined when a module is loaded."""
    for statement in statements:
        if isinstance(statement, (ast.ClassDef, *FUNCTIONS)):
            yield statement.name, statement.lineno
        elif isinstance(statement, (ast.Assign, ast.AnnAssign)):
            # The variable of a comprehension on the right is not a name of the module.
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            for target in targets:
                for node in ast.walk(target):
                    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                        yield node.id, node.lineno
        elif isinstance(statement, ast.TypeAlias if hasattr(ast, "TypeAlias") else ()):
            yield statement.name.id, statement.lineno
        elif isinstance(statement, (ast.If, ast.Try, ast.With)):
            yield from _top_level(statement.body)
            yield from _top_level(getattr(statement, "orelse", []))


def _pronouns(modules: list[Module]) -> Measure:
    measure, bound = Measure("pronouns among bound names"), 0
    for module in modules:
        for name, line in sorted(_bound(module.tree), key=lambda binding: binding[1]):
            bound += 1
            # Names such as `__all__` are Python's.
            if name.strip("_") in PRONOUNS and not name.startswith("__"):
                measure.places.append(Place(module.shown, line, name))
    measure.value = _share(len(measure.places), bound)
    return measure


def _bound(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Yield every name that is bound somewhere, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, node.lineno
        elif isinstance(node, ast.arg) and node.arg not in ("self", "cls"):
            yield node.arg, node.lineno
        elif isinstance(
            node, (ast.ClassDef, ast.ExceptHandler, ast.MatchAs, ast.MatchStar, *FUNCTIONS)
        ):
            # `except` and `case` may bind no name.
            yield from [(node.name, node.lineno)] if node.name else []


# Text


def _comments(modules: list[Module]) -> Measure:
    measure, code = Measure("lines with a comment among lines of code"), 0
    for module in modules:
        code += len(module.code)
        for line, comment in module.comments.items():
            measure.places.append(Place(module.shown, line, comment))
    measure.value = _share(len(measure.places), code)
    return measure


def _long_lines(modules: list[Module]) -> Measure:
    measure, lines = Measure(f"lines over {LONG_LINE} characters"), 0
    for module in modules:
        lines += len(module.lines)
        for number, line in enumerate(module.lines, 1):
            if len(line) > LONG_LINE:
                measure.places.append(Place(module.shown, number, f"{len(line)} characters"))
    measure.value = _share(len(measure.places), lines)
    return measure


def _heads(modules: list[Module]) -> Measure:
    measure = Measure("docstring heads " + ", ".join(HEADS))
    heads = re.compile(rf"({'|'.join(HEADS)})\b")
    for module in modules:
        for node in _docstrings(module.tree):
            for offset, line in enumerate(node.value.splitlines()):
                # The first line is the docstring's head; later ones count where they describe a field.
                entry = ENTRY.match(line) if offset else re.match(r"\s*(.*)$", line)
                if entry and heads.match(entry[1]):
                    measure.places.append(Place(module.shown, node.lineno + offset, line.strip()))
    measure.value = str(len(measure.places))
    return measure


def _phrases(modules: list[Module]) -> Measure:
    measure = Measure("phrases to write anew")
    for module in modules:
        prose = dict(module.comments)
        for line in module.docstrings:
            prose[line] = module.lines[line - 1].strip()
        for line, text in sorted(prose.items()):
            measure.places.extend(Place(module.shown, line, text) for _ in PHRASES.finditer(text))
    measure.value = str(len(measure.places))
    return measure


# Statements


def _comprehensions(modules: list[Module]) -> Measure:
    measure, statements = Measure("comprehensions per 100 statements"), 0
    for module in modules:
        for node in ast.walk(module.tree):
            statements += isinstance(node, ast.stmt)
            if isinstance(node, COMPREHENSIONS):
                measure.places.append(_source(module, node))
    measure.value = f"{100 * len(measure.places) / max(statements, 1):.1f}"
    return measure


def _nested(modules: list[Module]) -> Measure:
    measure = Measure("comprehensions nested or with two `for`")
    for module in modules:
        inner: dict[ast.AST, None] = {}
        for node in ast.walk(module.tree):
            if isinstance(node, COMPREHENSIONS):
                below = (child for child in ast.walk(node) if child is not node)
                inner.update((child, None) for child in below if isinstance(child, COMPREHENSIONS))
                if len(node.generators) > 1:
                    inner[node] = None
        measure.places.extend(_source(module, node) for node in inner)
    measure.value = str(len(measure.places))
    return measure


def _unpacked(modules: list[Module]) -> Measure:
    measure = Measure("comprehensions unpacked with `*`")
    for module in modules:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Starred) and isinstance(node.value, COMPREHENSIONS):
                measure.places.append(_source(module, node))
    measure.value = str(len(measure.places))
    return measure


def _uncommented(modules: list[Module]) -> Measure:
    measure = Measure(f"functions over {LONG_FUNCTION} lines without a comment")
    for module in modules:
        for function in _functions(module):
            lines, length = range(function.lineno, _end(function) + 1), _length(module, function)
            if length > LONG_FUNCTION and not any(line in module.comments for line in lines):
                text = f"{function.name}, {length} lines"
                measure.places.append(Place(module.shown, function.lineno, text))
    measure.value = str(len(measure.places))
    return measure


def _median(modules: list[Module]) -> Measure:
    measure, lengths = Measure("median lines of a function"), []
    for module in modules:
        for function in _functions(module):
            lengths.append(_length(module, function))
            text = f"{function.name}, {lengths[-1]} lines"
            measure.places.append(Place(module.shown, function.lineno, text))
    measure.value = f"{statistics.median(lengths):g}" if lengths else "-"
    return measure


# Imports


def _cycles(modules: list[Module]) -> Measure:
    by_name = {module.name: module for module in modules}
    imports = {module.name: _imports(module, by_name) for module in modules}
    measure = Measure("import cycles")
    cycles = [group for group in _components(imports) if len(group) > 1]
    for group in cycles:
        places = [Place(by_name[name].shown, 1, " <-> ".join(sorted(group))) for name in group]
        measure.places.extend(sorted(places, key=str))
    measure.value = str(len(cycles))
    return measure


def _imports(module: Module, by_name: dict[str, Module]) -> set[str]:
    """Return the package's modules that a module imports when it is loaded."""
    imported: set[str] = set()
    for statement in _loaded(module.tree.body):
        if isinstance(statement, ast.Import):
            imported.update(alias.name for alias in statement.names)
        else:
            origin = _origin(module, statement)
            for alias in statement.names:
                submodule = f"{origin}.{alias.name}"
                imported.add(submodule if submodule in by_name else origin)
    return (imported & by_name.keys()) - {module.name}


def _loaded(statements: list[ast.stmt]) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield imports outside functions and outside `if TYPE_CHECKING`."""
    for statement in statements:
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            yield statement
        elif isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.dump(statement.test):
            yield from _loaded(statement.orelse)
        elif isinstance(statement, (ast.If, ast.Try, ast.With, ast.ClassDef)):
            yield from _loaded(statement.body)
            yield from _loaded(getattr(statement, "orelse", []))


def _origin(module: Module, statement: ast.ImportFrom) -> str:
    """Return the dotted name after `from`, with leading dots resolved."""
    if not statement.level:
        return statement.module or ""
    parts = module.name.split(".")
    climb = statement.level - (module.path.stem == "__init__")
    base = parts[: len(parts) - climb]
    return ".".join([*base, statement.module] if statement.module else base)


def _components(edges: dict[str, set[str]]) -> list[list[str]]:
    """Return the strongly connected components of a graph (Tarjan 1972)."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    components: list[list[str]] = []

    def visit(node: str) -> None:
        order[node] = lowest[node] = len(order)
        stack.append(node)
        for neighbour in sorted(edges[node]):
            if neighbour not in order:
                visit(neighbour)
                lowest[node] = min(lowest[node], lowest[neighbour])
            elif neighbour in stack:
                lowest[node] = min(lowest[node], order[neighbour])
        # A node that reaches nothing older closes a component: all that is above it on the stack.
        if lowest[node] == order[node]:
            start = stack.index(node)
            components.append(stack[start:])
            del stack[start:]

    for node in sorted(edges):
        if node not in order:
            visit(node)
    return components


def _source(module: Module, node: ast.AST) -> Place:
    return Place(module.shown, node.lineno, module.lines[node.lineno - 1].strip())


def _share(part: int, whole: int) -> str:
    return f"{100 * part / max(whole, 1):.1f} % ({part})"


if __name__ == "__main__":
    main()
