"""Printable forms of text from elsewhere; imports nothing, since every error needs it."""


def printable(text: str) -> str:
    r"""Return the text with every letter that cannot be printed written as its escape.

    For names from elsewhere, such as names of files, in messages.

    Example:
        >>> print(printable(f"a{chr(7)}b"))
        a\x07b
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
