"""One call, one page: a study or a retrieval, to send to a colleague."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from memviz.checks import Count, Seed, check_place, checked
from memviz.probes.deja_vu.ablation import Retrieval
from memviz.restored import random_kept
from memviz.scores import Scores
from memviz.study import Study, check_study
from memviz.tensor_files import atomic_write

from ._laps import Laps
from ._of_study import study_page
from .retrieval import retrieval_page

_DRAWS, _RETRIEVAL_DRAWS = 20, 5


@checked
def report(
    study: Study | Retrieval,
    path: str | Path = "report.html",
    *,
    units: Count | None = None,
    scores: Sequence[Scores] | None = None,
    random_draws: Count | None = None,
    seed: Seed = 0,
    progress: bool = True,
) -> Path:
    """Write one offline page with all that memviz can say of a study, to send to a colleague.

    What was asked of which model and data; which examples are memorized, by which scores, with
    their agreement and null; which layers and units hold them, with the curve against random units
    on examples that had no part in the choice; what it costs in test accuracy; and a view that
    switches single units exactly, without a kernel. Every figure and table comes with its numbers
    as CSV. On one machine the same input gives the same bytes, but for the line that says when it
    was written.

    Parameters
    ----------
    study : Study or Retrieval
        The first group of a study is compared with its second. A retrieval has chapters of its
        own: pairs, gaps, and the units of both towers.
    path : str or Path
        The file to write; it is replaced only when the page is complete.
    units : int, optional
        The most units to ablate together; by default one in twenty.
    scores : sequence of Scores, optional
        Over examples; by default what the model alone can tell
        (:func:`memviz.probes.examples.scores_of_model`). An empty list for none.
    random_draws : int, optional
        Draws of random units at each point of the curve; by default 20, for a retrieval 5.
    seed : int
        Of random units and halves.
    progress : bool
        Show what is being computed. It can be interrupted at any time, without side effects.

    Returns
    -------
    Path
        Of the file.

    Raises
    ------
    TypeError
        If it is neither a Study nor a Retrieval.
    ValueError
        If the study has a single group, or ``units`` exceeds those of the model.
    OSError
        If the file can't be written.

    Examples
    --------
    >>> import tempfile
    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    >>> groups = {"memorized": range(4), "clean": range(4, 12), "test": range(12, 20)}
    >>> study = Study(model.eval(), torch.randn(20, 4), torch.arange(20) % 3, groups)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = report(study, Path(folder) / "report.html", random_draws=2, progress=False)
    ...     path.read_text().startswith("<!doctype html>")
    True
    """
    path = Path(path)
    check_place(path)
    if not isinstance(study, Retrieval):
        check_study(study)
    elif scores is not None:
        raise ValueError("scores are over the examples of a study; leave them out for a retrieval.")
    laps, calm = Laps(), random_kept()
    with calm, calm:
        if isinstance(study, Retrieval):
            made = retrieval_page(
                study,
                units=units,
                draws=random_draws or _RETRIEVAL_DRAWS,
                seed=seed,
                progress=progress,
                laps=laps,
            )
        else:
            made = study_page(
                study,
                units=units,
                scores=scores,
                draws=random_draws or _DRAWS,
                seed=seed,
                progress=progress,
                laps=laps,
            )
        text = made(laps.words(datetime.now(UTC)))
    with atomic_write(path) as part:
        part.write_bytes(text)
    return path
