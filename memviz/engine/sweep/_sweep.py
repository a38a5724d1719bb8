"""A sweep as it goes: estimates at once, exact values from the top of the list."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from tqdm.auto import tqdm

from memviz.engine.record import CancelledError, Intervention, Replay, intervention
from memviz.study import Study, default_groups
from memviz.units import UnitsLike

from ._answers import contrast
from ._checkpoint import Checkpoint
from ._effects import Effects
from ._estimate import estimate_effects
from ._one_at_a_time import Engine, OneAtATime
from ._steps import default_units, new_effects, sweep_steps

# Where the recorded passes do not fit in memory, each batch of units records them once more: small
# ones first, so that there is something to see and to keep, then larger ones.
_SMALLEST, _LARGEST = 16, 256


def sweep_stream(
    study: Study,
    units: UnitsLike | None = None,
    examples: Tensor | None = None,
    how: str | Intervention = "zero",
    *,
    estimates: bool = True,
    top: int | None = None,
    group: str | None = None,
    against: str | None = None,
    path: str | Path | None = None,
    memory: int | None = None,
    engine: Engine = "auto",
    progress: bool = False,
    stop: Callable[[], bool] | None = None,
) -> Iterator[Effects]:
    """Watch a sweep: gradient × activation estimates at once, then unit by unit exact values.

    Each time the same Effects comes, with more of its units ``done``; the others keep their
    estimates. The units with the largest estimated effect on ``group`` against ``against`` come
    first. Leave the loop at any time: the Effects stays as it is then.

    Parameters
    ----------
    study, units, examples, how, path, memory, engine, progress, stop
        As in ``sweep``.
    estimates : bool
        False makes none (for a model that no gradient passes); units come in their order.
    top : int, optional
        Exact values for so many units; all unless given, none with 0.
    group, against : str, optional
        As in ``Effects.scores``. Where the examples hold none of the study's first two groups and
        no group is named, units come by their mean absolute change.

    Raises
    ------
    CancelledError
        If ``stop()`` says so between two steps; what is done is in the file, if there is one.
    ValueError
        If ``top`` is out of range, no example is in a group that was named, or ``path`` is
        damaged or keeps another sweep.

    Examples
    --------
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    >>> study = Study(model.eval(), torch.randn(6, 4), torch.zeros(6), {"test": range(6)})
    >>> first, *_, last = (int(effects.done.sum()) for effects in sweep_stream(study, top=3))
    >>> first, last
    (0, 3)
    """
    replay = Replay(study, examples, memory=memory)
    chosen = list(replay.check(units)) if units is not None else default_units(replay.layers)
    kind = intervention(how)
    if top is not None and not 0 <= top <= len(chosen):
        raise ValueError(f"top is {top}; this sweep has {len(chosen)} units to choose from.")
    if top is not None and not estimates:
        raise ValueError("top chooses by the estimates; leave it out, or let estimates be made.")
    if estimates:
        effects = estimate_effects(replay, chosen, kind)
        effects.engine, effects.done[:] = replay.engine, False
        rows = _ranked(effects, group, against)[:top]
    else:
        effects, rows = new_effects(replay, chosen, kind), list(range(len(chosen)))
    file = Checkpoint(path, effects) if path is not None else None
    bar = tqdm(total=len(rows), disable=not progress, unit="unit", desc="sweep")
    told = int(effects.done.sum())
    try:
        yield effects
        for done in _steps(replay, effects, OneAtATime(replay, kind, engine), rows):
            if stop is not None and stop():
                raise CancelledError("cancelled; nothing has changed.")
            bar.update(int(done) - bar.n)
            if file is not None:
                file.write_now_and_then()
            if int(effects.done.sum()) > told:
                told = int(effects.done.sum())
                yield effects
    finally:
        bar.close()
        if file is not None:
            file.write()


def _ranked(effects: Effects, group: str | None, against: str | None) -> list[int]:
    """Rows from the largest mean drop on a group against another down; unknown ones come last."""
    named = group is not None or against is not None
    group, against = default_groups(effects.study, group, against)
    mine = effects.members(group)
    rest = effects.members(against) if against else torch.arange(0)
    if len(mine) and (len(rest) or not against):
        drop = -contrast(effects.margin_change, mine, rest)
    elif named:
        raise ValueError(f"none of the examples swept is in {group!r} or in {against!r}.")
    else:
        drop = effects.margin_change.abs().mean(1)
    order: list[int] = drop.nan_to_num(-torch.inf).argsort(descending=True, stable=True).tolist()
    return order


def _steps(
    replay: Replay, effects: Effects, fast: OneAtATime, rows: Sequence[int]
) -> Iterator[float]:
    """Do what is not done of the rows; after each step, how many of them are, in units' worth."""
    left = [row for row in rows if not effects.done[row]]
    already = len(rows) - len(left)
    size, start = _SMALLEST if replay.engine == "hook" else len(left), 0
    while start < len(left):
        for done in _guarded(replay, effects, fast, left[start : start + size]):
            yield already + start + done
        start, size = start + size, min(2 * size, _LARGEST)


def _guarded(
    replay: Replay, effects: Effects, fast: OneAtATime, rows: Sequence[int]
) -> Iterator[float]:
    """``sweep_steps``; out of memory, the chunks are halved and it goes on with the rows left."""
    steps: Iterator[float] | None = None
    before = 0

    def advance() -> float | None:
        nonlocal steps, before
        if steps is None:
            left = [row for row in rows if not effects.done[row]]
            before = len(rows) - len(left)
            steps = sweep_steps(replay, effects, fast.kind, left, fast)
        try:
            return next(steps, None)
        except BaseException:
            steps = None
            raise

    while (done := replay.guard(advance)) is not None:
        yield before + done


def sweep(
    study: Study,
    units: UnitsLike | None = None,
    examples: Tensor | None = None,
    how: str | Intervention = "zero",
    *,
    top: int | None = None,
    group: str | None = None,
    against: str | None = None,
    path: str | Path | None = None,
    memory: int | None = None,
    engine: Engine = "auto",
    progress: bool = True,
    stop: Callable[[], bool] | None = None,
) -> Effects:
    """Effect of each unit alone on each example, exact.

    Parameters
    ----------
    study : Study
    units : UnitSet or text, optional
        All units but those of the output layer, unless given.
    examples : int64 ``[n]``, optional
        All unless given.
    how : str or Intervention
    top : int, optional
        Exact for so many units, those with the largest estimated effect on ``group`` against
        ``against``; the others keep their gradient × activation estimate, and ``effects.exact``
        tells which is which.
    group, against : str, optional
        As in ``Effects.scores``; used with ``top`` only.
    path : str or Path, optional
        A safetensors file that keeps what is done: written every few seconds, at the end and when
        interrupted. The same sweep called again goes on from there.
    memory : int, optional
        Bytes of recorded passes to keep.
    engine : {"auto", "graph", "replay"}
        The graph engine is the faster one and equals a plain hook to float rounding; it is checked
        against replay, which is bitwise a hook, and left where it fails. ``effects.engine`` says
        which ran.
    progress : bool
        Show a progress bar; interrupting the cell stops the sweep and leaves no trace.
    stop : callable, optional
        Asked before each unit; True raises CancelledError.

    Raises
    ------
    CancelledError
        If ``stop()`` says so.
    ValueError
        If ``path`` is damaged or keeps another sweep: other weights, data, units or examples.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    >>> study = Study(model.eval(), torch.randn(6, 4), torch.zeros(6), {"test": range(6)})
    >>> sweep(study, "0:0-3", progress=False)
    Effects(zero on 4 units × 6 examples, 4 done, engine ...)
    >>> sweep(study, top=2, progress=False)
    Effects(zero on 8 units × 6 examples, 2 done, 6 estimated, engine ...)
    """
    # It builds on this file's steps; a top-level import would go round in a circle.
    from ._sweep import sweep_stream

    *_, effects = sweep_stream(
        study,
        units,
        examples,
        how,
        estimates=top is not None,
        top=top,
        group=group,
        against=against,
        path=path,
        memory=memory,
        engine=engine,
        progress=progress,
        stop=stop,
    )
    return effects
