"""A progress bar that shows once work takes longer than a second."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar, cast

from tqdm.auto import tqdm

T = TypeVar("T")


def slow(
    items: Iterable[T], words: str, *, total: int | None = None, progress: bool = True
) -> Iterable[T]:
    """The items, with a progress bar once they have taken a second; ``total`` if they have no len.

    Examples
    --------
    >>> list(slow(range(3), "counting"))
    [0, 1, 2]
    """
    bar = tqdm(items, words, total, leave=False, delay=1.0, disable=not progress)
    return cast(Iterable[T], bar)
