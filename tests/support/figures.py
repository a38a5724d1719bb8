"""Every number of a result, whatever holds it: for comparing two results bit for bit."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

import memviz as mv


def figures(result: Any) -> list[Tensor]:
    """The tensors, arrays, columns and plain numbers of a result in their order, on the CPU.

    Studies and models that a result keeps are no part of it.
    """
    if isinstance(result, Tensor):
        return [result.detach().cpu()]
    if isinstance(result, np.ndarray | np.generic):
        values = np.asarray(result)
        return [torch.from_numpy(values.copy())] if values.dtype.kind in "fiub" else []
    if isinstance(result, bool | int | float):
        return [torch.tensor(result)]
    if isinstance(result, pd.DataFrame):
        return [found for name in result for found in figures(result[name].to_numpy())]
    if isinstance(result, Mapping):
        return [found for item in result.values() for found in figures(item)]
    if isinstance(result, list | tuple):
        return [found for item in result for found in figures(item)]
    if isinstance(result, nn.Module | mv.Study | str | type) or callable(result):
        return []
    if dataclasses.is_dataclass(result):
        return figures([getattr(result, field.name) for field in dataclasses.fields(result)])
    return figures(list(getattr(result, "__dict__", {}).values()))


ROUNDING = 1e-5  # of the graph engine, which has paths of its own for CPUs; 1.2e-7 was seen


def differing(one: Any, other: Any, within: float = 0.0) -> list[str]:
    """What differs between two results: nothing, or how far apart the numbers are.

    Bit for bit, or ``within`` a share of 1 and of the numbers.
    """
    mine, others = figures(one), figures(other)
    assert mine, "a result without numbers"
    if len(mine) != len(others):
        return [f"{len(mine)} and {len(others)} tensors of numbers"]
    return [
        f"{place}: {tuple(a.shape)} {a.dtype}, {tuple(b.shape)} {b.dtype}, {_distance(a, b)}"
        for place, (a, b) in enumerate(zip(mine, others, strict=True))
        if not _same(a, b, within)
    ]


def _same(one: Tensor, other: Tensor, within: float) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if within and one.is_floating_point():
        return torch.allclose(one, other, rtol=within, atol=within, equal_nan=True)
    return bool(((one == other) | ((one != one) & (other != other))).all())


def _distance(one: Tensor, other: Tensor) -> float:
    if one.shape != other.shape or not one.numel():
        return float("nan")
    return float((one.double() - other.double()).abs().nan_to_num().max())
