"""Text that was handed in, in a form that can be shown; imports nothing, since every error needs it."""


def printable(text: str) -> str:
    r"""Return the text with every letter that cannot be printed written as its escape.

    For names that are given, such as those of files, and have to be shown.

    Example:
        >>> print(printable(f"a{chr(7)}b"))
        a\x07b
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
