"""Gradient norms per example, without the gradients of each example."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from memviz.checks import IndicesLike, checked
from memviz.engine.record import Chunked, split
from memviz.progress import slow
from memviz.study import Study, check_examples, check_ready
from memviz.tasks import check_labels

from ._ghost_norms import GhostNorms


@dataclass(frozen=True, eq=False)
class GradientNorms:
    """L2 norm of each example's loss gradient, for each parameter of the model.

    Attributes
    ----------
    examples : int64 ``[n]``
        Indices into the study.
    parameters : tuple of str
        Names in ``model.named_parameters()``, without those that require no gradient.
    values : Tensor ``[parameters, n]``
        float32, or float64 if a parameter is.
    one_by_one : tuple of str
        Parameters that no rule covers; their gradients were computed by automatic
        differentiation, one example at a time.
    """

    examples: Tensor
    parameters: tuple[str, ...]
    values: Tensor
    one_by_one: tuple[str, ...] = ()

    @property
    def total(self) -> Tensor:
        """Norm of the gradient of all parameters together, ``[n]``."""
        return _together(self.values)

    @property
    def by_module(self) -> dict[str, Tensor]:
        """Norm of the gradient of each module's own parameters, ``[n]``."""
        rows: dict[str, list[int]] = {}
        for row, name in enumerate(self.parameters):
            rows.setdefault(name.rpartition(".")[0], []).append(row)
        return {name: _together(self.values[own]) for name, own in rows.items()}

    def __repr__(self) -> str:
        alone = f", {len(self.one_by_one)} of them one by one" if self.one_by_one else ""
        return (
            f"GradientNorms({len(self.parameters)} parameters{alone} × "
            f"{len(self.examples):,} examples)"
        )


@checked
def gradient_norms(
    study: Study,
    examples: IndicesLike | None = None,
    labels: Tensor | None = None,
    *,
    progress: bool = True,
) -> GradientNorms:
    """L2 norm of the gradient of each example's own loss, by parameter.

    One forward and one backward pass per chunk of examples give "ghost norms" (Goodfellow 2015,
    arXiv:1510.01799; for convolutions after Bu et al. 2022, arXiv:2205.10683). The rules are first
    compared with automatic differentiation on two examples; parameters where they disagree are
    differentiated example by example, and listed in ``one_by_one``.

    Parameters
    ----------
    study : Study
        Its task gives the loss of each example.
    examples : int64 ``[n]``, optional
        All by default.
    labels : Tensor ``[n]`` or ``[n, ...]``, optional
        Used in place of the study's own; of the kind that the task judges.
    progress : bool

    Returns
    -------
    GradientNorms

    Raises
    ------
    ValueError
        If no parameter requires a gradient, the labels are not one per example or not of the
        task's kind, or an example's loss depends on other examples.

    Examples
    --------
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    >>> study = Study(model.eval(), torch.randn(6, 4), torch.zeros(6), {"test": range(6)})
    >>> norms = gradient_norms(study)
    >>> norms.parameters, norms.total.shape
    (('0.weight', '0.bias', '2.weight', '2.bias'), torch.Size([6]))
    """
    check_ready(study.model)
    chosen = check_examples(study, examples)
    targets = study.labels[chosen]
    if labels is not None:
        given = torch.as_tensor(labels)
        if given.shape != targets.shape:
            raise ValueError(
                f"labels has shape {tuple(given.shape)} for {len(chosen)} examples; "
                f"give one label per example, {list(targets.shape)}."
            )
        targets = check_labels(study.task, given, "labels")
    ghost = GhostNorms(study, chosen, targets.cpu())
    work = Chunked(ghost.size)

    def run() -> Tensor:
        chunks = slow(split(len(chosen), work.size), "gradient norms", progress=progress)
        return torch.cat([ghost.squares(positions) for positions in chunks], 1)

    squares = work.guard(run)
    is_double = any(p.dtype == torch.float64 for p in ghost.parameters.values())
    values = squares.clamp(min=0).sqrt().to(torch.float64 if is_double else torch.float32).cpu()
    return GradientNorms(chosen, tuple(ghost.parameters), values, tuple(sorted(ghost.one_by_one)))


def _together(values: Tensor) -> Tensor:
    return values.double().square().sum(0).sqrt().to(values.dtype)
