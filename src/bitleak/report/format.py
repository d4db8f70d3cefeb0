"""Numbers and names as people read them; one form for the page, the figures and the terminal."""

import math
import re
from collections.abc import Mapping, Sequence

from bitleak.core.plurals import count as count
from bitleak.core.types import About, Measure

REFERENCES = ("fp32", "recalibrated", "matched", "")
"""Kinds of reference, from the weakest adversary to the strongest; empty = none are used."""

DASH = "\N{EN DASH}"
"""Printed in place of a figure that was not measured."""

ABOUT: Mapping[About, str] = {
    "records": "these models on other records",
    "trainings": "models trained anew with the same recipe, on other records",
}
"""Subjects of intervals and verdicts, by `Measure.about`."""

REFERENCE_TITLES = {
    "fp32": "fp32 references",
    "recalibrated": "recalibrated fp32 references",
    "matched": "matched references",
    "": "no references",
}


def bits(levels: int | None) -> str:
    """Return the precision in bits: 32 for None (full precision), a dash for 0 (not known).

    Example:
        >>> bits(16), bits(3), bits(None)
        ('4', '1.58', '32')
    """
    if levels == 0:
        return DASH
    return "32" if levels is None else f"{math.log2(levels):.2f}".rstrip("0").rstrip(".")


def precision_text(levels: int | None) -> str:
    """Return the precision as a heading.

    Example:
        >>> precision_text(2), precision_text(None), precision_text(0)
        ('1 bit', 'full precision', 'quantized')
    """
    if levels is None:
        return "full precision"
    if levels == 0:
        return "quantized"
    return f"{bits(levels)} bit{'' if levels == 2 else 's'}"


def percent(rate: float) -> str:
    """Return a share in percent.

    Example:
        >>> percent(0.001)
        '0.1 %'
    """
    return f"{100 * rate:g} %"


def tpr_decimals(fpr: float) -> int:
    """Return the decimals of a TPR at this FPR: one more than the FPR needs, at least 3."""
    return max(3, math.ceil(-math.log10(fpr) - 1e-9) + 1)


def value(measure: Measure | None, decimals: int, *, factor: float = 1.0) -> str:
    """Return the estimate alone; a dash if it was not measured."""
    return DASH if measure is None else f"{factor * measure.value:.{decimals}f}"


def interval(measure: Measure | None, decimals: int, *, factor: float = 1.0) -> str:
    """Return the interval in brackets, or the other end of a step; empty if there is neither.

    Example:
        >>> interval(Measure(0.5, low=0.45, high=0.55), 2)
        '[0.45, 0.55]'
        >>> interval(Measure(0.1, step_fpr=0.02, step_value=0.25), 2)
        'to 0.25 (tied scores)'
    """
    if measure is not None and measure.step_value is not None:
        return f"to {factor * measure.step_value:.{decimals}f} (tied scores)"
    if measure is None or measure.low is None or measure.high is None:
        return ""
    return f"[{factor * measure.low:.{decimals}f}, {factor * measure.high:.{decimals}f}]"


def figure(measure: Measure | None, decimals: int, *, factor: float = 1.0) -> str:
    """Return the estimate followed by its interval.

    Example:
        >>> figure(Measure(0.988, low=0.982, high=0.993), 1, factor=100.0)
        '98.8 [98.2, 99.3]'
    """
    estimate = value(measure, decimals, factor=factor)
    return f"{estimate} {interval(measure, decimals, factor=factor)}".strip()


def difference(measure: Measure | None, decimals: int, *, factor: float = 1.0) -> str:
    """Return the paired difference from fp32 with its interval; empty if it was not compared.

    Example:
        >>> difference(Measure(0.1, difference=-0.2, difference_low=-0.25, difference_high=-0.15), 2)
        '-0.20 [-0.25, -0.15]'
    """
    if measure is None or measure.difference is None:
        return ""
    paired = Measure(measure.difference, low=measure.difference_low, high=measure.difference_high)
    shown = round(factor * measure.difference, decimals) + 0.0  # no negative zero
    return f"{shown:+.{decimals}f} {interval(paired, decimals, factor=factor)}".strip()


def network_name(network: str) -> str:
    """Return the name of a network without its options.

    Example:
        >>> network_name("cnn width=16"), network_name("a net.onnx")
        ('cnn', 'a net.onnx')
        >>> network_name("external factory=pictures:make_network options={'width': 16}")
        'pictures:make_network'
    """
    factory = re.match(r"external factory=(\S+)", network)
    return factory[1] if factory else re.split(r" \w+=", network)[0]


def size(count: float | int) -> str:
    """Return a number of bytes in decimal units.

    Example:
        >>> size(950), size(44_695_848)
        ('950 B', '44.7 MB')
    """
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.3g} {unit}"
    return f"{count:.0f} B"


def count_points(number: float) -> str:
    """Return percentage points with their noun.

    Example:
        >>> count_points(1.0), count_points(0.5)
        ('1 point', '0.5 points')
    """
    return f"{number:g} point{'' if number == 1 else 's'}"


def listed(parts: Sequence[str]) -> str:
    """Return parts of a sentence joined by commas and a final "and".

    Example:
        >>> listed(["rtn", "brecq", "obc"])
        'rtn, brecq and obc'
    """
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} and {parts[-1]}"
