"""The files that an audit leaves in its output folder, by name."""

import re

from bitleak import registry

REMEDY = (
    "run `bitleak audit CONFIG --out DIR` again, or `bitleak attack SCORES --out DIR`; what is in "
    "the store is not computed twice"
)
"""End of the messages about a file of an output folder that cannot be used."""


def figure_files() -> re.Pattern[str]:
    """Return a pattern for the names of the figures that an audit leaves."""
    names = "|".join(map(re.escape, registry.FIGURES))
    return re.compile(rf"figures/({names})\.(svg|png|pdf)")


def audit_files() -> re.Pattern[str]:
    """Return a pattern for the names of all files that an audit leaves."""
    tables = r"results\.(csv|parquet)|(roc|power|records|influences)\.parquet|summary\.json"
    pictures = rf"gallery/[0-9]+\.png|{figure_files().pattern}"
    return re.compile(rf"config\.yaml|{tables}|report\.html|{pictures}")
