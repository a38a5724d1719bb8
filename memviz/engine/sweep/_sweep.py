"""A sweep: estimates at once, then exact values, the units with the largest estimates first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from tqdm.auto import tqdm

from memviz.checks import IndicesLike, checked
from memviz.engine.record import CancelledError, Intervention, Replay, intervention
from memviz.study import Study, check_examples, default_groups
from memviz.units import UnitsLike

from ._answers import contrast, none_swept
from ._checkpoint import Checkpoint
from ._effects import Effects
from ._estimate import estimate_effects
from ._one_at_a_time import Engine, OneAtATime
from ._steps import batches, chosen_units, new_effects, sweep_steps


@checked
def sweep_stream(
    study: Study,
    units: UnitsLike | None = None,
    examples: IndicesLike | None = None,
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
    """Watch a sweep: gradient × activation estimates at once, then exact values unit by unit.

    Yields the same Effects each time, with more of its units ``done``; the loop may be left at any
    time. Units with a large estimated effect on ``group`` against ``against`` come first.

    Parameters
    ----------
    study, units, examples, how, path, memory, engine, progress, stop
        As in ``sweep``.
    estimates : bool
        False for a model gradients cannot flow through; units then come in their order.
    top : int, optional
        Exact values for this many units, 0 for none; all by default.
    group, against : str, optional
        As in ``Effects.scores``; without examples of these, units come by mean absolute change.

    Raises
    ------
    CancelledError
        If ``stop()`` returns True; finished units are in the file, if there is one.
    ValueError
        If ``top`` is out of range, no example is in a group that was named, or ``path`` is damaged
        or holds another sweep.

    Examples
    --------
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    >>> study = Study(model.eval(), torch.randn(6, 4), torch.zeros(6), {"test": range(6)})
    >>> first, *_, last = (int(effects.done.sum()) for effects in sweep_stream(study, top=3))
    >>> first, last
    (0, 3)
    """
    replay = Replay(study, check_examples(study, examples), memory=memory, progress=progress)
    chosen = chosen_units(replay, units)
    how = intervention(how)
    if top is not None and not 0 <= top <= len(chosen):
        raise ValueError(
            f"top is {top}; this sweep has {len(chosen)} units to choose from, so top must be 0 to "
            f"{len(chosen)}."
        )
    if top is not None and not estimates:
        raise ValueError("top chooses units by their estimates; leave it out, or set estimates.")
    if estimates:
        effects = estimate_effects(replay, chosen, how)
        effects.engine, effects.done[:] = replay.engine, False
        rows = _ranked(effects, group, against)[:top]
    else:
        effects, rows = new_effects(replay, chosen, how), list(range(len(chosen)))
    file = Checkpoint(path, effects) if path is not None else None
    bar = tqdm(total=len(rows), disable=not progress or not rows, unit="unit", desc="sweep")
    yielded = int(effects.done.sum())
    try:
        yield effects
        for done in _steps(replay, effects, OneAtATime(replay, how, engine), rows):
            if stop is not None and stop():
                raise CancelledError("cancelled; nothing has changed.")
            bar.update(int(done) - bar.n)
            if file is not None:
                file.write_now_and_then()
            if int(effects.done.sum()) > yielded:
                yielded = int(effects.done.sum())
                yield effects
    finally:  # also when the loop is left or interrupted
        bar.close()
        if file is not None:
            file.write()


def _ranked(effects: Effects, group: str | None, against: str | None) -> list[int]:
    """Rows by falling mean drop on a group against another; unknown values come last."""
    named = group is not None or against is not None
    group, against = default_groups(effects.study, group, against)
    members = effects.members(group)
    others = effects.members(against) if against else torch.arange(0)
    if len(members) and (len(others) or not against):
        drop = -contrast(effects.margin_change, members, others)
    elif named:
        raise none_swept(group, against, members)
    else:
        drop = effects.margin_change.abs().mean(1)
    order: list[int] = drop.nan_to_num(-torch.inf).argsort(descending=True, stable=True).tolist()
    return order


def _steps(
    replay: Replay, effects: Effects, fast: OneAtATime, rows: Sequence[int]
) -> Iterator[float]:
    """Finish the rows that are not done; yields how many units' worth of work is done."""
    left = [row for row in rows if not effects.done[row]]
    already = len(rows) - len(left)
    for few in batches(replay, left):
        for done in _guarded(replay, effects, fast, few):
            yield already + done
        already += len(few)


def _guarded(
    replay: Replay, effects: Effects, fast: OneAtATime, rows: Sequence[int]
) -> Iterator[float]:
    """``sweep_steps``, continued with the rows left on smaller chunks if memory runs out."""
    steps: Iterator[float] | None = None
    before = 0

    def advance() -> float | None:
        nonlocal steps, before
        if steps is None:
            left = [row for row in rows if not effects.done[row]]
            before = len(rows) - len(left)
            steps = sweep_steps(replay, effects, fast.how, left, fast)
        try:
            return next(steps, None)
        except BaseException:
            steps = None  # a generator that raised is finished: the next call needs a new one
            raise

    while (done := replay.guard(advance)) is not None:
        yield before + done


@checked
def sweep(
    study: Study,
    units: UnitsLike | None = None,
    examples: IndicesLike | None = None,
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
    """Exact effect of each unit alone on each example.

    Parameters
    ----------
    study : Study
    units : UnitSet or text, optional
        By default all units but those of the output layer.
    examples : int64 ``[n]`` or bool mask, optional
        All by default; a list, an array or a column of a table will do.
    how : str or Intervention
    top : int, optional
        Exact values for this many units only, those with the largest gradient × activation
        estimate; the others keep their estimate. ``effects.exact`` tells which.
    group, against : str, optional
        As in ``Effects.scores``; used with ``top`` only.
    path : str or Path, optional
        A safetensors file for finished units, from which the same call resumes.
    memory : int, optional
        Bytes of recorded passes to keep.
    engine : {"auto", "graph", "replay", "hook"}
        By default the fastest that agrees with plain module hooks: packed bits for a hard network
        of logic gates, the graph, equal to float rounding, else replay, bitwise identical to a
        hook, else a hook loop. ``effects.engine`` and ``effects.why`` say which answered and why.
    progress : bool
    stop : callable, optional
        Called between steps; returning True raises CancelledError.

    Returns
    -------
    Effects

    Raises
    ------
    CancelledError
        If ``stop()`` returns True.
    ValueError
        If the model gives no answer to measure (its forward pass is random, changes from call to
        call, or mixes the examples of a batch) or has no units, or if ``path`` is damaged or holds
        another sweep: other weights, data, units or examples.

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
    gradients = torch.is_grad_enabled()
    try:
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
    finally:
        torch.set_grad_enabled(gradients)  # an interrupt may have kept a pass from it
    return effects
