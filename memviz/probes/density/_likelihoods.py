"""Log-likelihoods of any density, and the average of densities."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memviz.checks import checked


@checked
def log_mean_exp(values: Tensor, axis: int = 0) -> Tensor:
    """Logarithm of the mean density, ``logsumexp(values) - log m`` over an axis of m.

    The mean of the logarithms, in its place, is that of the geometric mean of the densities, which
    is never larger and answers another question.

    Parameters
    ----------
    values : ``[...]``
        Log-densities; -inf where a density is 0.
    axis : int

    Returns
    -------
    float64 ``[...]``, without the axis

    Raises
    ------
    ValueError
        If there is no such axis, or it is empty.

    Examples
    --------
    >>> log_mean_exp(torch.tensor([0.0, -torch.inf]))
    tensor(-0.6931, dtype=torch.float64)
    """
    if not -values.dim() <= axis < values.dim():
        raise ValueError(
            f"axis is {axis} and the log-densities have {values.dim()}; give one from 0 on."
        )
    if not values.shape[axis]:
        raise ValueError("there is no log-density to average; give at least one.")
    return values.double().logsumexp(axis) - math.log(values.shape[axis])


@checked
def log_likelihoods(density: Any, inputs: Tensor) -> Tensor:
    """Log p(x) of each input in nats, floating-point ``[n]``.

    Parameters
    ----------
    density : object
        With ``log_prob(inputs)``, as torch's distributions have, or ``score_samples(inputs)``, as
        scikit-learn's Gaussian mixtures, kernel densities and factor analysis have; or the
        log-likelihoods themselves, ``[n]``.
    inputs : ``[n, ...]``

    Raises
    ------
    TypeError
        If it is no density.
    ValueError
        If it does not give one number per input, or one of them is NaN or +inf.

    Examples
    --------
    >>> from torch.distributions import Normal
    >>> log_likelihoods(Normal(0.0, 1.0), torch.zeros(2))
    tensor([-0.9189, -0.9189])
    """
    check_inputs(inputs)
    values = _given(density, inputs)
    if values.is_complex() or values.shape != (len(inputs),):
        several = values.dim() == 2 and len(values) == len(inputs)
        advice = "; join them: torch.distributions.Independent(density, 1)" if several else ""
        raise ValueError(
            f"the density gives {values.dtype} of shape {tuple(values.shape)} for {len(inputs)} "
            f"inputs; it must give log p(x) of each, [{len(inputs)}]{advice}."
        )
    if not values.is_floating_point():
        values = values.double()
    bad = values.isnan() | (values == torch.inf)
    if bad.any():
        first = int(bad.nonzero()[0])
        raise ValueError(
            f"log p(x) is {values[first].item()} for {int(bad.sum())} of {len(values)} inputs, the "
            f"first of them input {first}; it must be a number, or -inf where the density is 0."
        )
    return values.detach().cpu()


def check_inputs(inputs: Tensor) -> None:
    """Refuse inputs without a row, and those that hold NaN.

    Raises
    ------
    ValueError
        If there are none, or one is NaN.
    """
    if not inputs.dim() or not len(inputs):
        raise ValueError(f"inputs has shape {tuple(inputs.shape)}; give one row each, [n, ...].")
    missing = inputs.isnan().reshape(len(inputs), -1).any(1)
    if missing.any():
        first = int(missing.nonzero()[0])
        raise ValueError(
            f"input {first} holds NaN, as do {int(missing.sum())} of {len(inputs)}; leave them out."
        )


def _given(density: Any, inputs: Tensor) -> Tensor:
    if isinstance(density, type):
        name = density.__name__
        raise TypeError(f"the density is the class {name}; give an instance: {name}(...).")
    if isinstance(density, Tensor | np.ndarray):
        return torch.as_tensor(density)
    if callable(getattr(density, "log_prob", None)):
        return torch.as_tensor(density.log_prob(inputs))
    if callable(getattr(density, "score_samples", None)) and not _finds_outliers(density):
        flat = inputs.reshape(len(inputs), -1).cpu().numpy()
        return torch.as_tensor(density.score_samples(flat))
    raise TypeError(
        f"{type(density).__name__} has no log_prob, so it is no density; give an object with "
        "log_prob(inputs) or scikit-learn's score_samples(inputs), or its log-likelihoods, [n]."
    )


def _finds_outliers(estimator: Any) -> bool:
    """Whether score_samples is that of an outlier detector, which is no log-density."""
    try:
        from sklearn.base import is_outlier_detector
    except ImportError:
        return False
    try:
        return bool(is_outlier_detector(estimator))
    except (AttributeError, TypeError):  # no estimator of scikit-learn
        return False
