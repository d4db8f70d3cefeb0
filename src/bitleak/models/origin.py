"""Where the code of an outside network comes from: its distribution
and version, or files that anybody may edit.
"""

import functools
import importlib.util
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from bitleak.models.external import TIMM, split


@dataclass(frozen=True)
class Origin:
    """Where the code of a factory comes from.

    Attributes:
        made_by: Name and version of each distribution that has the factory's top-level package,
            such as `timm 1.0.9`; empty if no installed distribution has it.
        files: Its Python files, if no distribution holds them as they are (a local module, an
            editable install).
    """

    made_by: str
    files: tuple[Path, ...]

    @property
    def changed(self) -> float:
        """When the newest of the files was written, in seconds since 1970; 0 if there are none."""
        return max((path.stat().st_mtime for path in self.files if path.exists()), default=0.0)


def origin(factory: str) -> Origin:
    """The origin of a factory, whose module must be importable; it is not imported for this.

    Args:
        factory: `timm:NAME` or `package.module:factory`.

    Example:
        >>> origin("yaml:load").made_by == f"PyYAML {metadata.version('PyYAML')}"
        True
    """
    package = ("timm" if factory.startswith(TIMM) else split(factory)[0]).partition(".")[0]
    names = _distributions(package)
    made_by = ", ".join(f"{name} {metadata.version(name)}" for name in names)
    files = _files(package)
    held: set[Path] = set()
    for name in names:
        held.update(Path(str(file.locate())) for file in metadata.files(name) or ())
    if files and files[0] in held:
        return Origin(made_by, ())
    return Origin(made_by, files)


@functools.cache
def _distributions(package: str) -> tuple[str, ...]:
    """Names of the installed distributions that hold a top-level package."""
    return tuple(sorted(set(metadata.packages_distributions().get(package, ()))))


def _files(package: str) -> tuple[Path, ...]:
    """The Python files of a top-level package, or of a module."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):  # a module without a spec, made by hand
        return ()
    if spec is None:
        return ()
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    first = [Path(spec.origin)] if spec.origin and spec.origin.endswith(".py") else []
    files = list(first)
    for folder in folders:
        files += sorted(folder.rglob("*.py"))
    return tuple(files)
