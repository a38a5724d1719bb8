"""A session as lines of Python."""

from __future__ import annotations

import re

from memviz.study import Study

from ._state import State


def code_of(
    study: Study, start: State, state: State, examples: tuple[int, ...], opened: int | None
) -> str:
    """A few lines that rebuild a state, selected and opened examples.

    Parameters
    ----------
    study : Study
    start, state : State
        Only what differs from the first is written.
    examples : tuple of int
    opened : int, optional
    """
    origin = study.origin or "...  # your Study"
    # Deep modules are not attributes of mv until something imports them.
    deep = re.match(r"(memviz(?:\.[a-z_0-9]+)+)\.\w+\(", origin)
    imports = [f"import {deep[1]}"] if deep else []
    lines = [*imports, "import memviz as mv", "", f"study = {origin}"]
    lines.append("session = mv.Session(study)")
    if state.layers != start.layers:
        lines.append(f"session.show_layers({list(state.layers)!r})")
    if state.variant:
        lines.append(f"session.look_at({state.variant!r})")
    if state.units or state.how != start.how:
        lines.append(f"session.ablate({str(state.units)!r}, how={state.how!r})")
    for word, marked in (("confirmed", state.confirmed), ("rejected", state.rejected)):
        if marked:
            lines.append(f"session.mark({sorted(marked)!r}, {word!r})")
    if examples:
        lines.append(f"session.select({list(examples)!r})")
    if opened is not None:
        lines.append(f"session.open({opened})")
    shown = "session.replay.study" if state.variant else "study"
    lines.append(f"print(mv.readout({shown}, {str(state.units)!r}, {state.how!r}))")
    return "\n".join(lines) + "\n"
