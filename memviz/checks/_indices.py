"""Indices in whatever form they come: tensors, arrays, lists, columns of tables, bool masks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ._code import coded
from ._numbers import as_numbers

IndicesLike = Tensor | np.ndarray | Iterable[int]


class NoneChosenError(ValueError):
    """There is no index."""


def as_indices(
    what: str, given: Any, n: int, of: str = "examples", *, each_once: bool = False
) -> Tensor:
    """Indices from 0 to ``n - 1`` as int64 on the CPU, in the order given; at least one.

    Parameters
    ----------
    what : str
        The argument, for the sentence.
    given : tensor, array, list, range, column of a table ``[m]``, or bool mask ``[n]``
    n : int
        How many there are to choose from.
    of : str
        What they are, in the plural.
    each_once : bool
        Whether an index may be given once only.

    Raises
    ------
    ValueError
        If there are none, one is outside, or they are neither whole numbers nor a bool mask. A mask
        of ones and zeros is refused, too: as indices, it would be the first two over and over.

    Examples
    --------
    >>> as_indices("examples", [0, 5], 6), as_indices("examples", np.arange(6) > 3, 6)
    (tensor([0, 5]), tensor([4, 5]))
    >>> as_indices("examples", [0, 1, 1, 0, 0, 1], 6)
    Traceback (most recent call last):
    ValueError: examples names an example twice, being a mask of ones and zeros; give each ...
    """
    advice = f"give indices from 0 to {n - 1}, or a bool mask, [{n}]"
    numbers = as_numbers(what, given, advice).cpu()
    if numbers.dim() != 1:
        kind = "a single number" if numbers.dim() == 0 else f"of shape {tuple(numbers.shape)}"
        raise ValueError(f"{what} is {kind}; {advice}.")
    if len(numbers) == 0:
        raise NoneChosenError(coded("E27", f"{what} is empty: no {of} to run; name at least one."))
    if numbers.dtype == torch.bool:
        return _of_mask(what, numbers, n, of)
    if numbers.is_floating_point():
        raise ValueError(f"{what} holds fractions or floating-point numbers; {advice}.")
    _check_range(what, numbers, n, of)
    if each_once or len(numbers) == n > 2:
        _check_repeated(what, numbers, n, of, each_once)
    return numbers.long()


def _of_mask(what: str, mask: Tensor, n: int, of: str) -> Tensor:
    if len(mask) != n:
        raise ValueError(
            f"{what} is a mask of shape {tuple(mask.shape)} for {n:,} {of}; give a mask [{n}] or "
            "indices."
        )
    if not mask.any():
        raise NoneChosenError(
            coded("E27", f"{what} is a mask without a True: no {of} to run; choose at least one.")
        )
    return mask.nonzero()[:, 0]


def _check_range(what: str, numbers: Tensor, n: int, of: str) -> None:
    if 0 <= numbers.min() and numbers.max() < n:
        return
    outside = int(numbers[(numbers < 0) | (numbers >= n)][0])
    raise ValueError(
        coded("E28", f"{what} names {outside}; this study has {n:,} {of}, 0 to {n - 1}.")
    )


def _check_repeated(what: str, numbers: Tensor, n: int, of: str, each_once: bool) -> None:
    if len(numbers.unique()) == len(numbers):
        return
    is_mask = len(numbers) == n and bool(((numbers == 0) | (numbers == 1)).all())
    if each_once or is_mask:
        article = "an" if of[0] in "aeiou" else "a"
        like = ", being a mask of ones and zeros" if is_mask else ""
        raise ValueError(
            f"{what} names {article} {of.removesuffix('s')} twice{like}; give each index once, or "
            "a bool mask, such as mask == 1."
        )
