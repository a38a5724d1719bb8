"""The frame of every training loop: a bar, a finite loss, whole epochs or none."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from memviz.tensor_files import NotWritten
from memviz.training.checkpoints import copy_of_state

from ._interrupts import HeldBack

OnEpoch = Callable[[int, nn.Module], object]  # (epoch counted from 1, model in evaluation mode)
States = list[Mapping[str, Tensor]]


class Epochs:
    """Counts the epochs of a training, and leaves modules and file at one and the same epoch.

    Used as a context around everything that changes the model, the reading of a kept training
    included. Each epoch calls ``trained`` once its steps are done, and ``end``, which writes it.
    However the loop is left, at whatever moment, the modules get the weights of the last epoch
    that is whole, and written where there is a file, and the model is in evaluation mode. Left
    before the first epoch, it is as it was. Gradients are enabled or disabled as before.

    Parameters
    ----------
    model : nn.Module
    epochs : int
    learning_rate : float
        Named in the advice where the loss is no longer finite.
    also : other modules that the training changes, such as a loss that learns.
    file : what ``end`` writes, if it writes.
    on_epoch : called as ``on_epoch(epoch, model)`` by ``trained``.
    undo : called when the loop is left, to put back what an interrupted call left in the model.
    advice : how to go on after an interrupt, the last words of the note on its exception.
    progress : show a progress bar.

    Examples
    --------
    >>> model = nn.Linear(1, 1)
    >>> with Epochs(model, 3, learning_rate=0.1, progress=False) as frame:
    ...     for epoch in frame:
    ...         frame.trained(loss=1 / epoch)
    ...         frame.end()
    >>> frame.done, model.training
    (3, False)
    """

    def __init__(
        self,
        model: nn.Module,
        epochs: int,
        *,
        learning_rate: float,
        also: Sequence[nn.Module] = (),
        file: Path | None = None,
        on_epoch: OnEpoch | None = None,
        undo: Callable[[], object] = lambda: None,
        advice: str = "",
        progress: bool = True,
    ) -> None:
        self.model, self.epochs, self.done = model, epochs, 0
        self._modules, self._file, self._undo = [model, *also], file, undo
        self._learning_rate, self._on_epoch, self._advice = learning_rate, on_epoch, advice
        self._gradients = torch.is_grad_enabled()
        self._modes = [(part, part.training) for part in model.modules()]
        self._begun = self._warned = False
        # Each assigned as a whole: an interrupt finds the old one or the new one.
        self._whole: tuple[int, States] = (0, self._copied())
        self._writing: tuple[int, States, object] | None = None
        self._loss = math.nan
        self._bar = tqdm(disable=True)
        self._progress = progress

    def __enter__(self) -> Epochs:
        return self

    def go_on(self, done: int) -> None:
        """The modules are now as they were after an epoch that was finished before."""
        self._whole, self.done = (done, self._copied()), done

    def __iter__(self) -> Iterator[int]:
        """The epochs still to be trained, counted from 1."""
        self._begun = True
        self._bar = tqdm(
            range(self.done + 1, self.epochs + 1),
            desc="training",
            unit="epoch",
            initial=self.done,
            total=self.epochs,
            disable=not self._progress,
        )
        yield from self._bar

    def trained(self, loss: float) -> None:
        """After the last step of an epoch: its mean loss, and the call of ``on_epoch``.

        Raises
        ------
        FloatingPointError : the loss is no longer finite.
        """
        epoch = self.done + 1
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"The loss stopped being finite in epoch {epoch}; "
                f"try a learning_rate below {self._learning_rate}."
            )
        self._loss = loss
        self.model.eval()
        if self._on_epoch is not None:
            self._on_epoch(epoch, self.model)

    def end(self, write: Callable[[], object] | None = None, **shown: float) -> None:
        """The epoch is whole: write it, where it is kept, and remember the modules' weights.

        An epoch that can't be written is warned of once; the training goes on.
        """
        epoch, states = self.done + 1, self._copied()
        if write is None:
            self._whole = epoch, states
        else:
            self._writing = epoch, states, _stamp(self._file)
            try:
                write()
            except NotWritten as error:
                self._warn(epoch, error)
            else:
                self._whole = epoch, states
            self._writing = None
        self.done = epoch
        self._bar.set_postfix(
            loss=f"{self._loss:.3f}", **{name: f"{value:.3f}" for name, value in shown.items()}
        )

    def leave_at(self, state: Mapping[str, Tensor]) -> None:
        """The training is over: load the state to leave the model at, that of its best epoch."""
        epoch, states = self._whole
        self._whole = epoch, [state, *states[1:]]
        self.model.load_state_dict(state)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        with HeldBack():
            torch.set_grad_enabled(self._gradients)
            self._undo()
            if error is not None:
                self._back_to_a_whole_epoch(error)
            if self._begun:
                self.model.eval()
            self._bar.close()

    def _back_to_a_whole_epoch(self, error: BaseException) -> None:
        if self._writing is not None:
            epoch, states, before = self._writing
            # The file was replaced, and the interrupt came before this was noted.
            if _stamp(self._file) != before:
                self._whole = epoch, states
        epoch, states = self._whole
        # A step cut in half would leave some weights old and some new.
        for module, state in zip(self._modules, states, strict=True):
            module.load_state_dict(state)
        if self._begun:
            error.add_note(
                f"Training stopped in epoch {self.done + 1}; the model is as it was after epoch "
                f"{epoch}{self._advice}."
            )
        else:
            for part, mode in self._modes:
                part.training = mode

    def _copied(self) -> States:
        return [copy_of_state(module) for module in self._modules]

    def _warn(self, epoch: int, error: NotWritten) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"Epoch {epoch} could not be kept ({error}); the training goes on, and if it is "
                f"stopped it goes back to epoch {self._whole[0]}.",
                stacklevel=4,
            )


def _stamp(file: Path | None) -> object:
    """What tells a file from the one that replaces it."""
    if file is None or not file.exists():
        return None
    status = file.stat()
    return status.st_ino, status.st_mtime_ns, status.st_size


def advice(folder: str | Path | None) -> str:
    """How to go on after an interrupt, for a loop that can keep its training in a folder."""
    then = "with folder= it could go on" if folder is None else "the same call goes on"
    return f", and {then} from there"
