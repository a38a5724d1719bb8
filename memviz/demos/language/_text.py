"""English that every Python brings along: the paragraphs of ``pydoc_data.topics``.

Their wording differs a little from one Python to the next. The demo uses the paragraphs that
Python 3.11.2, 3.11.7, 3.12.1 and 3.13.0 share, and knows each by a hash; the text itself is read
from the reader's own Python and is not part of memviz.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from functools import cache

# Quotes and marks of emphasis are what new releases change most.
_PLAIN = str.maketrans({"’": "'", "‘": "'", "–": "-", "—": "-"} | dict.fromkeys('“”"`*'))
_NUMBER = re.compile(r"^(\d+\.|-|\[\d+\]) ")
_SHORTEST, _LETTERS = 60, 0.88  # characters, and the share of them that are letters or spaces


def prose(topics: Mapping[str, str]) -> list[str]:
    r"""The paragraphs of running English in some topics, each once, without line breaks or markup.

    Parameters
    ----------
    topics : mapping of name to text

    Examples
    --------
    >>> text = 'The "yield" statement\n****\n\n' + "A generator is " * 5 + '\nthe "last" one.'
    >>> prose({"yield": text})[0][-25:]
    'enerator is the last one.'
    """
    found: dict[str, None] = {}
    for name in sorted(topics):
        for paragraph in re.split(r"\n\s*\n", topics[name]):
            text = _NUMBER.sub("", " ".join(paragraph.translate(_PLAIN).split()))
            if _is_prose(text):
                found[text] = None
    return list(found)


def _is_prose(text: str) -> bool:
    letters = sum(character.isalpha() or character == " " for character in text)
    return (
        len(text) >= _SHORTEST
        and text.isascii()
        and text[0].isupper()
        and not any(code in text for code in (">>>", "::="))
        and letters >= _LETTERS * len(text)
    )


def fingerprint(text: str) -> int:
    """The first 8 bytes of a text's SHA-256, as a signed number.

    Examples
    --------
    >>> fingerprint("A generator.") == fingerprint("A generator")
    False
    """
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big", signed=True)


@cache
def _own_text() -> dict[int, str]:
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise ValueError(
            "this Python comes without pydoc_data.topics, the text that the language demo reads; "
            "use a Python that holds its whole standard library."
        ) from error
    return {fingerprint(text): text for text in prose(topics)}


def paragraphs(fingerprints: Iterable[int]) -> list[str | None]:
    """The texts of these fingerprints; None for those that this Python does not hold.

    Raises
    ------
    ValueError
        If this Python has no ``pydoc_data.topics``.

    Examples
    --------
    >>> paragraphs([0])
    [None]
    """
    own = _own_text()
    return [own.get(known) for known in fingerprints]


def fingerprints() -> list[int]:
    """The fingerprints of this Python's paragraphs, in order.

    Examples
    --------
    >>> len(fingerprints()) > 500
    True
    """
    return list(_own_text())
