"""Which rows of a membership matrix are attacked, and which models serve each of them as references.

The matrix comes from elsewhere, so it may be anything. For each target the models whose training sets tell the target's
are left out, and of the others as many IN as OUT references are used for every record, the same number for all, drawn
at random where a record has more (`serving_models`). Otherwise counts would tell members from non-members.

A record that fewer than 3 models were trained on, or fewer than 3 were not, cannot have 2 references on both sides
and is left out for all targets. The rule counts the whole column, the target included, so that being left out says
nothing about the target's membership. Where no record remains (there are fewer than 6 models), no target has references
and only attacks that need none can run.
"""

import math
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from bitleak.answers.serving_models import Serving, mask, per_side, serving, tells, usable
from bitleak.attacks import split_numbers
from bitleak.core.errors import ConfigError, DataError
from bitleak.core.types import SplitMode

MODE: SplitMode = "population"
"""The targets share their records, so intervals resample records."""

MOST_KEPT = 16
"""Targets whose draws of references are kept; the draws of others are repeated."""

FEWEST_MODELS = 3
"""Models with a record, and models without it, that it takes: the target or its complement, and 2 references."""


@dataclass(frozen=True)
class Design:
    """Targets, records and references.

    Attributes:
        member: Membership of the audited records, without the records left out.
        split: Number of each model's training set, see `AttackView.split`.
        targets: Rows that are attacked.
        records: Positions of the audited records in the source, ascending.
        left_out: Positions of the others.
        serving: The models that serve each target; empty if not `referenced`.
        referenced: Whether the targets have references.
        seed: Seed for the draw of references, if a record has more than others.
        drawn: Draws for the first targets that were asked for, a bit per reference and record.
    """

    member: Bool[np.ndarray, "models records"]
    split: Int64[np.ndarray, "models"]
    targets: tuple[int, ...]
    records: Int64[np.ndarray, "records"]
    left_out: Int64[np.ndarray, "left_out"]
    serving: tuple[Serving, ...]
    referenced: bool
    seed: int
    drawn: dict[int, UInt8[np.ndarray, "bytes"]] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )

    @property
    def complements(self) -> tuple[int, ...]:
        """The first row that is each target's complement, or -1."""
        return tuple(
            int(next(iter(np.flatnonzero(self.split == -self.split[row])), -1))
            for row in self.targets
        )

    def references(
        self, target: int
    ) -> tuple[Int64[np.ndarray, "refs"], Bool[np.ndarray, "refs records"]]:
        """Return the rows that serve a target as references, ascending, and which of them to use for which record."""
        if not self.referenced:
            return np.empty(0, np.int64), np.empty((0, len(self.records)), bool)
        of = self.serving[self.targets.index(target)]
        shape = (len(of.rows), len(self.records))
        if target not in self.drawn:
            use = mask(self.member, self.split, of, self.seed, target)
            if len(self.drawn) == MOST_KEPT:
                return of.rows, use
            self.drawn[target] = np.packbits(use)
        packed = self.drawn[target]
        return of.rows, np.unpackbits(packed, count=math.prod(shape)).astype(bool).reshape(shape)

    def reference_rows(self, target: int) -> Int64[np.ndarray, "refs"]:
        """Return the rows that serve a target as references, ascending."""
        if not self.referenced:
            return np.empty(0, np.int64)
        return self.serving[self.targets.index(target)].rows

    def per_side(self) -> int:
        """Return the fewest references per side over all targets, the same for every record of a target."""
        fewest = [per_side(self.member, self.split, of) for of in self.serving]
        return min(fewest, default=0)


def attack_design(
    member: Bool[np.ndarray, "models records"],
    targets: tuple[int, ...],
    *,
    references: bool,
    seed: int,
    source: str,
    labels: Int64[np.ndarray, "records"] | None = None,
) -> Design:
    """Return the design of a run on a membership matrix.

    Args:
        member: True where the model was trained on the record.
        targets: Rows to attack.
        references: Whether an attack needs references.
        seed: Seed for the draw of references.
        source: For messages.
        labels: Classes of the records, if known: that two models lack the same class does not relate them.

    Raises:
        DataError: A target has no members or no non-members left.

    Example:
        >>> member = np.array([[1, 0, 1, 0], [0, 1, 0, 1]] * 2 + [[1, 1, 0, 0], [0, 0, 1, 1]] * 2, bool)
        >>> found = attack_design(member, (0,), references=True, seed=0, source="FILE")
        >>> found.complements, found.references(0)[0].tolist(), found.per_side()
        ((1,), [4, 5, 6, 7], 2)
    """
    inside = member.sum(axis=0)
    enough = (inside >= FEWEST_MODELS) & (len(member) - inside >= FEWEST_MODELS)
    served: tuple[Serving, ...] = ()
    if references and enough.any():
        known = np.flatnonzero(enough)
        shown, split = member[:, known], split_numbers(member[:, known])
        served = serving(shown, split, targets, None if labels is None else labels[known])
        for of, target in zip(served, targets, strict=True):
            enough[known] &= usable(shown, split, of, target)
    # where leaving records out leaves no target anything to be attacked on, none are left out
    referenced = references and any(0 < member[row, enough].sum() < enough.sum() for row in targets)
    if referenced:
        referenced = not _telling(member, enough, split, served, targets, labels, source)
    kept = enough if referenced else np.ones_like(enough)
    audited = np.ascontiguousarray(member[:, kept])
    for row in targets:
        members = int(audited[row].sum())
        if members in (0, audited.shape[1]):
            left = (
                f" after {int((~kept).sum())} records were left out"
                if referenced and not kept.all()
                else ""
            )
            raise DataError(
                f"{source}: target {row} must have members and non-members, got {members} members of "
                f"{audited.shape[1]} records{left}; name other models with --targets"
            )
    return Design(
        member=audited,
        split=split if referenced else split_numbers(audited),
        targets=targets,
        records=np.flatnonzero(kept),
        left_out=np.flatnonzero(~kept),
        serving=served if referenced else (),
        referenced=referenced,
        seed=seed,
    )


def _telling(
    member: Bool[np.ndarray, "models records"],
    enough: Bool[np.ndarray, "records"],
    split: Int64[np.ndarray, "models"],
    served: tuple[Serving, ...],
    targets: tuple[int, ...],
    labels: Int64[np.ndarray, "records"] | None,
    source: str,
) -> bool:
    """Whether no target can be given references that do not tell its membership.

    Raises:
        DataError: This holds for some targets only.
    """
    shown, known = member[:, enough], None if labels is None else labels[enough]
    found = [
        row for of, row in zip(served, targets, strict=True) if tells(shown, split, of, row, known)
    ]
    if found and len(found) < len(targets):
        raise DataError(
            f"{source}: what the references of target {found[0]} were trained on tells its members, though "
            f"as many were trained on each record as were not ({len(found)} such targets); name others with --targets"
        )
    return bool(found)


def chosen_targets(
    text: str | None, names: tuple[str, ...], allowed: tuple[int, ...]
) -> tuple[int, ...]:
    """Return the rows that `--targets` names, ascending; all allowed rows if it is None.

    Args:
        text: Names of models, or row numbers where the names are not numbers, with commas between them.
        names: Names of all rows.
        allowed: Rows that may be attacked.

    Raises:
        ConfigError: There is no such row, or it is not allowed, or it is named twice.

    Example:
        >>> chosen_targets("2,0", ("0", "1", "2"), (0, 1, 2))
        (0, 2)
    """
    if text is None:
        return allowed
    rows = [_row(part.strip(), names) for part in text.split(",")]
    for row in rows:
        if row not in allowed:
            raise ConfigError(f"--targets: the quantized file has no answers of model {names[row]}")
    if len(set(rows)) != len(rows):
        raise ConfigError(f"--targets: a model is named twice in {text!r}")
    return tuple(sorted(rows))


def _row(part: str, names: tuple[str, ...]) -> int:
    if part in names:
        return names.index(part)
    numbered = all(name.isdigit() for name in names)
    if not numbered and part.isdigit() and int(part) < len(names):
        return int(part)
    span = (
        f"from 0 to {len(names) - 1}"
        if names == tuple(map(str, range(len(names))))
        else f"of {', '.join(names)}"
    )
    raise ConfigError(f"--targets must be models {span}, got {part!r}")
