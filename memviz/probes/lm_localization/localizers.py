"""Localizers of language models' FFN neurons, each a mean over passages: memorized minus clean."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from memviz.scores import Scores
from memviz.study import Study, sides
from memviz.tasks import Language

from ._activations import activations, zero_out
from ._hard_concrete import hard_concrete
from ._integrated_gradients import integrated_gradients
from ._neurons import language
from ._slimming import slimming
from ._table import NeuronTable

_PER_GROUP = 24  # masks and paths of a passage take seconds


def of_groups(study: Study, method: Callable[..., NeuronTable], most: int = _PER_GROUP) -> Scores:
    """A method's scores of the memorized passages minus those of the clean ones.

    Parameters
    ----------
    study : Study
        With the task :class:`~memviz.tasks.Language`.
    method : callable
        Such as :func:`memviz.probes.lm_localization.slimming`.
    most : int
        Passages of each group; a fixed sample of larger ones.
    """
    language(study)
    return method(study, torch.cat(sides(study, most)), progress=False).scores()


LOCALIZERS: dict[str, Callable[[Study], Scores]] = {
    "zero-out of neurons": partial(of_groups, method=zero_out),
    "integrated gradients of neurons": partial(of_groups, method=integrated_gradients),
    "slimming": partial(of_groups, method=slimming),
    "hard concrete": partial(of_groups, method=hard_concrete),
    "activation × ‖v‖": partial(of_groups, method=activations),
}
LOOKS_AT = {
    "zero-out of neurons": "effects",
    "integrated gradients of neurons": "gradients",
    "slimming": "gradients",
    "hard concrete": "gradients",
    "activation × ‖v‖": "activations",
}


def FITS(study: Study) -> bool:
    """Only studies of passages."""
    return isinstance(study.task, Language)
