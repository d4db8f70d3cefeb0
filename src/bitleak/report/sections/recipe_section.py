"""The section on the adversary's recipe: figures by references that are not quantized as the target is."""

from bitleak.core.metric_names import AUC, MATCHED, Metric
from bitleak.core.types import Measure
from bitleak.core.variants import OTHER, quantized_count
from bitleak.metrics.equivalence import EQUIVALENCE_MARGIN, equivalence
from bitleak.report import format as text
from bitleak.report.page_tables import Cell, PageSection, PageTable, figure_cell
from bitleak.report.results_table import Table
from bitleak.report.summary import Summary

READING = (
    "A line is a target, a column the recipe of the adversary's references. Where another recipe finds as "
    "much as matched references do, the adversary need not know how the target was quantized. Where it finds "
    "less, the difference is hidden only from an adversary who does not know it."
)


def recipe_section(table: Table, summary: Summary) -> PageSection | None:
    """Make the section; None if there are no references but those of the usual kinds."""
    attack, metric = summary.headline_attack, Metric("tpr", summary.headline_fpr)
    kinds = _kinds(table, attack)
    if not any(kind.startswith(OTHER) or quantized_count(kind) for kind in kinds):
        return None
    decimals = text.tpr_decimals(summary.headline_fpr)
    lines = []
    for variant in map(str, table.quantized):
        cells: list[Cell] = []
        for kind in kinds:
            own = kind == f"{OTHER}{variant}"
            measure = table.cells.get((variant, attack, "matched" if own else kind, str(metric)))
            cells.append(figure_cell(measure, decimals))
        lines.append((variant, tuple(cells)))
    heading = f"TPR at {text.percent(summary.headline_fpr)} FPR, {attack}"
    header = ("target", *(_title(kind, table) for kind in kinds))
    page_table = PageTable(heading, "", header, tuple(lines))
    sentences = [_share(table, summary, kind) for kind in kinds]
    sentences += [_equivalence(table, attack, kind) for kind in kinds]
    title = "What the adversary must know"
    return PageSection(title, (READING,), tuple(filter(None, sentences)), (page_table,))


def _kinds(table: Table, attack: str) -> list[str]:
    """Return the kinds of references of an attack, the best informed last."""
    named = {str(variant) for variant in table.quantized}
    present: dict[str, None] = {}
    for variant, name, reference, _ in table.cells:
        if name == attack and variant in named and reference:
            present[reference] = None
    others = [kind for kind in present if kind.startswith(OTHER)]
    partly = sorted(filter(quantized_count, present), key=lambda kind: quantized_count(kind) or 0)
    usual = [kind for kind in text.REFERENCES if kind in present and kind != "matched"]
    return [*usual, *others, *partly, *(["matched"] if "matched" in present else [])]


def _title(kind: str, table: Table) -> str:
    """Return the recipe of the references; a name that is no variant is that of a preset."""
    name = kind.removeprefix(OTHER)
    if kind.startswith(OTHER) and name not in map(str, table.quantized):
        return f"quantized as the target is, but by preset {name}"
    if kind.startswith(OTHER):
        return f"quantized as {name}"
    if count := quantized_count(kind):
        return f"{count} of them quantized as the target is"
    return text.REFERENCE_TITLES[kind]


def _share(table: Table, summary: Summary, kind: str) -> str:
    """Return the sentence on one recipe beside matched references; empty if there is no comparison.

    Only variants on which matched references do better than guessing have a share: the excess of
    the TPR over the FPR by this recipe, divided by that of matched references.
    """
    count = quantized_count(kind)
    if not (kind.startswith(OTHER) or count):
        return ""
    fpr, attack = summary.headline_fpr, summary.headline_attack
    metric = str(Metric("tpr", fpr))
    shares = []
    for variant in map(str, table.quantized):
        matched = table.cells.get((variant, attack, "matched", metric))
        measure = table.cells.get((variant, attack, kind, metric))
        if measure is not None and matched is not None and _finds(matched, fpr):
            share = (measure.value - fpr) / (matched.value - fpr)
            shares.append(f"{100 * share:.0f} % on {variant}")
    if not shares:
        return ""
    recipe = f"of which {count} are quantized as the target is" if count else _title(kind, table)
    return (
        f"Of the TPR beyond the FPR of {text.percent(fpr)} that matched references find by {attack}, "
        f"references {recipe} find {', '.join(shares)}."
    )


def _equivalence(table: Table, attack: str, kind: str) -> str:
    """Return the sentence on references by another preset; empty if they are not compared with matched ones."""
    shown: list[str] = []
    undecided: list[str] = []
    for variant in map(str, table.quantized):
        measure = table.cells.get((variant, attack, kind, str(AUC.compared_with(MATCHED))))
        tested = None if measure is None else equivalence(measure)
        if tested is not None:
            interval = (
                f"{variant} ({tested.difference:+.4f} [{tested.low:+.4f}, {tested.high:+.4f}])"
            )
            (shown if tested.is_shown else undecided).append(interval)
    if not shown and not undecided:
        return ""
    on = f"are shown equivalent to matched ones on {', '.join(shown)}" if shown else ""
    off = f"are not shown equivalent to matched ones on {', '.join(undecided)}" if undecided else ""
    return (
        f"By {attack}, references {_title(kind, table)} {' and '.join(filter(None, (on, off)))}: equivalent "
        "means that the 90 % interval of the paired difference in AUC lies within "
        f"+-{EQUIVALENCE_MARGIN:g} (two one-sided tests)."
    )


def _finds(matched: Measure, fpr: float) -> bool:
    return matched.low is not None and matched.low > fpr
