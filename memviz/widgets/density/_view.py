"""The density explorer as a widget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from memviz.checks import checked
from memviz.probes.density import DensityStudy
from memviz.scores import Scores
from memviz.session import Session
from memviz.study import Study
from memviz.widgets.workbench import View, shown_controller

from ._explorer import DensityExplorer
from ._fits import FitsTable
from ._still import still
from ._table import check_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class DensityView(View):
    """A view of a session and of the trainings on parts of its study."""

    page = "density"

    def __repr__(self) -> str:
        words = self.controller.part(DensityExplorer).sentence
        return f"memviz density explorer of {self.session.study.name!r}. {words}"

    def code(self) -> str:
        """Python lines that rebuild the current state and open this view."""
        return self.controller.part(DensityExplorer).code()

    def _figure(self) -> Figure | None:
        part = self.controller.part(DensityExplorer)
        return None if part.table is None else still(*part.drawn())


@checked
def density(
    study: Study | Session,
    table: object = None,
    scores: Mapping[str, Scores] | Sequence[Scores] = (),
) -> View:
    """See which images a generative model memorized, ablate units, and watch M and the images.

    The image sheet is sorted by M, the log-density that models give an image with it in training
    minus without (van den Burg & Williams 2021, section 3). An opened image shows its likelihood in
    every training, its nearest training and generated images and what the model makes of it.

    Parameters
    ----------
    study : Study or Session
        Made by :func:`memviz.probes.density.density_study`, or any study whose task is
        :class:`memviz.tasks.Density`, with a table. Views made from the same session are linked.
    table : DensityTable, optional
        The trainings on parts of the study's images; those of the study itself by default.
    scores : Scores over units, optional
        Further scores for the unit maps.

    Raises
    ------
    TypeError, ValueError
        If the table does not fit the study, or scores are over examples.

    Examples
    --------
    >>> from memviz.demos.density import load
    >>> with density(load(seed=0)) as view:
    ...     view
    memviz density explorer of 'noise among digits'. Image 602 after 300 epochs: M 31.9 nats, ...
    """
    own = study.study if isinstance(study, Session) else study
    if table is None and isinstance(own, DensityStudy):
        table = FitsTable(own)
    checked_table = check_table(table, own)
    controller = shown_controller(study, scores)
    controller.part(DensityExplorer).begin(checked_table)
    return DensityView(controller, "density")
