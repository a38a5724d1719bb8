"""The frame of every training loop: a bar, a finite loss, seeded draws, whole epochs or none."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from copy import deepcopy
from pathlib import Path
from threading import RLock
from types import TracebackType

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

OnEpoch = Callable[[int, nn.Module], object]  # (epoch counted from 1, model in evaluation mode)
# Threads share torch's global generators.
_ONE_AT_A_TIME = RLock()


class Epochs:
    """Counts the epochs of a training, and leaves the model as it was after the last whole one.

    Used as a context around the loop. Each epoch calls ``trained`` once its steps are done and
    ``end`` once all that belongs to the epoch is recorded and written. However the loop is left,
    the model gets the weights of the last ``end`` back and is in evaluation mode.

    Parameters
    ----------
    model : nn.Module
    epochs : int
    learning_rate : float
        Named in the advice where the loss is no longer finite.
    done : int
        Epochs that were finished before.
    on_epoch : called as ``on_epoch(epoch, model)`` by ``trained``.
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
        done: int = 0,
        on_epoch: OnEpoch | None = None,
        advice: str = "",
        progress: bool = True,
    ) -> None:
        self.model, self.done = model, done
        self.finished: Mapping[str, Tensor] = deepcopy(model.state_dict())
        self._learning_rate, self._on_epoch, self._advice = learning_rate, on_epoch, advice
        self._loss = math.nan
        self._bar = tqdm(
            range(done + 1, epochs + 1),
            desc="training",
            unit="epoch",
            initial=done,
            total=epochs,
            disable=not progress,
        )

    def __enter__(self) -> Epochs:
        return self

    def __iter__(self) -> Iterator[int]:
        """The epochs still to be trained, counted from 1."""
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

    def end(self, state: Mapping[str, Tensor] | None = None, **shown: float) -> None:
        """The epoch is whole: keep the model's weights, or a copy of them that there is already."""
        self.finished = deepcopy(self.model.state_dict()) if state is None else state
        self.done += 1
        self._bar.set_postfix(
            loss=f"{self._loss:.3f}", **{name: f"{value:.3f}" for name, value in shown.items()}
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        if error is not None:
            error.add_note(
                f"Training stopped in epoch {self.done + 1}; the model is as it was after epoch "
                f"{self.done}{self._advice}."
            )
        # A step cut in half would leave some weights old and some new.
        self.model.load_state_dict(self.finished)
        self.model.eval()
        self._bar.close()


@contextmanager
def seeded_draws(seed: int, device: str = "cpu") -> Iterator[None]:
    """Seed torch's global generators of the CPU and of CUDA devices, and put them back after.

    Examples
    --------
    >>> with seeded_draws(3):
    ...     first = torch.rand(2)
    >>> with seeded_draws(3):
    ...     bool((first == torch.rand(2)).all())
    True
    """
    if torch.device(device).type == "cuda":
        torch.cuda.init()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with _ONE_AT_A_TIME, torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)
        if devices:
            torch.cuda.manual_seed_all(seed)
        yield


def seeded_epoch(seed: int, epoch: int) -> AbstractContextManager[None]:
    """For the steps of one epoch: what the model itself draws, as dropout does, is seeded.

    By seed and epoch, so that a training that goes on draws what an uninterrupted one would.

    Examples
    --------
    >>> drawn = []
    >>> for epoch in (1, 2, 2):
    ...     with seeded_epoch(0, epoch):
    ...         drawn.append(torch.rand(()).item())
    >>> drawn[0] == drawn[1], drawn[1] == drawn[2]
    (False, True)
    """
    return seeded_draws((int(seed) * 1_000_003 + epoch) % 2**63)


def advice(folder: str | Path | None) -> str:
    """How to go on after an interrupt, for a loop that can keep its training in a folder."""
    then = "with folder= it could go on" if folder is None else "the same call goes on"
    return f", and {then} from there"
