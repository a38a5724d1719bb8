"""Labels as tensors: what can be read as numbers, and one sentence for what cannot."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor


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
        if values.is_meta or values.is_complex():
            kind = "a tensor on the meta device" if values.is_meta else "a complex tensor"
            raise ValueError(f"{what} is {kind}, not numbers; {advice}.")
        return values.detach()
    if isinstance(values, str | bytes | Mapping) or not hasattr(values, "__len__"):
        raise ValueError(f"{what} is {type(values).__name__}, not numbers; {advice}.")
    try:
        if isinstance(values, list | tuple) and any(isinstance(v, Tensor) for v in values):
            return torch.stack([torch.as_tensor(v).detach().cpu() for v in values])
        array = np.array(values)  # a copy: a table may be read-only
        if array.dtype == object:  # a column that may have gaps
            array = np.array(array.tolist())
        if array.dtype.kind == "u":
            array = array.astype(np.int64)  # torch hardly computes with unsigned numbers
        return torch.as_tensor(array)
    except (TypeError, ValueError, RuntimeError) as error:
        kind = _not_a_number(values)
        ending = for_names if kind.startswith("str") and for_names else advice
        raise ValueError(f"{what} holds {kind}, not numbers; {ending}.") from error


def class_labels(labels: Tensor, what: str, otherwise: str = "") -> Tensor:
    """Whole numbers, one per example, int64 ``[n]``.

    Parameters
    ----------
    labels : ``[n]``
    what : str
        ``"labels"`` or ``"true_labels"``.
    otherwise : str
        What the sentence about numbers that are not whole says further.

    Raises
    ------
    ValueError
        If there is more than one number per example, or one is not whole.

    Examples
    --------
    >>> class_labels(torch.tensor([0.0, 2.0]), "labels")
    tensor([0, 2])
    """
    if labels.dim() == 0:
        raise ValueError(f"{what} is a single number; give one label per example, [n].")
    if labels.dim() != 1:
        raise ValueError(
            f"{what} has shape {tuple(labels.shape)}; give one label per example, [n]"
            + _several(labels)
        )
    whole = labels.long()
    if (labels != whole).any():
        value = labels[labels != whole][0].item()
        ending = otherwise if math.isfinite(value) else ""
        raise ValueError(
            f"{what} holds {value:g}, which is not a class; give whole numbers, [n]{ending}."
        )
    return whole.cpu()


def _several(labels: Tensor) -> str:
    if labels.dim() != 2:
        pass
    elif labels.shape[1] == 1:
        return ": labels[:, 0]."
    elif ((labels == 0) | (labels == 1)).all():
        return (
            " (labels.argmax(1) if they are one-hot), or task=mv.tasks.MultiLabel() if an example "
            "may belong to several classes."
        )
    return (
        "; to judge one position of several, take its label and name its logits: "
        "task=mv.Classification(outputs=lambda out: ...)."
    )


def _not_a_number(values: Iterable[Any]) -> str:
    """The type of the first entry that is not a number."""
    numbers = (int, float, bool, np.number, np.bool_)
    return next((type(v).__name__ for v in values if not isinstance(v, numbers)), "rows")
