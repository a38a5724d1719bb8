"""Masks that are learnt: the fewest neurons with which a passage is still recited."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from memviz.engine.record import CancelledError
from memviz.progress import slow

from ._neurons import FeedForward, Neurons

Masks = Callable[[Tensor, int, Tensor], Tensor]


@dataclass(frozen=True)
class Recipe:
    """How masks are learnt: all weights frozen, one mask value per neuron and passage.

    Attributes
    ----------
    start : float
        What each parameter starts from.
    strength : float
        λ, of the mean penalty of all neurons, in nats.
    rate : float
        Adam's learning rate.
    steps : int
        The most of them.
    enough : float
        A passage is finished when its mean penalty is below.
    """

    start: float
    strength: float
    rate: float
    steps: int
    enough: float


def learn(
    neurons: Neurons,
    recipe: Recipe,
    words: str,
    masks: Masks,
    penalty: Callable[[Tensor], Tensor],
    project: Callable[[Tensor], object],
    *,
    progress: bool,
    stop: Callable[[], bool] | None,
) -> Tensor:
    """Parameters of every passage's masks, float32 ``[n, U]``.

    Each passage has masks and optimizer states of its own, so passages are learnt together and
    none depends on another.

    Parameters
    ----------
    masks : callable
        From parameters ``[b, U]``, the step and the passages' indices to masks ``[b, U]``.
    penalty : callable
        Of each parameter, ``[b, U]``.
    project : callable
        Puts parameters back, in place, where they may be.
    """
    parts = []
    for chunk in range(neurons.replay.steps):
        learnt = _Chunk(neurons, chunk, recipe)
        # A bar per chunk: steps are what takes time.
        for number in slow(range(recipe.steps), words, progress=progress):
            if stop is not None and stop():
                raise CancelledError("cancelled; nothing has changed.")
            if learnt.step(number, masks, penalty, project):
                break
        parts.append(learnt.parameters.detach().cpu())
    return torch.cat(parts)


class _Chunk:
    """The masks of one chunk of passages."""

    def __init__(self, neurons: Neurons, chunk: int, recipe: Recipe) -> None:
        self.neurons, self.chunk, self.recipe = neurons, chunk, recipe
        self.examples = neurons.examples[neurons.replay.chunk(chunk)]
        shape = len(self.examples), sum(neurons.sizes)
        self.parameters = torch.full(shape, recipe.start, device=neurons.study.device)
        self.parameters.requires_grad_()
        self.optimizer = torch.optim.Adam([self.parameters], lr=recipe.rate)
        self.finished = torch.zeros(len(self.examples), 1, dtype=torch.bool)
        self.finished = self.finished.to(self.parameters.device)

    def step(
        self,
        number: int,
        masks: Masks,
        penalty: Callable[[Tensor], Tensor],
        project: Callable[[Tensor], object],
    ) -> bool:
        """One step of all passages that are not finished; True if none is left."""
        neurons = self.neurons
        with torch.enable_grad():
            mask = masks(self.parameters, number, self.examples)
            layers = dict(
                zip((la.name for la in neurons.layers), mask.split(neurons.sizes, 1), strict=True)
            )

            def scale(network: FeedForward, _: int, h: Tensor) -> Tensor:
                masked: Tensor = h * layers[network.layer.name][:, None].to(h.dtype)
                return masked

            outputs = neurons.outputs(self.chunk, scale)
            loss = neurons.task.loss(outputs, neurons.labels(self.chunk))
            cost = self.recipe.strength * penalty(self.parameters).mean(1)
            (slope,) = torch.autograd.grad((loss + cost).sum(), [self.parameters])
        before = self.parameters.detach().clone()
        self.parameters.grad = slope
        self.optimizer.step()
        self.parameters.grad = None
        with torch.no_grad():
            project(self.parameters)
            self.parameters.copy_(torch.where(self.finished, before, self.parameters))
            mean = penalty(self.parameters).mean(1, keepdim=True)
            self.finished |= mean < self.recipe.enough
        return bool(self.finished.all())
