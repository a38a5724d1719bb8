"""Tensors on disk: one safetensors file with its facts, written whole and checked when read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor, nn

from memviz import tensor_files

State = dict[str, Tensor]


def write(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> None:
    """Write tensors and facts; a reader sees the whole file or none. Makes the folder."""
    # Cloned, since tied weights share memory and safetensors takes each tensor alone.
    kept = {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    tensor_files.write(path, kept, {**facts, "sha256": tensor_files.digest(kept, facts)})


def read(path: Path, kind: str) -> tuple[State, dict[str, str]]:
    """Read the tensors and facts of a file whose fact ``kind`` is this one.

    Raises
    ------
    FileNotFoundError : there is no such file.
    ValueError : the file is cut, altered, or of another kind.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {str(path)!r}.")
    try:
        tensors, facts = tensor_files.read(path)
    except tensor_files.DamagedFile as error:
        raise ValueError(
            f"{str(path)!r} can't be read as {kind} ({error}); delete it, or name another file."
        ) from error
    if facts.get("kind") != kind:
        raise ValueError(f"{str(path)!r} is not {kind}; name the file that was written as one.")
    if facts.pop("sha256", "") != tensor_files.digest(tensors, facts):
        raise ValueError(
            f"{str(path)!r} was altered after it was written; delete it, or name another file."
        )
    return tensors, facts


def load_checkpoint(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load a checkpoint into a model in place, all of it or nothing.

    Raises
    ------
    ValueError : the checkpoint is of another architecture; names the first difference.

    Examples
    --------
    >>> import torch
    >>> model = nn.Linear(2, 3)
    >>> load_checkpoint(model, {"weight": torch.ones(3, 2), "bias": torch.zeros(3)})
    >>> load_checkpoint(model, {"weight": torch.ones(4, 2), "bias": torch.zeros(4)})
    Traceback (most recent call last):
    ValueError: the checkpoint is of another architecture: 'weight' is [4, 2] in it and [3, 2] ...
    """
    check_architecture(model, state)
    model.load_state_dict(state)


def check_architecture(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Raise a ValueError that names the first tensor that one has and the other has not."""
    mine = model.state_dict()
    for name in [*mine, *(name for name in state if name not in mine)]:
        there = list(state[name].shape) if name in state else "missing"
        here = list(mine[name].shape) if name in mine else "missing"
        if there != here:
            raise ValueError(
                f"the checkpoint is of another architecture: {name!r} is {there} in it and {here} "
                "in the model; build the model as it was trained."
            )


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """A hash of names, types, shapes and values."""
    return tensor_files.digest(tensors, {})


class StoredCheckpoints(Mapping[int, State]):
    """Epoch to state dict, each written to and read from its own file in a folder."""

    kind = "a checkpoint of a training"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._epochs: set[int] = set()

    def keep(self, epoch: int, state: Mapping[str, Tensor]) -> None:
        """Write the checkpoint of an epoch."""
        write(self._path(epoch), state, {"kind": self.kind, "epoch": str(epoch)})
        self._epochs.add(epoch)

    def found(self, last: int) -> None:
        """Take up the files that are there, up to an epoch."""
        self._epochs = {epoch for epoch in range(last + 1) if self._path(epoch).is_file()}

    def _path(self, epoch: int) -> Path:
        return self._folder / f"epoch-{epoch:04d}.safetensors"

    def __getitem__(self, epoch: int) -> State:
        if epoch not in self._epochs:
            raise KeyError(epoch)
        return read(self._path(epoch), self.kind)[0]

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self._epochs))

    def __len__(self) -> int:
        return len(self._epochs)

    def __repr__(self) -> str:
        return f"StoredCheckpoints(epochs {', '.join(map(str, self))})"
