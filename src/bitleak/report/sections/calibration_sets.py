"""The section on calibration sets: which members of a target was its quantized version calibrated on?"""

from bitleak.core.types import Measure
from bitleak.core.variants import on_calibration, question_of
from bitleak.report import format as text
from bitleak.report.page_tables import Grid, Section, figure_cell
from bitleak.report.results_table import Table
from bitleak.report.summary import Summary

READ = (
    "All candidates are members of the target, so an AUC above 0.5 is the calibration set and not the training set. "
    "The references are the target's other quantized versions: this adversary has the full-precision model and the "
    "recipe. Intervals resample the candidates, the same draw for all versions of a target, and are wider near 0.5, "
    "since the versions are one another's references."
)


def calibration_section(table: Table, summary: Summary) -> Section | None:
    """AUC and TPR of every attack on the calibration sets; None where none was attacked."""
    keys = [key for key in table.cells if question_of(key[0], key[1]) == "calibration"]
    if not keys:
        return None
    attacks = list(dict.fromkeys(key[1] for key in keys))
    variants = list(dict.fromkeys(key[0] for key in keys))
    rates = [key[3] for key in keys if key[:2] == (variants[0], attacks[0]) and key[3].startswith("tpr@")]
    columns = [("AUC", "auc"), *[(f"TPR @ {text.percent(float(rate[4:]))} FPR", rate) for rate in rates]]
    header = ("attack", *[f"{variant}, {title}" for variant in variants for title, _ in columns])
    lines = []
    for attack in attacks:
        found = [table.find(variant, metric, attack, "matched") for variant in variants for _, metric in columns]
        lines.append((attack.partition(":")[2], tuple(figure_cell(measure, 3) for measure in found)))
    grid = Grid("Calibration sets, matched references", "", header, tuple(lines))
    what = f"{summary.calibration_inference} " if summary.calibration_inference else ""
    return Section("Who was in the calibration set", (f"{what}{READ}",), _sentences(table, summary, variants), (grid,))


def _sentences(table: Table, summary: Summary, variants: list[str]) -> tuple[str, ...]:
    """One per variant, by the headline attack or, where that has no references, the first."""
    names = list(dict.fromkeys(key[1] for key in table.cells if question_of(key[0], key[1]) == "calibration"))
    wanted = on_calibration(summary.headline_attack)
    attack = wanted if wanted in names else names[0]
    found = []
    for variant in variants:
        area = table.find(variant, "auc", attack, "matched")
        noticed = table.find(variant, "calibration_detectable_auc")
        if area is not None:
            limit = f"; an AUC of {noticed.value:.3f} would have been noticed in four of five audits" if noticed else ""
            found.append(
                f"Who was in the calibration set of {variant}: AUC {text.figure(area, 3)} by "
                f"{attack.partition(':')[2]}, {_against_chance(area)}{limit}."
            )
    return tuple(found)


def _against_chance(area: Measure) -> str:
    if area.low is None or area.high is None:
        return "without an interval"
    if area.low > 0.5:
        return "better than guessing"
    return "worse than guessing" if area.high < 0.5 else "not distinguishable from guessing"
