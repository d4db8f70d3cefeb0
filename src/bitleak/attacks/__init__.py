"""Membership-inference attacks, one per file: from answers to scores, without torch."""

from bitleak.attacks.attack import RECALIBRATED_SIGNALS, Attack, signal_of
from bitleak.attacks.attack_views import attack_view, masked_view, side_values, split_numbers
from bitleak.attacks.calibrated import Calibrated
from bitleak.attacks.control import negative_control, two_class_signals
from bitleak.attacks.forms import (
    attack_entries,
    expand,
    forms_by_word,
    known_names,
    signals_of_references,
    signals_of_targets,
)
from bitleak.attacks.fractional_references import fractional_scores
from bitleak.attacks.joint import Joint
from bitleak.attacks.joint_learned import LearnedJoint
from bitleak.attacks.lira import LiRA
from bitleak.attacks.outlying_references import outlying_doubt, outlying_references
from bitleak.attacks.player import ModelSignals, Player, player_view, population_view
from bitleak.attacks.player_groups import (
    FEWEST_PLAYERS,
    PlayedCase,
    PlayedScores,
    PlayerGroup,
    played_scores,
    player_groups,
    scores_on_views,
)
from bitleak.attacks.population import Population
from bitleak.attacks.positive_control import (
    STRENGTH,
    perfect_auc,
    perfect_tpr,
    positive_control,
)
from bitleak.attacks.predicted_references import (
    FEWEST_QUANTIZED,
    SIDES,
    PredictedView,
    effective_number,
    predicted_view,
)
from bitleak.attacks.quantile import Quantile
from bitleak.attacks.recalibrate import (
    few_population_records,
    map_error_counts,
    moved_maps,
    recalibrated,
)
from bitleak.attacks.reference import Reference
from bitleak.attacks.reference_subsets import exchangeable, subset_view
from bitleak.attacks.rmia import RMIA
from bitleak.attacks.standardise import ConfidenceMoments, confidence_moments, standardised
from bitleak.attacks.temperature import Temperature, fit_temperature
from bitleak.attacks.threshold import Threshold

__all__ = [
    "FEWEST_PLAYERS",
    "FEWEST_QUANTIZED",
    "RECALIBRATED_SIGNALS",
    "RMIA",
    "SIDES",
    "STRENGTH",
    "Attack",
    "Calibrated",
    "ConfidenceMoments",
    "Joint",
    "LearnedJoint",
    "LiRA",
    "ModelSignals",
    "PlayedCase",
    "PlayedScores",
    "Player",
    "PlayerGroup",
    "Population",
    "PredictedView",
    "Quantile",
    "Reference",
    "Temperature",
    "Threshold",
    "attack_entries",
    "attack_view",
    "confidence_moments",
    "effective_number",
    "exchangeable",
    "expand",
    "few_population_records",
    "fit_temperature",
    "forms_by_word",
    "fractional_scores",
    "known_names",
    "map_error_counts",
    "masked_view",
    "moved_maps",
    "negative_control",
    "outlying_doubt",
    "outlying_references",
    "perfect_auc",
    "perfect_tpr",
    "played_scores",
    "player_groups",
    "player_view",
    "population_view",
    "positive_control",
    "predicted_view",
    "recalibrated",
    "scores_on_views",
    "side_values",
    "signal_of",
    "signals_of_references",
    "signals_of_targets",
    "split_numbers",
    "standardised",
    "subset_view",
    "two_class_signals",
]
