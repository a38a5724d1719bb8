"""The truths of all demos: those of this folder, and those that other demos bring."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from memviz import registry
from memviz.probes.contest import Truth


def known_truths() -> dict[str, Callable[[int], Truth]]:
    """Functions that plant a truth from a seed, by name: the ``TRUTHS`` of every demo."""
    by_name: dict[str, Callable[[int], Truth]] = {}
    for module in registry.load("demos").values():
        for name, plant in getattr(module, "TRUTHS", {}).items():
            by_name.setdefault(name, plant)
    return by_name


def truths(seeds: Sequence[int] = (0, 1, 2), names: Sequence[str] | None = None) -> Iterator[Truth]:
    """Plant truths one after the other: each of the named ones, from each seed.

    Parameters
    ----------
    seeds : sequence of int
    names : sequence of str, optional
        All that any demo brings, by default.

    Raises
    ------
    ValueError
        If there is no truth of a name.

    Examples
    --------
    >>> [truth.name for truth in truths([0], ["digits"])]
    ['digits']
    """
    known = known_truths()
    chosen = list(known) if names is None else list(names)
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise ValueError(f"there is no truth {unknown[0]!r}; choose from {', '.join(known)}.")
    for name in chosen:
        for seed in seeds:
            yield known[name](seed)
