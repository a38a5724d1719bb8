"""A training's state on disk after every epoch, so that a stopped one goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from memviz.tensor_files import State, digest, read_hashed, write_hashed
from memviz.training.checkpoints import check_architecture, load_checkpoint
from memviz.training.recorder import Recorder
from memviz.training.run import TrainingRun

KIND = "a training's state"
FILE = "training.safetensors"
_DATA = {"inputs", "labels", "examples", "images", "tokens", "heldout_images", "heldout_tokens"}


@dataclass(frozen=True)
class Settings:
    """The numbers that a training depends on."""

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    seed: int


@dataclass
class Progress:
    """Everything that a training loop changes, written to and read from one file.

    ``open`` names the folder; without it ``write`` does nothing.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    generator: torch.Generator
    recorder: Recorder
    loss: Callable[..., Tensor]
    file: TrainingFile | None = None

    def open(self, folder: Path, settings: Settings, **data: Tensor) -> None:
        """Name the folder, and restore the training that it holds.

        Raises
        ------
        ValueError : the folder holds another training, or the file is damaged.
        """
        self.file = TrainingFile(folder / FILE, KIND, self.model, self.optimizer, self.schedule)
        epochs = self.recorder.checkpoint_epochs
        self.file.describe(asdict(settings), data, epochs, loss=_name(self.loss))
        if self.file.path.is_file():
            self._read(self.file)

    def write(self) -> None:
        """Write the state at the end of an epoch."""
        if self.file is None:
            return
        tensors: State = {"generator": self.generator.get_state()}
        tensors |= under("model", self.model.state_dict())
        tensors |= under("record", self.recorder.run.tables)
        if isinstance(self.loss, nn.Module):
            tensors |= under("loss", self.loss.state_dict())
        self.file.write(tensors)

    def _read(self, file: TrainingFile) -> None:
        tensors, _ = file.read("model")
        self.generator.set_state(tensors["generator"])
        if isinstance(self.loss, nn.Module):
            self.loss.load_state_dict(out_of("loss", tensors))
        self.recorder.go_on_from(TrainingRun(checkpoints={}, **out_of("record", tensors)))


@dataclass
class TrainingFile:
    """A training's file: its optimizer's and schedule's state, and facts that tell it apart."""

    path: Path
    kind: str
    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    facts: dict[str, str] = field(default_factory=dict)

    def describe(
        self,
        settings: Mapping[str, Any],
        data: Mapping[str, Tensor],
        checkpoint_epochs: Collection[int],
        **more: str,
    ) -> None:
        """Take the facts of a training before it begins."""
        self.facts = {
            **{name: json.dumps(value) for name, value in settings.items()},
            **{name: digest({name: tensor}, {}) for name, tensor in data.items()},
            "checkpoint_epochs": json.dumps(sorted(checkpoint_epochs)),
            **more,
            "start": digest(self.model.state_dict(), {}),
        }

    def write(self, tensors: Mapping[str, Tensor], **more: str) -> None:
        """Write tensors, with the optimizer's and the schedule's state."""
        kept, optimizer = dict(tensors), self.optimizer.state_dict()
        for parameter, state in optimizer["state"].items():
            kept |= under(f"optimizer/{parameter}", state)
        steps = {
            "groups": json.dumps(optimizer["param_groups"]),
            "schedule": json.dumps(self.schedule.state_dict()),
        }
        write_hashed(self.path, kept, {**self.facts, "kind": self.kind, **steps, **more})

    def read(self, *left: str) -> tuple[State, dict[str, str]]:
        """Put the model, the optimizer and the schedule back; give all tensors and facts.

        ``left`` names the parts that the training may have left in the model, first the one to
        put back.

        Raises
        ------
        ValueError : the file is damaged, or of another training; nothing is changed.
        """
        tensors, facts = read_hashed(self.path, self.kind)
        states = [out_of(part, tensors) for part in left]
        try:
            self._check(facts, states)
        except ValueError as error:
            raise ValueError(
                f"the folder {str(self.path.parent)!r} holds another training: {error}; name "
                "another folder, or repeat the call that began it."
            ) from error
        optimizer: dict[str, Any] = {"state": {}, "param_groups": json.loads(facts["groups"])}
        for name, tensor in out_of("optimizer", tensors).items():
            parameter, key = name.split("/", 1)
            optimizer["state"].setdefault(int(parameter), {})[key] = tensor
        load_checkpoint(self.model, states[0])
        self.optimizer.load_state_dict(optimizer)
        self.schedule.load_state_dict(json.loads(facts["schedule"]))
        self.facts["start"] = facts["start"]
        return tensors, facts

    def _check(self, stored: Mapping[str, str], states: Sequence[State]) -> None:
        check_architecture(self.model, states[0])
        # The call may be repeated with the very model that the first one trained.
        left = [digest(state, {}) for state in states]
        for name, value in self.facts.items():
            there = stored.get(name, "none")
            if there != value and not (name == "start" and value in left):
                raise ValueError(_difference(name, there, value))


def _difference(name: str, there: str, here: str) -> str:
    if name == "start":
        return "it began from other weights"
    if name in _DATA:
        return f"it has other {name.replace('_', ' ').replace('heldout', 'held-out')}"
    return f"it has {name} {there}, not {here}"


def _name(loss: Callable[..., Tensor]) -> str:
    """The loss in the file's facts: by name and settings, since its module may move."""
    if isinstance(loss, nn.Module):
        return repr(loss)
    return str(getattr(loss, "__qualname__", type(loss).__qualname__))


def under(prefix: str, tensors: Mapping[str, Tensor]) -> State:
    """Tensors named as parts of a file: ``prefix/name``."""
    return {f"{prefix}/{name}": tensor for name, tensor in tensors.items()}


def out_of(prefix: str, tensors: Mapping[str, Tensor]) -> State:
    """The part of a file below a prefix, without it."""
    start = len(prefix) + 1
    return {
        name[start:]: tensor for name, tensor in tensors.items() if name.startswith(prefix + "/")
    }
