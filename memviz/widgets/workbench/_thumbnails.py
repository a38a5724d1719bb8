"""Thumbnails of a study's examples: all at once, or those that a view asks for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from memviz.widgets.core import COLUMNS, Message, Pictures, Sink, pack

AT_ONCE = 64  # thumbnails per answer to a view: a click never waits for more
_WAITING = 16  # requests that wait; older ones are of what was scrolled past
_KEPT = 16  # answers that a page without a kernel is given of a large study


class Thumbnails:
    """Sprite sheets, made when they are needed.

    Parameters
    ----------
    pictures : Pictures
    """

    def __init__(self, pictures: Pictures) -> None:
        self._pictures = pictures
        self._asked: deque[tuple[Sink, Tensor]] = deque(maxlen=_WAITING)
        self._sent: deque[Message] = deque(maxlen=_KEPT)

    def at_once(self) -> Sequence[Message]:
        """The sheets that a new view is sent unasked."""
        return [] if self._pictures.on_demand else self._all()

    def for_page(self) -> Sequence[Message]:
        """The sheets for a page that has nobody to ask: of a large study, those last seen."""
        return list(self._sent) if self._pictures.is_large else self._all()

    def ask(self, sink: Sink, examples: Tensor) -> None:
        """Note which thumbnails a view wants; ``steps`` makes them."""
        for part in examples.split(AT_ONCE):
            self._asked.append((sink, part))

    def steps(self, tell: Callable[[Sink, Message], None]) -> Iterator[None]:
        """Make what was asked for, the newest request first."""
        while self._asked:
            sink, examples = self._asked.pop()
            message = self._message(examples)
            self._sent.append(message)
            tell(sink, message)
            yield

    def _all(self) -> list[Message]:
        parts = torch.arange(len(self._pictures.study)).split(self._pictures.per_sheet)
        return [self._message(part, in_order=True) for part in parts]

    def _message(self, examples: Tensor, *, in_order: bool = False) -> Message:
        content = {"type": "sprites", "tile": list(self._pictures.tile), "columns": COLUMNS}
        content |= {"first": int(examples[0]), "count": len(examples) if in_order else 0}
        png = np.frombuffer(self._pictures.sheet(examples), np.uint8)
        if in_order:
            return pack(content, png=png)
        return pack(content, png=png, examples=examples.numpy().astype(np.uint32))
