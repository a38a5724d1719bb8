"""One moment of a session: what undo and redo move between."""

from __future__ import annotations

from dataclasses import dataclass, replace

from memviz.checks import quoted
from memviz.units import UnitSet


@dataclass(frozen=True)
class State:
    """One moment of a session; undo and redo move between these."""

    layers: tuple[str, ...]
    units: UnitSet = UnitSet()
    how: str = "zero"
    variant: str = ""
    confirmed: frozenset[int] = frozenset()
    rejected: frozenset[int] = frozenset()

    @property
    def marks(self) -> dict[int, str]:
        """Each marked example with its mark."""
        confirmed = dict.fromkeys(self.confirmed, "confirmed")
        return dict(sorted((confirmed | dict.fromkeys(self.rejected, "rejected")).items()))

    def marked(self, chosen: frozenset[int], as_what: str) -> State:
        """The same moment with these examples confirmed, rejected or, with ``""``, unmarked.

        Raises
        ------
        ValueError
            If the mark is another one.

        Examples
        --------
        >>> State(("fc",)).marked(frozenset([3]), "rejected").marks
        {3: 'rejected'}
        """
        if as_what not in ("confirmed", "rejected", ""):
            raise ValueError(
                f"as_what is {quoted(as_what)}; choose from 'confirmed', 'rejected' and '', which "
                "takes a mark away."
            )
        confirmed, rejected = self.confirmed - chosen, self.rejected - chosen
        confirmed |= chosen if as_what == "confirmed" else frozenset()
        rejected |= chosen if as_what == "rejected" else frozenset()
        return replace(self, confirmed=confirmed, rejected=rejected)
