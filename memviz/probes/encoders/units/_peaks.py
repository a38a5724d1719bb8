"""Each unit's largest activation, its image or class, and that of the others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from memviz.engine.activations import Strongest, UnitActivations
from memviz.engine.record import default_memory, split

Others = Literal["mean", "median"]


@dataclass(frozen=True, eq=False)
class Peaks:
    """What UnitMem and ClassMem need to know of each unit.

    Attributes
    ----------
    largest, others : float64 ``[units]``
        Of the absolute mean activations of the images (or classes): the largest, and the mean or
        median of the others.
    owner : int64 ``[units]``
        The example or class with the largest, drawn by a seed if several tie; -1 for a dead unit.
    negative : bool ``[units]``
        Whether any activation was below 0.
    """

    largest: Tensor
    others: Tensor
    owner: Tensor
    negative: Tensor

    @property
    def ratio(self) -> Tensor:
        """``(largest - others) / (largest + others)``, NaN for a dead unit.

        Examples
        --------
        >>> two, none = torch.tensor([3.0, 0.0]), torch.tensor([False, False])
        >>> Peaks(two, torch.tensor([1.0, 0.0]), torch.tensor([4, -1]), none).ratio
        tensor([0.5000,    nan])
        """
        return (self.largest - self.others) / (self.largest + self.others)


def peaks(
    stream: UnitActivations,
    *,
    median: bool = False,
    memory: int | None = None,
    progress: bool = True,
) -> Peaks:
    """Reduce a stream of activations to each unit's peak.

    A few numbers per unit are kept, however many images there are. Only the median needs all images
    of a unit at once: it takes one pass for every block of units that fits in ``memory``.

    Parameters
    ----------
    memory : int, optional
        Bytes for the median; a twelfth of what the process may take by default, at most 1 GiB.

    Examples
    --------
    >>> from memviz.study import Study
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    >>> study = Study(model.eval(), torch.randn(6, 4), torch.zeros(6), {"test": range(6)})
    >>> peaks(UnitActivations(study)).largest.shape
    torch.Size([8])
    """
    if not median:
        return stream.guard(lambda: _fold(_values(stream, progress), stream, None)[0])
    n, bytes_at_once = len(stream.examples), memory or default_memory(torch.device("cpu"))
    medians = []
    for block in split(len(stream.units), max(1, bytes_at_once // (stream.dtype.itemsize * n))):

        def one_pass(block: Tensor = block) -> tuple[Peaks, Tensor]:
            return _fold(_values(stream, progress), stream, block)

        block_peaks, kept = stream.guard(one_pass)
        medians.append(_median_of_others(kept))
    return Peaks(
        block_peaks.largest, torch.cat(medians).double(), block_peaks.owner, block_peaks.negative
    )


def class_peaks(
    stream: UnitActivations,
    classes: Tensor,
    order: Tensor,
    *,
    others: Others = "mean",
    progress: bool = True,
) -> list[Peaks]:
    """The peaks of class means, for several assignments of classes, in a single pass.

    Parameters
    ----------
    classes : int64 ``[tables, n]``
        The class of each of the stream's examples, numbered from 0 without gaps.
    order : int64 ``[classes]``
        The place of each class where means tie.
    others : {"mean", "median"}
        How to average over the other classes.
    """
    number, count = int(classes.max()) + 1, len(stream.units)

    def fold() -> tuple[Tensor, Tensor]:
        sums = torch.zeros(len(classes), number, count, dtype=torch.float64)
        negative = torch.zeros(count, dtype=torch.bool)
        for positions, values, below in _values(stream, progress):
            negative |= below
            for table, table_sums in zip(classes, sums, strict=True):
                table_sums.index_add_(0, table[positions], values.double())
        return sums, negative

    sums, negative = stream.guard(fold)
    return [
        peaks_of(means_of(table_sums, table), order, negative, others=others)
        for table_sums, table in zip(sums, classes, strict=True)
    ]


def means_of(sums: Tensor, classes: Tensor) -> Tensor:
    """Class means ``[classes, units]`` of sums over the images of a class.

    Examples
    --------
    >>> means_of(torch.tensor([[6.0], [4.0]]), torch.tensor([0, 1, 1]))
    tensor([[6.],
            [2.]])
    """
    return sums / torch.bincount(classes, minlength=len(sums))[:, None]


def peaks_of(table: Tensor, order: Tensor, negative: Tensor, *, others: Others = "mean") -> Peaks:
    """The peaks of a table ``[images or classes, units]`` without negative values.

    Parameters
    ----------
    order : int64 ``[rows]``
        The place of each row where rows tie, a permutation.
    negative : bool ``[units]``

    Examples
    --------
    >>> table = torch.tensor([[1.0, 2.0], [5.0, 2.0], [3.0, 2.0]])
    >>> found = peaks_of(table, torch.tensor([2, 1, 0]), torch.zeros(2, dtype=torch.bool))
    >>> found.owner, found.others
    (tensor([1, 2]), tensor([2., 2.], dtype=torch.float64))
    """
    strongest = Strongest(table.shape[1], order)
    strongest.add(table, torch.arange(len(table)))
    top = strongest.values.double()
    if others == "median":
        rest = _median_of_others(table.T.contiguous()).double()
    else:
        rest = ((table.double().sum(0) - top) / (len(table) - 1)).clamp(min=0)
    return Peaks(top, rest, torch.where(top > 0, strongest.examples, -1), negative)


def _values(stream: UnitActivations, progress: bool) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Positions, absolute activations ``[b, units]``, and which units were negative."""
    for positions, values in stream.chunks(progress=progress):
        yield positions, values.abs(), (values < 0).any(0)


def _fold(
    parts: Iterator[tuple[Tensor, Tensor, Tensor]], stream: UnitActivations, keep: Tensor | None
) -> tuple[Peaks, Tensor]:
    count, n = len(stream.units), len(stream.examples)
    strongest = Strongest(count, stream.tie_order)
    total = torch.zeros(count, dtype=torch.float64)
    negative = torch.zeros(count, dtype=torch.bool)
    kept = torch.empty(0 if keep is None else len(keep), n, dtype=stream.dtype)
    for positions, values, below in parts:
        strongest.add(values, stream.examples[positions])
        total += values.double().sum(0)
        negative |= below
        if keep is not None:
            kept[:, positions] = values[:, keep].T
    top = strongest.values.double()
    others = ((total - top) / (n - 1)).clamp(min=0)
    return Peaks(top, others, torch.where(top > 0, strongest.examples, -1), negative), kept


def _median_of_others(values: Tensor) -> Tensor:
    """Median of each row ``[units, n]`` without its largest value."""
    n = values.shape[1]
    # Dropping the largest keeps the order of the others, so their ranks are those among all.
    low, high = values.kthvalue(n // 2, 1).values, values.kthvalue((n + 1) // 2, 1).values
    return (low + high) / 2


def signed(unit_peaks: Peaks) -> str:
    """A note on negative activations, if there were any."""
    count = int(unit_peaks.negative.sum())
    if not count:
        return ""
    return f"; the absolute value is taken, since {count} units can be negative"
