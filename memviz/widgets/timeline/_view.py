"""The view of a timeline."""

from __future__ import annotations

from memviz.session import Session
from memviz.study import Study
from memviz.training.run import TrainingRun
from memviz.widgets.workbench import View, shown_controller

from ._timeline import Timeline


def timeline(session: Session | Study, run: TrainingRun | None = None) -> View:
    """Drag through the checkpoints of a training, and put single layers back to an epoch.

    Every view of the same session follows: unit map, gallery and readout show the network as it
    was. Layers are rewound as in Maini et al. 2023 (arXiv:2307.09542): their parameters alone, all
    others as they are.

    Parameters
    ----------
    session : Session or Study
        Of a study with checkpoints.
    run : TrainingRun, optional
        Its recorded training: the curves then have a point for every epoch.

    Raises
    ------
    ValueError
        If the study has no checkpoints, or the run holds more examples than the study.
    """
    controller = shown_controller(session)
    controller.part(Timeline).start(run)
    return View(controller, "timeline")
