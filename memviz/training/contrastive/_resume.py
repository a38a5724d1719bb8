"""A contrastive training's state on disk after every epoch, so that a stopped one goes on."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from memviz.tensor_files import State
from memviz.training.checkpoints import StoredCheckpoints, copy_of_state
from memviz.training.resume import TrainingFile, check_folder, out_of, under

from ._run import ContrastiveRun

KIND = "a contrastive training's state"
FILE = "contrastive.safetensors"
# Fields of the run by their names in the file; files written earlier must still be read.
_RECORD = {"loss": "loss", "held_out_loss": "heldout_loss"}


@dataclass
class ContrastiveProgress:
    """Everything that the contrastive loop changes, written to and read from one file.

    Without a path nothing is written or read. ``finished`` and ``best`` are the weights after the
    last epoch and after the best one.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    generators: tuple[torch.Generator, ...]
    run: ContrastiveRun
    checkpoint_epochs: Collection[int]
    path: Path | None
    file: TrainingFile | None = None
    finished: State = field(init=False)
    best: State = field(init=False)

    def open(self, settings: Mapping[str, Any], data: Mapping[str, Tensor]) -> None:
        """Restore the training that the file holds, if it is there.

        Raises
        ------
        ValueError : the file is of another training, or damaged, or lacks a checkpoint.
        """
        self.finished = self.best = copy_of_state(self.model)
        if self.path is None:
            return
        self.file = TrainingFile(self.path, KIND, self.model, self.optimizer, self.schedule)
        self.file.describe(settings, data, self.checkpoint_epochs)
        self.run.checkpoints = checkpoints = StoredCheckpoints(self.path.parent)
        if self.path.is_file():
            self._read(self.file)
            done = len(self.run.loss)
            checkpoints.found({epoch for epoch in self.checkpoint_epochs if epoch <= done})

    def check_folder(self) -> None:
        """Before the first epoch that is still to be trained: see that the file can be written.

        Raises
        ------
        NotWritten : it can't be.
        """
        if self.path is not None:
            check_folder(self.path.parent, self.model, len(self.checkpoint_epochs))

    def end_epoch(self, loss: float, held_out_loss: float | None) -> None:
        """Keep the weights of a finished epoch."""
        self.finished = copy_of_state(self.model)
        self.run.loss.append(loss)
        epoch = len(self.run.loss)
        lowest = min(self.run.held_out_loss, default=math.inf)
        if held_out_loss is not None:
            self.run.held_out_loss.append(held_out_loss)
        # A loss that stays level has not fallen.
        if held_out_loss is None or held_out_loss < lowest:
            self.run.best_epoch, self.best = epoch, self.finished
        self.keep(epoch)

    def keep(self, epoch: int) -> None:
        """Keep a checkpoint if the epoch was chosen, in memory or as a file."""
        if epoch not in self.checkpoint_epochs:
            return
        if isinstance(self.run.checkpoints, StoredCheckpoints):
            self.run.checkpoints.keep(epoch, self.finished)
        else:
            self.run.checkpoints = {**self.run.checkpoints, epoch: self.finished}

    def write(self) -> None:
        """Write the state at the end of an epoch."""
        if self.file is None:
            return
        if isinstance(self.run.checkpoints, StoredCheckpoints):
            self.run.checkpoints.write()
        tensors = under("model", self.finished) | under("best", self.best)
        for name, in_file in _RECORD.items():
            values = torch.tensor(getattr(self.run, name), dtype=torch.float64)
            tensors[f"record/{in_file}"] = values
        for number, generator in enumerate(self.generators):
            tensors[f"generator/{number}"] = generator.get_state()
        self.file.write(tensors, best_epoch=str(self.run.best_epoch))

    def _read(self, file: TrainingFile) -> None:
        tensors, facts = file.read("model", "best")
        for number, generator in enumerate(self.generators):
            generator.set_state(tensors[f"generator/{number}"])
        for name, in_file in _RECORD.items():
            getattr(self.run, name)[:] = tensors[f"record/{in_file}"].tolist()
        self.finished, self.best = out_of("model", tensors), out_of("best", tensors)
        self.run.best_epoch = int(facts["best_epoch"])
