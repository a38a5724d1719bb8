"""Tensors of whatever holds numbers: lists, ranges, NumPy arrays, columns of tables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ._quote import listed, quoted


def as_numbers(what: str, values: Any, advice: str, for_names: str = "") -> Tensor:
    """A tensor of a list, an array, a column of a table or a tensor.

    Parameters
    ----------
    what : str
        What the values are, for the sentence.
    values : array-like
    advice, for_names : str
        How the sentence ends; ``for_names`` if they are strings.

    Raises
    ------
    ValueError
        If they are anything but real numbers.

    Examples
    --------
    >>> as_numbers("labels", [0, 2, 1], "give whole numbers, [n]")
    tensor([0, 2, 1])
    """
    if isinstance(values, Tensor):
        return _dense(what, values, advice)
    if not isinstance(values, list | tuple | range) and not hasattr(values, "__array__"):
        raise ValueError(f"{what} is {described(values)}, not numbers; {advice}.")
    try:
        if isinstance(values, list | tuple) and any(isinstance(v, Tensor) for v in values):
            return torch.stack([torch.as_tensor(v).detach().cpu() for v in values])
        array = np.array(values)  # a copy: a table may be read-only
        if array.dtype == object:  # a column that may have gaps
            array = np.array(array.tolist())
        if array.dtype.kind == "u":
            if array.size and array.max() > np.iinfo(np.int64).max:
                raise ValueError("no int64 holds this")
            array = array.astype(np.int64)  # torch hardly computes with unsigned numbers
        if array.dtype.kind == "c":
            raise ValueError("complex numbers have no order")
        return torch.as_tensor(array)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        kind = _not_a_number(values)
        ending = for_names if kind.startswith("str") and for_names else advice
        raise ValueError(f"{what} holds {kind}, not numbers; {ending}.") from error


def _dense(what: str, values: Tensor, advice: str) -> Tensor:
    for is_one, kind, ending in (
        (values.is_meta, "a tensor on the meta device, not numbers", advice),
        (values.is_complex(), "a complex tensor, not real numbers", advice),
        (values.is_nested, "a nested tensor", "pad it: torch.nested.to_padded_tensor"),
        (values.layout != torch.strided, "a sparse tensor", "give a dense tensor: .to_dense()"),
    ):
        if is_one:
            raise ValueError(f"{what} is {kind}; {ending}.")
    return values.detach()


def described(value: object) -> str:
    """What was given, for a message: a tensor by its type and shape, all else as it is written.

    Examples
    --------
    >>> described(torch.zeros(2, 3)), described("zero"), described([1, 2])
    ('torch.float32 of shape (2, 3)', "'zero'", '[1, 2]')
    """
    if isinstance(value, Tensor | np.ndarray):
        return f"{value.dtype} of shape {tuple(value.shape)}"
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, dict) and any(isinstance(part, Tensor) for part in value.values()):
        return f"a dict of tensors ({listed(value, 60)})"
    # The text of an object may be long, or an address.
    if isinstance(value, str | bytes | int | float | complex | list | tuple | dict | set | None):
        return quoted(value)
    if isinstance(value, type):
        return f"the class {quoted(value.__name__).strip(chr(39))}"
    return type(value).__name__


def _not_a_number(values: Any) -> str:
    """The type of the first entry that is not a number."""
    numbers = (int, float, bool, np.number, np.bool_)
    if isinstance(values, np.ndarray):
        values = values.ravel().tolist()
    if not isinstance(values, Iterable):
        return type(values).__name__
    return next((type(v).__name__ for v in values if not isinstance(v, numbers)), "rows")
