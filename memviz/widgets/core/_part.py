"""A part: what one kind of view adds to the workbench of a session."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from ._requests import Action

if TYPE_CHECKING:
    from ._controller import Telling


class Part:
    """Made when its view is first opened; by default it asks nothing and hears nothing.

    Parameters
    ----------
    controller : Telling
        Whose session it looks at, and which tells its messages.

    Attributes
    ----------
    name : str
        What the controller keeps it by; the name of its view.
    """

    name: ClassVar[str]

    def __init__(self, controller: Telling) -> None:
        self.session, self._worker = controller.session, controller.worker
        self._tell = controller.tell_and_keep

    @property
    def actions(self) -> Mapping[str, Action]:
        """What its view may ask, by the type of the request."""
        return {}

    @property
    def worn(self) -> frozenset[str]:
        """Keys of the unit scores that its view shows."""
        return frozenset()

    def state_changed(self) -> None:
        """The session has other units, another intervention or another variant."""

    def example_opened(self) -> None:
        """The session has opened another example, or closed it."""

    def swept(self) -> None:
        """A sweep of every unit has ended."""
