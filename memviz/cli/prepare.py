"""``python -m memviz prepare``: train the ready study's networks again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def prepare(seeds: Sequence[int], *, folder: Path | None) -> int:
    """Train one network a seed and write the weights; by default those that ship with memviz."""
    from memviz.demos import digits

    print(f"Wrote {digits.prepare(seeds, folder)}")
    return 0
