"""``python -m memviz prepare``: train the networks of the ready studies again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

DEFAULT_SEEDS = (0,)  # of a demo that does not say which ones it ships


def prepare(seeds: Sequence[int] | None, *, only: Sequence[str], folder: Path | None) -> int:
    """Train the networks of some demos, by default of all, and write their weights.

    Parameters
    ----------
    seeds : sequence of int or None
        None for those that each demo ships.
    only : sequence of str
        Names of demos; empty for all.
    folder : Path or None
        None for the folder that the demo loads them from.

    Raises
    ------
    SystemExit
        If there is no demo of a name.
    """
    from memviz.demos import demos

    known = {name: module for name, module in demos().items() if hasattr(module, "prepare")}
    unknown = [name for name in only if name not in known]
    if unknown:
        names = ", ".join(sorted(known))
        raise SystemExit(f"There is no demo {unknown[0]!r} to prepare; choose from: {names}.")
    chosen = [(name, known[name]) for name in dict.fromkeys(only or known)]
    for name, module in chosen:
        print(f"{name}: {_time(module, seeds)}.", flush=True)
    for _, module in chosen:
        print(f"Wrote {module.prepare(_seeds(module, seeds), folder)}", flush=True)
    return 0


def _seeds(module: ModuleType, seeds: Sequence[int] | None) -> list[int]:
    return list(getattr(module, "SHIPPED_SEEDS", DEFAULT_SEEDS) if seeds is None else seeds)


def _time(module: ModuleType, seeds: Sequence[int] | None) -> str:
    """How long a demo takes, as far as it says."""
    chosen = _seeds(module, seeds)
    words = f"seed{'s' if len(chosen) > 1 else ''} {', '.join(map(str, chosen))}"
    minutes = getattr(module, "MINUTES", None)
    if minutes is None:
        return words
    return f"{words}, about {max(1, round(minutes * len(chosen)))} min on two cores"
