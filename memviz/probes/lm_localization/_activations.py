"""Zero-out and activations: what a neuron does, and how strongly it writes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from memviz.checks import IndicesLike, checked
from memviz.engine.record import CancelledError, Zero, layers
from memviz.engine.sweep import sweep
from memviz.progress import slow
from memviz.study import Study, check_examples
from memviz.units import UnitSet, UnitsLike

from ._neurons import FeedForward, Neurons, language
from ._table import SOURCE, NeuronTable


@checked
def zero_out(
    study: Study,
    examples: IndicesLike | None = None,
    units: UnitsLike | None = None,
    *,
    progress: bool = True,
    stop: Callable[[], bool] | None = None,
) -> NeuronTable:
    """The loss of a passage with one neuron set to zero, minus its loss: exact, by the engine.

    Parameters
    ----------
    study : Study
        With the task :class:`~memviz.tasks.Language`.
    examples : int64 ``[n]``, optional
        All by default, each once.
    units : UnitSet or text, optional
        Other units than all neurons, such as :func:`attention_heads`.
    progress : bool
    stop : callable, optional
        Called between steps; returning True raises CancelledError.

    Returns
    -------
    NeuronTable

    Raises
    ------
    ValueError
        If the task is another, the model has no feed-forward network, or a non-linearity is not 0
        at 0, so that the engine's zero comes before it and not behind it.

    Examples
    --------
    >>> from memviz.models.gpt import GPT
    >>> from memviz.tasks import Language
    >>> passages = torch.randint(9, (3, 6), generator=torch.Generator().manual_seed(0))
    >>> model = GPT(vocabulary=9, width=8, blocks=2, heads=2, context=8, seed=0).eval()
    >>> groups, task = {"memorized": [0], "clean": [1, 2]}, Language(prompt=3, continuation=3)
    >>> study = Study(model, passages, passages[:, 3:], groups, task=task)
    >>> zero_out(study, progress=False)
    NeuronTable(zero-out, 3 passages × 64)
    """
    task, passages = language(study), check_examples(study, examples, each_once=True)
    if units is None:
        neurons = Neurons(study, passages)
        _check_zero(neurons)
        scored, what = neurons.units, "neuron"
    else:
        scored, what = tuple(UnitSet.of(units)), "unit"
    effects = sweep(study, UnitSet(scored), passages, progress=progress, stop=stop)
    rows = {unit: row for row, unit in enumerate(effects.units)}
    values = effects.loss_change[[rows[unit] for unit in scored]].T.double().numpy()
    measure = f"{task.loss_unit} gained with the {what} at zero"
    return NeuronTable(study, "zero-out", measure, scored, passages, values)


@checked
def attention_heads(study: Study) -> UnitSet:
    """All attention heads of a language model, to be scored or dropped out beside its neurons.

    Raises
    ------
    ValueError
        If the task is another, or the model has no attention heads.

    Examples
    --------
    >>> from memviz.models.gpt import GPT
    >>> from memviz.tasks import Language
    >>> passages = torch.randint(9, (3, 6), generator=torch.Generator().manual_seed(0))
    >>> model = GPT(vocabulary=9, width=8, blocks=2, heads=2, context=8, seed=0).eval()
    >>> groups, task = {"memorized": [0], "clean": [1, 2]}, Language(prompt=3, continuation=3)
    >>> attention_heads(Study(model, passages, passages[:, 3:], groups, task=task))
    UnitSet.parse('blocks.0.attention:0,1 blocks.1.attention:0,1')
    """
    language(study)
    heads = {layer.name: range(layer.units) for layer in layers(study) if layer.kind == "heads"}
    if not heads:
        raise ValueError(f"{type(study.model).__name__} has no attention heads.")
    return UnitSet(heads)


@torch.no_grad()
def _check_zero(neurons: Neurons) -> None:
    """Refuse a network whose neurons are not 0 when the engine's units are."""
    for network in neurons.networks(0):
        located = neurons.replay.located[network.layer.name]
        if located.unit_sites == network.sites:
            continue
        left = _largest_left(neurons, network)
        if left > 0:
            raise ValueError(
                f"the non-linearity of {network.layer.name!r} makes {left:.3g} of 0, so zero-out "
                "of its neurons is not defined by a unit of this layer; use another localizer."
            )


def _largest_left(neurons: Neurons, network: FeedForward) -> float:
    """The largest activation behind a network's non-linearity when its layer gives zeros."""
    replay, seen = neurons.replay, []
    zeros = UnitSet(network.layer.all())
    edits = replay.edits(0, zeros, Zero())

    def watch(_: FeedForward, __: int, h: Tensor) -> Tensor:
        seen.append(float(h.detach().abs().max()))
        return h

    neurons.outputs(0, watch, layers=[network.layer.name], also=edits)
    return max(seen)


@checked
def activations(
    study: Study,
    examples: IndicesLike | None = None,
    *,
    progress: bool = True,
    stop: Callable[[], bool] | None = None,
) -> NeuronTable:
    """How much a neuron writes: ``|h| · ‖v‖``, mean over the tokens that predict the continuation.

    The paper takes the mean of absolute values, as here; its code takes the absolute value of the
    mean, which is less where a neuron changes its sign.

    Parameters
    ----------
    study, examples, progress, stop
        As for :func:`zero_out`.

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
    >>> activations(study, progress=False).values.shape
    (3, 64)
    """
    passages = check_examples(study, examples, each_once=True)
    neurons, parts = Neurons(study, passages), []
    for step in slow(range(neurons.replay.steps), "activations", progress=progress):
        if stop is not None and stop():
            raise CancelledError("cancelled; nothing has changed.")
        total: dict[str, Tensor] = {}

        def keep(
            network: FeedForward, _: int, h: Tensor, total: dict[str, Tensor] = total
        ) -> Tensor:
            read = neurons.predicting(h).detach().double().abs().mean(1).cpu() * network.norms
            name = network.layer.name
            total[name] = total.get(name, torch.zeros(())) + read
            return h

        with torch.no_grad():
            neurons.outputs(step, keep)
        parts.append(torch.cat([total[layer.name] for layer in neurons.layers], 1))
    values: np.ndarray = torch.cat(parts).numpy()
    measure = "|h|·‖v‖, mean over the tokens that predict the continuation"
    return NeuronTable(study, "activations", measure, neurons.units, passages, values, SOURCE)
