"""Origin of an outside network's code: a distribution and its version, or editable files."""

import functools
import importlib.util
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from bitleak.models.external import TIMM, split


@dataclass(frozen=True)
class Origin:
    """Origin of a factory's code.

    Attributes:
        made_by: Name and version of each distribution that has the factory's top-level package,
            such as `timm 1.0.9`; empty if no installed distribution has it.
        files: Its Python files, if no distribution has recorded them (a local module, an editable
            install).
    """

    made_by: str
    files: tuple[Path, ...]

    @property
    def changed(self) -> float:
        """Time of the newest file's last change, in seconds since 1970; 0 if there are none."""
        newest = 0.0
        for path in self.files:
            if path.exists():
                newest = max(newest, path.stat().st_mtime)
        return newest


def origin(factory: str) -> Origin:
    """Return the origin of a factory, whose module must be importable and is not imported.

    Args:
        factory: `timm:NAME` or `package.module:factory`.

    Example:
        >>> origin("yaml:load").made_by == f"PyYAML {metadata.version('PyYAML')}"
        True
    """
    package = ("timm" if factory.startswith(TIMM) else split(factory)[0]).partition(".")[0]
    names = _distributions(package)
    files = _files(package)
    versions: list[str] = []
    held: set[Path] = set()
    for name in names:
        versions.append(f"{name} {metadata.version(name)}")
        for file in metadata.files(name) or ():
            held.add(Path(str(file.locate())))
    made_by = ", ".join(versions)
    # An editable install has a distribution too, but its files are not among the recorded ones.
    if files and files[0] in held:
        return Origin(made_by, ())
    return Origin(made_by, files)


@functools.cache
def _distributions(package: str) -> tuple[str, ...]:
    """Names of the installed distributions that hold a top-level package."""
    return tuple(sorted(set(metadata.packages_distributions().get(package, ()))))


def _files(package: str) -> tuple[Path, ...]:
    """Return the Python files of a top-level package, or of a module."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):  # a module without a spec, made by hand
        return ()
    if spec is None:
        return ()
    files = [Path(spec.origin)] if spec.origin and spec.origin.endswith(".py") else []
    for folder in spec.submodule_search_locations or ():
        files += sorted(Path(folder).rglob("*.py"))
    return tuple(files)
