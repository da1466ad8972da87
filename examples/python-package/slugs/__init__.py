"""Turns titles into URL slugs."""

import re
import unicodedata

__version__ = "1.0.2"


def slug(title, *, limit=60):
    """The slug of a title: lower-case words joined by hyphens, cut at a word where possible.

    >>> slug("Crème brûlée, twice")
    'creme-brulee-twice'
    """
    ascii_text = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode()
    words = re.findall(r"[a-z0-9]+", ascii_text.lower())
    joined = "-".join(words)
    if len(joined) <= limit:
        return joined
    cut = joined.rfind("-", 0, limit + 1)
    return joined[: cut if cut > 0 else limit]


def unique(title, taken):
    """A slug of the title that is not in `taken`."""
    base = slug(title) or "untitled"
    candidate, number = base, 2
    while candidate in taken:
        candidate, number = f"{base}-{number}", number + 1
    return candidate
