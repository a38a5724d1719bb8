"""The view of the timeline."""

from __future__ import annotations

from memviz.checks import checked
from memviz.session import Session
from memviz.study import Study
from memviz.training.run import TrainingRun
from memviz.widgets.workbench import View, shown_controller

from ._timeline import Timeline


@checked
def timeline(session: Session | Study, run: TrainingRun | None = None) -> View:
    """Step through the checkpoints of a training, and rewind single layers to an epoch.

    Every view of the same session follows: unit map, gallery and readout show the network as it
    was at that epoch. Rewinding is that of Maini et al. 2023 (arXiv:2307.09542): only the
    parameters of the chosen layers change.

    Parameters
    ----------
    session : Session or Study
        Its study must have checkpoints.
    run : TrainingRun, optional
        Recorded training of this study; the curves then have a point for every epoch.

    Raises
    ------
    ValueError
        If the study has no checkpoints, or the run has more examples than the study.
    """
    controller = shown_controller(session)
    controller.part(Timeline).start(run)
    return View(controller, "timeline")
