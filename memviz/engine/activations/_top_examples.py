"""The examples that each unit fires on most, found in one streaming pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from memviz.study import Study
from memviz.units import Unit

from ._stream import UnitActivations


@dataclass(frozen=True, eq=False)
class TopExamples:
    """The strongest examples of each unit.

    Attributes
    ----------
    units : tuple of Unit, ``U`` of them
    examples : int64 ``[U, k]``
        The study's indices, strongest first; of equal ones the earlier first.
    values : float32 ``[U, k]``
        The unit's activation on them, the mean over positions.
    lowest : float32 ``[U]``
        Its smallest activation on any example: what does not exceed it does not stand out.
    """

    units: tuple[Unit, ...]
    examples: Tensor
    values: Tensor
    lowest: Tensor

    def of(self, unit: Unit) -> tuple[Tensor, Tensor]:
        """Examples and activations of one unit, those at its lowest left out.

        Raises
        ------
        KeyError
            If the unit was not read.
        """
        if unit not in self.units:
            raise KeyError(f"no activation of {unit} was read; name its layer.")
        row = self.units.index(unit)
        fires = self.values[row] > self.lowest[row]
        return self.examples[row, fires], self.values[row, fires]


def top_examples(
    study: Study, k: int = 12, layers: Sequence[str] | None = None, *, progress: bool = True
) -> TopExamples:
    """The k examples with the largest activation of each unit.

    One pass over the examples; k numbers a unit are kept, however many examples there are.

    Parameters
    ----------
    study : Study
    k : int
        Examples a unit, fewer where the study has fewer.
    layers : sequence of str, optional
        Conv and linear layers, all but the output layer unless given. A unit is read where ablation
        replaces it: behind the layer's norm and non-linearity.
    progress : bool

    Raises
    ------
    ValueError
        If k is not positive, or a layer has no activation for each example.
    KeyError
        If a layer is unknown.

    Examples
    --------
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU(), torch.nn.Linear(2, 2))
    >>> _ = model[0].weight.data.copy_(torch.eye(2)), model[0].bias.data.zero_()
    >>> inputs = torch.tensor([[1.0, -1.0], [3.0, -1.0], [2.0, -1.0]])
    >>> study = Study(model.eval(), inputs, torch.zeros(3), {"test": range(3)})
    >>> found = top_examples(study, k=2)
    >>> found.of(Unit("0", 0))[0].tolist(), found.of(Unit("0", 1))[0].tolist()
    ([1, 2], [])
    """
    stream = UnitActivations(study, layers)

    def run() -> TopExamples:
        *_, (_, found) = top_example_steps(stream, k, progress=progress)
        assert found is not None
        return found

    return stream.guard(run)


def top_example_steps(
    stream: UnitActivations, k: int, *, progress: bool = False
) -> Iterator[tuple[int, TopExamples | None]]:
    """Examples read so far, chunk by chunk; what was found comes with the last.

    Raises
    ------
    ValueError
        If k is not positive.
    """
    if k < 1:
        raise ValueError(f"k is {k}; ask for at least one example a unit.")
    count, n = len(stream.units), len(stream.examples)
    values = torch.empty(count, 0)
    places = torch.empty(count, 0, dtype=torch.int64)
    lowest = torch.full((count,), torch.inf)
    done = 0
    for positions, found in stream.chunks(progress=progress):
        lowest = torch.minimum(lowest, found.amin(0))
        values = torch.cat([values, found.T], 1)
        places = torch.cat([places, positions.expand(count, -1)], 1)
        # Stable, so that of equal examples the earlier one stays, whatever the chunks.
        values, order = values.sort(dim=1, descending=True, stable=True)
        values, order = values[:, :k], order[:, :k]
        places = places.gather(1, order)
        done += len(positions)
        if done < n:
            yield done, None
    yield n, TopExamples(stream.units, stream.examples[places], values, lowest)
