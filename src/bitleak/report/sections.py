"""The sections that only some audits have, in the order of the page."""

from bitleak.report.calibration import calibration_section
from bitleak.report.grid import Section
from bitleak.report.joint import joint_section
from bitleak.report.summary import Summary
from bitleak.report.table import Table
from bitleak.report.utility import utility_section

_SECTIONS = (utility_section, joint_section, calibration_section)


def sections(table: Table, summary: Summary) -> list[Section]:
    """Those that the audit asked for."""
    return [section for make in _SECTIONS if (section := make(table, summary)) is not None]
