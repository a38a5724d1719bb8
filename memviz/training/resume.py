"""A training's state on disk after every epoch, so that a stopped one goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from memviz.training.recorder import Recorder
from memviz.training.run import TrainingRun
from memviz.training.stored import (
    State,
    check_architecture,
    digest_of,
    load_checkpoint,
    read,
    write,
)

KIND = "a training's state"
FILE = "training.safetensors"


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
    path: Path | None = None
    facts: dict[str, str] = field(default_factory=dict)

    def open(self, folder: Path, settings: Settings, **data: Tensor) -> None:
        """Name the folder, and take up the training that it holds.

        Raises
        ------
        ValueError : the folder holds another training, or the file is damaged.
        """
        self.path = folder / FILE
        self.facts = {
            **{name: json.dumps(value) for name, value in asdict(settings).items()},
            **{name: digest_of({name: tensor}) for name, tensor in data.items()},
            "checkpoint_epochs": json.dumps(sorted(self.recorder.checkpoint_epochs)),
            "loss": _name(self.loss),
            "start": digest_of(self.model.state_dict()),
        }
        if self.path.is_file():
            self._read()

    def write(self) -> None:
        """Write the state at the end of an epoch."""
        if self.path is None:
            return
        optimizer = self.optimizer.state_dict()
        tensors: State = {"generator": self.generator.get_state()}
        tensors |= _under("model", self.model.state_dict())
        tensors |= _under("record", self.recorder.run.tables)
        for parameter, state in optimizer["state"].items():
            tensors |= _under(f"optimizer/{parameter}", state)
        if isinstance(self.loss, nn.Module):
            tensors |= _under("loss", self.loss.state_dict())
        facts = {
            "kind": KIND,
            "groups": json.dumps(optimizer["param_groups"]),
            "schedule": json.dumps(self.schedule.state_dict()),
        }
        write(self.path, tensors, {**self.facts, **facts})

    def _read(self) -> None:
        assert self.path is not None
        tensors, found = read(self.path, KIND)
        state = _out_of("model", tensors)
        try:
            check_architecture(self.model, state)
            self._check(found, state)
        except ValueError as error:
            raise ValueError(
                f"the folder {str(self.path.parent)!r} holds another training: {error}; name "
                "another folder, or repeat the call that began it."
            ) from error
        optimizer: dict[str, Any] = {"state": {}, "param_groups": json.loads(found["groups"])}
        for name, tensor in _out_of("optimizer", tensors).items():
            parameter, key = name.split("/", 1)
            optimizer["state"].setdefault(int(parameter), {})[key] = tensor
        load_checkpoint(self.model, state)
        self.optimizer.load_state_dict(optimizer)
        self.schedule.load_state_dict(json.loads(found["schedule"]))
        self.generator.set_state(tensors["generator"])
        if isinstance(self.loss, nn.Module):
            self.loss.load_state_dict(_out_of("loss", tensors))
        self.recorder.go_on_from(TrainingRun(checkpoints={}, **_out_of("record", tensors)))
        self.facts["start"] = found["start"]

    def _check(self, found: dict[str, str], state: State) -> None:
        for name, value in self.facts.items():
            if name == "start" and value == digest_of(state):
                continue  # the model that was interrupted, at the end of its last epoch
            if found.get(name) != value:
                raise ValueError(_difference(name, found.get(name, "none"), value))


def _difference(name: str, there: str, here: str) -> str:
    if name == "start":
        return "it began from other weights"
    if name in ("inputs", "labels", "examples"):
        return f"it has other {name}"
    return f"it has {name} {there}, not {here}"


def _name(loss: Callable[..., Tensor]) -> str:
    if isinstance(loss, nn.Module):
        return repr(loss)
    return str(getattr(loss, "__qualname__", type(loss).__qualname__))


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> State:
    return {f"{prefix}/{name}": tensor for name, tensor in tensors.items()}


def _out_of(prefix: str, tensors: Mapping[str, Tensor]) -> State:
    start = len(prefix) + 1
    return {
        name[start:]: tensor for name, tensor in tensors.items() if name.startswith(prefix + "/")
    }
