"""An attack from outside, called so that it cannot change what others are given, and is named where it fails.

All attacks on a target share one view. Code from outside gets its arrays read-only, and draws from global
generators that are seeded by what it is shown, so that its scores depend neither on other attacks nor on
the number of workers. Its scores are checked when they are made, not by the stage that reads them.
"""

import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from bitleak.attacks.attack import Attack
from bitleak.core.errors import AttackError, UnfitView
from bitleak.core.outside import what_it_raised
from bitleak.core.seeds import seeded_python_and_numpy
from bitleak.core.types import AttackView, Scores, SignalName


@dataclass(frozen=True)
class OutsideAttack:
    """An attack from outside as the rest of bitleak calls it.

    Attributes:
        form: The attack; further attributes are its own.
    """

    form: Attack

    @property
    def name(self) -> str:
        """Its name."""
        return self.form.name

    @property
    def signal(self) -> SignalName:
        """Its signal."""
        return self.form.signal

    @property
    def uses_references(self) -> bool:
        """Whether it reads references."""
        return self.form.uses_references

    @property
    def fewest_population(self) -> int:
        """Its fewest population records."""
        return self.form.fewest_population

    def __getattr__(self, name: str) -> Any:
        if name == "form" or name.startswith("__"):  # while a copy is made, there is no form yet
            raise AttributeError(name)
        return getattr(self.form, name)

    def __call__(self, view: AttackView) -> Scores:
        """Return its scores, in float64.

        Raises:
            AttackError: It raises an error, or its scores are not one finite number per record.
        """
        records = len(view.labels)
        with _seeded(zlib.crc32(view.target.tobytes(), zlib.crc32(self.name.encode()))):
            try:
                scores = self.form(read_only(view))
            except UnfitView:  # an explicit check of the answers, which callers know
                raise
            except Exception as error:  # foreign code may raise anything
                raise AttackError(f"attack {self.name!r}: {what_it_raised(error)}") from error
        found = np.asarray(scores)
        if found.shape != (records,) or found.dtype.kind not in "biuf":
            raise AttackError(
                f"attack {self.name!r} must return one number per audited record, {records}, got "
                f"{found.dtype} of shape {found.shape}"
            )
        if not np.isfinite(found).all():
            first = int(np.flatnonzero(~np.isfinite(found))[0])
            raise AttackError(
                f"attack {self.name!r} must return finite scores, got {found[first]} at record {first}"
            )
        return found.astype(np.float64)


def read_only(view: AttackView) -> AttackView:
    """Return a view of the same answers whose arrays cannot be written to; nothing is copied.

    Example:
        >>> from bitleak.attacks.attack_views import attack_view
        >>> answers, none, nobody = np.zeros((1, 1, 6)), np.zeros((0, 1, 1, 6)), np.zeros((0, 1), bool)
        >>> view = attack_view(target=answers, references=none, member=nobody, use=nobody, population_target=answers,
        ...                    population_references=none, labels=np.zeros(1, np.int64))
        >>> read_only(view).target.flags.writeable, answers.flags.writeable
        (False, True)
    """
    changed: dict[str, Any] = {}
    for field in fields(view):
        value = getattr(view, field.name)
        if isinstance(value, np.ndarray):
            changed[field.name] = value.view()
            changed[field.name].flags.writeable = False
    locked = replace(view, **changed)
    object.__setattr__(locked, "shared", view.shared)
    return locked


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the global generators of NumPy, Python and, if it is loaded, PyTorch; restore them afterwards."""
    torch: Any = sys.modules.get("torch")
    drawn = None if torch is None else torch.get_rng_state()
    try:
        if torch is not None:
            torch.default_generator.manual_seed(seed)
        with seeded_python_and_numpy(seed):
            yield
    finally:
        if torch is not None:
            torch.set_rng_state(drawn)
