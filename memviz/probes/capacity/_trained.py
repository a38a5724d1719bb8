"""Trained networks beside constructed ones: whether Adam finds what is there to be found."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memviz.checks import Count, Positive, Seed, Share, checked, quoted
from memviz.models.mlp import MLP
from memviz.progress import slow

from ._checks import checked_classes, checked_examples, checked_size, checked_widths
from ._counts import necessary

if TYPE_CHECKING:
    import pandas as pd

_BATCH = 128
Result = TypeVar("Result")


@checked
def trained(
    inputs: Tensor,
    labels: Tensor,
    widths: Sequence[Count],
    classes: Count,
    *,
    epochs: Count = 300,
    learning_rate: Positive = 3e-3,
    seed: Seed = 0,
) -> nn.Module:
    """An MLP by Adam, in float64 and on the CPU as the constructions are.

    The global generator is left alone.

    Parameters
    ----------
    inputs : float64 ``[n, d]``
    labels : int64 ``[n]``
        Classes from 0.
    widths : sequence of int
        Of the hidden layers.
    classes : int
        Logits, at least two.
    epochs : int
    learning_rate : float
        Falls to 0 in a straight line.
    seed : int
        Of the initial weights and the order of the examples.

    Examples
    --------
    >>> x = torch.linspace(-1, 1, 8, dtype=torch.float64)[:, None]
    >>> model = trained(x, (x[:, 0] > 0).long(), [8], 2, epochs=100)
    >>> bool((model(x).argmax(1) == (x[:, 0] > 0)).all())
    True
    """
    return ended(
        training_steps(
            inputs, labels, widths, classes,
            epochs=epochs, learning_rate=learning_rate, seed=seed,
        )
    )  # fmt: skip


@checked
def training_steps(
    inputs: Tensor,
    labels: Tensor,
    widths: Sequence[Count],
    classes: Count,
    *,
    epochs: Count = 300,
    learning_rate: Positive = 3e-3,
    seed: Seed = 0,
) -> Generator[None, None, nn.Module]:
    """:func:`trained`, an epoch a step, for whoever has other things to do in between.

    The generator returns the model.

    Parameters
    ----------
    inputs, labels, widths, classes, epochs, learning_rate, seed
        As there.

    Examples
    --------
    >>> x = torch.linspace(-1, 1, 8, dtype=torch.float64)[:, None]
    >>> len(list(training_steps(x, (x[:, 0] > 0).long(), [8], 2, epochs=100)))
    100
    """
    inputs, labels = checked_examples(inputs, labels)
    if int(labels.max()) >= classes:
        raise ValueError(
            f"labels holds {int(labels.max())} and classes is {classes}; give classes from 0."
        )
    x = inputs
    model = MLP((x.shape[1], *widths, max(2, classes)), seed=seed).double()
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    draw = torch.Generator().manual_seed(seed)
    for epoch in range(epochs):
        with torch.enable_grad():
            for rows in torch.randperm(len(x), generator=draw).split(_BATCH):
                # The rate falls to 0 in a straight line.
                optimizer.param_groups[0]["lr"] = learning_rate * (1 - epoch / epochs)
                optimizer.zero_grad()
                F.cross_entropy(model(x[rows]), labels[rows]).backward()
                optimizer.step()
        yield
    optimizer.zero_grad()
    return model.eval()


def ended(steps: Generator[None, None, Result]) -> Result:
    """What a generator returns, once all of its steps are done.

    Examples
    --------
    >>> x, y = torch.rand(4, 1, dtype=torch.float64), torch.tensor([0, 1, 0, 1])
    >>> ended(training_steps(x, y, [8], 2, epochs=1)).training
    False
    """
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: Result = end.value
            return result


@checked
def trained_networks(
    inputs: Tensor,
    labels: Tensor,
    widths: Sequence[Count],
    *,
    epochs: Count = 300,
    seed: Seed = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """Training accuracy of two hidden layers of equal width, trained by Adam.

    Parameters
    ----------
    inputs : float ``[n, ...]``
    labels : int64 ``[n]``
        Classes from 0.
    widths : sequence of int
    epochs : int
    seed : int
        Of the initial weights and the order of the examples.
    progress : bool

    Returns
    -------
    pandas.DataFrame
        By width: ``units``, both layers, and ``train``.

    Raises
    ------
    ValueError
        If inputs, labels or widths are no such numbers, or all labels are the same.

    Examples
    --------
    >>> x, y = torch.randn(30, 4, generator=torch.Generator().manual_seed(0)), torch.arange(30) % 2
    >>> trained_networks(x, y, [2, 32], epochs=200, progress=False).train.is_monotonic_increasing
    True
    """
    import pandas as pd

    x, y = checked_examples(inputs, labels)
    classes, rows = checked_classes(y), {}
    for width in slow(checked_widths(widths, x.shape[1]), "widths", progress=progress):
        model = trained(x, y, [width, width], classes, epochs=epochs, seed=seed)
        rows[width] = {"units": 2 * width, "train": _accuracy(model, x, y)}
    return pd.DataFrame(rows).T.rename_axis("width").astype({"units": int})


@checked
def units_by_training(
    points: Sequence[Count],
    features: Count = 20,
    *,
    reach: Share = 1.0,
    widest: Count = 256,
    epochs: Count = 300,
    seed: Seed = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """Units with which Adam fits Gaussian points of random labels: two layers of growing width.

    Widths grow by a fourth each, from half of what no network can do without.

    Parameters
    ----------
    points : sequence of int
        Numbers of points.
    features : int
    reach : float
        Training accuracy that counts as a fit.
    widest : int
        Where to give up.
    epochs : int
        Of each training.
    seed : int
        Of the points, their labels and the trainings.
    progress : bool

    Returns
    -------
    pandas.DataFrame
        A row for each number: ``points``, ``units`` of both layers, ``train``, ``reached``, and
        ``label``, which is "measured"; where no width reached it, the widest.

    Raises
    ------
    ValueError
        If there is no number of points, one comes twice, or a network would be too large.

    Examples
    --------
    >>> table = units_by_training([5, 20], 5, epochs=100, progress=False)
    >>> table.reached.tolist(), bool((table.units >= 2).all())
    ([True, True], True)
    """
    import pandas as pd

    if not len(points) or len(set(points)) < len(points):
        raise ValueError(f"points is {quoted(list(points))}; give at least one, and each once.")
    checked_widths([widest], features)
    for number in points:
        checked_size(number, features)
    rows = []
    for number in slow(list(points), "points", progress=progress):
        width, accuracy = ended(
            width_search(number, features, reach=reach, widest=widest, epochs=epochs, seed=seed)
        )
        rows.append((number, 2 * width, accuracy, accuracy >= reach, "measured"))
    return pd.DataFrame(rows, columns=["points", "units", "train", "reached", "label"])


@checked
def width_search(
    number: Count,
    features: Count = 20,
    *,
    reach: Share = 1.0,
    widest: Count = 256,
    epochs: Count = 300,
    seed: Seed = 0,
) -> Generator[None, None, tuple[int, float]]:
    """:func:`units_by_training` for one number of points, an epoch a step.

    The generator returns the width of each layer and its training accuracy.

    Parameters
    ----------
    number : int
        Of points.
    features, reach, widest, epochs, seed
        As there.

    Examples
    --------
    >>> width, accuracy = ended(width_search(5, 5, epochs=100))
    >>> 2 * width == int(units_by_training([5], 5, epochs=100, progress=False).units[0])
    True
    """
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(number, features, generator=draw, dtype=torch.float64)
    y = torch.randint(2, (number,), generator=draw)
    width = min(widest, max(1, necessary(number) // 2))
    while True:
        model = yield from training_steps(x, y, [width, width], 2, epochs=epochs, seed=seed)
        accuracy = _accuracy(model, x, y)
        if accuracy >= reach or width == widest:
            return width, accuracy
        width = min(widest, max(width + 1, round(width * 1.25)))


@checked
def width_test(
    features: Count = 4,
    widths: Sequence[Count] = (1, 2, 3, 4, 5, 6),
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

    Raises
    ------
    ValueError
        If a width is none, comes twice, or there are too many examples.

    Examples
    --------
    >>> table = width_test(2, [1], examples=300, epochs=100, progress=False)
    >>> bool(table.train[1] < 0.9)
    True
    """
    import pandas as pd

    listed = checked_widths(widths, features + 64, 1)
    checked_size(2 * examples, features)
    x, y = _ring(2 * examples, features, seed)
    rows = {}
    for width in slow(listed, "widths", progress=progress):
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
        return float((model(inputs).argmax(1) == labels).double().mean())
