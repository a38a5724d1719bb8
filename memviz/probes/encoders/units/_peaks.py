"""One pass over the images: the largest activation of each unit, whose it is, and the others'."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from memviz.engine.activations import UnitActivations
from memviz.engine.record import default_memory, split


@dataclass(frozen=True, eq=False)
class Peaks:
    """What UnitMem and ClassMem need of each unit.

    Attributes
    ----------
    largest, others : float64 ``[units]``
        Of an image's (or class's) mean activation, without its sign: the largest, and the mean or
        median of all but that one.
    owner : int64 ``[units]``
        The example or class with the largest; -1 where the unit is dead.
    negative : bool ``[units]``
        Whether an activation was below 0.
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
    """Fold a stream into each unit's peak.

    A few numbers a unit are kept, however many images there are. The median alone needs all images
    of a unit at once: as many units as ``memory`` holds in one pass, then the next ones in another.

    Parameters
    ----------
    memory : int, optional
        Bytes for the median, 1 GiB unless given.

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
    for block in split(len(stream.units), max(1, bytes_at_once // (4 * n))):

        def passed(block: Tensor = block) -> tuple[Peaks, Tensor]:
            return _fold(_values(stream, progress), stream, block)

        found, kept = stream.guard(passed)
        medians.append(_median_of_others(kept))
    return Peaks(found.largest, torch.cat(medians).double(), found.owner, found.negative)


def class_peaks(stream: UnitActivations, classes: Tensor, *, progress: bool = True) -> list[Peaks]:
    """The peak of class means, for several ways to name the classes, in one pass.

    Parameters
    ----------
    classes : int64 ``[tables, n]``
        From 0 up without a gap: the class of each of the stream's examples.
    """
    number, count = int(classes.max()) + 1, len(stream.units)
    sizes = torch.stack([torch.bincount(table, minlength=number) for table in classes])

    def fold() -> tuple[Tensor, Tensor]:
        sums = torch.zeros(len(classes), number, count, dtype=torch.float64)
        negative = torch.zeros(count, dtype=torch.bool)
        for positions, values, below in _values(stream, progress):
            negative |= below
            for table, into in zip(classes, sums, strict=True):
                into.index_add_(0, table[positions], values.double())
        return sums / sizes[:, :, None], negative

    means, negative = stream.guard(fold)
    found = []
    for table in means:
        largest, owner = table.max(0)
        rest = ((table.sum(0) - largest) / (number - 1)).clamp(min=0)
        found.append(Peaks(largest, rest, torch.where(largest > 0, owner, -1), negative))
    return found


def _values(stream: UnitActivations, progress: bool) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Positions, activations without their sign ``[b, units]``, and which units were negative."""
    for positions, values in stream.chunks(progress=progress):
        yield positions, values.abs(), (values < 0).any(0)


def _fold(
    parts: Iterator[tuple[Tensor, Tensor, Tensor]], stream: UnitActivations, keep: Tensor | None
) -> tuple[Peaks, Tensor]:
    count, n = len(stream.units), len(stream.examples)
    largest = torch.full((count,), -torch.inf)
    total = torch.zeros(count, dtype=torch.float64)
    place = torch.zeros(count, dtype=torch.int64)
    negative = torch.zeros(count, dtype=torch.bool)
    kept = torch.empty(0 if keep is None else len(keep), n)
    for positions, values, below in parts:
        high, where = values.max(0)
        # Of equal ones the first: the answer does not depend on the size of the chunks.
        place = torch.where(high > largest, positions[where], place)
        largest = torch.maximum(largest, high)
        total += values.double().sum(0)
        negative |= below
        if keep is not None:
            kept[:, positions] = values[:, keep].T
    top = largest.double()
    others = ((total - top) / (n - 1)).clamp(min=0)
    owner = torch.where(top > 0, stream.examples[place], -1)
    return Peaks(top, others, owner, negative), kept


def _median_of_others(values: Tensor) -> Tensor:
    """Median of each row ``[units, n]`` without its largest value."""
    n = values.shape[1]
    # Dropping the largest leaves the order of the rest, so the ranks are those among all.
    low, high = values.kthvalue(n // 2, 1).values, values.kthvalue((n + 1) // 2, 1).values
    return (low + high) / 2


def signed(found: Peaks) -> str:
    """Words on activations below 0, if there were any."""
    number = int(found.negative.sum())
    if not number:
        return ""
    return f"; the absolute value is taken, since {number} units can be negative"
