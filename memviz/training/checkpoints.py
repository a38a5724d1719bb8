"""Checkpoints of a training: one file an epoch, and loading them into a model."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Mapping
from copy import deepcopy
from pathlib import Path

import torch
from torch import Tensor, nn

from memviz.checks import coded
from memviz.tensor_files import NotWritten, State, read_hashed, write_hashed


def load_checkpoint(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load a checkpoint into a model in place, all of it or nothing.

    Raises
    ------
    ValueError : the checkpoint is of another architecture; names the first difference.

    Examples
    --------
    >>> model = nn.Linear(2, 3)
    >>> load_checkpoint(model, {"weight": torch.ones(3, 2), "bias": torch.zeros(3)})
    >>> load_checkpoint(model, {"weight": torch.ones(4, 2), "bias": torch.zeros(4)})
    Traceback (most recent call last):
    ValueError: the checkpoint is of another architecture: 'weight' is [4, 2] in it and [3, 2] ...
    """
    check_architecture(model, state)
    model.load_state_dict(state)


def copy_of_state(module: nn.Module) -> State:
    """A copy of a module's state.

    Examples
    --------
    >>> model = nn.Linear(2, 3)
    >>> copy_of_state(model)["weight"] is model.weight
    False
    """
    # Copying disables gradients; twice, as an interrupt can miss one exit.
    with torch.no_grad(), torch.no_grad():
        return deepcopy(module.state_dict())


def check_architecture(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Raise a ValueError that names the first tensor in which the two differ."""
    expected = model.state_dict()
    for name in [*expected, *(name for name in state if name not in expected)]:
        there = list(state[name].shape) if name in state else "missing"
        here = list(expected[name].shape) if name in expected else "missing"
        if there != here:
            raise ValueError(
                coded(
                    "E30",
                    f"the checkpoint is of another architecture: {name!r} is {there} in it and "
                    f"{here} in the model; build the model as it was trained.",
                )
            )


class StoredCheckpoints(Mapping[int, State]):
    """Epoch to state dict, each written to and read from its own file in a folder.

    One that can't be written stays in memory until it can.
    """

    kind = "a checkpoint of a training"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._epochs: set[int] = set()
        self._unwritten: dict[int, Mapping[str, Tensor]] = {}

    def keep(self, epoch: int, state: Mapping[str, Tensor]) -> None:
        """Write the checkpoint of an epoch, or warn that it is in memory only."""
        self._unwritten[epoch] = state
        try:
            self.write()
        except NotWritten as error:
            warnings.warn(
                f"The checkpoint of epoch {epoch} is in memory only ({error}).", stacklevel=4
            )

    def write(self) -> None:
        """Write what could not be written before.

        Raises
        ------
        NotWritten : it still can't be written.
        """
        for epoch, state in sorted(self._unwritten.items()):
            write_hashed(self._path(epoch), state, {"kind": self.kind, "epoch": str(epoch)})
            self._epochs.add(epoch)
            del self._unwritten[epoch]

    def found(self, wanted: Collection[int]) -> None:
        """Find the files of a training that goes on.

        Raises
        ------
        ValueError : one of them is missing; names it.
        """
        for epoch in sorted(wanted):
            if not self._path(epoch).is_file():
                raise ValueError(
                    f"the checkpoint of epoch {epoch} is missing: there is no file "
                    f"{str(self._path(epoch))!r}; put it back, or name another folder to train "
                    "again."
                )
        self._epochs = set(wanted)

    def _path(self, epoch: int) -> Path:
        return self._folder / f"epoch-{epoch:04d}.safetensors"

    def __getitem__(self, epoch: int) -> State:
        if epoch in self._unwritten:
            return dict(self._unwritten[epoch])
        if epoch not in self._epochs:
            raise KeyError(epoch)
        return read_hashed(self._path(epoch), self.kind)[0]

    def __iter__(self) -> Iterator[int]:
        return iter(sorted({*self._epochs, *self._unwritten}))

    def __len__(self) -> int:
        return len({*self._epochs, *self._unwritten})

    def __repr__(self) -> str:
        return f"StoredCheckpoints(epochs {', '.join(map(str, self))})"
