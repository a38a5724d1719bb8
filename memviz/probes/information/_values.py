"""Checks of the values that the information measures are given."""

from __future__ import annotations

from operator import index
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memviz.checks import quoted

Values = Tensor | np.ndarray
_LARGEST = 1e300  # differences and products of larger values would overflow


def floats(values: Any, words: str) -> Tensor:
    """A float tensor from a tensor, an array or a list, without gradients.

    Raises
    ------
    ValueError
        If it holds anything but floats.
    """
    if not isinstance(values, Tensor):
        try:
            values = torch.as_tensor(np.ascontiguousarray(values))
        except (TypeError, ValueError, RuntimeError):
            raise ValueError(
                f"{words} is {type(values).__name__}, not all numbers; give a tensor or an array "
                "of floats."
            ) from None
    if not values.is_floating_point() or values.layout != torch.strided or values.is_meta:
        kind = "on the meta device" if values.is_meta else f"{values.dtype} {list(values.shape)}"
        raise ValueError(f"{words} is {kind}; give a dense tensor or an array of floats.")
    detached: Tensor = values.detach()
    return detached


def check_values(given: Any) -> Tensor:
    """Refuse anything but finite floats ``[examples, units]``."""
    values = floats(given, "values")
    if values.dim() != 2 or not values.numel():
        raise ValueError(
            f"values are {values.dtype} {list(values.shape)}; give floats [examples, units], at "
            "least one of each."
        )
    bad = ~(values.double().abs() < _LARGEST)
    if bool(bad.any()):
        example, unit = bad.nonzero()[0].tolist()
        value = values[example, unit]
        words = f"{float(value):g}" if bool(value.isfinite()) else "NaN or infinite"
        raise ValueError(
            f"unit {unit} is {words} on example {example}; leave out that unit or example."
        )
    return values


def whole(value: Any, words: str) -> int:
    """An integer of any kind as int."""
    try:
        return index(value)
    except TypeError:
        raise ValueError(f"{words} is {quoted(value)}; give a whole number.") from None


def repeated_examples(values: Tensor) -> int:
    """How many examples seem to occur more than once, by their values ``[examples, units]``.

    They are equal in every unit, a few at a time, and some unit hardly ever has equal values on
    examples that differ: one that is often 0, or takes a few values, says nothing.
    """
    n = len(values)
    line = values.T.contiguous()
    ordered = line.sort(1).values
    if bool((ordered.diff(dim=1) > 0).all(1).any()):
        return 0  # some unit tells all examples apart
    alike = torch.searchsorted(ordered, line, right=True) - torch.searchsorted(ordered, line)
    _, group, sizes = values.unique(dim=0, return_inverse=True, return_counts=True)
    few = (alike > 1) & (alike <= max(4, n // 50))
    copied = few & (alike == sizes[group])
    telling = (2 * copied.sum(1) > few.sum(1)) & (ordered[:, 0] < ordered[:, -1])
    return int(copied[telling].any(0).sum())
