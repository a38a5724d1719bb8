"""Gradients of clean and of noisy examples, summed over an epoch as the weights change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from memviz.checks import Seed, check_shapes, checked, described
from memviz.tasks.classification import Classification
from memviz.tasks.task import Task

from ._gradient_table import GradientAccounting
from ._layer_groups import LayersLike, layer_groups

# Parts that miss their sum by more than this share of them are rounding errors of a gradient of 0.
_ROUNDING = 0.05


@checked
def subset_gradients(
    losses: Tensor, noisy: Tensor, parameters: Sequence[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """Gradients of the clean and of the noisy part of a batch; their sum is the batch's gradient.

    Parameters
    ----------
    losses : float ``[b]``
        Per example, from a forward pass of the whole batch, so that batch norm sees all of it.
    noisy : bool ``[b]``
    parameters : sequence of Tensor

    Returns
    -------
    clean, noisy : list of Tensor
        One per parameter, of its shape: the gradient of the part's summed loss over ``b``, which is
        the part's mean loss times its share of the batch.

    Raises
    ------
    ValueError
        If shapes differ, ``noisy`` is not a mask, or losses or a parameter require no gradient.

    Examples
    --------
    >>> weight = torch.tensor([2.0], requires_grad=True)
    >>> losses = weight * torch.tensor([1.0, 3.0])
    >>> subset_gradients(losses, torch.tensor([False, True]), [weight])
    ([tensor([0.5000])], [tensor([1.5000])])
    """
    check_shapes(1, losses=losses, noisy=noisy)
    if noisy.dtype != torch.bool or not losses.requires_grad:
        raise ValueError(
            f"noisy is {noisy.dtype} and losses require {'a' if losses.requires_grad else 'no'} "
            "gradient; give a bool mask, and losses that the parameters were used for."
        )
    still = [place for place, p in enumerate(parameters) if not p.requires_grad]
    if still or not len(parameters):
        which = f"holds no tensor with a gradient at {still[0]}" if still else "is empty"
        raise ValueError(f"parameters {which}; give those that the losses were computed with.")

    def part(mask: Tensor) -> list[Tensor]:
        if not mask.any():
            return [torch.zeros_like(p) for p in parameters]
        total = losses[mask].sum() / len(losses)
        gradients = torch.autograd.grad(total, parameters, retain_graph=True, allow_unused=True)
        return [
            torch.zeros_like(p) if g is None else g
            for p, g in zip(parameters, gradients, strict=True)
        ]

    return part(~noisy), part(noisy)


class EpochGradients:
    """Sums clean and noisy gradients while a model trains; call it as the loss.

    Parameters
    ----------
    model : nn.Module
        The model being trained.
    noisy : bool ``[n]``
        Which examples of the dataset are noisy.
    layers : mapping, optional
        As in ``layer_groups``.
    task : Task
        Defines the loss per example; cross-entropy by default.
    by_example : bool
        Weigh each batch's gradient by its size, so that all examples count alike; otherwise they
        are summed as a training step takes them, and an example of a small batch counts more.
    null_draws, seed : int
        Number of random subsets of the same size for the null, and their seed.

    Raises
    ------
    ValueError
        If ``noisy`` is not a bool mask that marks some examples but not all.

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

    @checked
    def __init__(
        self,
        model: nn.Module,
        noisy: Tensor,
        layers: LayersLike | None = None,
        *,
        task: Task | None = None,
        by_example: bool = False,
        null_draws: int = 1,
        seed: Seed = 0,
    ) -> None:
        noisy = torch.as_tensor(noisy).cpu()
        if noisy.dtype != torch.bool or noisy.dim() != 1 or not 0 < noisy.sum() < len(noisy):
            given = f"{described(noisy)} with {int((noisy != 0).sum())} set"
            raise ValueError(
                f"noisy is {given}; give a bool mask [n] that marks some examples but not all."
            )
        if null_draws < 0:
            raise ValueError(f"null_draws is {null_draws}; give at least 0.")
        self.task = Classification() if task is None else task
        self.by_example = by_example
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
        """The batch's mean loss, for ``backward``; ``ids`` index the dataset, int64 ``[b]``.

        Raises
        ------
        ValueError
            If the ids are not one whole number per label, or one is outside the dataset.
        """
        ids = torch.as_tensor(ids).cpu()
        n = self._masks.shape[1]
        if ids.shape != labels.shape[:1] or ids.is_floating_point() or ids.dtype == torch.bool:
            raise ValueError(
                f"ids is {ids.dtype} of shape {tuple(ids.shape)} for {len(labels)} labels; give "
                "each example's index in the dataset, int64 [b]."
            )
        if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < n:
            raise ValueError(
                f"ids run from {int(ids.min())} to {int(ids.max())}, but noisy covers {n} "
                "examples; give each example's index in the dataset."
            )
        losses = self.task.loss(self.task.outputs(outputs), labels)
        weight = float(len(ids)) if self.by_example else 1.0
        self._batches.append(weight)
        whole = self._gradients(losses.mean())
        torch._foreach_add_(self._whole, whole, alpha=weight)
        for mask, (clean, noisy) in zip(self._masks, self._sums, strict=True):
            in_batch = mask[ids].to(losses.device)
            for total, part in zip(
                (clean, noisy), subset_gradients(losses, in_batch, self._parameters), strict=True
            ):
                torch._foreach_add_(total, part, alpha=weight)
        return losses.mean()

    def end_epoch(self, epoch: int, model: nn.Module | None = None) -> None:
        """Close an epoch; can be given as ``train(on_epoch=...)``, which also passes the model."""
        del model
        # By the mean size, so that batches of one size give the plain sum.
        scale = 1 / float(np.mean(self._batches)) if self._batches else 1.0
        rows = [
            self._norms_and_cosine(*([scale * total for total in part] for part in parts))
            for parts in ((*sums, self._whole) for sums in self._sums)
        ]
        self._rows.append(np.stack(rows))
        self._epochs.append(epoch)
        self._start()

    def result(self) -> GradientAccounting:
        """Gradient accounting of the epochs closed so far.

        Raises
        ------
        ValueError
            If no epoch has been closed.
        """
        if not self._rows:
            raise ValueError("no epoch has been closed; call end_epoch(epoch) after each.")
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
        self._whole, self._batches = zeros(), list[float]()

    def _gradients(self, loss: Tensor) -> list[Tensor]:
        gradients = torch.autograd.grad(
            loss, self._parameters, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return list(gradients)

    def _norms_and_cosine(
        self, clean: list[Tensor], noisy: list[Tensor], whole: list[Tensor]
    ) -> np.ndarray:
        """Clean norm, noisy norm and cosine of each layer group, ``[3, L]``.

        A tensor without a gradient has no cosine: a dead one, and one whose parts do not add up to
        the whole, as the bias of a convolution that a batch norm takes away again.
        """
        index_of = {name: k for k, name in enumerate(self._names)}
        rows = []
        for group in self._groups:
            members = [index_of[name] for name in group.parameters if name in index_of]
            norms, cosines = torch.zeros(2, dtype=torch.float64), []
            for k in members:
                parts = torch.stack([clean[k], noisy[k], whole[k]]).flatten(1).double().cpu()
                size = parts[:2].norm(dim=1)
                norms += size / parts.shape[1] ** 0.5
                error = (parts[0] + parts[1] - parts[2]).norm()
                if size.min() > 0 and error < _ROUNDING * size.min():
                    cosines.append(float(parts[0] @ parts[1] / size.prod()))
            rows.append([*norms.tolist(), float(np.mean(cosines)) if cosines else np.nan])
        return np.array(rows).T
