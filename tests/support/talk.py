"""A page and the controller behind it: what one asks, the other answers at once."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any

from memviz.widgets.core import Message, Telling
from tests.support.page import play, sent, settle
from tests.support.widgets import Ear


class Talk:
    """The view of a controller in a page; nothing is computed but in ``answer``."""

    def __init__(self, page: Any, controller: Telling, part: str) -> None:
        self.page, self.controller, self.ear = page, controller, Ear()
        self.asked = self.heard = 0  # requests and messages that were passed on
        controller.sinks.append(self.ear)
        page.evaluate("part => start(part)", part)
        settle(page)
        self.answer()

    def answer(self) -> None:
        """Carry out what the page has asked for, tell it, and let it draw."""
        asked = sent(self.page)
        for request in asked[self.asked :]:
            self.controller.receive(request, self.ear)
        self.asked = len(asked)
        self.work()
        told, self.heard = self.ear.heard[self.heard :], len(self.ear.heard)
        play(self.page, *played(told))
        settle(self.page)

    def work(self) -> None:
        """Compute what is waiting."""
        self.controller.worker.run_until_idle()

    def says(self) -> str:
        """The live sentence."""
        return str(self.page.locator(".mv-say").inner_text())


def played(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """Messages as a page plays them, or as an exported one holds them."""
    return [
        {"msg": content, "buffers": [base64.b64encode(each).decode() for each in buffers]}
        for content, buffers in messages
    ]
