"""``python -m memviz prepare``: what the notebooks read, made ready, or trained again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

from memviz.checks import coded

DEFAULT_SEEDS = (0,)  # of a demo that does not say which ones it ships
_NOTE = "ready.json"
_ROOM = 50_000_000  # bytes; twice what the trainings of all notebooks take


def prepare(only: Sequence[str]) -> int:
    """Load what the notebooks read, train and keep what is missing, and say how long each took.

    Parameters
    ----------
    only : sequence of str
        Names of demos; empty for all.

    Returns
    -------
    int
        The exit status: 1 if one of them could not be loaded.

    Raises
    ------
    SystemExit
        If there is no demo of a name, or the cache folder can't be written and lacks something.
    """
    from memviz import registry
    from memviz.demos import cache_folder, demos
    from memviz.tensor_files import NotWritten, atomic_write, check_writable

    kept = {n: module for n, module in registry.load("demos").items() if hasattr(module, "keep")}
    chosen = _chosen(only, dict(sorted((demos() | kept).items())))
    folder = cache_folder()
    try:
        check_writable(folder, _ROOM)
    except NotWritten as error:
        if found_ready(folder) is None:
            cure = "set MEMVIZ_CACHE to a folder that can be written."
            raise SystemExit(f"prepare: {error}; {cure}") from None
    print(
        "Loading what the notebooks read. What does not come with memviz is trained once, in at\n"
        f"most five minutes on one core, and kept in {folder}",
        flush=True,
    )
    failed = [name for name, module in chosen.items() if not _loaded(name, module)]
    if failed:
        print(f"\nNo, not ready: {', '.join(failed)}. Beside each stands what to do.")
        return 1
    if only:
        print(f"\nYes, ready: {', '.join(chosen)}.")
        return 0
    files = sorted(path.name for path in folder.glob("*.safetensors"))
    if found_ready(folder) != len(files):
        try:
            with atomic_write(folder / _NOTE) as part:
                part.write_text(json.dumps({"files": files}), encoding="utf-8")
        except NotWritten as error:  # a folder to read: what is in it is ready all the same
            print(f"\nThe list of what is ready stays as it was: {error}.")
    size = sum((folder / name).stat().st_size for name in files) / 1e6
    print(f"\nYes, ready without a network: {len(files)} files ({size:.0f} MB) in {folder}")
    print(f"For everybody on this machine, set: MEMVIZ_CACHE={folder}")
    return 0


def found_ready(folder: Path) -> int | None:
    """How many files ``prepare`` has kept in a cache folder; None before it, or if any is gone."""
    try:
        files = [str(name) for name in json.loads((folder / _NOTE).read_text("utf-8"))["files"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return len(files) if all((folder / name).is_file() for name in files) else None


def train_again(seeds: Sequence[int] | None, *, only: Sequence[str], folder: Path | None) -> int:
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
    chosen = _chosen(only, known)
    for name, module in chosen.items():
        print(f"{name}: {_time(module, seeds)}.", flush=True)
    for module in chosen.values():
        print(f"Wrote {module.prepare(_seeds(module, seeds), folder)}", flush=True)
    return 0


def _chosen(only: Sequence[str], known: dict[str, ModuleType]) -> dict[str, ModuleType]:
    unknown = [name for name in only if name not in known]
    if unknown:
        names = ", ".join(sorted(known))
        raise SystemExit(
            coded("E35", f"There is no demo {unknown[0]!r} to prepare; choose from: {names}.")
        )
    return {name: known[name] for name in only or known}


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


def _loaded(name: str, module: ModuleType) -> bool:
    """Whether a demo's study, or all that its ``keep()`` reads, loads; says so in a line."""
    read: Callable[[], object] = getattr(module, "keep", module.load)
    started = time.perf_counter()
    try:
        read()
    except (OSError, ValueError) as error:
        print(f"  {name:<15} no: {error}", flush=True)
        return False
    print(f"  {name:<15} {time.perf_counter() - started:5.1f} s", flush=True)
    return True
