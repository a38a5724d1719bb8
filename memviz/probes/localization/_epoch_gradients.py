"""Gradients of clean and of noisy examples, added up over an epoch while the weights move."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from memviz.tasks.classification import Classification
from memviz.tasks.task import Task

from ._gradient_table import GradientAccounting
from ._layer_groups import LayersLike, layer_groups


def subset_gradients(
    losses: Tensor, noisy: Tensor, parameters: Sequence[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """Gradients of the clean and of the noisy part of a batch; they add up to the batch's.

    Parameters
    ----------
    losses : float ``[b]``
        Of each example, from one forward pass of the whole batch, so that a batch norm has seen
        all of it.
    noisy : bool ``[b]``
    parameters : sequence of Tensor

    Returns
    -------
    clean, noisy : list of Tensor
        One of each parameter's shape: the gradient of the part's summed loss over ``b``, that is
        the part's mean loss times its share of the batch.

    Examples
    --------
    >>> weight = torch.tensor([2.0], requires_grad=True)
    >>> losses = weight * torch.tensor([1.0, 3.0])
    >>> subset_gradients(losses, torch.tensor([False, True]), [weight])
    ([tensor([0.5000])], [tensor([1.5000])])
    """

    def part(mask: Tensor) -> list[Tensor]:
        if not mask.any():
            return [torch.zeros_like(p) for p in parameters]
        total = losses[mask].sum() / len(losses)
        found = torch.autograd.grad(total, parameters, retain_graph=True, allow_unused=True)
        return [
            torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)
        ]

    return part(~noisy), part(noisy)


class EpochGradients:
    """Adds up clean and noisy gradients while a model is trained; it is called as the loss.

    Parameters
    ----------
    model : nn.Module
        The model that is trained.
    noisy : bool ``[n]``
        Which examples of the dataset are noisy.
    layers : mapping, optional
        As in ``layer_groups``.
    task : Task
        Gives each example's loss; cross-entropy unless given.
    null_draws, seed : int
        Random subsets of as many examples, and what draws them.

    Examples
    --------
    >>> x, y = torch.randn(8, 3), torch.arange(8) % 2
    >>> model = nn.Linear(3, 2)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> loss = EpochGradients(model, noisy=torch.arange(8) < 2)
    >>> for epoch in range(1, 3):
    ...     for ids in torch.arange(8).split(4):
    ...         optimizer.zero_grad()
    ...         loss(model(x[ids]), y[ids], ids).backward()
    ...         optimizer.step()
    ...     loss.end_epoch(epoch)
    >>> loss.result().clean.shape
    (2, 1)
    """

    def __init__(
        self,
        model: nn.Module,
        noisy: Tensor,
        layers: LayersLike | None = None,
        *,
        task: Task | None = None,
        null_draws: int = 1,
        seed: int = 0,
    ) -> None:
        noisy = torch.as_tensor(noisy).cpu()
        if noisy.dtype != torch.bool or noisy.dim() != 1 or not 0 < noisy.sum() < len(noisy):
            raise ValueError(
                f"noisy is {noisy.dtype} of shape {tuple(noisy.shape)} with {int(noisy.sum())} "
                "set; give a bool mask [n] that marks some examples, not all."
            )
        self.task = Classification() if task is None else task
        self._groups = layer_groups(model, layers)
        named = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._names = [n for group in self._groups for n in group.parameters if n in named]
        self._parameters = [named[name] for name in self._names]
        generator = torch.Generator().manual_seed(seed)
        nulls = [noisy[torch.randperm(len(noisy), generator=generator)] for _ in range(null_draws)]
        self._masks = torch.stack([noisy, *nulls])
        self._rows: list[np.ndarray] = []
        self._epochs: list[int] = []
        self._start()

    def __call__(self, outputs: Any, labels: Tensor, ids: Tensor) -> Tensor:
        """The batch's mean loss, to go backward from; ``ids`` are the dataset's, int64 ``[b]``."""
        ids = torch.as_tensor(ids).cpu()
        n = self._masks.shape[1]
        if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < n:
            raise ValueError(
                f"ids run from {int(ids.min())} to {int(ids.max())}, and noisy marks {n} examples; "
                "give each example's index in the dataset."
            )
        losses = self.task.loss(self.task.outputs(outputs), labels)
        for mask, (clean, noisy) in zip(self._masks, self._sums, strict=True):
            mine = mask[ids].to(losses.device)
            for total, part in zip(
                (clean, noisy), subset_gradients(losses, mine, self._parameters), strict=True
            ):
                torch._foreach_add_(total, part)
        return losses.mean()

    def end_epoch(self, epoch: int, model: nn.Module | None = None) -> None:
        """Close an epoch; fits ``train(on_epoch=...)``, which hands it the model as well."""
        del model
        rows = [self._norms_and_cosine(clean, noisy) for clean, noisy in self._sums]
        self._rows.append(np.stack(rows))
        self._epochs.append(epoch)
        self._start()

    def result(self) -> GradientAccounting:
        """The epochs closed so far.

        Raises
        ------
        ValueError
            If there is none.
        """
        if not self._rows:
            raise ValueError("no epoch was closed yet; call end_epoch(epoch) after each.")
        table = np.stack(self._rows)  # epoch, mask, clean / noisy / cosine, layer
        null = table[:, 1:].swapaxes(0, 1)
        return GradientAccounting(
            layers=tuple(group.name for group in self._groups),
            epochs=tuple(self._epochs),
            clean=table[:, 0, 0],
            noisy=table[:, 0, 1],
            cosine=table[:, 0, 2],
            null_clean=null[:, :, 0],
            null_noisy=null[:, :, 1],
            null_cosine=null[:, :, 2],
            share=float(self._masks[0].float().mean()),
        )

    def _start(self) -> None:
        def zeros() -> list[Tensor]:
            return [torch.zeros_like(parameter) for parameter in self._parameters]

        self._sums = [(zeros(), zeros()) for _ in self._masks]

    def _norms_and_cosine(self, clean: list[Tensor], noisy: list[Tensor]) -> np.ndarray:
        """Clean norm, noisy norm and cosine of each layer group, ``[3, L]``."""
        place = {name: k for k, name in enumerate(self._names)}
        rows = []
        for group in self._groups:
            mine = [place[name] for name in group.parameters if name in place]
            norms, cosines = torch.zeros(2, dtype=torch.float64), []
            for k in mine:
                pair = torch.stack([clean[k], noisy[k]]).flatten(1).double().cpu()
                size = pair.norm(dim=1)
                norms += size / pair.shape[1] ** 0.5
                cosines.append(float(pair[0] @ pair[1] / size.prod()))
            rows.append([*norms.tolist(), float(np.mean(cosines)) if cosines else np.nan])
        return np.array(rows).T
