"""The examples that activate each unit most, found in one streaming pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from memviz.checks import checked
from memviz.study import Study
from memviz.units import Unit

from ._stream import UnitActivations


@dataclass(frozen=True, eq=False)
class TopExamples:
    """The examples that activate each unit most.

    Attributes
    ----------
    units : tuple of Unit, ``U`` of them
    examples : int64 ``[U, k]``
        Indices into the study, strongest first; ties in an order that a seed draws, since the
        study's own would favour the group that stands first.
    values : float ``[U, k]``
        The unit's activation on them, the mean over positions.
    lowest : float ``[U]``
        Its smallest activation on any example; examples at it do not activate the unit.
    """

    units: tuple[Unit, ...]
    examples: Tensor
    values: Tensor
    lowest: Tensor

    def of(self, unit: Unit) -> tuple[Tensor, Tensor]:
        """Examples and activations of one unit, without those at its lowest activation.

        Raises
        ------
        KeyError
            If the unit was not read.
        """
        if unit not in self.units:
            raise KeyError(f"activations of {unit} were not read; name its layer in layers=.")
        row = self.units.index(unit)
        fires = self.values[row] > self.lowest[row]
        return self.examples[row, fires], self.values[row, fires]


@checked
def top_examples(
    study: Study, k: int = 12, layers: Sequence[str] | None = None, *, progress: bool = True
) -> TopExamples:
    """The k examples with the largest activation of each unit, in one pass over the examples.

    Parameters
    ----------
    study : Study
    k : int
        Examples per unit; fewer if the study has fewer.
    layers : sequence of str, optional
        Conv and linear layers; by default all but the output layer. A unit is read where ablation
        replaces it: after the layer's norm and non-linearity.
    progress : bool

    Raises
    ------
    ValueError
        If k is not positive, a layer has no activation per example, an activation is NaN or
        infinite, or the forward pass is random.
    KeyError
        If a layer is unknown.

    Examples
    --------
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU(), torch.nn.Linear(2, 2))
    >>> _ = model[0].weight.data.copy_(torch.eye(2)), model[0].bias.data.zero_()
    >>> inputs = torch.tensor([[1.0, -1.0], [3.0, -1.0], [2.0, -1.0]])
    >>> study = Study(model.eval(), inputs, torch.zeros(3), {"test": range(3)})
    >>> top = top_examples(study, k=2)
    >>> top.of(Unit("0", 0))[0].tolist(), top.of(Unit("0", 1))[0].tolist()
    ([1, 2], [])
    """
    stream = UnitActivations(study, layers)

    def run() -> TopExamples:
        *_, (_, top) = top_example_steps(stream, k, progress=progress)
        assert top is not None
        return top

    return stream.guard(run)


@checked
def top_example_steps(
    stream: UnitActivations, k: int, *, progress: bool = False
) -> Iterator[tuple[int, TopExamples | None]]:
    """The number of examples read so far, chunk by chunk; the result comes with the last.

    Raises
    ------
    ValueError
        If k is not positive, or an activation is NaN or infinite.
    """
    if k < 1:
        raise ValueError(f"k is {k}; ask for at least one example per unit.")
    count, n = len(stream.units), len(stream.examples)
    values = torch.empty(count, 0)
    examples = torch.empty(count, 0, dtype=torch.int64)
    lowest = torch.full((count,), torch.inf)
    done = 0
    for positions, activations in stream.chunks(progress=progress):
        lowest = torch.minimum(lowest, activations.amin(0))
        values = torch.cat([values, activations.T], 1)
        examples = torch.cat([examples, stream.examples[positions].expand(count, -1)], 1)
        # By the draw first, and stable: which of tied examples are kept is the same for all chunks.
        drawn = stream.tie_order[examples].argsort(1)
        values, order = values.gather(1, drawn).sort(dim=1, descending=True, stable=True)
        values, examples = values[:, :k], examples.gather(1, drawn).gather(1, order[:, :k])
        done += len(positions)
        if done < n:
            yield done, None
    yield n, TopExamples(stream.units, examples, values, lowest)
