"""The extraction explorer as a widget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from memviz.checks import checked
from memviz.scores import Scores
from memviz.session import Session
from memviz.study import Study
from memviz.widgets.core import BaseView, named_scores

from ._controller import ExtractionController
from ._passages import Passages
from ._still import picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class ExtractionView(BaseView):
    """The explorer; ``session`` holds the ablated units and the opened passage."""

    controller: ExtractionController

    def __repr__(self) -> str:
        words = self.controller.sentence
        return f"memviz extraction explorer of {self.session.study.name!r}. {words}"

    def _figure(self) -> Figure | None:
        """The opened passage, token by token, and the passages that are still recited."""
        controller = self.controller
        if controller.asked is None or controller.before is None or controller.after is None:
            return None
        passages, prompt = controller.passages, list(controller.asked.prompt)
        before, after = controller.before.recital, controller.after.recital
        true, said = (passages.words(ids.tolist(), prompt) for ids in (after.true, after.said))
        return picture(passages.text(prompt), true, said, before, after, controller.sentence)


@checked
def extraction(
    study: Study | Session,
    *,
    held_out: str | None = None,
    copies: Sequence[int] | np.ndarray | Tensor | None = None,
    scores: Mapping[str, Scores] | Sequence[Scores] = (),
    ladder: Mapping[str, Any] | None = None,
) -> ExtractionView:
    """Explore what a language model recites: pick a passage, ablate units, see where it breaks.

    Beside the passage stand the share of all passages that are recited whole and the perplexity of
    held-out text, each before and after, with random units of the same layers as their null.

    Parameters
    ----------
    study : Study or Session
        Of passages, with ``task=mv.tasks.Language(prompt, continuation)``; with its ``tokenizer``
        the explorer shows words.
    held_out : str, optional
        The group that was not in training; by default the last one, of several.
    copies : sequence of int, optional
        How often each passage was in training.
    scores : Scores, optional
        Over units: further scores for the unit maps. Over examples: what else the list of passages
        can be sorted by.
    ladder : mapping, optional
        Models of other sizes by name, or of several checkpoints each,
        ``{"small": {"half": model, "end": model}}``: rows that say who recites a passage already,
        and how well each model foretells what the study's own recites.

    Raises
    ------
    TypeError
        If the study is not of passages, or the ladder not of models.
    ValueError
        If passages are padded, the labels are not their continuations, or there is no such group.

    Examples
    --------
    >>> import torch
    >>> from memviz.models.gpt import GPT
    >>> from memviz.tasks import Language
    >>> passages = torch.randint(9, (6, 8))
    >>> groups = {"training": range(4), "held-out": range(4, 6)}
    >>> model = GPT(9, width=8, heads=2, context=8, seed=0).eval()
    >>> study = Study(model, passages, passages[:, 4:], groups, task=Language(4, 4))
    >>> extraction(study)
    memviz extraction explorer of 'study'. starting
    """
    named = named_scores(scores)
    over_units = {key: given for key, given in named.items() if given.units is not None}
    over_examples: dict[str, Any] = {k: s for k, s in named.items() if s.units is None}
    own = study.study if isinstance(study, Session) else study
    passages = Passages(own, held_out, copies, over_examples)
    session = study if isinstance(study, Session) else Session(study)
    controller = ExtractionController(session, passages, ladder)
    controller.scores.use(over_units)
    return ExtractionView(controller, "extraction")
