"""What the ready tasks share: where the outputs are, and when an example counts as right."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from memviz.checks import described

from ._pick import Which, pick

_LEAST = torch.finfo(torch.float32).tiny


class Judged:
    """A task that knows where its outputs are in what a model returns."""

    margin_unit: ClassVar[str] = ""
    loss_unit: ClassVar[str] = ""
    which: Which | None = None

    def __init__(self, outputs: Which | None = None) -> None:
        if outputs is not None and not isinstance(outputs, str | int) and not callable(outputs):
            raise TypeError(
                f"outputs is {type(outputs).__name__}; give a key, an index or a function of what "
                "the model returns."
            )
        self.which = outputs

    def pick(self, raw: Any) -> Any:
        """What this task judges of what a model returned."""
        return pick(raw, self.which, self._name())

    def _name(self) -> str:
        name, of_memviz = type(self).__name__, type(self).__module__.startswith("memviz.")
        where = "mv." if name == "Classification" else "mv.tasks."
        return f"{where}{name}" if of_memviz else name

    def __repr__(self) -> str:
        given = "" if self.which is None else f"outputs={self.which!r}"
        return f"{type(self).__name__}({given})"


def check_judged(outputs: Any, labels: Any) -> None:
    """Refuse outputs and labels that are no tensors of real numbers, one row per example."""
    for name, table in (("outputs", outputs), ("labels", labels)):
        if not isinstance(table, Tensor) or table.is_complex() or table.is_meta or not table.dim():
            raise TypeError(f"{name} is {described(table)}; give a tensor of numbers, [n, ...].")
    if len(outputs) != len(labels):
        raise ValueError(
            f"there are outputs of {len(outputs)} examples and labels of {len(labels)}; give one "
            "label per example."
        )


def check_outputs(outputs: Any, axes: int, wanted: str) -> None:
    """Refuse outputs that are not numbers, or of another number of axes.

    Examples
    --------
    >>> check_outputs(torch.ones(3), 2, "logits [n, classes]")
    Traceback (most recent call last):
    ValueError: outputs is torch.float32 of shape (3,); give logits [n, classes].
    """
    if not isinstance(outputs, Tensor) or outputs.dim() != axes or outputs.dtype == torch.bool:
        raise ValueError(f"outputs is {described(outputs)}; give {wanted}.")


def at_least_single(outputs: Tensor) -> Tensor:
    """Outputs in float32, or in float64 if they are.

    Examples
    --------
    >>> at_least_single(torch.ones(2, dtype=torch.bfloat16)).dtype
    torch.float32
    """
    return outputs.to(torch.promote_types(outputs.dtype, torch.float32))


def finite_labels(labels: Tensor, what: str, needs: str) -> Tensor:
    """Labels that are numbers, in float32 where that holds them exactly, otherwise in float64.

    Raises
    ------
    ValueError
        If one is NaN or infinite; the message says what the task ``needs``.

    Examples
    --------
    >>> finite_labels(torch.tensor([1, 2]), "labels", "the task needs finite labels")
    tensor([1., 2.])
    """
    if not labels.is_floating_point():
        labels = labels.double()
    labels = at_least_single(labels).cpu()
    if not labels.isfinite().all():
        value = labels[~labels.isfinite()][0].item()
        raise ValueError(f"{what} holds {value}; {needs}: leave the examples without one out.")
    single = labels.float()
    return single if torch.equal(single.to(labels.dtype), labels) else labels


def right_is_positive(margin: Tensor, right: Tensor) -> Tensor:
    """Margins of which exactly the right ones are above 0: a tie may be right or wrong.

    Examples
    --------
    >>> right_is_positive(torch.tensor([0.0, 0.0]), torch.tensor([True, False])) > 0
    tensor([ True, False])
    """
    # Added, not clamped, so that gradients pass; a float32 number, since callers may round to it.
    tied = right & (margin < _LEAST)
    return margin + tied.to(margin.dtype) * _LEAST
