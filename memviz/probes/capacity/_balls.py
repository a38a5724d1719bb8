"""Certified balls: verified by sampling, and how much of unseen data they cover."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor

from memviz.checks import Count, Seed, checked, described
from memviz.models.memorizers import Memorizer
from memviz.progress import slow

_TOLERANCE = 1e-6
_BATCH = 64


@dataclass(frozen=True)
class Certificates:
    """What became of certificates that were looked at.

    Attributes
    ----------
    checked : int
        Places: on the edge of each ball, random ones and the one toward the nearest enemy.
    broken : int
        Of these, where the network's value times the example's sign is below 1.
    least : float
        The lowest such product.
    """

    checked: int
    broken: int
    least: float


@checked
def certificates(
    memorizer: Memorizer, directions: Count = 10, *, seed: Seed = 0, progress: bool = True
) -> Certificates:
    """Verify a certified network on the edges of its balls.

    Each example's directions are drawn from the seed and its place in the memorizer.

    Parameters
    ----------
    memorizer : Memorizer
        Of method "yu".
    directions : int
        Random ones per example, beside the one toward the nearest example of the other sign.
    seed : int
    progress : bool

    Raises
    ------
    ValueError
        If the memorizer is not certified.

    Examples
    --------
    >>> from memviz.models.memorizers import construct_memorizer
    >>> points = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
    >>> found = certificates(
    ...     construct_memorizer(points, torch.arange(12) % 2 * 2 - 1, method="yu"), progress=False
    ... )
    >>> found.checked, found.broken
    (132, 0)
    """
    radii, points, signs = _certified(memorizer), memorizer.inputs, memorizer.values
    model = deepcopy(memorizer.model).cpu()  # where the points are
    lowest, broken, number = torch.inf, 0, 0
    for row in slow(range(len(points)), "certificates", progress=progress):
        draw = torch.Generator().manual_seed(seed * 1_000_003 + row)
        ways = torch.randn(directions, points.shape[1], generator=draw, dtype=torch.float64)
        apart = (points - points[row]).norm(dim=1).masked_fill(signs == signs[row], torch.inf)
        ways = torch.cat([ways, (points[apart.argmin()] - points[row])[None]])
        edge = points[row] + radii[row] * ways / ways.norm(dim=1, keepdim=True)
        with torch.no_grad():
            values = torch.cat([model(part)[:, 0] for part in edge.split(_BATCH)])
        margins = values * signs[row]
        lowest = min(lowest, float(margins.min()))
        broken += int((margins < 1 - _TOLERANCE).sum())
        number += len(margins)
    return Certificates(number, broken, lowest)


@checked
def covered(memorizer: Memorizer, inputs: Tensor, labels: Tensor) -> float:
    """Share of unseen examples in the certified ball of an example of their own sign.

    They are right by proof, so this share is never above the accuracy.

    Parameters
    ----------
    memorizer : Memorizer
        Of method "yu".
    inputs : ``[n, ...]``
    labels : ``[n]``, -1 or 1

    Raises
    ------
    ValueError
        If the memorizer is not certified, or inputs and labels are no such numbers.

    Examples
    --------
    >>> from memviz.models.memorizers import construct_memorizer
    >>> points = torch.tensor([[0.0], [3.0]])
    >>> memorizer = construct_memorizer(points, torch.tensor([-1, 1]), method="yu")
    >>> covered(memorizer, torch.tensor([[0.9], [1.1], [3.5]]), torch.tensor([-1, -1, 1]))
    0.6666666666666666
    """
    radii = _certified(memorizer)
    features = memorizer.inputs.shape[1]
    if inputs.dim() < 2 or not inputs.numel() or inputs[0].numel() != features:
        raise ValueError(
            f"inputs is {described(inputs)}; give one row or more of {features:,} features, as the "
            "memorizer has."
        )
    points = inputs.flatten(1).cpu().double()
    if not points.isfinite().all():
        raise ValueError("inputs holds a number that is not finite; leave out its row.")
    signs = torch.as_tensor(labels).cpu().double()
    if signs.shape != (len(points),) or not bool((signs.abs() == 1).all()):
        raise ValueError("labels must be -1 or 1, one for each input.")
    inside = torch.cdist(points, memorizer.inputs) <= radii
    inside &= signs[:, None] == memorizer.values
    return float(inside.any(1).double().mean())


def _certified(memorizer: Memorizer) -> Tensor:
    if memorizer.radii is None:
        raise ValueError(
            f'a memorizer of method "{memorizer.method}" has no certified balls; build one with '
            'method="yu".'
        )
    return memorizer.radii
