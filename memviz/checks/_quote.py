"""What was given, quoted in a message: on one line, and never longer than a message may be."""

from __future__ import annotations

import re
from collections.abc import Iterable
from reprlib import Repr

_MOST = 200  # characters
_SHORT = Repr()
_SHORT.maxlevel, _SHORT.maxlist = 4, 40
_SHORT.maxtuple = _SHORT.maxdict = _SHORT.maxset = _SHORT.maxarray = _SHORT.maxlist
_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = _MOST


def quoted(given: object, most: int = _MOST) -> str:
    """The value as Python writes it, on one line, cut to ``most`` characters.

    Unlike ``repr``, it never raises, and it takes no longer for a million entries than for forty.

    Examples
    --------
    >>> quoted("conv9"), quoted([0, 2.5])
    ("'conv9'", '[0, 2.5]')
    >>> quoted("a" * 1000, most=12)
    "'aaaaaaaaa…'"
    """
    if isinstance(given, str):
        text = repr(given[:most])
        if len(given) <= most and len(text) <= most:
            return text
        return f"{text[: most - 2].removesuffix(text[0])}…{text[0]}"
    try:
        text = re.sub(r"\s*\n\s*", " ", _SHORT.repr(given))
    except Exception:  # a repr of the user's own
        text = f"<{type(given).__name__}>"
    return text if len(text) <= most else f"{text[: most - 1]}…"


def listed(values: Iterable[object], most: int = _MOST) -> str:
    """The values with commas between them, and how many more there are beyond ``most`` characters.

    Texts are listed as they are, without quotes.

    Examples
    --------
    >>> listed(["clean", "memorized"]), listed(range(100), most=12)
    ('clean, memorized', '0, 1, 2, 3 and 96 more')
    """
    rest = iter(values)
    shown: list[str] = []
    length = 0
    for value in rest:
        text = value if isinstance(value, str) else quoted(value, most)
        length += len(text) + 2
        if length > most + 2:
            more = 1 + sum(1 for _ in rest)
            if not shown:
                return f"{text[: most - 1]}…" + (f" and {more - 1} more" if more > 1 else "")
            return f"{', '.join(shown)} and {more} more"
        shown.append(text)
    return ", ".join(shown)
