"""Hard concrete: random masks that are mostly exactly 0 or 1, with a chance for each neuron."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated

import torch
from torch import Tensor

from memviz.checks import Between, Count, IndicesLike, Positive, Seed, Share, checked
from memviz.statistics import generator_of
from memviz.study import Study, check_examples

from ._masks import Recipe, learn
from ._neurons import Neurons
from ._table import SOURCE, NeuronTable

_LOW, _HIGH = -0.1, 1.1  # a mask is stretched to these and cut at 0 and 1
_EDGE = 1e-4  # uniform numbers stay this far from 0 and 1


@checked
def hard_concrete(
    study: Study,
    examples: IndicesLike | None = None,
    *,
    strength: Positive = 500.0,
    rate: Positive = 0.05,
    steps: Count = 300,
    enough: Share = 0.1,
    start: Annotated[float, Between(0.01, 0.99)] = 0.5,
    temperature: Positive = 1 / 3,
    seed: Seed = 0,
    progress: bool = True,
    stop: Callable[[], bool] | None = None,
) -> NeuronTable:
    """Hard-concrete masks that keep a passage's loss low; the score is ``σ(log m)``.

    Each step draws ``σ((log u/(1−u) + log m)/temperature)``, stretched to (−.1, 1.1) and cut to
    [0, 1], and minimizes ``loss + strength · mean σ(log m − temperature · log(.1/1.1))``, the
    expected share of masks above 0 (Chang et al. 2024, section 4, after Louizos et al. 2018).

    Parameters
    ----------
    study, examples, strength, rate, steps, progress, stop
        As for :func:`slimming`.
    enough : float
        A passage is finished when the expected share of masks above 0 is below; 0 to make all
        steps.
    start : float
        Of a mask without noise.
    temperature : float
        β; the smaller, the more masks are exactly 0 or 1.
    seed : int
        A passage's noise depends on the seed and the passage alone.

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
    >>> hard_concrete(study, steps=5, progress=False)
    NeuronTable(hard concrete, 3 passages × 64)
    """
    passages = check_examples(study, examples, each_once=True)
    neurons = Neurons(study, passages)
    inside = (start - _LOW) / (_HIGH - _LOW)
    noise = _Noise(seed, len(neurons.units))

    def masks(log_m: Tensor, number: int, rows: Tensor) -> Tensor:
        soft = ((noise(rows, number).to(log_m) + log_m) / temperature).sigmoid()
        return (soft * (_HIGH - _LOW) + _LOW).clamp(0, 1)

    def penalty(log_m: Tensor) -> Tensor:
        return (log_m - temperature * math.log(-_LOW / _HIGH)).sigmoid()

    learnt = learn(
        neurons,
        Recipe(math.log(inside / (1 - inside)), strength, rate, steps, enough),
        "hard concrete",
        masks,
        penalty,
        lambda log_m: None,
        progress=progress,
        stop=stop,
    )
    values = learnt.double().sigmoid().numpy()
    measure = "chance of the mask"
    return NeuronTable(study, "hard concrete", measure, neurons.units, passages, values, SOURCE)


class _Noise:
    """Logistic noise of each passage and step, of a generator of its own."""

    def __init__(self, seed: int, neurons: int) -> None:
        self.seed, self.neurons = seed, neurons
        self._generators: dict[int, torch.Generator] = {}

    def __call__(self, examples: Tensor, number: int) -> Tensor:
        if number == 0:
            self._generators = {e: generator_of(self.seed, e) for e in examples.tolist()}
        uniform = torch.stack(
            [
                torch.rand(self.neurons, generator=self._generators[example])
                for example in examples.tolist()
            ]
        ).clamp(_EDGE, 1 - _EDGE)
        return uniform.log() - (1 - uniform).log()
