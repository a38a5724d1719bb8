"""Digits for the constructions, and the study of one of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from memviz.checks import Seed, checked
from memviz.demos import digits
from memviz.models.memorizers import Memorizer, construct_memorizer
from memviz.probes.capacity import Certificates, certificates, compare_memorizers
from memviz.probes.contest import Truth
from memviz.study import Study
from memviz.tasks import Binary

if TYPE_CHECKING:
    import pandas as pd

BUILT = True  # nothing is trained, so nothing is prepared or shipped
TRAINING = 1347
_POINTS, _DIRECTIONS, _MEMORIZED = 200, 5, 5
_JITTER = 1e-3  # digits have constant pixels; slabs need points in general position


@checked
def load(seed: Seed = 0) -> Study:
    """200 digits with random labels, five of them on each of 40 slabs; those of five are memorized.

    A fixed projection onto five directions, then the network of Baum and Bubeck et al.: without a
    slab's four units its points have the value 0, which says neither label, and no other point
    changes. Groups memorized (25), clean (175), test (397, with random labels, too).

    Examples
    --------
    >>> load(seed=0)
    Study('memorizers': Sequential, 597 examples: 25 memorized, 175 clean, 397 test)
    """
    project, memorizer, slabs = _slabs(seed)
    inputs = digits.examples(seed).inputs[[*range(_POINTS), *range(1200, 1597)]].double()
    draw = torch.Generator().manual_seed(seed)
    labels = torch.cat([(memorizer.values > 0).long(), torch.randint(2, (397,), generator=draw)])
    memorized = torch.zeros(len(labels), dtype=torch.bool)
    memorized[:_POINTS] = torch.isin(memorizer.owners, slabs)
    test = torch.arange(len(labels)) >= _POINTS
    layers = OrderedDict(
        flatten=nn.Flatten(), project=project, **dict(memorizer.model.named_children())
    )
    return Study(
        nn.Sequential(layers).eval(),
        inputs,
        labels,
        {"memorized": memorized, "clean": ~memorized & ~test, "test": test},
        task=Binary(),
        name="memorizers",
        summary=f"{memorizer!r}; the labels are random",
    )


def _slabs(seed: int) -> tuple[nn.Linear, Memorizer, Tensor]:
    """The projection, the network behind it, and the slabs of the memorized points, ``[5]``."""
    draw = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        project = nn.Linear(64, _DIRECTIONS, bias=False, dtype=torch.float64)
    project = project.to_empty(device="cpu")
    with torch.no_grad():
        # Images with constant pixels are not in general position; their projections are.
        project.weight.copy_(torch.randn(_DIRECTIONS, 64, generator=draw, dtype=torch.float64) / 8)
        points = project(digits.examples(seed).inputs[:_POINTS].flatten(1).double())
    signs = torch.randint(2, (_POINTS,), generator=draw) * 2 - 1
    memorizer = construct_memorizer(points, signs, method="bubeck")
    slabs = torch.randperm(len(memorizer.owner_units), generator=draw)[:_MEMORIZED]
    return project, memorizer, slabs


def slabs(seed: int = 0) -> Truth:
    """The four units of each memorized slab, in the study of :func:`load`."""
    _, memorizer, chosen = _slabs(seed)
    planted = {"layer1": memorizer.owner_units[chosen].flatten().tolist()}
    among = {"layer1": range(memorizer.units)}
    note = "the four units of each slab, by Bubeck et al. 2020"
    return Truth("constructed, slabs", load(seed), planted, seed, among=among, note=note)


TRUTHS: dict[str, Callable[[int], Truth]] = {"constructed, slabs": slabs}


@checked
def compare(seed: Seed = 0) -> pd.DataFrame:
    """Constructions and a trained network on 1,347 digits of ten classes, and their test accuracy.

    The certified network is of two classes, and stands with a pair of digits in :func:`pair`.
    """
    (x, y), (test_x, test_y) = _split(seed)
    return compare_memorizers(x, y, test_x, test_y, noise=_JITTER, seed=seed)


@checked
def pair(first: int = 3, second: int = 8, seed: Seed = 0) -> tuple[Memorizer, pd.DataFrame]:
    """The certified network on two digits, and its accuracy beside a trained one's."""
    table = []
    for inputs, labels in _split(seed):
        own = (labels == first) | (labels == second)
        table.append((inputs[own], (labels[own] == second).long()))
    (x, y), (test_x, test_y) = table
    compared = compare_memorizers(x, y, test_x, test_y, methods=["yu", "trained"], seed=seed)
    return construct_memorizer(x, y * 2 - 1, method="yu"), compared


@checked
def verified(memorizer: Memorizer, seed: Seed = 0, *, progress: bool = True) -> Certificates:
    """Three random edges of every ball, and the one toward the nearest enemy."""
    return certificates(memorizer, 3, seed=seed, progress=progress)


@checked
def yun_2500(seed: Seed = 0) -> Memorizer:
    """2,500 Gaussian points of random signs in 50 dimensions, in 50 and 50 hard-tanh units."""
    draw = torch.Generator().manual_seed(seed)
    points = torch.randn(2500, 50, generator=draw, dtype=torch.float64)
    signs = torch.randint(2, (2500,), generator=draw) * 2 - 1
    return construct_memorizer(points, signs, (50, 50), activation="hardtanh", seed=seed)


def _split(seed: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    data = digits.examples(seed)
    inputs, labels = data.inputs.flatten(1).double(), data.true_labels
    return (inputs[:TRAINING], labels[:TRAINING]), (inputs[TRAINING:], labels[TRAINING:])
