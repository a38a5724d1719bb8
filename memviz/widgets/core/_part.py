"""A part: what one kind of view adds to a session's controller."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from ._requests import Action

if TYPE_CHECKING:
    from ._controller import Telling


class Part:
    """The part of the controller that one kind of view needs; made when that view is first opened.

    By default it answers no requests and ignores every change.

    Parameters
    ----------
    controller : Telling
        Gives the session, and sends the messages.

    Attributes
    ----------
    name : str
        Key of the part in the controller, and name of its view.
    """

    name: ClassVar[str]

    def __init__(self, controller: Telling) -> None:
        self.session, self._worker = controller.session, controller.worker
        self._tell = controller.tell_and_keep

    @property
    def actions(self) -> Mapping[str, Action]:
        """What is done for each type of request from its view."""
        return {}

    @property
    def worn(self) -> frozenset[str]:
        """Keys of the scores over units that its view shows."""
        return frozenset()

    def state_changed(self) -> None:
        """Called when the units, the intervention or the variant have changed."""

    def example_opened(self) -> None:
        """Called when an example was opened or closed."""

    def swept(self) -> None:
        """Called when a sweep over every unit has ended."""

    def ready(self) -> None:
        """Called before a still picture or a page is made: what it shows must have been told."""
