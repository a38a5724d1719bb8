"""Whole networks: dense ones, and the LogicTreeNets of the paper by name."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from math import sqrt
from typing import Literal

from torch import nn

from memviz.checks import checked, quoted

from ._gates import Init
from ._layers import DenseGates, GroupSum, Thresholds, TreeConv

# Kernels of the first layer, and tau where the released models are known to use it.
SIZES: dict[str, dict[str, tuple[int, float | None]]] = {
    "cifar10": {
        "S": (32, 20.0),
        "M": (256, 40.0),
        "B": (512, 280.0),
        "L": (1024, None),
        "G": (2560, None),
    },
    "mnist": {"S": (16, 6.5), "M": (64, 28.0), "L": (1024, 35.0)},
}
_CHANNELS_OF_A_GROUP = 8


@checked
def logic_dense_net(
    inputs: int,
    widths: Sequence[int],
    classes: int,
    *,
    thresholds: Sequence[float] = (0.5,),
    tau: float | None = None,
    init: Init = "residual",
    seed: int = 0,
) -> nn.Sequential:
    """Thresholds, dense layers of gates, and a sum of votes (Petersen et al. 2022).

    Parameters
    ----------
    inputs : int
        Real features, after flattening.
    widths : sequence of int
        Gates of each layer; the classes must divide the last.
    classes : int
    thresholds : sequence of float
        In ascending order; each feature becomes one bit a threshold.
    tau : float, optional
        The square root of the votes per class, unless given.
    init : {"residual", "gaussian"}
    seed : int

    Returns
    -------
    nn.Sequential

    Raises
    ------
    ValueError
        If the classes don't divide the last layer, or a layer is too narrow for its inputs.

    Examples
    --------
    >>> import torch
    >>> model = logic_dense_net(4, [8, 6], 3).eval()
    >>> model(torch.rand(2, 4)).shape
    torch.Size([2, 3])
    """
    if not widths:
        raise ValueError("widths is empty; give the gates of at least one layer.")
    sizes = [inputs * len(thresholds), *widths]
    layers = [
        DenseGates(before, after, init=init, seed=seed * 1_000 + number)
        for number, (before, after) in enumerate(itertools.pairwise(sizes))
    ]
    votes = _votes(widths[-1], classes)
    last = GroupSum(classes, sqrt(votes) if tau is None else tau)
    return nn.Sequential(nn.Flatten(), Thresholds(thresholds), *layers, last)


@checked
def logic_tree_net(
    size: str | int,
    data: Literal["cifar10", "mnist"] = "cifar10",
    *,
    classes: int = 10,
    thresholds: Sequence[float] = (0.25, 0.5, 0.75),
    tau: float | None = None,
    init: Init = "residual",
    seed: int = 0,
) -> nn.Sequential:
    """The convolutional networks of Petersen et al. 2024, by name or by their first kernels k.

    For CIFAR-10 four times a tree convolution of 3 by 3 and depth 3 with k, 4k, 16k and 32k
    kernels and a pooling by OR, then 1280k, 640k and 320k dense gates. For MNIST k, 3k and 9k
    kernels, the first of 5 by 5. All leaves of a tree read two channels, of the kernel's group of
    channels; there are k / 8 groups after the first layer. OR is the largest of four bits.

    The paper's B, L and G read extra bits of edges and curvature and have more thresholds; here
    every size reads thresholds alone. Some of its sizes double the last dense layers; none does
    here.

    Parameters
    ----------
    size : {"S", "M", "B", "L", "G"} or int
        An int is k.
    data : {"cifar10", "mnist"}
    classes : int
    thresholds : sequence of float
        Of values from 0 to 1; three for each colour are the paper's S and M.
    tau : float, optional
        The released models' where known, otherwise the square root of the votes per class.
    init : {"residual", "gaussian"}
    seed : int

    Raises
    ------
    ValueError
        If there is no such size.

    Examples
    --------
    >>> import torch
    >>> model = logic_tree_net(8).eval()
    >>> model(torch.rand(1, 3, 32, 32)).shape
    torch.Size([1, 10])
    """
    if isinstance(size, str) and size not in SIZES[data]:
        raise ValueError(
            f"size is {quoted(size)}; give {', '.join(SIZES[data])}, or the kernels of the first "
            "layer."
        )
    k, known = SIZES[data][size] if isinstance(size, str) else (size, None)
    kernels = [k, 4 * k, 16 * k, 32 * k] if data == "cifar10" else [k, 3 * k, 9 * k]
    channels = [(3 if data == "cifar10" else 1) * len(thresholds), *kernels]
    layers: list[nn.Module] = [Thresholds(thresholds)]
    for number, (before, after) in enumerate(zip(channels, kernels, strict=False)):
        first = data == "mnist" and number == 0
        groups = max(1, k // _CHANNELS_OF_A_GROUP) if number else 1
        layers += [
            TreeConv(
                before,
                after,
                window=5 if first else 3,
                padding=0 if first else 1,
                groups=groups,
                init=init,
                seed=seed * 1_000 + number,
            ),
            nn.MaxPool2d(2),
        ]
    widths = [kernels[-1] * (4 if data == "cifar10" else 9), 1280 * k, 640 * k, 320 * k]
    layers.append(nn.Flatten())
    for number, (before, after) in enumerate(itertools.pairwise(widths)):
        layers.append(DenseGates(before, after, init=init, seed=seed * 1_000 + 100 + number))
    votes = _votes(widths[-1], classes)
    layers.append(GroupSum(classes, tau or known or sqrt(votes)))
    return nn.Sequential(*layers)


def _votes(gates: int, classes: int) -> int:
    if classes < 2 or gates % classes:
        raise ValueError(
            f"a last layer of {gates:,} gates can't vote for {classes} classes in groups of equal "
            "size; give a width that the number of classes divides."
        )
    return gates // classes
