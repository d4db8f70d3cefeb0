"""The aggregated rows (`target = all`) of an audit, found by what they measure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bitleak.core.errors import StoreError
from bitleak.core.types import Measure, Row
from bitleak.core.variants import CONTROL, FULL, question_of
from bitleak.report.format import REFERENCES

ALL = "all"
__all__ = ["ALL", "CONTROL", "FULL", "Table", "Variant", "tabulate"]


@dataclass(frozen=True)
class Variant:
    """One variant of the audited networks.

    Attributes:
        name: As in `Row.variant`.
        quantizer: As in `Row.quantizer`.
        levels: As in `Row.levels`; 0 for a quantized variant whose precision is not stated.
    """

    name: str
    quantizer: str
    levels: int | None

    @property
    def family(self) -> tuple[str, str]:
        """What one line of a figure joins: the quantizer and what follows a `+` in the name."""
        return self.quantizer, self.name.partition("+")[2]


@dataclass(frozen=True)
class Table:
    """The aggregated measures.

    Attributes:
        cells: By variant, attack, reference and metric.
        quantized: The quantized variants, in the order of the rows; not several releases together, nor noise.
        attacks: Attacks on one release and its training set, in the order of the rows.
    """

    cells: Mapping[tuple[str, str, str, str], Measure]
    quantized: tuple[Variant, ...]
    attacks: tuple[str, ...]

    def find(self, variant: str, metric: str, attack: str = "", reference: str = "") -> Measure | None:
        """The measure, or None where there is no such row.

        A full-precision target has the same references under every kind, and so has the control, so
        where their rows are listed under `fp32` only, those answer for the other kinds.
        """
        cell = self.cells.get((variant, attack, reference, metric))
        if cell is None and variant in (FULL, CONTROL) and reference:
            return self.cells.get((variant, attack, FULL, metric))
        return cell

    def references(self, attack: str) -> tuple[str, ...]:
        """The kinds of reference that the attack was run with, the least knowing adversary first."""
        present = {reference for variant, name, reference, _ in self.cells if name == attack and variant != CONTROL}
        return tuple(kind for kind in REFERENCES if kind in present)

    @property
    def levels(self) -> tuple[int, ...]:
        """The precisions, the finest first; 0, last, where one is not stated."""
        return tuple(sorted({variant.levels or 0 for variant in self.quantized}, reverse=True))

    @property
    def families(self) -> dict[tuple[str, str], tuple[Variant, ...]]:
        """The quantized variants by family, in the order of the rows; the finest precision first."""
        members: dict[tuple[str, str], tuple[Variant, ...]] = {}
        for variant in sorted(self.quantized, key=lambda variant: -(variant.levels or 0)):
            members[variant.family] = (*members.get(variant.family, ()), variant)
        return {family: members[family] for family in dict.fromkeys(variant.family for variant in self.quantized)}

    def label(self, variant: Variant) -> str:
        """The name of the variant's family: the quantizer, with its suffix where it has several."""
        quantizer, suffix = variant.family
        alone = all(other == suffix for name, other in self.families if name == quantizer)
        return quantizer if alone or not suffix else f"{quantizer}+{suffix}"


def tabulate(rows: Iterable[Row]) -> Table:
    """The aggregated rows, indexed.

    Raises:
        StoreError: Two rows measure the same thing.
    """
    cells: dict[tuple[str, str, str, str], Measure] = {}
    quantized: dict[str, Variant] = {}
    attacks: dict[str, None] = {}
    for row in rows:
        if row.target != ALL:
            continue
        key = (row.variant, row.attack, row.reference, row.metric)
        if key in cells:
            raise StoreError(f"two rows measure {row.metric} of {row.variant!r} under attack {row.attack!r} "
                             f"with reference {row.reference!r}; every row must be unique")  # fmt: skip
        cells[key] = row.measure
        kind = question_of(row.variant, row.attack)
        if kind == "plain" and row.variant != FULL:
            quantized[row.variant] = Variant(row.variant, row.quantizer, row.levels or 0)
        if row.attack and kind in ("plain", "control"):
            attacks[row.attack] = None
    return Table(cells=cells, quantized=tuple(quantized.values()), attacks=tuple(attacks))
