"""The largest runs that are accepted: more is a slip, or a design that no machine would finish.

Each is checked before any work; the error names the field, the limit and the given number.
"""

MOST_MODELS = 4096
"""Models of a population, shadow models or targets, and models whose answers are attacked."""

MOST_VARIANTS = 1000
"""Quantized variants of one audit."""

MOST_RATES = 100
"""False positive rates, and shares of members that precision is reported for."""

MOST_ROUNDS = 1000
"""Augmented rounds of calibration."""

MOST_QUERIES = 1000
"""Queries per record."""

MOST_CLASSES = 1_000_000
"""Classes of labels whose number nothing else states."""


def why_too_many(count: int, limit: int, subject: str) -> str | None:
    """Return the reason why a run cannot have as many of a thing; None if it can.

    Example:
        >>> why_too_many(101, MOST_RATES, "false positive rates")
        'expected at most 100 false positive rates, got 101'
        >>> why_too_many(100, MOST_RATES, "false positive rates") is None
        True
    """
    return f"expected at most {limit:,} {subject}, got {count:,}" if count > limit else None
