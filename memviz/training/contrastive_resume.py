"""A contrastive training's state on disk after every epoch, so that a stopped one goes on."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from memviz.training.stored import (
    State,
    StoredCheckpoints,
    check_architecture,
    digest_of,
    load_checkpoint,
    read,
    write,
)

if TYPE_CHECKING:
    from memviz.training.contrastive import ContrastiveRun

KIND = "a contrastive training's state"
FILE = "contrastive.safetensors"


@dataclass
class ContrastiveProgress:
    """Everything that the contrastive loop changes, written to and read from one file.

    ``open`` names the folder; without it nothing is written. ``finished`` and ``best`` are the
    weights after the last epoch and after the best one.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    generators: tuple[torch.Generator, ...]
    run: ContrastiveRun
    checkpoint_epochs: Collection[int]
    path: Path | None = None
    facts: dict[str, str] = field(default_factory=dict)
    finished: State = field(init=False)
    best: State = field(init=False)

    def __post_init__(self) -> None:
        self.finished = self.best = deepcopy(self.model.state_dict())

    def open(
        self,
        folder: Path,
        settings: Mapping[str, Any],
        data: Mapping[str, Tensor],
    ) -> None:
        """Name the folder, and take up the training that it holds.

        Raises
        ------
        ValueError : the folder holds another training, or the file is damaged.
        """
        self.path = folder / FILE
        self.run.checkpoints = StoredCheckpoints(folder)
        self.facts = {
            **{name: json.dumps(value) for name, value in settings.items()},
            **{name: digest_of({name: tensor}) for name, tensor in data.items()},
            "checkpoint_epochs": json.dumps(sorted(self.checkpoint_epochs)),
            "start": digest_of(self.model.state_dict()),
        }
        if self.path.is_file():
            self._read()

    def end_epoch(self, loss: float, heldout_loss: float | None) -> None:
        """Take the weights of a finished epoch, and write all of it."""
        self.finished = deepcopy(self.model.state_dict())
        self.run.loss.append(loss)
        epoch = len(self.run.loss)
        if heldout_loss is not None:
            self.run.heldout_loss.append(heldout_loss)
        if heldout_loss is None or heldout_loss <= min(self.run.heldout_loss):
            self.run.best_epoch, self.best = epoch, self.finished
        self.keep(epoch)
        self._write()

    def keep(self, epoch: int) -> None:
        """Take a checkpoint where one was asked for, in memory or as a file."""
        if epoch not in self.checkpoint_epochs:
            return
        if isinstance(self.run.checkpoints, StoredCheckpoints):
            self.run.checkpoints.keep(epoch, self.finished)
        else:
            self.run.checkpoints = {**self.run.checkpoints, epoch: self.finished}

    def _write(self) -> None:
        if self.path is None:
            return
        optimizer = self.optimizer.state_dict()
        parts: dict[str, Mapping[str, Tensor]] = {
            "model": self.finished,
            "best": self.best,
            "record": {
                name: torch.tensor(getattr(self.run, name), dtype=torch.float64)
                for name in ("loss", "heldout_loss")
            },
            "generator": {str(i): g.get_state() for i, g in enumerate(self.generators)},
            **{f"optimizer/{row}": state for row, state in optimizer["state"].items()},
        }
        facts = {
            "kind": KIND,
            "groups": json.dumps(optimizer["param_groups"]),
            "schedule": json.dumps(self.schedule.state_dict()),
            "best_epoch": str(self.run.best_epoch),
        }
        tensors = {f"{part}/{name}": t for part, of in parts.items() for name, t in of.items()}
        write(self.path, tensors, {**self.facts, **facts})

    def _read(self) -> None:
        assert self.path is not None
        tensors, found = read(self.path, KIND)
        parts: dict[str, State] = {}
        for name, tensor in tensors.items():
            part, key = name.split("/", 1)
            parts.setdefault(part, {})[key] = tensor
        self._check(found, parts)
        optimizer: dict[str, Any] = {"state": {}, "param_groups": json.loads(found["groups"])}
        for name, tensor in parts.get("optimizer", {}).items():
            row, key = name.split("/", 1)
            optimizer["state"].setdefault(int(row), {})[key] = tensor
        load_checkpoint(self.model, parts["model"])
        self.optimizer.load_state_dict(optimizer)
        self.schedule.load_state_dict(json.loads(found["schedule"]))
        for place, generator in enumerate(self.generators):
            generator.set_state(parts["generator"][str(place)])
        self.finished, self.best = parts["model"], parts["best"]
        self.run.loss[:] = parts["record"]["loss"].tolist()
        self.run.heldout_loss[:] = parts["record"]["heldout_loss"].tolist()
        self.run.best_epoch = int(found["best_epoch"])
        assert isinstance(self.run.checkpoints, StoredCheckpoints)
        self.run.checkpoints.found(len(self.run.loss))
        self.facts["start"] = found["start"]

    def _check(self, found: Mapping[str, str], parts: Mapping[str, State]) -> None:
        """Refuse a training of other settings, data or first weights."""
        assert self.path is not None
        # The model that was interrupted or finished is as that call left it.
        left = [digest_of(parts[part]) for part in ("model", "best")]
        try:
            check_architecture(self.model, parts["model"])
            for name, value in self.facts.items():
                there = found.get(name, "none")
                if there != value and not (name == "start" and value in left):
                    raise ValueError(_difference(name, there, value))
        except ValueError as error:
            raise ValueError(
                f"the folder {str(self.path.parent)!r} holds another training: {error}; name "
                "another folder, or repeat the call that began it."
            ) from error


def _difference(name: str, there: str, here: str) -> str:
    if name == "start":
        return "it began from other weights"
    if name in ("images", "tokens", "heldout_images", "heldout_tokens"):
        return f"it has other {name.replace('_', ' ')}"
    return f"it has {name} {there}, not {here}"
