"""A progress bar that shows once work takes longer than a second."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar, cast

from tqdm.auto import tqdm

T = TypeVar("T")


def slow(items: Sequence[T], words: str, *, progress: bool = True) -> Iterable[T]:
    """The items, with a progress bar once they have taken a second.

    Examples
    --------
    >>> list(slow(range(3), "counting"))
    [0, 1, 2]
    """
    return cast(Iterable[T], tqdm(items, desc=words, delay=1.0, leave=False, disable=not progress))
