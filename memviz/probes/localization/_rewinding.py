"""Layer rewinding: what a network still knows with the weights of one layer put back in time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from memviz.progress import slow
from memviz.study import Study

from ._layer_groups import LayersLike
from ._rewinder import Rewinder, check_epochs

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

SOURCE = "Maini et al. 2023 (arXiv:2307.09542), layer rewinding"


@dataclass(frozen=True, eq=False)
class Rewinding:
    """Accuracy of each group of a study with one layer put back to one epoch.

    Attributes
    ----------
    layers : tuple of str, ``L`` of them
    epochs : tuple of int, ``E`` of them
    groups : tuple of str, ``G`` of them
    parameters, with_buffers : float64 ``[L, E, G]``
        Accuracy with the layer's parameters put back; with its batch-norm statistics as well.
    final : float64 ``[G]``
        Nothing put back.
    checkpoints : float64 ``[E, G]``
        Everything put back: the network as it was.
    """

    layers: tuple[str, ...]
    epochs: tuple[int, ...]
    groups: tuple[str, ...]
    parameters: np.ndarray
    with_buffers: np.ndarray
    final: np.ndarray
    checkpoints: np.ndarray

    @property
    def frame(self) -> pd.DataFrame:
        """One row a layer, epoch and group: accuracy without and with buffers, and what was."""
        import pandas as pd

        index = pd.MultiIndex.from_product(
            [self.layers, self.epochs, self.groups], names=["layer", "epoch", "group"]
        )
        columns = {
            "parameters": self.parameters.ravel(),
            "with_buffers": self.with_buffers.ravel(),
            "checkpoint": np.broadcast_to(self.checkpoints, self.parameters.shape).ravel(),
            "final": np.broadcast_to(self.final, self.parameters.shape).ravel(),
        }
        frame = pd.DataFrame(columns, index=index).reset_index()
        frame.attrs = {"name": "layer rewinding", "source": SOURCE}
        return frame

    def at(self, epoch: int, *, buffers: bool = False) -> pd.DataFrame:
        """One row a layer, one column a group, at one epoch.

        Raises
        ------
        ValueError
            If this epoch was not asked for.
        """
        import pandas as pd

        if epoch not in self.epochs:
            raise ValueError(f"epoch {epoch} is not among {', '.join(map(str, self.epochs))}.")
        table = self.with_buffers if buffers else self.parameters
        index = pd.Index(self.layers, name="layer")
        return pd.DataFrame(
            table[:, self.epochs.index(epoch)], index=index, columns=list(self.groups)
        )

    def plot(self, *, buffers: bool = False) -> Figure:
        """Accuracy over the epoch each layer is put back to, one panel a group."""
        from .figures import rewinding

        return rewinding(self, buffers=buffers)

    def __repr__(self) -> str:
        table = self.at(self.epochs[0]).round(3).to_string()
        return (
            f"layer rewinding of {len(self.layers)} layers to {len(self.epochs)} epochs; "
            f"parameters put back to epoch {self.epochs[0]}:\n{table}\nsource: {SOURCE}"
        )


def layer_rewinding(
    study: Study,
    layers: LayersLike | None = None,
    *,
    epochs: Sequence[int] | None = None,
    examples: Tensor | None = None,
    progress: bool = True,
) -> Rewinding:
    """Put the parameters of one layer after the other back to each epoch, and read the accuracies.

    All else stays as it is after training; batch-norm statistics, too, in the released code and in
    ``parameters`` here. ``with_buffers`` puts the layer's own back with it: the two tell apart
    what the weights hold from what the statistics no longer fit. The null of a value is the same
    layer at other epochs, and the network as it was at that epoch.

    Parameters
    ----------
    study : Study
        With checkpoints of the training; epoch 0 is the initialization.
    layers : mapping, optional
        As in ``layer_groups``.
    epochs : sequence of int, optional
        All checkpoints unless given.
    examples : int64 ``[n]``, optional
        What to read the accuracies on; all unless given.

    Raises
    ------
    ValueError
        If there are no checkpoints, an epoch has none, or one is of another architecture.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3)).eval()
    >>> study = Study(
    ...     model, torch.randn(6, 4), torch.zeros(6), {"test": range(6)},
    ...     checkpoints={0: {"0.weight": torch.zeros(3, 4), "0.bias": torch.tensor([1.0, 0, 0])}},
    ... )
    >>> layer_rewinding(study, progress=False).at(0)
           test
    layer
    0       1.0
    """
    rewinder = Rewinder(study, layers, examples)
    wanted = check_epochs(study, epochs)
    names = tuple(rewinder.accuracies({}))

    def row(found: Mapping[str, float]) -> list[float]:
        return [found[name] for name in names]

    table = []
    for name in slow(tuple(rewinder.groups), "layer rewinding", progress=progress):
        for epoch in wanted:
            plain = row(rewinder.accuracies({name: epoch}))
            has_buffers = bool(rewinder.groups[name].buffers)
            whole = row(rewinder.accuracies({name: epoch}, buffers=True)) if has_buffers else plain
            table.append([plain, whole])
    shape = (len(rewinder.groups), len(wanted), 2, len(names))
    values = np.array(table, float).reshape(shape)
    return Rewinding(
        tuple(rewinder.groups),
        wanted,
        names,
        values[:, :, 0],
        values[:, :, 1],
        np.array(row(rewinder.accuracies({}))),
        np.array([row(rewinder.accuracies_at(epoch)) for epoch in wanted]),
    )
