"""Membership-inference attacks: one per file, from answers to scores; NumPy and SciPy only."""

from bitleak.attacks.attack import RECALIBRATED_SIGNALS, Attack, signal_of
from bitleak.attacks.control import negative_control, two_class_signals
from bitleak.attacks.expand import EXPANSIONS, expand
from bitleak.attacks.lira import LiRA
from bitleak.attacks.recalibrate import recalibrated
from bitleak.attacks.threshold import Threshold

__all__ = [
    "EXPANSIONS",
    "RECALIBRATED_SIGNALS",
    "Attack",
    "LiRA",
    "Threshold",
    "expand",
    "negative_control",
    "recalibrated",
    "signal_of",
    "two_class_signals",
]
