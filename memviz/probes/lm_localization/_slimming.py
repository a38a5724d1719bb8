"""Slimming: a mask between 0 and 1 on each neuron, as sparse as the passage allows."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from memviz.checks import Count, IndicesLike, Positive, Share, checked
from memviz.study import Study, check_examples

from ._masks import Recipe, learn
from ._neurons import Neurons
from ._table import SOURCE, NeuronTable


@checked
def slimming(
    study: Study,
    examples: IndicesLike | None = None,
    *,
    strength: Positive = 500.0,
    rate: Positive = 0.01,
    steps: Count = 300,
    enough: Share = 0.1,
    progress: bool = True,
    stop: Callable[[], bool] | None = None,
) -> NeuronTable:
    """Masks ``m`` in [0, 1] that keep a passage's loss low at the least sum; the score is ``m``.

    All masks start at 1 and minimize ``loss + strength · mean |m|`` by Adam, every weight frozen
    (Chang et al. 2024, section 4, after Liu et al. 2017). A passage is finished when its mean mask
    is below ``enough``.

    Parameters
    ----------
    study, examples, progress, stop
        As for :func:`zero_out`.
    strength : float
        λ. The paper writes a sum over the neurons and its code takes the mean, as here; its λ of
        500 to 2,000 are of the mean.
    rate : float
        Adam's learning rate.
    steps : int
        The most of them.
    enough : float
        From 0 to 1; 0 to make all steps.

    Returns
    -------
    NeuronTable

    Raises
    ------
    ValueError
        If the task is another, or the model has no feed-forward network.

    Examples
    --------
    >>> from memviz.models.gpt import GPT
    >>> from memviz.tasks import Language
    >>> passages = torch.randint(9, (3, 6), generator=torch.Generator().manual_seed(0))
    >>> model = GPT(vocabulary=9, width=8, blocks=2, heads=2, context=8, seed=0).eval()
    >>> groups, task = {"memorized": [0], "clean": [1, 2]}, Language(prompt=3, continuation=3)
    >>> study = Study(model, passages, passages[:, 3:], groups, task=task)
    >>> slimming(study, steps=5, progress=False)
    NeuronTable(slimming, 3 passages × 64)
    """
    passages = check_examples(study, examples, each_once=True)
    neurons = Neurons(study, passages)

    def masks(parameters: Tensor, _: int, __: Tensor) -> Tensor:
        return parameters

    learnt = learn(
        neurons,
        Recipe(1.0, strength, rate, steps, enough),
        "slimming",
        masks,
        torch.abs,
        lambda parameters: parameters.clamp_(0, 1),
        progress=progress,
        stop=stop,
    )
    values = learnt.double().numpy()
    return NeuronTable(study, "slimming", "mask", neurons.units, passages, values, SOURCE)
