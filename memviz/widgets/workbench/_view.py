"""The widgets: thin views of one Session."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from memviz.checks import checked
from memviz.engine.sets import Readout
from memviz.engine.sweep import Effects
from memviz.scores import Scores
from memviz.session import Session
from memviz.study import Study
from memviz.widgets.core import BaseView, named_scores

from ._controller import Controller
from ._messages import group_effect, predicted
from ._still import Example, picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_EXAMPLES = 12  # in the still picture
_LONGEST = 12  # characters of a class name there

# A controller holds its session, and the session, which it watches, holds the controller; a strong
# reference from here would keep both alive for good.
_CONTROLLERS: weakref.WeakKeyDictionary[Session, weakref.ref[Controller]]
_CONTROLLERS = weakref.WeakKeyDictionary()


class View(BaseView):
    """One view of a session: the whole workbench, or one of its parts.

    Attributes
    ----------
    part : str
        ``"workbench"``, ``"layers"``, ``"units"``, ``"examples"``, ``"readout"``, ``"timeline"``,
        ``"inspector"`` or ``"scatter"``.
    session : Session
        Shared by all views made from it; a click in one updates all.
    """

    controller: Controller

    @property
    def effects(self) -> Effects | None:
        """Exact effects under the current intervention, as far as the sweep has come."""
        return self.controller.effects.get(self.controller.key)

    def _ended(self) -> None:
        _CONTROLLERS.pop(self.session, None)

    def _figure(self) -> Figure | None:
        controller, known = self.controller, self.session.known
        if controller.readout is None:
            return None
        effects = controller.effects.get(controller.key)
        effects = effects or controller.estimates.get(controller.key)
        total = sum(layer.units for layer in known)
        values = group_effect(effects) if effects is not None else np.full(total, np.nan)
        ablated = self.session.units
        off = np.array([unit in ablated for layer in known for unit in layer.all()])
        measure = controller.scores.shown("effect").measure
        ink, row = controller.pictures.ink, _row_of_examples(controller, controller.readout)
        return picture(known, values, off, controller.readout, measure, row, ink=ink)


def _row_of_examples(controller: Controller, readout: Readout) -> list[Example]:
    """Those that changed most; with nothing ablated, the first ones of the first group."""
    study, labels = controller.session.study, controller.labels
    groups = [(name, mask) for name, mask in study.groups.items() if mask.any()]
    change = readout.margin_change.abs().nan_to_num(posinf=0.0)
    first = change if readout.units else groups[0][1].float() if groups else change
    rows = first.argsort(descending=True, stable=True)[:_EXAMPLES]

    def name(label: int) -> str:  # a model may say a class that no label names
        return labels.names[label][:_LONGEST] if label < len(labels.names) else str(label)

    found = []
    shown = controller.pictures.full(rows)
    for row, was, now, drawn in zip(
        rows.tolist(), *predicted(readout, labels, rows), shown, strict=True
    ):
        said = name(now) if was == now else f"{name(was)} → {name(now)}"
        group = next((name for name, mask in groups if mask[row]), "")
        found.append(Example(drawn, f"given {name(labels.given[row])}\nsays {said}", group))
    return found


@checked
def workbench(
    study: Study | Session,
    scores: Mapping[str, Scores] | Sequence[Scores] = (),
    effects: Effects | None = None,
) -> View:
    """Pick units, ablate them, and watch what the model forgets: all views in one.

    Parameters
    ----------
    study : Study or Session
        Views made from the same session are linked.
    scores : Scores over units, optional
        Further scores for the unit map.
    effects : Effects, optional
        Result of ``mv.sweep`` over all units and examples, which is then not run again.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    >>> study = Study(model.eval(), torch.randn(6, 4), torch.zeros(6), {"test": range(6)})
    >>> workbench(study)
    memviz workbench of 'study'. starting
    """
    view = _view(study, "workbench", scores)
    if effects is not None:
        view.controller.scores.take(effects)
    return view


@checked
def layer_list(session: Session | Study) -> View:
    """Every layer with its number of units and a bar for the chosen score."""
    return _view(session, "layers")


@checked
def unit_map(
    session: Session | Study, scores: Mapping[str, Scores] | Sequence[Scores] = ()
) -> View:
    """All units of the chosen layers, coloured by a score; click to ablate."""
    return _view(session, "units", scores)


@checked
def example_gallery(session: Session | Study) -> View:
    """The examples with their labels and predictions; open one to see its attribution."""
    return _view(session, "examples")


@checked
def readout_view(session: Session | Study) -> View:
    """Accuracy and margin of each group before and after ablation, beside random units."""
    return _view(session, "readout")


def shown_controller(
    given: Session | Study, scores: Mapping[str, Scores] | Sequence[Scores] = ()
) -> Controller:
    """The controller that all views of a session share; a study gets a new session."""
    session = given if isinstance(given, Session) else Session(given)
    kept = _CONTROLLERS.get(session)
    controller = None if kept is None else kept()
    if controller is None:
        controller = Controller(session)
        _CONTROLLERS[session] = weakref.ref(controller)
    controller.use(named_scores(scores))
    return controller


def _view(
    given: Session | Study, part: str, scores: Mapping[str, Scores] | Sequence[Scores] = ()
) -> View:
    return View(shown_controller(given, scores), part)
