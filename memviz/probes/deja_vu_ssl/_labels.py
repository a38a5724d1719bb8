"""What a user gives to the SSL déjà vu test, checked before anything is embedded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

Labels = Tensor | np.ndarray | Sequence[int]


def integers(values: Any, words: str, rows: int | None, of: str) -> Tensor:
    """Integers ``[rows]`` of a tensor, an array or a list, as int64 on the CPU."""
    try:
        found = torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(
            f"{words} is {type(values).__name__}, not all of it numbers; give one integer an image."
        ) from None
    whole = not (found.is_floating_point() or found.is_complex() or found.dtype == torch.bool)
    if not whole or found.dim() != 1 or len(found) != rows:
        raise ValueError(
            f"{words} is {found.dtype} {list(found.shape)} for {rows} {of}; give one integer an "
            "image."
        )
    return found.detach().cpu().long()


def labels_of_public(labels: Any, images: int | None, k: int) -> Tensor:
    """Labels that can vote, int64 ``[images]``; k neighbours must be there."""
    found = integers(labels, "public_labels", images, "public images")
    if not 1 <= k <= len(found):
        raise ValueError(
            f"k is {k} and the public set has {len(found)} images; use a k from 1 to {len(found)}."
        )
    if int(found.min()) < 0:
        raise ValueError(f"public_labels holds {int(found.min())}; classes start at 0.")
    return found


def labels_among(public: Tensor, labels: Any, words: str, crops: int) -> Tensor:
    """Labels of crops, int64 ``[crops]``, each of which a public image has."""
    found = integers(labels, words, crops, "crops")
    missing = ~torch.isin(found, public)
    if bool(missing.any()):
        row = int(missing.nonzero()[0])
        raise ValueError(
            f"{words} holds {int(found[row])} (image {row}) and no public image has this label, so "
            "that no neighbour can vote for it; leave such images out, or add public ones of it."
        )
    return found


def tensor_of(items: Any) -> Any:
    """Arrays of numbers as tensors, which encoders take; anything else as it is."""
    if not isinstance(items, np.ndarray) or items.dtype.kind not in "fiub":
        return items
    found = torch.as_tensor(items)
    return found.to(torch.get_default_dtype()) if found.dtype == torch.float64 else found
