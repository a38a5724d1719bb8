"""Trained networks beside constructed ones: whether Adam finds what is there to be found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memviz.checks import Count, Seed, checked
from memviz.models.mlp import MLP
from memviz.progress import slow

if TYPE_CHECKING:
    import pandas as pd

_BATCH = 128


def trained(
    inputs: Tensor,
    labels: Tensor,
    widths: Sequence[int],
    classes: int,
    *,
    epochs: int = 300,
    learning_rate: float = 3e-3,
    seed: int = 0,
) -> nn.Module:
    """An MLP by Adam, float64 as the constructions are; the global generator is left alone."""
    x = inputs.flatten(1).double()
    model = MLP((x.shape[1], *widths, max(2, classes)), seed=seed).double()
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    draw = torch.Generator().manual_seed(seed)
    with torch.enable_grad():
        for epoch in range(epochs):
            for rows in torch.randperm(len(x), generator=draw).split(_BATCH):
                # The rate falls to 0 in a straight line.
                optimizer.param_groups[0]["lr"] = learning_rate * (1 - epoch / epochs)
                optimizer.zero_grad()
                F.cross_entropy(model(x[rows]), labels[rows]).backward()
                optimizer.step()
    optimizer.zero_grad()
    return model.eval()


@checked
def trained_networks(
    inputs: Tensor,
    labels: Tensor,
    widths: Sequence[int],
    *,
    epochs: Count = 300,
    seed: Seed = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """Training accuracy of two hidden layers of equal width, trained by Adam.

    Returns
    -------
    pandas.DataFrame
        By width: ``units``, both layers, and ``train``.

    Examples
    --------
    >>> x, y = torch.randn(30, 4, generator=torch.Generator().manual_seed(0)), torch.arange(30) % 2
    >>> trained_networks(x, y, [2, 32], epochs=200, progress=False).train.is_monotonic_increasing
    True
    """
    import pandas as pd

    classes = int(labels.max()) + 1
    rows = {}
    for width in slow(list(widths), "widths", progress=progress):
        model = trained(inputs, labels, [width, width], classes, epochs=epochs, seed=seed)
        rows[width] = {"units": 2 * width, "train": _accuracy(model, inputs, labels)}
    return pd.DataFrame(rows).T.rename_axis("width").astype({"units": int})


@checked
def width_test(
    features: Count = 4,
    widths: Sequence[int] = (1, 2, 3, 4, 5, 6),
    *,
    examples: Count = 1000,
    epochs: Count = 300,
    seed: Seed = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """A ring around a ball, learnt by networks whose first layer alone is narrow.

    Narrower than the data have dimensions, the first layer has a direction along which the network
    is constant, and every line through the centre meets both classes (Yu et al. 2024: a width of
    at least the dimension is necessary to generalize). From the dimension on a fit exists, which
    is not to say that every training finds it.

    Returns
    -------
    pandas.DataFrame
        By width of the first layer: ``train`` and ``test`` accuracy; two layers of 64 follow.

    Examples
    --------
    >>> table = width_test(2, [1], examples=300, epochs=100, progress=False)
    >>> bool(table.train[1] < 0.9)
    True
    """
    import pandas as pd

    x, y = _ring(2 * examples, features, seed)
    rows = {}
    for width in slow(list(widths), "widths", progress=progress):
        model = trained(x[:examples], y[:examples], [width, 64, 64], 2, epochs=epochs, seed=seed)
        rows[width] = {
            "train": _accuracy(model, x[:examples], y[:examples]),
            "test": _accuracy(model, x[examples:], y[examples:]),
        }
    return pd.DataFrame(rows).T.rename_axis("width")


def _ring(n: int, features: int, seed: int) -> tuple[Tensor, Tensor]:
    """A ball of radius 1, class 0, and a shell from 1.5 to 2 around it, class 1."""
    draw = torch.Generator().manual_seed(seed)
    ways = torch.randn(n, features, generator=draw, dtype=torch.float64)
    ways /= ways.norm(dim=1, keepdim=True)
    labels = torch.arange(n) % 2
    inner = torch.rand(n, generator=draw, dtype=torch.float64) ** (1 / features)
    outer = 1.5 + 0.5 * torch.rand(n, generator=draw, dtype=torch.float64)
    return ways * torch.where(labels == 0, inner, outer)[:, None], labels


def _accuracy(model: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    with torch.no_grad():
        return float((model(inputs.flatten(1).double()).argmax(1) == labels).double().mean())
