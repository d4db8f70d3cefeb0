"""What every stage takes and gives."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Params = Sequence[Mapping[str, Any]]
Progress = Callable[[float], None]
Artifacts = Any
