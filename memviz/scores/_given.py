"""Columns of scores as arrays, of lists, tensors and tables; one sentence for the rest."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from memviz.checks import quoted
from memviz.tasks import as_numbers
from memviz.units import Unit, UnitSet


def as_floats(what: str, given: Any, shape: str) -> np.ndarray:
    """Numbers as a float array; an array of floats stays itself."""
    if isinstance(given, np.ndarray) and given.dtype.kind == "f":
        return given
    numbers = as_numbers(what, given, f"give numbers, {shape}").cpu()
    is_known = numbers.is_floating_point() and numbers.element_size() > 2  # NumPy has no bfloat16
    array: np.ndarray = (numbers if is_known else numbers.double()).numpy()
    return array


def as_units(given: Any) -> tuple[Unit, ...]:
    """Units in the order given, of Units or texts."""
    given = given.tolist() if hasattr(given, "tolist") else given
    is_one = isinstance(given, str | Unit) or not isinstance(given, Iterable)
    parts: Any = [given] if is_one else given
    return tuple(
        unit for part in parts for unit in ((part,) if isinstance(part, Unit) else UnitSet.of(part))
    )


def as_indices(given: Any) -> np.ndarray:
    """Indices of examples, int ``[rows]``, of indices or a bool mask."""
    if isinstance(given, np.ndarray) and given.dtype == np.int64 and given.ndim == 1:
        indices = given
    else:
        numbers = as_numbers("examples", given, "give indices, [rows]").cpu()
        if numbers.dim() != 1 or (len(numbers) and numbers.is_floating_point()):
            raise ValueError(
                f"examples is {numbers.dtype} of shape {tuple(numbers.shape)}; give indices into "
                "the study, one per row."
            )
        is_mask = numbers.dtype == torch.bool
        indices = (numbers.nonzero()[:, 0] if is_mask else numbers.long()).numpy()
    if len(indices) and indices.min() < 0:
        raise ValueError(f"examples names {indices.min()}; indices are counted from 0.")
    return indices


def as_flags(given: Any, rows: int) -> np.ndarray:
    """Which rows are exact, bool ``[rows]``."""
    flags = np.asarray(as_numbers("exact", given, f"give True or False per row, [{rows}]").cpu())
    if flags.dtype != bool or flags.shape != (rows,):
        raise ValueError(
            f"exact is {flags.dtype} of shape {flags.shape}; give True or False per row, [{rows}]."
        )
    return flags


def whole(k: Any) -> int:
    """How many rows, as a number of Python's own."""
    value = k.tolist() if hasattr(k, "tolist") else k
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"k is {quoted(k)}; give a whole number.")
    return value


def natural(name: str) -> tuple[list[Any], str]:
    """A key that puts ``"conv2"`` before ``"conv10"``."""
    pieces: list[Any] = re.split("([0-9]+)", name)
    # By their digits, since Python reads no number of thousands of them.
    pieces[1::2] = [(len(digits.lstrip("0")), digits.lstrip("0")) for digits in pieces[1::2]]
    return pieces, name
