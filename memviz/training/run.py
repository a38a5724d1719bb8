"""What a training leaves behind: every example at every epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from memviz.tensor_files import State, read_hashed, write_hashed

KIND = "a recorded training"
_TABLES = ("labels", "predictions", "losses", "margins", "loss", "learning_rates")
_PRESENTED = ("presented_margins", "presented_losses")


@dataclass(frozen=True, eq=False)
class TrainingRun:
    """Every example after every epoch, by the dataset's indices.

    Row e of a table is after epoch e + 1, with the model in evaluation mode and the examples as
    they are in the dataset, not augmented.

    Attributes
    ----------
    labels : int64 ``[n]``, the labels the run was recorded with, right or wrong.
    predictions : int32 ``[epochs, n]``, predicted class.
    losses : float32 ``[epochs, n]``, cross-entropy with the given label, in nats.
    margins : float32 ``[epochs, n]``, logit of the given label minus the largest other logit.
    loss : float32 ``[epochs]``, mean training loss; NaN where it was not given.
    learning_rates : float64 ``[epochs]``, that of each epoch's first step; NaN where not given.
    checkpoints : epoch to ``state_dict`` (buffers included); epoch 0 is the initialization.
    presented_margins, presented_losses : float32 ``[epochs, n]`` or None
        The same at the moment an example was trained on, before that step: what Toneva et al.
        (2019) count forgetting events by. NaN where it was not in a batch of that epoch.

    Examples
    --------
    >>> run = TrainingRun(
    ...     labels=torch.tensor([0, 1]),
    ...     predictions=torch.tensor([[0, 0], [0, 1]], dtype=torch.int32),
    ...     losses=torch.ones(2, 2),
    ...     margins=torch.ones(2, 2),
    ... )
    >>> run.accuracy
    tensor([0.5000, 1.0000])
    """

    labels: Tensor
    predictions: Tensor
    losses: Tensor
    margins: Tensor
    loss: Tensor = field(default_factory=lambda: torch.zeros(0))
    learning_rates: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.float64))
    checkpoints: Mapping[int, Mapping[str, Tensor]] = field(default_factory=dict)
    presented_margins: Tensor | None = None
    presented_losses: Tensor | None = None

    def __len__(self) -> int:
        """Number of epochs."""
        return len(self.predictions)

    def __repr__(self) -> str:
        kept = ", ".join(map(str, self.checkpoints)) or "none"
        return f"TrainingRun({len(self)} epochs, {len(self.labels):,} examples, checkpoints {kept})"

    @property
    def correct(self) -> Tensor:
        """Which examples got their given label after each epoch, bool ``[epochs, n]``."""
        return self.predictions == self.labels

    @property
    def accuracy(self) -> Tensor:
        """Share of the examples that were right after each epoch, ``[epochs]``."""
        return self.correct.float().mean(dim=1)

    @property
    def tables(self) -> State:
        """Every tensor but the checkpoints, by its name."""
        found = {name: getattr(self, name) for name in (*_TABLES, *_PRESENTED)}
        return {name: table for name, table in found.items() if table is not None}

    def save(self, path: str | Path) -> None:
        """Write all of it, checkpoints included, into one safetensors file, atomically."""
        tensors = self.tables
        for epoch, state in self.checkpoints.items():
            tensors |= {f"checkpoint/{epoch}/{name}": tensor for name, tensor in state.items()}
        write_hashed(Path(path), tensors, {"kind": KIND})

    @classmethod
    def load(cls, path: str | Path) -> TrainingRun:
        """Read what ``save`` wrote.

        Raises
        ------
        FileNotFoundError : there is no such file.
        ValueError : the file is damaged, altered, or no recorded training.
        """
        tensors, _ = read_hashed(Path(path), KIND)
        checkpoints: dict[int, State] = {}
        for name in [name for name in tensors if name.startswith("checkpoint/")]:
            _, epoch, key = name.split("/", 2)
            checkpoints.setdefault(int(epoch), {})[key] = tensors.pop(name)
        return cls(**tensors, checkpoints=dict(sorted(checkpoints.items())))
