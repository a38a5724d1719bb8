"""The door to all constructions."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from memviz.checks import Seed, checked, quoted

from ._narrow import narrow
from ._pairs import yu
from ._points import checked_points
from ._report import Memorizer
from ._slabs import bubeck
from ._yun import class_codes, yun
from ._zhang import zhang

Activation = Literal["hardtanh", "relu"]
Method = Literal["yun", "yun4", "zhang", "bubeck", "yu", "narrow"]
_MOST_CLASSES = 10_000
METHODS: tuple[str, ...] = get_args(Method)


@checked
def construct_memorizer(
    inputs: Tensor,
    values: Tensor,
    widths: tuple[int, int] | None = None,
    *,
    method: Method = "yun",
    activation: Activation = "relu",
    seed: Seed = 0,
) -> Memorizer:
    """Build a network with given values at n points.

    ========== =================================== =============================================
    method     hidden units                        idea
    ========== =================================== =============================================
    "yun"      2 d1 + 2 d2 an output, d1 d2 >= n   Yun et al. 2019 (arXiv:1810.07770): project,
                                                   sort, group; half of it with hard-tanh
    "yun4"     as "yun", and 4 a class             the same for classes, one output a class
    "zhang"    n                                   Zhang et al. 2017: a triangular system
    "bubeck"   4 ceil(n / d) an output             Baum 1988, Bubeck et al. 2020: a slab for d
                                                   points in general position
    "yu"       2 n+ n- + n                         Yu et al. 2024, our reconstruction: signs, with
                                                   a proven ball around every point
    "narrow"   2 + outputs a layer, n layers       one kink a layer, our own
    ========== =================================== =============================================

    Weights grow with the number of points, so float32 is soon too coarse;
    :meth:`Memorizer.error` tells.

    Parameters
    ----------
    inputs : ``[n, ...]``
        Flattened; equal points must have equal values.
    values : ``[n]`` or ``[n, outputs]``, from -1 to 1
        For "yu" signs, ``[n]``; for "yun4" classes from 0, integers ``[n]``.
    widths : (first, second), optional
        Of "yun" and "yun4": hard-tanh units; about the square root of n each by default.
    method : {"yun", "yun4", "zhang", "bubeck", "yu", "narrow"}
    activation : {"relu", "hardtanh"}
        The latter for "yun" alone.
    seed : int
        Of the random directions tried for the projection.

    Returns
    -------
    Memorizer
        With the network, ``model``, an ordinary ``nn.Sequential`` in float64, on the CPU whatever
        device the points are on.

    Raises
    ------
    ValueError
        If a value is out of range, a point has two values, the widths are too small, or the points
        don't fit the method.

    Examples
    --------
    >>> points = torch.randn(40, 5, generator=torch.Generator().manual_seed(0))
    >>> memorizer = construct_memorizer(points, torch.arange(40) % 2 * 2 - 1)
    >>> memorizer.units, memorizer.error() < 1e-8
    (26, True)
    >>> certified = construct_memorizer(points, torch.arange(40) % 2 * 2 - 1, method="yu")
    >>> certified.units, certified.error() < 1e-12
    (840, True)
    """
    if method not in METHODS:
        raise ValueError(f"method is {quoted(method)}; use {', '.join(METHODS)}.")
    if activation not in get_args(Activation):
        raise ValueError(f"activation is {quoted(activation)}; use 'relu' or 'hardtanh'.")
    if activation == "hardtanh" and method != "yun":
        raise ValueError(f'method "{method}" is built of ReLUs; leave activation out.')
    if widths is not None and method not in ("yun", "yun4"):
        raise ValueError(f'the widths of method "{method}" follow from the points; leave them out.')
    classes = 0
    if method == "yun4":
        values, classes = _codes(values)
    points = checked_points(inputs, values)
    if method in ("yun", "yun4"):
        return yun(points, widths, activation, seed, classes)
    if method == "zhang":
        return zhang(points, seed)
    if method == "bubeck":
        return bubeck(points)
    return yu(points) if method == "yu" else narrow(points, seed)


def _codes(values: Tensor) -> tuple[Tensor, int]:
    """Classes as codes from -1 to 1, and how many classes there are."""
    given = torch.as_tensor(values).cpu()
    if given.dim() != 1 or given.is_floating_point() or not len(given) or int(given.min()) < 0:
        raise ValueError(
            f"values is {given.dtype} of shape {tuple(given.shape)}; give classes from 0, integers "
            '[n], for method "yun4".'
        )
    classes = max(2, int(given.max()) + 1)
    if classes > _MOST_CLASSES:
        raise ValueError(
            f"values holds {classes - 1}; give classes from 0, at most {_MOST_CLASSES:,} of them."
        )
    return class_codes(classes)[given.long()], classes
