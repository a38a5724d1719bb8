"""Checks of the SSL déjà vu test's arguments, before anything is embedded."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor

Labels = Tensor | np.ndarray | Sequence[int]


def integers(values: Any, words: str, rows: int | None, of: str) -> Tensor:
    """Integers ``[rows]`` from a tensor, an array or a list, as int64 on the CPU."""
    try:
        numbers = torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise ValueError(
            f"{words} is {type(values).__name__}, not all numbers; give one integer per image."
        ) from None
    whole = not (numbers.is_floating_point() or numbers.is_complex() or numbers.dtype == torch.bool)
    if not whole or numbers.dim() != 1 or len(numbers) != rows or numbers.is_meta:
        raise ValueError(
            f"{words} is {numbers.dtype} {list(numbers.shape)}{' on meta' * numbers.is_meta} for "
            f"{rows} {of}; give one integer per image."
        )
    return numbers.detach().cpu().long()


def labels_of_public(labels: Any, images: int | None, k: Any) -> Tensor:
    """Labels of the public images, int64 ``[images]``, of which there must be at least k."""
    public = integers(labels, "public_labels", images, "public images")
    if not isinstance(k, Integral) or not 1 <= int(k) <= len(public):
        raise ValueError(
            f"k is {k} and the public set has {len(public)} images; use a k from 1 to "
            f"{len(public)}."
        )
    if int(public.min()) < 0:
        raise ValueError(f"public_labels holds {int(public.min())}; classes start at 0.")
    return public


def labels_among(public: Tensor, labels: Any, words: str, crops: int) -> Tensor:
    """Labels of crops, int64 ``[crops]``, each shared by at least one public image."""
    chosen = integers(labels, words, crops, "crops")
    missing = ~torch.isin(chosen, public)
    if bool(missing.any()):
        row = int(missing.nonzero()[0])
        raise ValueError(
            f"{words} holds {int(chosen[row])} (image {row}), which no public image has, so no "
            "neighbour can vote for it; leave such images out, or add public images of that class."
        )
    return chosen


def tensor_of(items: Any) -> Any:
    """Arrays of numbers as tensors, which encoders expect; anything else unchanged."""
    if not isinstance(items, np.ndarray) or items.dtype.kind not in "fiub":
        return items
    tensor = torch.as_tensor(items)
    return tensor.to(torch.get_default_dtype()) if tensor.dtype == torch.float64 else tensor
