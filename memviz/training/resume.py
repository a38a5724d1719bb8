"""A training's state on disk after every epoch, so that a stopped one goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from memviz.tensor_files import State, check_writable, digest, read_hashed, write_hashed
from memviz.training.checkpoints import StoredCheckpoints, check_architecture, load_checkpoint

KIND = "a training's state"
FILE = "training.safetensors"
# Of files from before there was a choice.
_FORMER = {"optimizer": json.dumps("sgd, cosine")}
_DATA = {"inputs", "labels", "examples", "images", "tokens", "heldout_images", "heldout_tokens"}


@dataclass
class Progress:
    """Everything that a training loop changes, written to and read from one file.

    Attributes
    ----------
    modules : by their names in the file; the first is the model.
    tables, go_on_from : what was recorded, to write it, and to take it from the file.
    path, kind : of the file. Without a path nothing is written or read.
    checkpoints : written before the file, which must not be ahead of them.
    """

    modules: Mapping[str, nn.Module]
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler | None
    generator: torch.Generator
    tables: Callable[[], State]
    go_on_from: Callable[[State], None]
    path: Path | None
    kind: str = KIND
    checkpoints: Mapping[int, Mapping[str, Tensor]] = field(default_factory=dict)
    file: TrainingFile | None = None
    wanted: int = 0  # checkpoints

    def open(
        self,
        settings: Mapping[str, Any],
        checkpoint_epochs: Collection[int] = (),
        data: Mapping[str, Tensor] | None = None,
        **more: str,
    ) -> None:
        """Restore the training that the file holds, if it is there.

        Raises
        ------
        ValueError : the file is of another training, or damaged, or lacks a checkpoint.
        """
        if self.path is None:
            return
        self.wanted = len(checkpoint_epochs)
        name, model = next(iter(self.modules.items()))
        self.file = TrainingFile(self.path, self.kind, model, self.optimizer, self.schedule)
        self.file.describe(settings, data or {}, checkpoint_epochs, **more)
        if not self.path.is_file():
            return
        tensors, _ = self.file.read(name)
        self.generator.set_state(tensors["generator"])
        for other, module in self.modules.items():
            if other != name:
                module.load_state_dict(out_of(other, tensors))
        self.go_on_from(out_of("record", tensors))

    def check_folder(self) -> None:
        """Before the first epoch that is still to be trained: see that the file can be written.

        Raises
        ------
        NotWritten : it can't be.
        """
        if self.path is not None:
            model = next(iter(self.modules.values()))
            check_folder(self.path.parent, model, self.wanted)

    def write(self) -> None:
        """Write the state at the end of an epoch."""
        if self.file is None:
            return
        if isinstance(self.checkpoints, StoredCheckpoints):
            self.checkpoints.write()
        tensors: State = {"generator": self.generator.get_state()}
        for name, module in self.modules.items():
            tensors |= under(name, module.state_dict())
        self.file.write(tensors | under("record", self.tables()))


def check_folder(folder: Path, model: nn.Module, checkpoints: int = 0) -> None:
    """See that a folder can take a training's file, about twice its size, and its checkpoints.

    Raises
    ------
    NotWritten : it can't.
    """
    size = sum(tensor.nbytes for tensor in model.state_dict().values())
    check_writable(folder, (4 + checkpoints) * size)


@dataclass
class TrainingFile:
    """A training's file: its optimizer's and schedule's state, and facts that tell it apart."""

    path: Path
    kind: str
    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler | None
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
            **{name: json.dumps(value, default=_plain) for name, value in settings.items()},
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
        steps = {"groups": json.dumps(optimizer["param_groups"])}
        if self.schedule is not None:
            steps["schedule"] = json.dumps(self.schedule.state_dict())
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
            why = str(error).partition(";")[0].rstrip(".")
            raise ValueError(
                f"the folder {str(self.path.parent)!r} holds another training: {why}; name "
                "another folder, or repeat the call that began it."
            ) from error
        optimizer: dict[str, Any] = {"state": {}, "param_groups": json.loads(facts["groups"])}
        for name, tensor in out_of("optimizer", tensors).items():
            parameter, key = name.split("/", 1)
            optimizer["state"].setdefault(int(parameter), {})[key] = tensor
        load_checkpoint(self.model, states[0])
        self.optimizer.load_state_dict(optimizer)
        if self.schedule is not None:
            self.schedule.load_state_dict(json.loads(facts["schedule"]))
        self.facts["start"] = facts["start"]
        return tensors, facts

    def _check(self, stored: Mapping[str, str], states: Sequence[State]) -> None:
        check_architecture(self.model, states[0])
        # The call may be repeated with the very model that the first one trained.
        left = [digest(state, {}) for state in states]
        for name, value in self.facts.items():
            there = stored.get(name, _FORMER.get(name, "none"))
            if there != value and not (name == "start" and value in left):
                raise ValueError(_difference(name, there, value))


def _plain(value: Any) -> Any:
    """A number of NumPy or torch as one of Python."""
    return value.item()


def _difference(name: str, there: str, here: str) -> str:
    if name == "start":
        return "it began from other weights"
    if name in _DATA:
        return f"it has other {name.replace('_', ' ').replace('heldout', 'held-out')}"
    return f"it has {name} {there}, not {here}"


def name_of(loss: Callable[..., Tensor]) -> str:
    """A loss in a file's facts: by name and settings, since its module may move."""
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
