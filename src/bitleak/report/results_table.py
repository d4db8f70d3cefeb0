"""The aggregated rows (`target = all`) of an audit, indexed by their names."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bitleak.core.errors import StoreError
from bitleak.core.metric_names import Metric
from bitleak.core.types import Measure, Row
from bitleak.core.variants import CONTROL, CONTROLS, FULL, STRONGEST, Variant, question_of
from bitleak.report.format import REFERENCES

ALL = "all"
"""Target of a row that is about all targets together."""

__all__ = ["ALL", "CONTROL", "FULL", "Table", "tabulate"]


@dataclass(frozen=True)
class Table:
    """The aggregated measures.

    Attributes:
        cells: Measures by variant, attack, reference and metric, in the order of the rows.
        quantized: The quantized variants, in the order of the rows, without releases seen together
            and noise. Their `levels` are 0 if the precision is not known.
        attacks: Attacks on one release and its training set, in the order of the rows, without the
            strongest pairs.
    """

    cells: Mapping[tuple[str, str, str, str], Measure]
    quantized: tuple[Variant, ...]
    attacks: tuple[str, ...]

    def find(
        self, variant: Variant | str, metric: Metric | str, attack: str = "", reference: str = ""
    ) -> Measure | None:
        """Return the measure, or None if there is no such row.

        A full-precision target has the same references under every kind, and so has the control: if
        their rows are listed under `fp32` only, these answer for the other kinds.
        """
        cell = self.cells.get((str(variant), attack, reference, str(metric)))
        if cell is None and str(variant) in (FULL, *CONTROLS) and reference:
            return self.cells.get((str(variant), attack, FULL, str(metric)))
        return cell

    def comparisons(self, family: str) -> int:
        """Return the number of aggregated measures that were corrected together."""
        return sum(measure.family == family for measure in self.cells.values())

    def references(self, attack: str) -> tuple[str, ...]:
        """Return the kinds of reference of the attack's rows, the weakest adversary first."""
        present = set()
        for variant, name, reference, _ in self.cells:
            if name == attack and variant not in CONTROLS:
                present.add(reference)
        return tuple(kind for kind in REFERENCES if kind in present)

    @property
    def levels(self) -> tuple[int, ...]:
        """The precisions, the finest first; 0, last, for precisions that are not known."""
        present = {variant.levels or 0 for variant in self.quantized}
        return tuple(sorted(present, reverse=True))

    @property
    def families(self) -> dict[tuple[str, str], tuple[Variant, ...]]:
        """Quantized variants by family, in the order of the rows, the finest precision first."""
        members: dict[tuple[str, str], tuple[Variant, ...]] = {}
        for variant in self.quantized:
            members[variant.family] = (*members.get(variant.family, ()), variant)
        for family, variants in members.items():
            finest_first = sorted(variants, key=lambda variant: -(variant.levels or 0))
            members[family] = tuple(finest_first)
        return members

    def label(self, variant: Variant) -> str:
        """Return the family's name: the quantizer, with the suffix if it has several."""
        quantizer, suffix = variant.family
        suffixes = {family_suffix for name, family_suffix in self.families if name == quantizer}
        return f"{quantizer}+{suffix}" if suffix and suffixes != {suffix} else quantizer


def tabulate(rows: Iterable[Row]) -> Table:
    """Index the aggregated rows.

    Raises:
        StoreError: Two rows measure the same thing, or a variant's name has no meaning.
    """
    # Rows of single targets are left out; the others have one cell each.
    cells: dict[tuple[str, str, str, str], Measure] = {}
    quantized: dict[str, Variant] = {}
    attacks: dict[str, None] = {}
    for row in rows:
        if row.target != ALL:
            continue
        key = (row.variant, row.attack, row.reference, row.metric)
        if key in cells:
            raise StoreError(
                f"two rows measure {row.metric} of {row.variant!r} under attack {row.attack!r} "
                f"with reference {row.reference!r}; every row must be unique"
            )
        cells[key] = row.measure
        try:
            question = question_of(row.variant, row.attack)
        except ValueError as error:
            raise StoreError(f"a row has the variant {row.variant!r}: {error}") from error
        # Quantized variants in their order; noise, controls and joint releases are none.
        if question == "plain" and row.variant != FULL and row.variant not in quantized:
            levels = row.levels or 0
            variant = Variant.parse(row.variant, quantizer=row.quantizer, levels=levels)
            quantized[row.variant] = variant
        # Attacks in their order, also those on the controls alone.
        controls = ("plain", "control", "positive")
        if row.attack not in ("", STRONGEST) and question in controls:
            attacks[row.attack] = None
    return Table(cells=cells, quantized=tuple(quantized.values()), attacks=tuple(attacks))
