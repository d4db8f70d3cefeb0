"""The section on channels: how much does the interface give away?"""

from bitleak.core.channel_names import LOGITS
from bitleak.core.metric_names import AUC, Metric
from bitleak.report import format as text
from bitleak.report.channel_measures import ChannelMeasures, channel_measures
from bitleak.report.page_tables import Cell, PageSection, PageTable, change_cell, figure_cell
from bitleak.report.results_table import Table
from bitleak.report.summary import Summary

_METHOD = (
    "The same models are attacked through coarser answers: probabilities that are rounded, softened or of 8 bits, "
    "the predicted class with its probability, or the class alone. One adversary gives her references the same "
    "interface; the other does not adapt, and compares the target's coarse answers with her references' logits."
)
_READING = (
    "\u201cOver logits\u201d is the paired difference from the same attack on logits. What a coarser answer hides "
    "from one of the two adversaries alone is no protection: references that answer by logits may find more, since "
    "they have lost nothing. The adversary sees each record under the audit's "
    "queries alone: one who asks about many changed copies of a record learns more from labels than is shown here."
)


def interface_section(table: Table, summary: Summary) -> PageSection | None:
    """Make the section; None if no answers came through channels."""
    measures = channel_measures(table, summary)
    if measures is None:
        return None
    findings = []
    for variant in measures.channels:
        finding = _finding(measures, variant)
        if finding:
            findings.append(finding)
    page_table = _figures(measures, summary)
    title = "What the interface gives away"
    return PageSection(title, (_METHOD, _READING), tuple(findings), (page_table,))


def _figures(measures: ChannelMeasures, summary: Summary) -> PageTable:
    # A column per figure and adversary, each with its difference from logits next to it.
    rate = Metric("tpr", summary.headline_fpr)
    columns = [("AUC", AUC, 3)]
    columns.append(
        (
            f"TPR @ {text.percent(summary.headline_fpr)} FPR",
            rate,
            text.tpr_decimals(summary.headline_fpr),
        )
    )
    adversaries = (
        [(True, "adapted"), (False, "not adapted")]
        if any(measures.kinds.values())
        else [(True, "")]
    )
    header = ["answer"]
    for title, _, _ in columns:
        for _, name in adversaries:
            header += [f"{title}{f', {name}' if name else ''}", "over logits"]
    # A line per variant and channel.
    lines = []
    for variant, channels in measures.channels.items():
        for channel in channels:
            cells: list[Cell] = []
            for _, metric, decimals in columns:
                for adapted, _ in adversaries:
                    cells += _cells(measures, variant, channel, metric, decimals, adapted=adapted)
            lines.append((f"{channel} of {variant}", tuple(cells)))
    kinds = list(dict.fromkeys(measures.kinds.values()))
    title = f"{measures.attack}, {text.listed([text.REFERENCE_TITLES[kind] for kind in kinds])}"
    return PageTable(title, "", tuple(header), tuple(lines))


def _cells(
    measures: ChannelMeasures,
    variant: str,
    channel: str,
    metric: Metric,
    decimals: int,
    *,
    adapted: bool,
) -> list[Cell]:
    """Return a figure and its difference from logits, which have none from themselves."""
    measure = measures.find(variant, channel, metric, adapted=adapted or channel == LOGITS)
    over = measures.find(variant, channel, metric.compared_with(LOGITS), adapted=adapted)
    return [figure_cell(measure, decimals), change_cell(over, decimals)]


def _finding(measures: ChannelMeasures, variant: str) -> str:
    """Return the share of the AUC beyond 0.5 that each channel leaves; empty if logits show no leakage."""
    exact = measures.find(variant, LOGITS, AUC)
    if exact is None or exact.low is None or exact.low <= 0.5:
        return ""
    shares = []
    for channel in measures.channels[variant]:
        if channel != LOGITS:
            known = [_share(measures, variant, channel, exact.value, adapted=adapted)
                     for adapted in (True, False)]  # fmt: skip
            if known[0]:
                shares.append(f"{channel} {known[0]}{f' ({known[1]})' if known[1] else ''}")
    if not shares:
        return ""
    unadapted = " (in brackets: references that do not adapt)" if measures.kinds[variant] else ""
    return (
        f"Of the AUC beyond 0.5 that {measures.attack} finds in logits of {variant}, other answers leave: "
        f"{text.listed(shares)}{unadapted}."
    )


def _share(
    measures: ChannelMeasures, variant: str, channel: str, exact: float, *, adapted: bool
) -> str:
    if not adapted and not measures.kinds[variant]:
        return ""
    area = measures.find(variant, channel, AUC, adapted=adapted)
    return "" if area is None else f"{100 * (area.value - 0.5) / (exact - 0.5):.0f} %"
