"""Numbers with their nouns."""


def count(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless the number is 1.

    Example:
        >>> count(1, "model"), count(25_000, "record")
        ('1 model', '25,000 records')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
