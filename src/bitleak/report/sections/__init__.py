"""The sections that only some audits have, in the order of the page."""

from bitleak.report.page_tables import Section
from bitleak.report.results_table import Table
from bitleak.report.sections.calibration_sets import calibration_section
from bitleak.report.sections.equal_accuracy import utility_section
from bitleak.report.sections.joint_releases import joint_section
from bitleak.report.summary import Summary

_SECTIONS = (utility_section, joint_section, calibration_section)


def sections(table: Table, summary: Summary) -> list[Section]:
    """Those that the audit asked for."""
    return [section for make in _SECTIONS if (section := make(table, summary)) is not None]
