"""The sentence on whether records count as independent, which stands next to the intervals."""

from bitleak.report.format import count, percent
from bitleak.report.summary import Summary

ENOUGH_CLUSTERS = 30
"""Clusters below which intervals are no more than a rough guide."""


def dependence(summary: Summary) -> str:
    """Return how intervals, p-values and bounds on epsilon count the records.

    Args:
        summary: Names the records, their copies, and the clusters if there are any.
    """
    if summary.clusters is None:
        return f"{_independent(summary)}{_copies(summary)}"
    if summary.clusters == summary.records:
        return "No two records are in one cluster, so that all count as independent."
    share = summary.clusters / summary.records
    false_positives = summary.expected_false_positives * share
    sentence = (
        f"Intervals, p-values and bounds on epsilon count {count(summary.clusters, 'cluster')} of dependent records "
        f"in place of {count(summary.records, 'record')}; epsilon is bounded by one record of each. "
        f"{percent(summary.headline_fpr)} FPR is about {false_positives:.3g} independent false positives"
    )
    few = summary.clusters < ENOUGH_CLUSTERS
    doubt = f"; fewer than {ENOUGH_CLUSTERS} clusters make intervals a rough guide" if few else ""
    return f"{sentence}{doubt}."


def _independent(summary: Summary) -> str:
    given = "an array `clusters`" if summary.source else "`clusters:` in the config"
    return (
        "Intervals, p-values and bounds on epsilon take the records for independent. Copies, pictures of one person "
        f"and the like are not: then intervals are too narrow and bounds too large, and {given} corrects that."
    )


def _copies(summary: Summary) -> str:
    """Return a clause on copies that were found and are counted as independent; empty if none were."""
    copies = summary.copies or {}
    number = int(copies.get("exact", 0)) + int(copies.get("near", 0))
    if not number:
        return ""
    return f" Here {count(number, 'record')} of {summary.records:,} have copies: `clusters: copies` counts them so."
