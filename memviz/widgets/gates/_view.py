"""The gate map as a widget."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from memviz.checks import checked
from memviz.session import GateSession, Session
from memviz.study import Study
from memviz.widgets.core import BaseView

from ._controller import GateController
from ._curves import check_curves
from ._still import still

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class GateView(BaseView):
    """The gate map; ``session`` holds what each gate is set to, and the traced example."""

    controller: GateController
    session: GateSession

    def __repr__(self) -> str:
        words = self.controller.sentence
        return f"memviz gate map of {self.session.study.name!r}. {words}"

    def choose(self, gate: str) -> None:
        """Show the wires, truth table and trace of one gate, such as ``"2.gates:100"``."""
        rows = self.session.rows(gate)
        if len(rows) != 1:
            raise ValueError(f"{len(rows)} gates were given; choose one.")
        self.controller.choose(rows[0])

    def _figure(self) -> Figure | None:
        """The circuit, and each group's accuracy before and after."""
        controller = self.controller
        if controller.shown is None:
            return None
        values = controller.scores.values(controller.score)
        return still(controller.circuits, values, controller.shown, controller.random)


@checked
def gates(study: Study | Session, curves: Any = None) -> GateView:
    """See a network of logic gates gate by gate: wires, truth tables, and what it memorized.

    Each gate can be set to 0, to 1, to one of its inputs or to its negation; beside it stand what
    that does to each group, and to random live gates of the same layers. One example is traced
    through the circuit bit by bit. All answers are the hard network's, on packed bits.

    Parameters
    ----------
    study : Study or GateSession
        Of a network of logic gates in evaluation mode. Its first group is what gates are ranked
        by, against the second.
    curves : DataFrame, or mapping of column to sequence, optional
        Accuracy over training: ``step``, ``reading`` ("soft" or "hard"), ``group``, ``given`` and
        ``true``, as :func:`memviz.training.gates.train_gates` returns; by default those that the
        study brings as ``study.curves``.

    Raises
    ------
    TypeError, ValueError
        If the model is no network of gates, or is in training mode; if curves is no such table.

    Examples
    --------
    >>> import torch
    >>> from memviz.models.logic_gates import logic_dense_net
    >>> model = logic_dense_net(4, [8, 6], 3).eval()
    >>> study = Study(model, torch.rand(9, 4), torch.arange(9) % 3, {"test": range(9)})
    >>> gates(study)
    memviz gate map of 'study'. starting
    """
    session = study if isinstance(study, GateSession) else None
    if session is None:
        own = study.study if isinstance(study, Session) else study
        session = GateSession(own)
    found = getattr(session.study, "curves", None) if curves is None else curves
    lines = None if found is None else check_curves(found)
    return GateView(GateController(session, lines), "gates")
