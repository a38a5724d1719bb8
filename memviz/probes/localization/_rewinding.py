"""Layer rewinding: what a network still knows with one layer rewound to an earlier epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from memviz.checks import IndicesLike, checked
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
    """Accuracy of each group of a study with one layer rewound to one epoch.

    Attributes
    ----------
    layers : tuple of str
        ``L`` of them.
    epochs : tuple of int
        ``E`` of them.
    groups : tuple of str
        ``G`` of them.
    parameters, with_buffers : float64 ``[L, E, G]``
        Accuracy with the layer's parameters rewound; with its batch-norm statistics as well.
    final : float64 ``[G]``
        With nothing rewound.
    checkpoints : float64 ``[E, G]``
        With everything rewound: the network as it was at that epoch.
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
        """One row per layer, epoch and group: accuracy without and with buffers, and references."""
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
        """One row per layer, one column per group, at one epoch.

        Raises
        ------
        ValueError
            If layers were not rewound to this epoch.
        """
        import pandas as pd

        if epoch not in self.epochs:
            raise ValueError(
                f"epoch {epoch} is not among the epochs {', '.join(map(str, self.epochs))}."
            )
        table = self.with_buffers if buffers else self.parameters
        index = pd.Index(self.layers, name="layer")
        return pd.DataFrame(
            table[:, self.epochs.index(epoch)], index=index, columns=list(self.groups)
        )

    def plot(self, *, buffers: bool = False) -> Figure:
        """Accuracy against the epoch that each layer is rewound to, one panel per group."""
        from .figures import rewinding

        return rewinding(self, buffers=buffers)

    def __repr__(self) -> str:
        table = self.at(self.epochs[0]).round(3).to_string()
        return (
            f"layer rewinding of {len(self.layers)} layers to {len(self.epochs)} epochs; "
            f"parameters rewound to epoch {self.epochs[0]}:\n{table}\nsource: {SOURCE}"
        )


@checked
def layer_rewinding(
    study: Study,
    layers: LayersLike | None = None,
    *,
    epochs: Sequence[int] | None = None,
    examples: IndicesLike | None = None,
    progress: bool = True,
) -> Rewinding:
    """Rewind the parameters of one layer at a time to each epoch, and measure the accuracies.

    Everything else stays as trained, in the released code and in ``parameters`` here including the
    batch-norm statistics. ``with_buffers`` rewinds the layer's own statistics, too: the two
    separate what the weights hold from statistics that no longer match. As a null, compare with the
    same layer at other epochs, and with the network as it was at that epoch.

    Parameters
    ----------
    study : Study
        With checkpoints of the training; epoch 0 is the initialization.
    layers : mapping, optional
        As in ``layer_groups``.
    epochs : sequence of int, optional
        All checkpoints by default.
    examples : int64 ``[n]``, optional
        Examples to evaluate; all by default.

    Raises
    ------
    ValueError
        If the study has no checkpoints or none of an epoch, or one is of another architecture.

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

    def row(accuracies: Mapping[str, float]) -> list[float]:
        return [accuracies[name] for name in names]

    table = []
    for name in slow(tuple(rewinder.groups), "layer rewinding", progress=progress):
        for epoch in wanted:
            without = row(rewinder.accuracies({name: epoch}))
            has_buffers = bool(rewinder.groups[name].buffers)
            with_buffers = (
                row(rewinder.accuracies({name: epoch}, buffers=True)) if has_buffers else without
            )
            table.append([without, with_buffers])
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
