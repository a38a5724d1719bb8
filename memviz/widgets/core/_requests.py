"""Requests from views: a table of actions, and the field that each request must have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from memviz.checks import quoted

from ._messages import Sink


@dataclass(frozen=True)
class Action:
    """What is done for a request, and the field that the request must have.

    Attributes
    ----------
    run : callable
        Called with the request and the view that sent it.
    field : str
        Empty if the request needs none.
    types : tuple of type
        Allowed types of the field.
    words : str
        The types in words, for the error message.
    """

    run: Callable[[dict[str, Any], Sink], None]
    field: str = ""
    types: tuple[type, ...] = (str,)
    words: str = "a string"


def fulfil(actions: Mapping[str, Action], content: Any, sink: Sink) -> None:
    """Carry out a request of a view.

    Raises
    ------
    ValueError, KeyError, IndexError
        If the request is unknown, or its field is missing or has the wrong type.
    """
    kind = content.get("type") if isinstance(content, dict) else None
    action = actions.get(str(kind))
    if action is None:
        raise ValueError(
            f"the widget sent an unknown request, {quoted(kind)}; reload the page, so that "
            "it matches the installed memviz."
        )
    if action.field:
        value = content.get(action.field)
        missing = action.field not in content
        if missing or not isinstance(value, action.types) or isinstance(value, bool):
            got = "nothing" if missing else quoted(value)
            raise ValueError(f"{kind!r} needs {action.field!r}, {action.words}; got {got}.")
    action.run(content, sink)
