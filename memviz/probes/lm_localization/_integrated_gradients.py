"""Integrated gradients of FFN neurons: how much of a token's probability each explains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import numpy as np
import torch
from torch import Tensor

from memviz.checks import Between, IndicesLike, checked, quoted
from memviz.engine.record import CancelledError
from memviz.progress import slow
from memviz.study import Study, check_examples

from ._neurons import FeedForward, Neurons
from ._table import SOURCE, NeuronTable

_ROWS = 256  # of one pass: points of the paths of one passage


@checked
def integrated_gradients(
    study: Study,
    examples: IndicesLike | None = None,
    *,
    steps: Annotated[int, Between(1, 10_000)] = 20,
    of: Literal["probability", "logit"] = "probability",
    progress: bool = True,
    stop: Callable[[], bool] | None = None,
) -> NeuronTable:
    """Integrated gradients of each token's probability along the path of one network from zero.

    For each network and each token of the continuation, all neurons of the network are scaled
    together from 0 to their activation, at the place that predicts the token alone:
    ``h_i ∫ ∂P(token | αh)/∂h_i dα``, signed, mean over the tokens. By completeness the values of a
    network add up to what the token's probability loses without it; ``missed`` says how far they
    do not. We take the midpoints of equal steps; the paper's code takes equally weighted points
    with both ends, which misses by one step's share.

    Parameters
    ----------
    study, examples, progress, stop
        As for :func:`zero_out`.
    steps : int
        Points of each path, 20 as in the paper.
    of : {"probability", "logit"}
        What is explained; the paper's is the probability.

    Returns
    -------
    NeuronTable

    Raises
    ------
    ValueError
        If the task is another, the model has no feed-forward network, or ``of`` is neither.

    Examples
    --------
    >>> from memviz.models.gpt import GPT
    >>> from memviz.tasks import Language
    >>> passages = torch.randint(9, (3, 6), generator=torch.Generator().manual_seed(0))
    >>> model = GPT(vocabulary=9, width=8, blocks=2, heads=2, context=8, seed=0).eval()
    >>> groups, task = {"memorized": [0], "clean": [1, 2]}, Language(prompt=3, continuation=3)
    >>> study = Study(model, passages, passages[:, 3:], groups, task=task)
    >>> bool(abs(integrated_gradients(study, progress=False).missed).max() < 1e-4)
    True
    """
    if of not in ("probability", "logit"):
        raise ValueError(f"of is {quoted(of)}; use 'probability' or 'logit'.")
    passages = check_examples(study, examples, each_once=True)
    neurons = Neurons(study, passages)
    values = np.zeros((len(passages), len(neurons.units)))
    missed = np.zeros((len(passages), len(neurons.layers)))
    work = [
        (step, row, position)
        for step in range(neurons.replay.steps)
        for row, position in enumerate(neurons.replay.chunk(step).tolist())
    ]
    for step, row, position in slow(work, "integrated gradients", progress=progress):
        if stop is not None and stop():
            raise CancelledError("cancelled; nothing has changed.")
        parts = []
        for number, network in enumerate(neurons.networks(step)):
            part, missed[position, number] = _Paths(neurons, step, row, network, of).sum(steps)
            parts.append(part)
        values[position] = np.concatenate(parts)
    what = "probability" if of == "probability" else "logit"
    measure = f"share of a token's {what} by integrated gradients, mean over the continuation"
    return NeuronTable(
        study, "integrated gradients", measure, neurons.units, passages, values, SOURCE, missed
    )


class _Paths:
    """The paths of one network in one passage, one for each token of its continuation."""

    def __init__(
        self, neurons: Neurons, step: int, row: int, network: FeedForward, of: str
    ) -> None:
        self.neurons, self.step, self.row, self.network, self.of = neurons, step, row, network, of
        self.labels = neurons.labels(step)[row]

    def sum(self, steps: int) -> tuple[np.ndarray, float]:
        """Mean attribution of each neuron ``[neurons]``, and how far their sum misses."""
        tokens = self.neurons.task.continuation
        shares = (torch.arange(steps) + 0.5) / steps
        alphas = torch.cat([shares, torch.tensor([0.0, 1.0])]).repeat(tokens)
        places = torch.arange(tokens).repeat_interleave(steps + 2)
        total = torch.zeros(self.network.layer.units, dtype=torch.float64)
        told = []
        most = max(1, min(_ROWS, 4 * self.neurons.replay.size))
        for few in torch.arange(len(alphas)).split(most):
            value, products = self._points(alphas[few], places[few])
            told.append(value)
            inner = ~((alphas[few] == 0) | (alphas[few] == 1))
            total += products[inner].double().sum(0)
        ends = torch.cat(told).view(tokens, -1)[:, -2:].double()
        mean = total / (steps * tokens)
        return mean.numpy(), float(mean.sum() - (ends[:, 1] - ends[:, 0]).mean())

    def _points(self, alphas: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """The token's value ``[rows]``, and activation × gradient ``[rows, neurons]``."""
        neurons, count = self.neurons, len(alphas)
        rows = torch.arange(count)
        leaves: list[Tensor] = []
        ends: list[Tensor] = []
        first = neurons.task.prompt - 1

        def scale(_: FeedForward, __: int, h: Tensor) -> Tensor:
            neurons.predicting(h)
            whole = h.detach()
            end = whole[rows, places + first]
            leaf = (end * alphas.to(end)[:, None]).requires_grad_()
            leaves.append(leaf)
            ends.append(end)
            return whole.index_put((rows.to(h.device), (places + first).to(h.device)), leaf)

        with torch.enable_grad():
            outputs = neurons.outputs(
                self.step,
                scale,
                rows=torch.full((count,), self.row),
                layers=[self.network.layer.name],
            )
            logits = outputs[rows, places].float()
            values = logits.softmax(-1) if self.of == "probability" else logits
            true = self.labels[places.to(self.labels.device)]
            value = values.gather(1, true[:, None])[:, 0]
            slopes = torch.autograd.grad(value.sum(), leaves, allow_unused=True)
        products = [
            torch.zeros_like(end) if slope is None else end * slope
            for end, slope in zip(ends, slopes, strict=True)
        ]
        return value.detach().cpu(), torch.stack(products).sum(0).detach().cpu()
