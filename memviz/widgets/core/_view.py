"""The base of every widget: a browser view of a controller, or a still picture without one."""

from __future__ import annotations

import base64
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from html import escape
from typing import TYPE_CHECKING, Any, Self

import anywidget
import traitlets

from memviz.plots.style import png
from memviz.scores import Scores

from . import _threads as threads
from ._assets import script, style
from ._controller import Telling
from ._messages import Message

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_REST = 4.0  # s without a change until the still picture is drawn anew
_SHOWN = {"state", "readout", "random", "scores", "example"}  # messages that change what it shows
# Where the picture shows there is no live view, and JupyterLab has nothing to say in its place.
_DEAD = """<style>.jp-OutputArea:not(:has(.mv)) .jp-OutputArea-child:has(+ .lm-Widget:empty +
.jp-OutputArea-child .memviz-still) .jupyter-widgets:not(:has(*)) { display: none }</style>
<p>Saved picture: run this cell again to go on from it.</p>"""
_ANNOUNCE_AFTER = (1.0, 2.0, 4.0, 8.0, 16.0)  # s; the front end may take a while to load


class BaseView(anywidget.AnyWidget):
    """A view of a controller; ``with`` closes it and waits for its background work to stop.

    Attributes
    ----------
    part : str
        Name of the view.
    """

    _esm = traitlets.Unicode(script()).tag(sync=True)
    _css = traitlets.Unicode(style()).tag(sync=True)
    part = traitlets.Unicode("workbench").tag(sync=True)
    page = ""  # the view that an exported page shows; empty for the controller's own
    uid = traitlets.Unicode().tag(sync=True)

    controller: Telling

    def __init__(self, controller: Telling, part: str) -> None:
        super().__init__(part=part, uid=uuid.uuid4().hex)
        self.controller = controller
        self.session = controller.session
        self.greeted, self._over = False, threading.Event()
        controller.sinks.append(self)
        self._is_displayed, self._waits, self._moved = False, False, 0.0
        self.on_msg(lambda _widget, content, _buffers: self._hear(content))
        if getattr(self.comm, "kernel", None) is not None:
            self._announce(_ANNOUNCE_AFTER)

    def _hear(self, content: dict[str, Any]) -> None:
        self.greeted = True
        if not self._over.is_set() and self not in self.controller.sinks:
            # It was dropped because its channel failed; now it speaks again and has missed much.
            self.controller.sinks.append(self)
            self.controller.receive({"type": "hello"}, self)
        self.controller.receive(content, self)

    def _announce(self, waits: tuple[float, ...]) -> None:
        """Send everything unasked: while a cell runs, the browser's hello has to wait."""

        def tell() -> None:
            for wait in waits:
                if self._over.wait(wait) or self.greeted:
                    return
                self.controller.receive({"type": "hello"}, self)

        threads.start(tell, "memviz hello", self._over.set)

    def tell(self, message: Message) -> None:
        """Send a message to the browser."""
        self.send(message.content, message.buffers)
        if message.content["type"] in _SHOWN:
            self._redraw_later()

    def export(self, path: str) -> None:
        """Write a page that shows the current state without a kernel or a network."""
        self.controller.export(path, self.page)

    def close(self) -> None:
        """Close the view and keep its session; closing the last view ends the background work."""
        # Python closes what an interrupted cell left half made, too.
        if hasattr(self, "_over") and not self._over.is_set():
            self._over.set()
            with suppress(ValueError):
                self.controller.sinks.remove(self)
            if not self.controller.sinks:
                self.controller.close()
                self._ended()
        super().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        if self.controller.worker.closed:
            self.controller.worker.join()

    def _ended(self) -> None:
        """Called when the last view of the controller was closed."""

    def __repr__(self) -> str:
        return f"memviz {self.part} of {self.session.study.name!r}. {self.controller.sentence}"

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None:
            return None
        data, metadata = bundle
        return {**data, "text/html": self._still(), "text/plain": repr(self)}, metadata

    def _ipython_display_(self, **_: Any) -> None:
        """The live view, and below it a picture for where nothing is live; it follows the view."""
        from IPython.display import display

        bundle = super()._repr_mimebundle_()
        if bundle is not None:
            data, metadata = bundle
            display({**data, "text/plain": repr(self)}, metadata, raw=True)  # type: ignore[no-untyped-call]
        display(self._saved(), raw=True, display_id=self.uid)  # type: ignore[no-untyped-call]
        self._is_displayed = True

    def _saved(self) -> dict[str, str]:
        return {"text/html": f'<div class="memviz-still">{_DEAD}{self._still()}</div>'}

    def _redraw_later(self) -> None:
        """Draw the displayed still picture anew once nothing has moved for a while."""
        self._moved = time.monotonic()
        if not self._is_displayed or self._waits or not self.controller.worker.threaded:
            return
        self._waits = True

        def wait() -> None:
            while (left := self._moved + _REST - time.monotonic()) > 0:
                if self._over.wait(left):
                    return
            self._waits = False
            self.controller.worker.work(f"still {self.uid}", self._redraw(), rank=9)

        threads.start(wait, "memviz still", self._over.set)

    def _redraw(self) -> Iterator[None]:
        from IPython.display import update_display

        update_display(self._saved(), raw=True, display_id=self.uid)  # type: ignore[no-untyped-call]
        yield

    def _still(self) -> str:
        """The current state as a picture and a line of text."""
        self.controller.ready()
        figure, words = self._figure(), escape(repr(self), quote=True)
        if figure is None:
            return f"<p>{words}</p>"
        image = base64.b64encode(png(figure, dpi=110)).decode()
        return (
            f'<p>{words}</p><img alt="{words}" src="data:image/png;base64,{image}" '
            'style="max-width:100%">'
        )

    def _figure(self) -> Figure | None:
        """The still picture; None where there is text only, as before the first figures."""
        return None


def named_scores(scores: Mapping[str, Scores] | Sequence[Scores]) -> Mapping[str, Scores]:
    """Scores by name: the one that a mapping gives them, or their own."""
    if isinstance(scores, Mapping):
        return {name: replace(given, name=name) for name, given in scores.items()}
    return {score.name: score for score in scores}
