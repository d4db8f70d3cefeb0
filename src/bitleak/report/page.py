"""`report.html`: one file that opens without a network, from table, summary and SVGs."""

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import jinja2
from markupsafe import Markup

from bitleak.core.variants import STRONGEST
from bitleak.metrics import detectable_auc, verdict_about, why_unmeasurable
from bitleak.report import format as text
from bitleak.report.conclusions import LOWER_BOUND, verdicts
from bitleak.report.figures.report_figure import DrawnFigure
from bitleak.report.figures.style import FAINT, INK
from bitleak.report.headline import headline_key, judge_control
from bitleak.report.memorising_target import judge_positive_control
from bitleak.report.page_tables import ADVERSARIES, full_table, headline_table
from bitleak.report.power_file import PowerRow
from bitleak.report.record_dependence import dependence
from bitleak.report.results_table import Table
from bitleak.report.sections import page_sections
from bitleak.report.sections.chosen_thresholds import (
    epsilon_table,
    headline_first,
    threshold_tables,
)
from bitleak.report.sections.most_exposed import exposure_tables, picture_strips
from bitleak.report.sections.reference_counts import attacks_without_point, power_tables
from bitleak.report.summary import Summary


def page(
    table: Table,
    summary: Summary,
    figures: Sequence[DrawnFigure],
    *,
    powered: Sequence[PowerRow] = (),
    pictures: Mapping[int, bytes] = MappingProxyType({}),
) -> str:
    """Return the HTML page.

    Args:
        table: The aggregated rows.
        summary: The audit's settings.
        figures: The drawn figures, in the order of the page.
        powered: The attacks by number of references.
        pictures: PNG of the listed records, by number.

    Returns:
        A complete document; every name in it is escaped.
    """
    attack, reference = summary.headline_attack, summary.headline_reference
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("bitleak.report", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["inlined"] = _marked_up

    # One table per kind of reference under the headline attack, and one per attack.
    grids = [headline_table(table, summary, kind) for kind in headline_first(table, summary)]
    chosen_on_players = headline_key(table, summary)[0] == STRONGEST
    if chosen_on_players:
        grids.insert(0, headline_table(table, summary, "", strongest=True))
    full = [full_table(table, summary, name) for name in table.attacks]
    reasons = [why_unmeasurable(fpr, summary.non_members) for fpr in summary.fprs]
    exposed = summary.exposed
    return environment.get_template("page.html.jinja").render(
        summary=summary,
        text=text,
        verdicts=verdicts(table, summary),
        control=judge_control(table, attack, reference, targets=summary.targets),
        positive=judge_positive_control(table, attack, reference, summary.headline_fpr),
        lower_bound=LOWER_BOUND,
        adversaries=_adversaries(table),
        chosen_on_players=chosen_on_players,
        reference_title=text.REFERENCE_TITLES[reference],
        grids=grids,
        full=full,
        sections=page_sections(table, summary),
        compared=len(table.quantized),
        dependence=dependence(summary),
        detectable=detectable_auc(
            *_independent_records(summary),
            targets=summary.targets,
            about=verdict_about(summary.mode, summary.targets),
        ),
        about=verdict_about(summary.mode, summary.targets),
        refused=list(filter(None, reasons)),
        figures=[image for image in figures if image.figure.section == "figures"],
        power_figures=[image for image in figures if image.figure.section == "power"],
        power_grids=power_tables(powered, summary),
        power_missing=attacks_without_point(powered),
        chosen=threshold_tables(table, summary),
        epsilon=epsilon_table(table, summary),
        strips=[] if exposed is None else picture_strips(exposed, pictures),
        record_grids=[] if exposed is None else exposure_tables(exposed),
    )


def _independent_records(summary: Summary) -> tuple[int, int]:
    """Return the members and non-members of a target, as many as there are clusters of them."""
    share = 1.0 if summary.clusters is None else summary.clusters / summary.records
    return max(1, round(share * summary.members)), max(1, round(share * summary.non_members))


def inlined(svg: bytes, prefix: str) -> str:
    """Return an SVG for use inside a page: no prologue, unique ids, and the page's colours.

    Args:
        svg: As Matplotlib writes it.
        prefix: Put in front of every id, since all SVGs of a page share one set of ids.
    """
    content = svg.decode()
    content = content[content.index("<svg") :]
    content = re.sub(r"<!--.*?-->\n?", "", content, flags=re.DOTALL)

    # An id, and every reference to it.
    content = re.sub(r'\bid="', f'id="{prefix}-', content)
    content = re.sub(r'href="#', f'href="#{prefix}-', content)
    content = re.sub(r"url\(#", f"url(#{prefix}-", content)

    # The page's style gives the size; a screen reader reads the caption.
    described = rf'<svg\1 role="img" aria-labelledby="caption-{prefix}"'
    content = re.sub(r'^<svg([^>]*?) width="[^"]*"', r"<svg\1", content)
    content = re.sub(r'^<svg([^>]*?) height="[^"]*"', described, content)

    # The first patch is the white paper, which would stay white on a dark page.
    paper = r'(<g id="[^"]*patch_1">\s*<path d="[^"]*" style="fill: )#ffffff'
    content = re.sub(paper, r"\1none", content)
    return content.replace(INK, "var(--ink)").replace(FAINT, "var(--line)")


def _marked_up(image: DrawnFigure) -> Markup:
    return Markup(inlined(image.svg, image.figure.name))


def _adversaries(table: Table) -> list[tuple[str, str]]:
    """Return title and description of every kind of reference that an attack was run with."""
    present: set[str] = set()
    for attack in table.attacks:
        present.update(table.references(attack))
    adversaries = []
    for kind in text.REFERENCES:
        if kind in present:
            adversaries.append((text.REFERENCE_TITLES[kind], ADVERSARIES[kind]))
    return adversaries
