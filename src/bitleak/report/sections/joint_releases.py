"""The section on several releases of one target: do they tell more together than the best of them alone?"""

from bitleak.core.variants import FULL, JOINT, question_of
from bitleak.report import format as text
from bitleak.report.page_tables import Grid, Section, change_cell, figure_cell
from bitleak.report.results_table import Table
from bitleak.report.summary import Summary

WHAT = (
    "The adversary sees several releases of one target, such as a model and its quantized copy, and every reference "
    "model in the same releases. The joint attack is one likelihood ratio over the scores of all of them; alone, it is "
    "applied to a single release in the same way."
)
READ = (
    "Over the best alone is the paired difference from the release with the largest figure. That release is chosen on "
    "the same data, so the difference is a little too small rather than too large."
)

_VERDICTS = {"higher": "more than", "lower": "less than", "not distinguishable": "no more, as far as can be told, than"}


def joint_section(table: Table, summary: Summary) -> Section | None:
    """Figures of every set of releases and of each release alone; None where no set was audited."""
    sets = [name for name in joint_variants(table) if "&" in name]
    if not sets:
        return None
    return Section(
        "Several releases of one target",
        (WHAT, READ),
        joint_sentences(table, summary),
        (_grid(table, summary, [name for name in joint_variants(table) if "&" not in name] + sets),),
    )


def joint_sentences(table: Table, summary: Summary) -> tuple[str, ...]:
    """For every set, whether it beats the best release alone, by AUC and by TPR."""
    metric, decimals = text.tpr_metric(summary.headline_fpr), text.tpr_decimals(summary.headline_fpr)
    found = []
    for variant in (name for name in joint_variants(table) if "&" in name):
        area = _verdict(table, variant, "auc", 3)
        rate = _verdict(table, variant, metric, decimals)
        told = " and ".join(filter(None, (area and f"AUC {area}", rate and f"TPR {rate}")))
        releases = text.listed(variant.split("&"))
        found.append(f"Seen together, {releases} tell the joint attack {told}, by paired differences.")
    return tuple(found)


def joint_variants(table: Table) -> list[str]:
    """Variants with rows of the joint attack, in their order."""
    return list(dict.fromkeys(key[0] for key in table.cells if question_of(key[0], key[1]) == "joint"))


def _verdict(table: Table, variant: str, metric: str, decimals: int) -> str:
    """Such as `0.700 [0.690, 0.710], more than fp32 alone (0.680)`."""
    own = table.find(variant, metric, JOINT, "matched")
    over = table.find(variant, f"{metric}_over_best", JOINT, "matched")
    if own is None or over is None:
        return ""
    alone = {name: table.find(name, metric, JOINT, _reference(name)) for name in variant.split("&")}
    known = {name: measure.value for name, measure in alone.items() if measure is not None}
    best = max(known, key=known.__getitem__)
    change = text.difference(over, decimals)
    return (
        f"{text.figure(own, decimals)}, {_VERDICTS[over.verdict]} {best} alone ({known[best]:.{decimals}f}; {change})"
    )


def _reference(variant: str) -> str:
    return FULL if variant == FULL else "matched"


def _grid(table: Table, summary: Summary, variants: list[str]) -> Grid:
    rate, decimals = summary.headline_fpr, text.tpr_decimals(summary.headline_fpr)
    columns = [("AUC", "auc", 3), (f"TPR @ {text.percent(rate)} FPR", text.tpr_metric(rate), decimals)]
    header = [
        name for title, _, _ in columns for name in (title, f"{title} against fp32", f"{title} over the best alone")
    ]
    lines = []
    for variant in variants:
        cells = []
        for _, metric, digits in columns:
            own = table.find(variant, metric, JOINT, _reference(variant))
            over = table.find(variant, f"{metric}_over_best", JOINT, "matched")
            cells += [figure_cell(own, digits), change_cell(own, digits), change_cell(over, digits)]
        lines.append((variant, tuple(cells)))
    return Grid("joint, matched references", "", ("releases seen", *header), tuple(lines))
