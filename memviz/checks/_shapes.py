"""Shapes of tables that belong together."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from ._numbers import described


def check_shapes(axes: int, **tables: Tensor | np.ndarray) -> None:
    """Refuse tables of another number of axes than this, or of different shapes.

    Raises
    ------
    ValueError
        Naming the first table that is wrong.

    Examples
    --------
    >>> check_shapes(1, target=np.zeros(3), reference=np.zeros(2))
    Traceback (most recent call last):
    ValueError: reference is float64 of shape (2,) and target float64 of shape (3,); give both ...
    """
    first, *_ = tables
    for name, table in tables.items():
        if table.ndim != axes:
            kind = f"{axes} ax{'i' if axes == 1 else 'e'}s"
            raise ValueError(f"{name} is {described(table)}; give {kind}.")
        if table.shape != tables[first].shape:
            raise ValueError(
                f"{name} is {described(table)} and {first} {described(tables[first])}; give both "
                "of the same shape."
            )
