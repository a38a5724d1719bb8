"""Trained networks of the demos on disk: shipped with the package, or kept in the cache folder."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from memviz.tensor_files import NotWritten, check_writable

from . import _weight_files as weight_files

SHIPPED = Path(__file__).parent / "weights"
_ROOM = 2_000_000  # bytes; about as much as the weights of one demo take


@dataclass(frozen=True)
class Kept:
    """The files of one trained network, and the facts that they must state.

    Parameters
    ----------
    name : start of the file names, for example ``"example-tied-seed0"``.
    facts : recipe, seed and whatever else distinguishes this network from others.
    shipped : whether it ships with the package.
    """

    name: str
    facts: Mapping[str, str]
    shipped: bool

    @property
    def folder(self) -> Path:
        """The folder that it is read from."""
        return SHIPPED if self.shipped else weight_files.cache_folder()

    def path(self, part: str, folder: Path | None = None) -> Path:
        """The file of a part, for example ``epoch60``."""
        return (folder or self.folder) / f"{self.name}-{part}.safetensors"

    def read(self, part: str) -> weight_files.State | None:
        """Tensors of a part, or None if it has yet to be trained.

        Raises
        ------
        ValueError : a file shipped with the package is damaged.
        """
        path = self.path(part)
        if not self.shipped and not path.is_file():
            return None
        try:
            return weight_files.read(path, {**self.facts, "part": part})[0]
        except weight_files.DamagedWeights as error:
            if self.shipped:
                raise ValueError(
                    f"The weights that come with memviz can't be used: {error}; install memviz "
                    "again."
                ) from error
            warnings.warn(f"Cached files are not used: {error}; training again.", stacklevel=3)
            return None

    def write(
        self, part: str, state: Mapping[str, Tensor], folder: Path | None = None, half: bool = False
    ) -> None:
        """Write a part; with ``half``, matrices in half precision."""
        facts = {**self.facts, "part": part}
        weight_files.write(self.path(part, folder), state, facts, half=half)

    def write_network(
        self,
        part: str,
        model: nn.Module,
        predict: Callable[[nn.Module], Tensor],
        folder: Path | None = None,
    ) -> None:
        """Write a model's weights, in half precision if no prediction changes by it.

        Raises
        ------
        OSError : they can't be written; the model is as it was.
        """
        state, before = {k: v.clone() for k, v in model.state_dict().items()}, predict(model)
        path, facts = self.path(part, folder), {**self.facts, "part": part}
        try:
            for half in (True, False):
                self.write(part, state, folder, half)
                model.load_state_dict(weight_files.read(path, facts)[0])
                if torch.equal(predict(model), before):
                    return
        except OSError:
            model.load_state_dict(state)
            raise


def folder_to_prepare() -> Path:
    """The package's own folder if it is writable, else the cache folder."""
    return SHIPPED if os.access(SHIPPED, os.W_OK) else weight_files.cache_folder()


def announce(training: str) -> None:
    """Say that a training begins, and warn now if its weights can't be kept in the cache folder."""
    print(training)
    try:
        check_writable(weight_files.cache_folder(), _ROOM)
    except NotWritten as error:
        warn_not_kept(error)


def warn_not_kept(error: OSError) -> None:
    """Warn that trained weights could not be written."""
    warnings.warn(
        f"The weights could not be kept ({error}), so the next use trains again; set "
        "MEMVIZ_CACHE to a folder that can be written.",
        stacklevel=4,
    )
