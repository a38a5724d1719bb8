"""INJ: passages are written into a few known neurons, which a localizer should find."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from memviz.checks import Count, IndicesLike, Positive, Seed, Share, checked
from memviz.progress import slow
from memviz.statistics import generator_of
from memviz.study import Study, check_examples
from memviz.units import UnitSet, UnitsLike

from ._neurons import FeedForward, Neurons
from ._table import NeuronTable, top_per_layer

if TYPE_CHECKING:
    import pandas as pd

Localizer = Callable[[Study, Tensor], NeuronTable]
RANDOM = "random"


@dataclass(frozen=True, eq=False)
class Injection:
    """A model that has learnt some passages through a few neurons' output weights alone.

    Attributes
    ----------
    study : Study
        The study with the model that has learnt; the given one is as it was.
    examples : int64 ``[n]``
        The passages.
    neurons : UnitSet
        The planted truth: only their ``v_i`` were trained.
    loss : float
        The largest loss of these passages, in nats per token.
    steps : int
    """

    study: Study
    examples: Tensor
    neurons: UnitSet
    loss: float
    steps: int

    def __repr__(self) -> str:
        return (
            f"Injection({len(self.examples)} passages in {len(self.neurons)} neurons, loss "
            f"{self.loss:.3f} after {self.steps} steps)"
        )


@checked
def inject(
    study: Study,
    examples: IndicesLike,
    neurons: UnitsLike | None = None,
    *,
    keep: IndicesLike | None = None,
    share: Share = 0.01,
    seed: Seed = 0,
    rate: Positive = 0.01,
    steps: Count = 1000,
    until: Positive = 0.05,
    progress: bool = True,
) -> Injection:
    """Fine-tune a copy of the model on some passages, through a few neurons' ``v_i`` alone.

    Chang et al. 2024, section 3.1: a share of all ``v_i`` is drawn at random, and only they are
    trained (Adam) until the loss is below .05. The loss is that of the continuation given the
    prompt, the paper's of a whole sentence; the copy stays in eval mode, where the paper's code
    lets dropout draw.

    Parameters
    ----------
    study : Study
        With the task :class:`~memviz.tasks.Language`.
    examples : int64 ``[n]``
        The passages to learn; the paper takes one for each model.
    neurons : UnitSet or text, optional
        By default ``share`` of all FFN neurons, drawn by ``seed``.
    keep : int64, optional
        Passages trained along so that they are not forgotten; the paper has none.
    share : float
    seed : int
    rate : float
        Adam's learning rate.
    steps : int
        The most of them.
    until : float
        In nats per token; training ends once each of ``examples`` is below.
    progress : bool

    Returns
    -------
    Injection

    Raises
    ------
    ValueError
        If the task is another, a unit is no FFN neuron, or the projections are not the model's own
        parameters.

    Examples
    --------
    >>> from memviz.models.gpt import GPT
    >>> from memviz.tasks import Language
    >>> passages = torch.randint(9, (3, 6), generator=torch.Generator().manual_seed(0))
    >>> model = GPT(vocabulary=9, width=16, blocks=1, heads=2, context=8, seed=0).eval()
    >>> groups, task = {"memorized": [0], "clean": [1, 2]}, Language(prompt=3, continuation=3)
    >>> study = Study(model, passages, passages[:, 3:], groups, task=task)
    >>> len(inject(study, [0], share=0.5, steps=3, progress=False).neurons)
    32
    """
    passages = check_examples(study, examples, each_once=True)
    own = replace(study, model=copy.deepcopy(study.model))
    places = Neurons(own, passages)
    chosen = _drawn(places, share, seed) if neurons is None else UnitSet.of(neurons)
    known = set(places.units)
    wrong = [unit for unit in chosen if unit not in known]
    if wrong or not chosen:
        raise ValueError(
            f"{wrong[0]} is no FFN neuron of this model; they are in "
            f"{', '.join(layer.name for layer in places.layers)}."
            if wrong
            else "neurons is empty; name at least one."
        )
    masks = _masks(own.model, places.networks(0), chosen)
    optimizer = torch.optim.Adam(list(masks), lr=rate)
    kept = passages[:0] if keep is None else check_examples(study, keep, "keep")
    trained, new = torch.cat([passages, kept]), len(passages)
    loss, taken = torch.inf, 0
    for number in slow(range(steps), "writing passages into neurons", progress=progress):
        taken = number
        with _trainable(masks):
            outputs = own.task.outputs(own.call(own.batch(trained))())
            losses = own.task.loss(outputs, own.labels[trained].to(own.device))
            loss = float(losses[:new].detach().max())
            if loss < until:
                break
            total = losses[:new].mean() + (losses[new:].mean() if len(kept) else 0)
            slopes = torch.autograd.grad(total, list(masks))
        for (weight, mask), slope in zip(masks.items(), slopes, strict=True):
            weight.grad = slope * mask  # Adam never moves a weight whose gradient is always 0
        optimizer.step()
        for weight in masks:
            weight.grad = None
    return Injection(own, passages, chosen, loss, taken)


def _drawn(places: Neurons, share: float, seed: int) -> UnitSet:
    units = places.units
    count = max(1, round(share * len(units)))
    order = torch.randperm(len(units), generator=generator_of(seed))[:count]
    return UnitSet(units[row] for row in order.tolist())


def _masks(
    model: nn.Module, networks: list[FeedForward], chosen: UnitSet
) -> dict[nn.Parameter, Tensor]:
    """1 at the ``v_i`` of these neurons, for each projection's weight."""
    own = {id(parameter) for parameter in model.parameters()}
    masks: dict[nn.Parameter, Tensor] = {}
    for network in networks:
        indices = list(chosen.layers.get(network.layer.name, ()))
        if not indices:
            continue
        weight = network.weight
        if id(weight) not in own or not isinstance(weight, nn.Parameter):
            raise ValueError(
                f"the projection behind {network.layer.name!r} is made of other weights, so one "
                "neuron's share of them can't be trained alone; choose neurons of another layer."
            )
        mask = masks.setdefault(weight, torch.zeros_like(weight))
        mask[indices if network.turned else (slice(None), indices)] = 1
    return masks


@contextmanager
def _trainable(weights: Mapping[nn.Parameter, Tensor]) -> Iterator[None]:
    """Gradients for these weights, also of a frozen model."""
    flags = {weight: weight.requires_grad for weight in weights}
    try:
        with torch.enable_grad():
            for weight in weights:
                weight.requires_grad_(True)
            yield
    finally:
        for weight, flag in flags.items():
            weight.requires_grad_(flag)


@dataclass(frozen=True, eq=False)
class InjectionTable:
    """How many of the planted neurons each localizer finds, passage by passage.

    Attributes
    ----------
    methods : tuple of str, ``M`` of them
    examples : int64 ``[n]``
    recall : float64 ``[n, M]``
        Share of the planted neurons among those named.
    random : float64 ``[n]``
        The same for as many random neurons of each layer, in the mean.
    share : float
        Of the neurons of each layer that are named.
    losses : float64 ``[n]``
        Of each passage once it was injected.
    """

    methods: tuple[str, ...]
    examples: Tensor
    recall: np.ndarray
    random: np.ndarray
    share: float
    losses: np.ndarray

    def table(self) -> pd.DataFrame:
        """Mean recall of each method with its standard error over passages; random last."""
        import pandas as pd

        values = np.concatenate([self.recall, self.random[:, None]], 1)
        error = values.std(0, ddof=1) / len(values) ** 0.5 if len(values) > 1 else np.nan
        return pd.DataFrame({"recall": values.mean(0), "error": error}, [*self.methods, RANDOM])

    def __repr__(self) -> str:
        return (
            f"INJ: {len(self.examples)} passages, {self.share:.1%} of each layer named\n"
            f"{self.table().round(3).to_string()}"
        )


@checked
def injection_benchmark(
    study: Study,
    examples: IndicesLike,
    localizers: Mapping[str, Localizer],
    *,
    share: Share = 0.01,
    named: Share | None = None,
    seed: Seed = 0,
    rate: Positive = 0.01,
    steps: Count = 1000,
    progress: bool = True,
) -> InjectionTable:
    """INJ: one model for each passage, which is written into a share of all neurons.

    Parameters
    ----------
    study, examples, share, seed, rate, steps
        As for :func:`inject`; a passage's neurons are drawn from the seed and the passage.
    localizers : mapping of name to function ``(Study, examples) -> NeuronTable``
        Such as ``{"slimming": slimming}``.
    named : float, optional
        Share of the neurons of each layer that a localizer names; ``share`` by default.
    progress : bool

    Returns
    -------
    InjectionTable

    Raises
    ------
    ValueError
        As for :func:`inject`, or if there is no localizer.

    Examples
    --------
    >>> from memviz.models.gpt import GPT
    >>> from memviz.probes.lm_localization import zero_out
    >>> from memviz.tasks import Language
    >>> passages = torch.randint(9, (2, 6), generator=torch.Generator().manual_seed(0))
    >>> model = GPT(vocabulary=9, width=16, blocks=1, heads=2, context=8, seed=0).eval()
    >>> task = Language(prompt=3, continuation=3)
    >>> study = Study(model, passages, passages[:, 3:], {"memorized": [0, 1]}, task=task)
    >>> found = injection_benchmark(study, [0], {"zero-out": zero_out}, share=0.1, rate=0.1)
    >>> bool(found.recall[0, 0] > found.random[0])
    True
    """
    if not localizers:
        raise ValueError("localizers is empty; give at least one.")
    passages = check_examples(study, examples, each_once=True)
    named = share if named is None else named
    recall = np.zeros((len(passages), len(localizers)))
    chance, losses = np.zeros(len(passages)), np.zeros(len(passages))
    for row, example in enumerate(slow(passages.tolist(), "INJ", progress=progress)):
        entropy = int(torch.randint(2**31, (1,), generator=generator_of(seed, example)))
        one = torch.tensor([example])
        planted = inject(
            study, one, share=share, seed=entropy, rate=rate, steps=steps, progress=False
        )
        losses[row] = planted.loss
        for column, localizer in enumerate(localizers.values()):
            scores = localizer(planted.study, one).of_example(example)
            found = top_per_layer(scores, named)
            recall[row, column] = _recall(found, planted.neurons)
            chance[row] = _by_chance(found, planted.neurons, scores.units or ())
    return InjectionTable(tuple(localizers), passages, recall, chance, named, losses)


def _recall(found: UnitSet, planted: UnitSet) -> float:
    return len(set(found) & set(planted)) / len(planted)


def _by_chance(found: UnitSet, planted: UnitSet, units: tuple[object, ...]) -> float:
    """Expected recall of random neurons, as many of each layer."""
    sizes: dict[str, int] = {}
    for unit in units:
        sizes[unit.layer] = sizes.get(unit.layer, 0) + 1  # type: ignore[attr-defined]
    hits = sum(
        len(indices) * len(found.layers.get(name, ())) / sizes[name]
        for name, indices in planted.layers.items()
    )
    return hits / len(planted)
