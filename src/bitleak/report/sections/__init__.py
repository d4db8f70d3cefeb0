"""The sections of the page that only some audits have; a section per file."""

from bitleak.report.page_tables import PageSection
from bitleak.report.results_table import Table
from bitleak.report.sections.calibration_sets import calibration_section
from bitleak.report.sections.canary_section import canary_section
from bitleak.report.sections.equal_accuracy import utility_section
from bitleak.report.sections.interface_section import interface_section
from bitleak.report.sections.joint_section import joint_section
from bitleak.report.sections.recipe_section import recipe_section
from bitleak.report.summary import Summary

_SECTIONS = (
    recipe_section,
    interface_section,
    utility_section,
    joint_section,
    calibration_section,
    canary_section,
)


def page_sections(table: Table, summary: Summary) -> list[PageSection]:
    """Return the sections of the analyses that the audit made, in the order of the page."""
    sections = [make(table, summary) for make in _SECTIONS]
    return [section for section in sections if section is not None]
