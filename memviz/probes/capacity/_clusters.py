"""Clusters whose number is known, and how many examples a certified memorizer needs of them."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, log
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from memviz.checks import Count, Positive, Seed, checked, quoted
from memviz.models.memorizers import construct_memorizer
from memviz.progress import slow

from ._balls import covered
from ._checks import checked_size
from ._compare import compare_memorizers

if TYPE_CHECKING:
    import pandas as pd

_TRIES = 10_000


@checked
def planted_clusters(
    n: Count,
    *,
    features: Count = 6,
    clusters: Count = 24,
    apart: Positive = 4.0,
    seed: Seed = 0,
    centres: Seed = 0,
) -> tuple[Tensor, Tensor]:
    """Points of clusters with random signs, float64 ``[n, features]``, and signs ``[n]``.

    Centres are at least ``apart`` from each other; points fill balls of a sixth of that. Two
    draws with the same ``centres`` and other seeds come from one distribution.

    Raises
    ------
    ValueError
        If so many centres don't fit, or ``apart`` is infinite.

    Examples
    --------
    >>> points, signs = planted_clusters(10)
    >>> points.shape, signs.unique().tolist()
    (torch.Size([10, 6]), [-1.0, 1.0])
    """
    draw = torch.Generator().manual_seed(centres)
    checked_size(n, features)
    checked_size(clusters, features)
    places: list[Tensor] = []
    for _ in range(_TRIES):
        place = (torch.rand(features, generator=draw, dtype=torch.float64) * 2 - 1) * apart
        if all(float((place - other).norm()) >= apart for other in places):
            places.append(place)
        if len(places) == clusters:
            break
    else:
        raise ValueError(
            f"{clusters} centres that far apart don't fit in {features} dimensions; give fewer."
        )
    signs = torch.where(torch.arange(clusters) % 2 == 0, 1.0, -1.0).double()
    signs = signs[torch.randperm(clusters, generator=draw)]
    own = torch.Generator().manual_seed(seed + 2**32)
    which = torch.randint(clusters, (n,), generator=own)
    ways = torch.randn(n, features, generator=own, dtype=torch.float64)
    share = torch.rand(n, 1, generator=own, dtype=torch.float64) ** (1 / features)
    around = ways / ways.norm(dim=1, keepdim=True) * share * apart / 6
    return torch.stack(places)[which] + around, signs[which]


@checked
def coupon_bound(clusters: Count, eps: Positive, delta: Positive) -> int:
    """Examples with which all but a share ``eps`` is covered, with probability 1 - delta.

    (S / eps) ln(S / delta) for S clusters of equal or unequal weight: a coupon collector's
    argument, our derivation (Yu et al. 2024 have a theorem of this form).

    Examples
    --------
    >>> [coupon_bound(24, eps, 0.1) for eps in (0.2, 0.1, 0.05)]
    [658, 1316, 2631]
    """
    if eps >= 1 or delta >= 1:
        raise ValueError(f"eps is {eps} and delta {delta}; give shares below 1.")
    return ceil(clusters / eps * log(clusters / delta))


@checked
def cluster_curve(
    points: Sequence[Count] = (10, 20, 30, 50, 80, 120),
    test: Count = 1000,
    *,
    features: Count = 6,
    clusters: Count = 24,
    seed: Seed = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """What the certified memorizer says of unseen examples of planted clusters.

    Parameters
    ----------
    points : sequence of int
        Numbers of training examples.
    test : int
        Unseen examples.
    features, clusters : int
        Of :func:`planted_clusters`.
    seed : int
        Of the examples; the clusters stay.
    progress : bool

    Returns
    -------
    pandas.DataFrame
        By number: ``train``, ``test``, ``covered``, the share of unseen examples in certified
        balls, and the null's ``random_train`` and ``random_test``.

    Raises
    ------
    ValueError
        If there is no number of points, one comes twice, or all examples are of one sign.

    Examples
    --------
    >>> table = cluster_curve([10, 60], 200, progress=False)
    >>> table.train.tolist(), bool((table.covered <= table.test).all())
    ([1.0, 1.0], True)
    """
    import pandas as pd

    if not len(points) or len(set(points)) < len(points):
        raise ValueError(f"points is {quoted(list(points))}; give at least one, and each once.")
    kind = {"features": features, "clusters": clusters}
    seen, true = planted_clusters(test, **kind, seed=seed + 1)
    rows = {}
    for number in slow(list(points), "points", progress=progress):
        x, signs = planted_clusters(number, **kind, seed=seed)
        labels, of_seen = (signs > 0).long(), (true > 0).long()
        row = compare_memorizers(x, labels, seen, of_seen, methods=["yu"], seed=seed).loc["yu"]
        rows[number] = row[["train", "test", "random_train", "random_test"]].to_dict()
        memorizer = construct_memorizer(x, signs, method="yu")
        rows[number]["covered"] = covered(memorizer, seen, true)
    return pd.DataFrame(rows).T.rename_axis("points")
