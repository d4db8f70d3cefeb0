"""`report.html`: one file that opens without a network, from table, summary and SVGs."""

import re
from collections.abc import Mapping, Sequence
from importlib import resources
from types import MappingProxyType
from typing import Any

import jinja2
from markupsafe import Markup

from bitleak.core.metric_names import Metric
from bitleak.core.variants import FULL, STRONGEST, question_of
from bitleak.metrics import detectable_auc, verdict_about, why_unmeasurable
from bitleak.report import format as text
from bitleak.report.conclusions import LOWER_BOUND, verdicts
from bitleak.report.exposure_by_variant import Exposures, exposure_table
from bitleak.report.figures.report_figure import DrawnFigure
from bitleak.report.figures.style import FAINT, INK
from bitleak.report.headline import headline_key, judge_control, named_beforehand
from bitleak.report.limit_grid import LimitGrid, limit_grid
from bitleak.report.memorising_target import judge_positive_control
from bitleak.report.not_tested import not_tested
from bitleak.report.page_data import (
    LETTERS,
    OUTCOME_TITLES,
    SIGNS,
    check_arguments,
    groups_at,
    limit_texts,
    order_of_size,
    page_data,
)
from bitleak.report.page_scripts import embedded_json, scripts
from bitleak.report.page_tables import ADVERSARIES, full_table, headline_table
from bitleak.report.plain_words import certainty, false_accusations, plain_answer, reading
from bitleak.report.power_file import PowerRow
from bitleak.report.record_dependence import dependence
from bitleak.report.results_table import Table
from bitleak.report.row_files import RocCurve
from bitleak.report.sections import page_sections
from bitleak.report.sections.chosen_thresholds import (
    epsilon_table,
    headline_first,
    threshold_tables,
)
from bitleak.report.sections.most_exposed import BY_CLASS, exposure_tables, picture_strips
from bitleak.report.sections.reference_counts import attacks_without_point, power_tables
from bitleak.report.sections.shipped_files import file_table
from bitleak.report.sections.variant_sizes import size_table
from bitleak.report.summary import Summary

LATER_LINES = ("Blind baseline (", "Next, tier ")
"""Beginnings of the first lines of a report that do not limit its answer."""


def page(
    table: Table,
    summary: Summary,
    figures: Sequence[DrawnFigure],
    *,
    powered: Sequence[PowerRow] = (),
    pictures: Mapping[int, bytes] = MappingProxyType({}),
    curves: Sequence[RocCurve] = (),
    exposures: Exposures = MappingProxyType({}),
) -> str:
    """Return the HTML page.

    Args:
        table: The aggregated rows.
        summary: The audit's settings.
        figures: The drawn figures, in the order of the page.
        powered: The attacks by number of references.
        pictures: PNG of the listed records, by number.
        curves: The ROC curves.
        exposures: Exposure of the most exposed records, by variant.

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
    if headline_key(table, summary)[0] == STRONGEST:
        grids.insert(0, headline_table(table, summary, "", strongest=True))
    full = [full_table(table, summary, name) for name in table.attacks]
    reasons = [why_unmeasurable(fpr, summary.non_members) for fpr in summary.fprs]
    exposed = summary.exposed
    records = [] if exposed is None else exposure_tables(exposed)
    grid = limit_grid(table, summary)
    data = page_data(table, summary, grid, curves)
    return environment.get_template("page.html.jinja").render(
        summary=summary,
        text=text,
        answer=plain_answer(table, summary),
        lead=_divided(summary.lead),
        reading=reading(table, summary),
        certainty=certainty(table, summary),
        untested=not_tested(table, summary),
        limits=_limits(table, summary, grid),
        verdicts=verdicts(table, summary),
        control=judge_control(table, attack, reference, targets=summary.targets),
        positive=judge_positive_control(table, attack, reference, summary.headline_fpr),
        lower_bound=LOWER_BOUND,
        adversaries=_adversaries(table),
        chosen_on_players=not named_beforehand(table, summary),
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
        **_placed(figures),
        power_grids=power_tables(powered, summary),
        power_missing=attacks_without_point(powered),
        chosen=threshold_tables(table, summary),
        epsilon=epsilon_table(table, summary),
        strips=[] if exposed is None else picture_strips(exposed, pictures),
        exposure_grid=None if exposed is None else exposure_table(exposed, exposures),
        record_grids=[grid for grid in records if grid.title != BY_CLASS],
        class_grid=next((grid for grid in records if grid.title == BY_CLASS), None),
        size_grid=size_table(table, summary),
        file_grid=file_table(summary),
        calibrated=any(question_of(key[0], key[1]) == "calibration" for key in table.cells),
        has_tradeoff_chart="tradeoff" in data["charts"],
        has_adversaries_chart="adversaries" in data["charts"],
        has_curves_chart="curves" in data["charts"],
        curve_variants=_last_first(data.get("curves", {})),
        style=Markup(_text("page.css")),
        scripts=scripts(),
        data=embedded_json(data),
    )


def _placed(figures: Sequence[DrawnFigure]) -> dict[str, list[DrawnFigure]]:
    """Return the drawn figures by their place on the page, in their order."""
    places: dict[str, list[DrawnFigure]] = {
        "figures_first": [],
        "figures_roc": [],
        "power_figures": [],
        "figures_other": [],
    }
    by_name = {"tradeoff": "figures_first", "roc": "figures_roc"}
    for image in figures:
        place = by_name.get(image.figure.name, "figures_other")
        places["power_figures" if image.figure.section == "power" else place].append(image)
    return places


def _limits(table: Table, summary: Summary, grid: LimitGrid | None) -> dict[str, Any] | None:
    """Return the sliders' texts and the outcomes at their first places, for a page without scripts."""
    if grid is None:
        return None
    # Variants that the first limits leave open, with the data that would decide them.
    losses, leakages = limit_texts(grid)
    loss, leakage = grid.first
    places = grid.decisions[loss][leakage]
    needed = []
    for index in order_of_size(table, summary, grid):
        if places[index].outcome == "inconclusive":
            missing = grid.needed(summary, loss, leakage, index)
            needed.append(f"{grid.variants[index]}: {missing}")
    # The command that tests the same limits, and the slider's title in words.
    arguments = check_arguments(grid)
    accuracy = f" --max-accuracy-drop {grid.losses[loss]:g}" if losses else ""
    most = f"--max {grid.metric}={grid.leakages[leakage]:g}{accuracy}"
    rate = Metric.parse(grid.metric).fpr
    title = "Pairs of a training record and another that may be told apart"
    if rate is not None:
        title = f"Training records that may be picked out, at {false_accusations(rate)}"
    return {
        "losses": losses,
        "leakages": leakages,
        "leakage_title": title,
        "first": grid.first,
        "groups": groups_at(table, summary, grid, loss, leakage),
        "outcomes": [(outcome, LETTERS[outcome], OUTCOME_TITLES[outcome]) for outcome in LETTERS],
        "signs": SIGNS,
        "needed": needed,
        "command": f"bitleak check RUN {most}{arguments['adversary']}{arguments['variant']}",
        "doubt": grid.doubt,
    }


def _last_first(curves: Mapping[str, object]) -> list[str]:
    """Return the variants whose curves can be shown, the last first: it is the most quantized."""
    return list(reversed([name for name in curves if name != FULL])) or list(curves)


def _text(name: str) -> str:
    return (resources.files("bitleak.report") / name).read_text(encoding="utf-8")


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


def _divided(lead: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the first lines that limit the answer, and those that belong below the first screen."""
    below = [line for line in lead if line.startswith(LATER_LINES)]
    return [line for line in lead if line not in below], below


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
