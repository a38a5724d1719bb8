"""When two answers are the same: up to float rounding, by the precision they were computed in."""

from __future__ import annotations

from math import isfinite

import torch
from torch import Tensor, nn

# Of the largest output, in units of the precision: sums in another order round differently.
_ROUNDING = 1000
_ROUNDING_16_BIT = 16
_LEAST = 1e-8  # as a share: float64 answers need not agree to the last digits
_INSIDE = 16  # of the largest value inside: large values that cancel leave their rounding


def slack(model: nn.Module, outputs: Tensor) -> float:
    """How far two answers may lie apart, as a share of the largest output.

    Examples
    --------
    >>> slack(nn.Linear(2, 2), torch.zeros(1, 2)) < 2e-4
    True
    """
    dtypes = {p.dtype for p in model.parameters() if p.is_floating_point()}
    if outputs.is_floating_point():
        dtypes.add(outputs.dtype)
    coarsest = max(
        (torch.finfo(dtype) for dtype in dtypes), key=lambda info: info.eps, default=None
    )
    if coarsest is None:
        return 0.0
    if coarsest.bits <= 16:
        return coarsest.eps * _ROUNDING_16_BIT
    return max(coarsest.eps * _ROUNDING, _LEAST)


def scale_of(outputs: Tensor, inside: float) -> float:
    """What rounding is measured by: the largest output, or a share of what cancels inside.

    Parameters
    ----------
    outputs : Tensor
    inside : float
        The largest value that a layer with weights computes.

    Examples
    --------
    >>> scale_of(torch.tensor([1.0, -2.0]), 10.0), scale_of(torch.tensor([1.0]), 1000.0)
    (2.0, 16.0)
    """
    coarse = outputs.is_floating_point() and torch.finfo(outputs.dtype).bits <= 16
    return max(size(outputs), 0.0 if coarse else inside * _INSIDE / _ROUNDING)


def largest_error(given: Tensor, plain: Tensor) -> float:
    """The largest difference of two answers; infinite where only one of them is a number.

    Examples
    --------
    >>> largest_error(torch.tensor([1.0, torch.nan]), torch.tensor([1.5, torch.nan]))
    0.5
    """
    if given.shape != plain.shape:
        return float("inf")
    if not given.numel():
        return 0.0
    if given.is_complex():
        given, plain = torch.view_as_real(given), torch.view_as_real(plain)
    given, plain = given.double(), plain.double()
    largest = float((given - plain).abs().max())
    if isfinite(largest):
        return largest
    same = (given == plain) | (given.isnan() & plain.isnan())
    error = torch.where(same, 0.0, (given - plain).abs())
    return float(error.nan_to_num(float("inf"), float("inf")).max())


def agree(given: Tensor, plain: Tensor, share: float, scale: float = 0.0) -> bool:
    """Whether two answers differ by this share of the largest output at most.

    Parameters
    ----------
    given, plain : Tensor
    share : float
        From ``slack``.
    scale : float
        The largest output known besides these.
    """
    error = largest_error(given, plain)
    return error <= share * scale or error <= share * size(plain)


def size(outputs: Tensor) -> float:
    """The largest finite output, without its sign."""
    if not outputs.numel():
        return 0.0
    outputs = outputs.abs() if outputs.is_complex() else outputs
    largest = max(abs(float(end)) for end in outputs.aminmax())
    if isfinite(largest):  # which takes no copy of the outputs
        return largest
    finite = outputs[outputs.isfinite()]
    return float(finite.abs().max()) if finite.numel() else 0.0
