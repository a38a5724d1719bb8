"""Activations of units over augmented copies of each example, streamed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from memviz.checks import IndicesLike, Seed, checked
from memviz.engine.record import default_memory, split
from memviz.study import Study
from memviz.units import Layer, Unit

from ._copies import Augment
from ._stream import UnitActivations
from ._strongest import Strongest


@dataclass(frozen=True, eq=False)
class ActivationStatistics:
    """Statistics of each unit's activation over the examples.

    An activation is the mean over an example's copies and the layer's positions. Statistics are
    float32, or float64 if a layer computes in it.

    Attributes
    ----------
    layers : tuple of Layer
    units : tuple of Unit, ``U`` of them
        Those of the layers, in order.
    examples : int64 ``[n]``
        Indices into the study.
    copies : int
        Copies of each example.
    maximum, minimum, mean : float ``[U]``
        Over the examples.
    example : int64 ``[U]``
        The index, in the study, of the example that reaches the maximum; of tied ones the seed
        draws one.
    others : float ``[U]``
        Mean over all examples but that one; NaN if it is the only one.
    median : float ``[U]``, optional
        Median over all examples but that one.
    """

    layers: tuple[Layer, ...]
    units: tuple[Unit, ...]
    examples: Tensor
    copies: int
    maximum: Tensor
    minimum: Tensor
    mean: Tensor
    example: Tensor
    others: Tensor
    median: Tensor | None = None

    def __repr__(self) -> str:
        return (
            f"ActivationStatistics({len(self.units):,} units × {len(self.examples):,} examples, "
            f"{self.copies} copies each)"
        )


@checked
def activation_statistics(
    study: Study,
    layers: Sequence[str] | None = None,
    augment: Augment | None = None,
    copies: int = 10,
    examples: IndicesLike | None = None,
    *,
    median: bool = False,
    seed: Seed = 0,
    memory: int | None = None,
    progress: bool = True,
) -> ActivationStatistics:
    """Largest activation of each unit, the example that reaches it, and the mean of the others.

    UnitMem (Wang et al. 2024, arXiv:2409.19069, section 5) compares these; see
    :func:`memviz.probes.encoders.units.unit_mem`. One pass over the examples keeps a few numbers
    per unit; the exact median takes a pass for each group of units whose activations fit in
    ``memory``.

    Parameters
    ----------
    study : Study
    layers : sequence of str, optional
        Conv and linear layers; by default all but the output layer. A unit is read where ablation
        replaces it: after the layer's norm and non-linearity.
    augment : callable, optional
        ``(inputs, generator) -> inputs`` on the copies ``[copies, ...]`` of one example. The draws
        depend on ``seed`` and the example alone; the global generators of torch, NumPy and Python
        are seeded and restored.
    copies : int
        Copies of each example; without ``augment`` there is one, unchanged.
    examples : int64 ``[n]``, optional
        All by default; their order does not matter.
    median : bool
        Also compute the median of the others.
    seed : int
        Of the copies, and of the draw between tied examples.
    memory : int, optional
        Bytes for the median, a twelfth of what the process may take by default, at most 1 GiB.
    progress : bool

    Raises
    ------
    KeyError
        If a layer is unknown.
    ValueError
        If a layer has no activation per example, an activation is NaN or infinite, the forward
        pass is random, an example is named twice, or ``augment`` does not return every copy.

    Examples
    --------
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    >>> study = Study(model.eval(), torch.randn(6, 4), torch.zeros(6), {"test": range(6)})
    >>> def shift(x, generator):
    ...     return x + 0.1 * torch.randn(x.shape, generator=generator)
    >>> statistics = activation_statistics(study, augment=shift)
    >>> statistics, statistics.maximum.shape
    (ActivationStatistics(8 units × 6 examples, 10 copies each), torch.Size([8]))
    """
    stream = UnitActivations(study, layers, augment, copies, examples, seed=seed)
    n, count = len(stream.examples), len(stream.units)
    if not median:
        return stream.guard(lambda: _fold(stream, None, progress))
    bytes_at_once = default_memory(torch.device("cpu")) if memory is None else memory
    blocks = split(count, max(1, bytes_at_once // (stream.dtype.itemsize * n)))
    room = torch.empty(len(blocks[0]), n, dtype=stream.dtype)
    medians = []
    for block in blocks:
        rows = room[: len(block)]

        def pass_over(rows: Tensor = rows, block: Tensor = block) -> ActivationStatistics:
            return _fold(stream, (rows, block), progress)

        statistics = stream.guard(pass_over)
        medians.append(_median_of_others(rows))
    return replace(statistics, median=torch.cat(medians))


def _fold(
    stream: UnitActivations, keep: tuple[Tensor, Tensor] | None, progress: bool
) -> ActivationStatistics:
    """One pass over the examples; ``keep`` is room for the values of some units, and the units."""
    count, n = len(stream.units), len(stream.examples)
    strongest = Strongest(count, stream.tie_order)
    least = torch.full((count,), torch.inf)
    total = torch.zeros(count, dtype=torch.float64)
    for positions, values in stream.chunks(progress=progress):
        strongest.add(values, stream.examples[positions])
        least = torch.minimum(least, values.amin(0))
        total += values.double().sum(0)  # in double, or the mean of the others would lose digits
        if keep is not None:
            keep[0][:, positions] = values[:, keep[1]].T
    largest = strongest.values
    others = (total - largest.double()) / (n - 1) if n > 1 else torch.full((count,), torch.nan)
    return ActivationStatistics(
        stream.layers,
        stream.units,
        stream.examples,
        stream.copies,
        largest,
        least,
        (total / n).to(stream.dtype),
        strongest.examples,
        others.to(stream.dtype),
    )


def _median_of_others(values: Tensor) -> Tensor:
    """Median of each row of ``[units, n]`` without its largest value, ``[units]``."""
    n = values.shape[1]
    if n == 1:
        return torch.full((len(values),), torch.nan)
    # Without the largest, the others keep their ranks among all n.
    low, high = n // 2, (n + 1) // 2
    middle = values.kthvalue(low, 1).values + values.kthvalue(high, 1).values
    return middle / 2
