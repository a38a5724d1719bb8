"""What a view may ask of its controller: one table of actions, and what each request must hold."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ._messages import Sink


@dataclass(frozen=True)
class Action:
    """What is done when a view asks, and the one field that the request must hold.

    Attributes
    ----------
    run : callable
        Given the request and the view that asks.
    field : str
        Empty where the request needs none.
    types : tuple of type
        What the field may hold.
    words : str
        The same for the person who reads the error.
    """

    run: Callable[[dict[str, Any], Sink], None]
    field: str = ""
    types: tuple[type, ...] = (str,)
    words: str = "a text"


def fulfil(actions: Mapping[str, Action], content: Any, sink: Sink) -> None:
    """Do what a view asks.

    Raises
    ------
    ValueError, KeyError, IndexError
        With one clear sentence, where the request is unknown or does not hold what it needs.
    """
    kind = content.get("type") if isinstance(content, dict) else None
    action = actions.get(str(kind))
    if action is None:
        raise ValueError(f"the widget asked for {reprlib.repr(kind)}, which memviz does not know.")
    if action.field:
        value = content.get(action.field)
        if not isinstance(value, action.types) or isinstance(value, bool):
            raise ValueError(
                f"{kind!r} needs {action.field!r}, {action.words}; got {reprlib.repr(value)}."
            )
    action.run(content, sink)
