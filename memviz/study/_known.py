"""Values that are known: neither NaN nor infinite."""

from __future__ import annotations

import torch
from torch import Tensor

from memviz.checks import coded

_VALUES = 1 << 24  # values looked at together, so that a large table needs no copy


def check_known(
    what: str, tensor: Tensor, is_named: bool, examples: list[int] | None = None
) -> None:
    """Refuse NaN and infinite values; a mask that is added to attention may hold -inf.

    Parameters
    ----------
    what : str
    tensor : Tensor ``[b, ...]``
    is_named : bool
        Whether it is one of several inputs, which may be a mask.
    examples : list of int, optional
        Which examples of the study the rows are; by default all, in order.

    Raises
    ------
    ValueError
        Naming the first such example.

    Examples
    --------
    >>> check_known("inputs", torch.tensor([[1.0], [torch.nan]]), is_named=False)
    Traceback (most recent call last):
    ValueError: inputs of example 1 holds nan; leave the example out, ...
    """
    if not (tensor.is_floating_point() or tensor.is_complex()) or tensor.numel() == 0:
        return
    size = max(1, _VALUES // max(1, tensor[0].numel()))
    for start in range(0, len(tensor), size):
        rows = tensor[start : start + size].flatten(1) if tensor.dim() > 1 else tensor[:, None]
        # Torch cannot tell whether numbers of 8 bits are finite.
        values = rows.float() if rows.element_size() == 1 else rows
        wrong = ~values.isfinite()
        if is_named and not values.is_complex():
            wrong &= values != -torch.inf
        if wrong.any():
            row, column = (int(place) for place in wrong.nonzero()[0])
            example = start + row if examples is None else examples[start + row]
            raise ValueError(
                coded(
                    "E20",
                    f"{what} of example {example} holds {values[row, column].item()}; leave the "
                    "example out, or fill in what is unknown.",
                )
            )
