"""ROC curves, figures with intervals, and comparisons; NumPy and SciPy only."""

from bitleak.metrics.best_threshold import best_threshold, halvings
from bitleak.metrics.delong import delong
from bitleak.metrics.estimate import Estimate
from bitleak.metrics.intervals import difference_over_records, interval_over_targets, mean_over_records
from bitleak.metrics.measures import Estimates, Measures, estimate, measure, summarize
from bitleak.metrics.proportion import clopper_pearson, proportion, wilson
from bitleak.metrics.roc import Roc, auc, balanced_accuracy, headline_fpr, mean_curve, roc, thin, tpr_at
from bitleak.metrics.threshold_rank import threshold_rank
from bitleak.metrics.utility import accuracy_on_members, accuracy_on_test, agreement

__all__ = [
    "Estimate",
    "Estimates",
    "Measures",
    "Roc",
    "accuracy_on_members",
    "accuracy_on_test",
    "agreement",
    "auc",
    "balanced_accuracy",
    "best_threshold",
    "clopper_pearson",
    "delong",
    "difference_over_records",
    "estimate",
    "halvings",
    "headline_fpr",
    "interval_over_targets",
    "mean_curve",
    "mean_over_records",
    "measure",
    "proportion",
    "roc",
    "summarize",
    "thin",
    "threshold_rank",
    "tpr_at",
    "wilson",
]
