"""A check of limits as text, Markdown, JSON and JUnit XML.

The JSON is described by `gate.schema.json` next to this module. JUnit has no outcome between failure
and success, so `inconclusive` and `not evaluable` are errors there: a pipeline must not read either
as a success.
"""

import json
import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from bitleak.report.format import DASH, size
from bitleak.report.release_gate import GateResult, LimitCheck, VariantCheck

GATE_SCHEMA = 1
"""Version of the JSON."""


def as_text(result: GateResult) -> str:
    """Return every variant with its figures and reasons, and a last line with the outcome."""
    width = max(len(check.variant) for check in result.variants)
    lines = []
    for check in result.variants:
        lines.append(f"{check.variant:<{width}}  {check.outcome}")
        lines += [f"    {_figure(limit)}" for limit in check.limits]
        if check.needed:
            lines.append(f"    to decide: {check.needed}")
    for entry in result.requirements:
        lines += [
            f"{entry.name}: {entry.status}",
            f"    requires that {entry.text}",
            f"    {entry.evidence}",
            f"    not covered: {entry.not_covered}",
        ]
    lines += [f"note: {note}" for note in result.notes]
    lines.append(_sentence(result))
    return "\n".join(lines)


def as_markdown(result: GateResult) -> str:
    """Return a table for a pull request."""
    header = ["variant", "size", "outcome", *(_cell(str(limit)) for limit in result.limits)]
    lines = [f"**{_cell(_sentence(result))}**", "", _line(header), _line(["---"] * len(header))]
    for check in result.variants:
        stored = DASH if check.bytes is None else size(check.bytes)
        figures = [_cell(_estimate(limit)) for limit in check.limits]
        lines.append(_line([f"`{_cell(check.variant)}`", stored, check.outcome, *figures]))
    notes = [f"- `{check.variant}`: {check.needed}" for check in result.variants if check.needed]
    if notes:
        lines += ["", "To decide with 80 % power, if the estimates are true:", "", *notes]
    if result.requirements:
        header = ["requirement", "requires that", "status", "evidence", "not covered"]
        lines += ["", _line(header), _line(["---"] * len(header))]
    for entry in result.requirements:
        cells = (entry.name, entry.text, entry.status, entry.evidence, entry.not_covered)
        lines.append(_line([_cell(text) for text in cells]))
    lines += ["", *(f"{_cell(note)}." for note in result.notes)]
    return "\n".join([*lines, ""])


def as_json(result: GateResult) -> str:
    """Return the JSON that `gate.schema.json` describes."""
    variants = [_variant_values(check) for check in result.variants]
    limits = []
    for limit in result.limits:
        limits.append({"metric": limit.metric, "most": limit.most, "change": limit.change})
    values = {
        "schema": GATE_SCHEMA,
        "title": result.title,
        "outcome": result.outcome,
        "adversary": result.adversary,
        "limits": limits,
        "variants": variants,
        "notes": list(result.notes),
    }
    if result.requirements:
        values["requirements"] = [asdict(entry) for entry in result.requirements]
    return json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def as_junit(result: GateResult) -> str:
    """Return JUnit XML: a test case per variant and limit, and one per variant as a whole."""
    cases = []
    for check in result.variants:
        reason = next((limit.reason for limit in check.limits if limit.reason), "")
        cases.append(_case(check.variant, "all limits", check.outcome, check.needed or reason))
    failures = sum(check.outcome == "fail" for check in result.variants)
    errors = sum(check.outcome in ("inconclusive", "not evaluable") for check in result.variants)
    counts = {"tests": str(len(cases)), "failures": str(failures), "errors": str(errors)}
    suite = ElementTree.Element("testsuite", {"name": "bitleak check", **counts})
    if result.requirements:
        properties = ElementTree.SubElement(suite, "properties")
        for entry in result.requirements:
            described = {
                "name": f"aisvs {entry.name}",
                "value": f"{entry.status}: {entry.evidence}",
            }
            ElementTree.SubElement(properties, "property", described)
    for case, check in zip(cases, result.variants, strict=True):
        output = ElementTree.SubElement(case, "system-out")
        output.text = "\n".join(_figure(limit) for limit in check.limits)
        suite.append(case)
    suites = ElementTree.Element("testsuites", counts)
    suites.append(suite)
    ElementTree.indent(suites)
    text = ElementTree.tostring(suites, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


FORMATS: Mapping[str, Callable[[GateResult], str]] = {
    "text": as_text,
    "markdown": as_markdown,
    "json": as_json,
    "junit": as_junit,
}
"""Writers by the name that `bitleak check --format` takes."""


def _sentence(result: GateResult) -> str:
    """Return one sentence with the outcome and its counts."""
    counts = []
    for outcome in ("pass", "fail", "inconclusive", "not evaluable"):
        number = sum(check.outcome == outcome for check in result.variants)
        if number:
            counts.append(f"{number} {outcome}")
    limits = ", ".join(map(str, result.limits))
    return f"{result.outcome}: {', '.join(counts)} ({limits}; adversary {result.adversary})"


def _figure(check: LimitCheck) -> str:
    """Return the limit and the figure that it bounds."""
    return f"{check.limit}: {check.reason or _estimate(check)}"


def _estimate(check: LimitCheck) -> str:
    if check.value is None or check.low is None or check.high is None:
        return check.reason or DASH
    return f"{check.value:.4f} [{check.low:.4f}, {check.high:.4f}]"


def _cell(text: str) -> str:
    """Return text that keeps a Markdown table's columns."""
    return text.replace("|", "\\|")


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _case(variant: str, name: str, outcome: str, message: str) -> ElementTree.Element:
    case = ElementTree.Element("testcase", {"classname": variant, "name": name})
    if outcome == "fail":
        ElementTree.SubElement(case, "failure", {"message": "a limit is exceeded"})
    elif outcome != "pass":
        ElementTree.SubElement(case, "error", {"message": message or outcome, "type": outcome})
    return case


def _variant_values(check: VariantCheck) -> dict[str, Any]:
    return {
        "variant": check.variant,
        "outcome": check.outcome,
        "p_pass": check.p_pass,
        "p_fail": check.p_fail,
        "bytes": check.bytes,
        "needed": check.needed,
        "limits": [_limit_values(limit) for limit in check.limits],
    }


def _limit_values(check: LimitCheck) -> dict[str, Any]:
    return {
        "metric": check.limit.metric,
        "change": check.limit.change,
        "most": check.limit.most,
        "value": check.value,
        "low": check.low,
        "high": check.high,
        "p_pass": check.p_pass,
        "p_fail": check.p_fail,
        "factor": check.factor if math.isfinite(check.factor) else None,
        "about": check.about,
        "reason": check.reason,
    }
