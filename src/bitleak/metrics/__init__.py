"""ROC curves, figures with intervals, and comparisons; NumPy and SciPy only."""

from bitleak.metrics.accuracy_and_size import accuracy_on_members, accuracy_on_test, agreement
from bitleak.metrics.auc import auc, detectable_auc, doubling_counts, estimate_auc
from bitleak.metrics.balanced_accuracy import estimate_balanced_accuracy, random_halvings
from bitleak.metrics.clusters import cluster_sums, dense_clusters, effective_records
from bitleak.metrics.comparison import excess, excess_over_best
from bitleak.metrics.epsilon import DELTA, EpsilonBound, epsilon_bounds, epsilon_measures
from bitleak.metrics.estimates import Estimate, Estimates, pack_estimates, unpack_estimates
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
from bitleak.metrics.intervals import (
    difference_over_records,
    mean_over_records,
)
from bitleak.metrics.map_error import MapInfluence, map_influence, with_map_error
from bitleak.metrics.match_error import MatchedAccuracies, at_equal_accuracy, matching_records
from bitleak.metrics.matched_scale import ScaleMatch, matched_scale
from bitleak.metrics.measures import (
    Measures,
    TotalAndTargets,
    estimate_from_curves,
    estimate_metrics,
    measure,
    measures_from,
)
from bitleak.metrics.mutual_references import on_separate_records, widen_for_mutual_references
from bitleak.metrics.one_run import OneRunBound, one_run_bounds, one_run_p_value
from bitleak.metrics.proportions import clopper_pearson, estimate_proportion, wilson
from bitleak.metrics.reference_curve import Extrapolated, ReferenceCurve, fit_reference_curve
from bitleak.metrics.roc import Roc, best_balanced_accuracy, mean_curve, roc, thin_curve
from bitleak.metrics.score_metric import (
    ALWAYS_MEASURED,
    ScoreMetric,
    further_measures,
    load_metric,
    metric_entries,
)
from bitleak.metrics.strongest import (
    DRAWS,
    PairChoice,
    PlayerRates,
    choose_pair,
    named_pair,
    on_draws,
    player_rates,
    strongest_estimates,
)
from bitleak.metrics.threshold_measures import PRIORS, measure_at_threshold, measure_at_thresholds
from bitleak.metrics.thresholds import (
    AtThreshold,
    Precision,
    Rate,
    at_threshold,
    precision,
    threshold_for,
    thresholds_for,
)
from bitleak.metrics.tpr import estimate_tpr, headline_fpr, tpr_at, why_unmeasurable
from bitleak.metrics.trainings import (
    FEWEST_TARGETS,
    difference_of_trainings,
    difference_over_trainings,
    mean_over_trainings,
    verdict_about,
    widening,
)
from bitleak.metrics.verdicts import HEADLINE, adjust_verdicts, holm, holm_with_headline
from bitleak.metrics.within_class import (
    ClassDependence,
    auc_within_class,
    class_dependence,
    tpr_within_class,
)

__all__ = [
    "ALWAYS_MEASURED",
    "DELTA",
    "DRAWS",
    "FEWEST_TARGETS",
    "HEADLINE",
    "PRIORS",
    "AtThreshold",
    "ClassDependence",
    "EpsilonBound",
    "Estimate",
    "Estimates",
    "Exposure",
    "Extrapolated",
    "MapInfluence",
    "MatchedAccuracies",
    "Measures",
    "Memorisation",
    "Movement",
    "OneRunBound",
    "PairChoice",
    "PlayerRates",
    "Precision",
    "Rate",
    "ReferenceCurve",
    "Roc",
    "ScaleMatch",
    "ScoreMetric",
    "TotalAndTargets",
    "accuracy_on_members",
    "accuracy_on_test",
    "adjust_verdicts",
    "agreement",
    "at_equal_accuracy",
    "at_threshold",
    "auc",
    "auc_within_class",
    "best_balanced_accuracy",
    "choose_pair",
    "class_dependence",
    "clopper_pearson",
    "cluster_sums",
    "dense_clusters",
    "detectable_auc",
    "difference_of_trainings",
    "difference_over_records",
    "difference_over_trainings",
    "doubling_counts",
    "effective_records",
    "epsilon_bounds",
    "epsilon_measures",
    "estimate_auc",
    "estimate_balanced_accuracy",
    "estimate_from_curves",
    "estimate_metrics",
    "estimate_proportion",
    "estimate_tpr",
    "excess",
    "excess_over_best",
    "exposure",
    "extremes",
    "extremes_by_class",
    "fit_reference_curve",
    "further_measures",
    "headline_fpr",
    "holm",
    "holm_with_headline",
    "load_metric",
    "map_influence",
    "matched_scale",
    "matching_records",
    "mean_curve",
    "mean_over_records",
    "mean_over_trainings",
    "measure",
    "measure_at_threshold",
    "measure_at_thresholds",
    "measures_from",
    "memorisation",
    "metric_entries",
    "movement",
    "named_pair",
    "on_draws",
    "on_separate_records",
    "one_run_bounds",
    "one_run_p_value",
    "pack_estimates",
    "player_rates",
    "precision",
    "random_halvings",
    "rank_correlation",
    "reliability",
    "roc",
    "strongest_estimates",
    "thin_curve",
    "threshold_for",
    "thresholds_for",
    "tpr_at",
    "tpr_within_class",
    "unpack_estimates",
    "verdict_about",
    "why_unmeasurable",
    "widen_for_mutual_references",
    "widening",
    "wilson",
    "with_map_error",
]
