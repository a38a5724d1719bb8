"""What a view may ask of its controller, and what each request must hold."""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import _page as export
from ._messages import Message, Sink

if TYPE_CHECKING:
    from ._controller import Telling


def fulfil(controller: Telling, content: dict[str, Any], sink: Sink) -> None:
    """Do what a view asks.

    Raises
    ------
    ValueError, KeyError, IndexError
        With one clear sentence, where the request is unknown or does not hold what it needs.
    """
    kind = content.get("type") if isinstance(content, dict) else None
    action = _ACTIONS.get(str(kind))
    if action is None:
        raise ValueError(f"the widget asked for {reprlib.repr(kind)}, which memviz does not know.")
    value = None
    if kind in _FIELDS:
        field, types, words = _FIELDS[kind]
        value = content.get(field)
        if not isinstance(value, types) or isinstance(value, bool):
            given = reprlib.repr(value)
            raise ValueError(f"{kind!r} needs {field!r}, {words}; {given} was given.")
    action(controller, value, sink)


def _code(controller: Telling, value: Any, sink: Sink) -> None:
    sink.tell(Message({"type": "code", "text": controller.session.to_code()}, []))


def _export(controller: Telling, value: Any, sink: Sink) -> None:
    path = export.free_path(f"memviz-{controller.session.study.name}.html")
    controller.export(path)
    sink.tell(Message({"type": "exported", "text": f"Saved as {path.name}."}, []))


_ACTIONS: dict[str, Callable[[Any, Any, Sink], None]] = {
    "hello": lambda controller, value, sink: controller.hello(sink),
    "toggle": lambda controller, value, sink: controller.session.toggle(value),
    "set": lambda controller, value, sink: controller.session.ablate(value),
    "top": lambda controller, value, sink: controller.ablate_top(value),
    "layers": lambda controller, value, sink: controller.session.show_layers(
        [str(name) for name in value]
    ),
    "intervention": lambda controller, value, sink: controller.session.use(value),
    "variant": lambda controller, value, sink: controller.session.look_at(value),
    "score": lambda controller, value, sink: controller.choose_score(value),
    "method": lambda controller, value, sink: controller.choose_method(value),
    "open": lambda controller, value, sink: controller.session.open(value),
    "axes": lambda controller, value, sink: controller.scatter.choose(value),
    "unit": lambda controller, value, sink: controller.scatter.open(value),
    "rewind": lambda controller, value, sink: controller.timeline.rewind(value),
    "undo": lambda controller, value, sink: controller.session.undo(),
    "redo": lambda controller, value, sink: controller.session.redo(),
    "reset": lambda controller, value, sink: controller.session.reset(),
    "cancel": lambda controller, value, sink: controller.cancel(),
    "code": _code,
    "export": _export,
}
_FIELDS: dict[str, tuple[str, tuple[type, ...], str]] = {
    "toggle": ("units", (str,), "a text"),
    "set": ("units", (str,), "a text"),
    "top": ("k", (int,), "a whole number"),
    "layers": ("names", (list,), "a list of names"),
    "intervention": ("key", (str,), "a text"),
    "variant": ("key", (str,), "a text"),
    "score": ("key", (str,), "a text"),
    "method": ("key", (str,), "a text"),
    "axes": ("keys", (dict,), "a score for x or y"),
    "unit": ("unit", (str,), "a text"),
    "rewind": ("epochs", (dict,), "an epoch for each layer"),
    "open": ("example", (int, type(None)), "a whole number or nothing"),
}
