"""ROC curves, figures with intervals, and comparisons; NumPy and SciPy only."""

from bitleak.metrics.accuracy_and_size import accuracy_on_members, accuracy_on_test, agreement
from bitleak.metrics.auc import auc, delong, detectable_auc, doubling
from bitleak.metrics.balanced_accuracy import best_threshold, halvings
from bitleak.metrics.comparison import over, over_best
from bitleak.metrics.epsilon import EpsilonBound, epsilon_bounds, epsilon_measures
from bitleak.metrics.estimates import Estimate, Estimates, packed, unpacked
from bitleak.metrics.exposure import (
    Exposure,
    Memorisation,
    Movement,
    exposure,
    extremes,
    extremes_by_class,
    memorisation,
    movement,
    rank_correlation,
    reliability,
)
from bitleak.metrics.intervals import difference_over_records, interval_over_targets, mean_over_records
from bitleak.metrics.matched_scale import Match, matched_scale
from bitleak.metrics.measures import Measures, Shown, estimate, estimate_curves, measure, summarize
from bitleak.metrics.mutual_references import apart, crossed
from bitleak.metrics.one_run import OneRunBound, one_run_bounds, one_run_p_value
from bitleak.metrics.proportions import clopper_pearson, proportion, wilson
from bitleak.metrics.roc import Roc, balanced_accuracy, mean_curve, roc, thin
from bitleak.metrics.threshold_measures import chosen_at, chosen_measures
from bitleak.metrics.thresholds import (
    AtThreshold,
    Precision,
    Rate,
    at_threshold,
    precision,
    threshold_for,
    thresholds_for,
)
from bitleak.metrics.tpr import headline_fpr, threshold_rank, too_fine, tpr_at
from bitleak.metrics.verdicts import corrected, holm
from bitleak.metrics.within_class import ByClass, auc_within_class, by_class, tpr_within_class

__all__ = [
    "AtThreshold",
    "ByClass",
    "EpsilonBound",
    "Estimate",
    "Estimates",
    "Exposure",
    "Match",
    "Measures",
    "Memorisation",
    "Movement",
    "OneRunBound",
    "Precision",
    "Rate",
    "Roc",
    "Shown",
    "accuracy_on_members",
    "accuracy_on_test",
    "agreement",
    "apart",
    "at_threshold",
    "auc",
    "auc_within_class",
    "balanced_accuracy",
    "best_threshold",
    "by_class",
    "chosen_at",
    "chosen_measures",
    "clopper_pearson",
    "corrected",
    "crossed",
    "delong",
    "detectable_auc",
    "difference_over_records",
    "doubling",
    "epsilon_bounds",
    "epsilon_measures",
    "estimate",
    "estimate_curves",
    "exposure",
    "extremes",
    "extremes_by_class",
    "halvings",
    "headline_fpr",
    "holm",
    "interval_over_targets",
    "matched_scale",
    "mean_curve",
    "mean_over_records",
    "measure",
    "memorisation",
    "movement",
    "one_run_bounds",
    "one_run_p_value",
    "over",
    "over_best",
    "packed",
    "precision",
    "proportion",
    "rank_correlation",
    "reliability",
    "roc",
    "summarize",
    "thin",
    "threshold_for",
    "threshold_rank",
    "thresholds_for",
    "too_fine",
    "tpr_at",
    "tpr_within_class",
    "unpacked",
    "wilson",
]
