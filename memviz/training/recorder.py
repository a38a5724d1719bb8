"""A recorder of every example, fed by one call an epoch from any training loop."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from memviz.restored import buffers_kept
from memviz.tasks.classification import Classification
from memviz.tasks.task import Inputs
from memviz.tensor_files import State
from memviz.training.checkpoints import StoredCheckpoints, copy_of_state
from memviz.training.epochs import seeded_draws
from memviz.training.example_tied_dropout import example_ids
from memviz.training.loaders import Batch, labels_for, labels_of, with_ids
from memviz.training.run import TrainingRun

EVALUATION_BATCH = 1024


class Recorder:
    """Records every example of a dataset after each epoch, by the dataset's indices.

    A loop of your own needs one line an epoch, ``recorder.epoch(model)``; ``recorder.run`` is
    what was recorded, also in the middle of a training. The model is evaluated in evaluation mode
    and left as it was: flags, buffers, random state.

    Parameters
    ----------
    inputs : Tensor ``[n, ...]``, a dict of them (keyword arguments), or a loader
        What the model is called with, not augmented. A loader yields ``(inputs, labels, ids)``,
        each id from 0 to n - 1 once, in any order; it is read once an epoch.
    labels : int64 ``[n]``
        The labels to judge by; with a loader they are its own, and read from it here.
    checkpoint_epochs : epochs to keep; 0 is kept by ``start``.
    folder : where checkpoints are written, one safetensors file each; in memory unless given.

    Raises
    ------
    ValueError : labels that don't fit the inputs, or a loader whose ids are missing or repeated.

    Examples
    --------
    >>> x = torch.tensor([[-1.0], [1.0], [2.0], [-2.0]])
    >>> recorder = Recorder(x, (x[:, 0] > 0).long())
    >>> model = torch.nn.Linear(1, 2)
    >>> for _ in range(3):
    ...     recorder.epoch(model)
    >>> recorder.run
    TrainingRun(3 epochs, 4 examples, checkpoints none)
    """

    def __init__(
        self,
        inputs: Inputs | Iterable[Any],
        labels: Tensor | None = None,
        *,
        checkpoint_epochs: Collection[int] = (),
        folder: str | Path | None = None,
    ) -> None:
        if isinstance(inputs, Tensor | Mapping):
            self.labels = labels_for(inputs, labels)
        elif labels is not None:
            raise ValueError("a loader brings its own labels; leave labels out.")
        else:
            self.labels = labels_of(inputs)
        self._inputs = inputs
        self._task = Classification()
        self.checkpoint_epochs = frozenset(checkpoint_epochs)
        self.checkpoints: dict[int, State] | StoredCheckpoints = (
            {} if folder is None else StoredCheckpoints(Path(folder))
        )
        self._rows: dict[str, list[Tensor]] = {
            name: [] for name in ("predictions", "losses", "margins")
        }
        self._presented: dict[str, list[Tensor]] = {"margins": [], "losses": []}
        self._now: tuple[int, dict[str, Tensor]] = (0, {})  # of the epoch that is being trained
        self._loss: list[float] = []
        self._learning_rates: list[float] = []
        self._classes = 0

    @property
    def epochs(self) -> int:
        """Epochs recorded so far."""
        return len(self._loss)

    @property
    def accuracy(self) -> float:
        """Share of the examples that were right after the last epoch."""
        return float((self._rows["predictions"][-1] == self.labels).float().mean())

    def start(self, model: nn.Module) -> None:
        """Before training: check that the model fits the examples, and keep epoch 0 if chosen.

        Raises
        ------
        ValueError : a label outside the model's classes, or outputs that are no logits.
        """
        for inputs, _, ids in self._batches(1):
            evaluating, told = _Evaluating(model), example_ids(model, ids)
            with evaluating, evaluating, told, told:  # twice, as an interrupt can miss one exit
                outputs = self._task.outputs(_call(model, inputs))
            self._check(outputs.shape[1])
            break
        if 0 in self.checkpoint_epochs:
            self._keep(0, model)

    def batch(self, indices: Tensor, logits: Tensor) -> None:
        """While training: record a batch's examples at the moment they are trained on.

        If an example comes more than once in an epoch, the last time is kept.

        Parameters
        ----------
        indices : integers ``[b]``, the dataset's indices of the batch.
        logits : ``[b, classes]``, as the loss gets them.

        Raises
        ------
        ValueError : indices outside the dataset, or not one for each row.
        """
        indices = torch.as_tensor(indices).cpu()
        if indices.shape != (len(logits),) or indices.is_floating_point():
            raise ValueError(
                f"indices has shape {list(indices.shape)} for logits of shape "
                f"{list(logits.shape)}; give the dataset's index of each row."
            )
        if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < len(self.labels):
            raise ValueError(
                f"indices run from {int(indices.min())} to {int(indices.max())}, and the dataset "
                f"has 0 to {len(self.labels) - 1}; give the dataset's indices, not the batch's."
            )
        self._check(logits.shape[1])
        if self._now[0] != self.epochs:
            self._now = self.epochs, {}
        for name, values in self._measured(logits.detach(), indices).items():
            if name != "predictions":
                blank = torch.full((len(self.labels),), torch.nan)
                self._now[1].setdefault(name, blank)[indices] = values

    def epoch(
        self,
        model: nn.Module,
        *,
        loss: float | None = None,
        learning_rate: float = float("nan"),
    ) -> None:
        """After an epoch: record every example, and keep a checkpoint if the epoch is chosen.

        Parameters
        ----------
        loss : mean loss of the epoch; that of the batches given to ``batch``, unless given.
        learning_rate : that of the epoch's first step.

        Raises
        ------
        ValueError : a label outside the model's classes, or outputs that are no logits.
        """
        done = self.epochs
        # What an interrupted call left.
        for rows in (*self._rows.values(), *self._presented.values()):
            del rows[done:]
        del self._learning_rates[done:]
        tables: dict[str, Tensor] = {}
        evaluating = _Evaluating(model)
        with evaluating, evaluating:  # twice, as an interrupt can miss one exit
            for inputs, _, ids in self._batches(EVALUATION_BATCH):
                told = example_ids(model, ids)
                with told, told:
                    outputs = self._task.outputs(_call(model, inputs))
                self._check(outputs.shape[1])
                for name, values in self._measured(outputs, ids).items():
                    blank = values.new_zeros(len(self.labels))
                    tables.setdefault(name, blank)[ids] = values
        for name, values in tables.items():
            self._rows[name].append(values)
        now = self._now[1] if self._now[0] == done else {}
        if now or self._presented["margins"]:
            for name, rows in self._presented.items():
                blank = torch.full((len(self.labels),), torch.nan)
                # Where the first batches came late, the epochs before them are unknown.
                rows += [blank] * (done - len(rows))
                rows.append(now.get(name, blank))
        batch_loss = now["losses"].nanmean().item() if now else float("nan")
        self._learning_rates.append(learning_rate)
        if done + 1 in self.checkpoint_epochs:
            self._keep(done + 1, model)
        self._loss.append(batch_loss if loss is None else loss)  # last: it counts the epochs

    @property
    def run(self) -> TrainingRun:
        """What was recorded so far; what is recorded later does not change it."""
        done = self.epochs
        tables = {
            name: _stacked(rows[:done], len(self.labels)) for name, rows in self._rows.items()
        }
        presented = {
            f"presented_{name}": torch.stack(rows[:done])
            for name, rows in self._presented.items()
            if rows[:done]
        }
        checkpoints = self.checkpoints
        return TrainingRun(
            labels=self.labels,
            loss=torch.tensor(self._loss),
            learning_rates=torch.tensor(self._learning_rates[:done], dtype=torch.float64),
            checkpoints=dict(checkpoints) if isinstance(checkpoints, dict) else checkpoints,
            **tables,
            **presented,
        )

    def go_on_from(self, tables: State) -> None:
        """Go on after what was recorded of the same dataset before: a run's tables.

        Raises
        ------
        ValueError : the file of a checkpoint is missing.
        """
        run = TrainingRun(checkpoints={}, **tables)
        for name, rows in self._rows.items():
            rows[:] = getattr(run, name)
        for name, rows in self._presented.items():
            kept = getattr(run, f"presented_{name}")
            rows[:] = [] if kept is None else kept
        self._loss = run.loss.tolist()
        self._learning_rates = run.learning_rates.tolist()
        if isinstance(self.checkpoints, StoredCheckpoints):
            self.checkpoints.found({e for e in self.checkpoint_epochs if e <= self.epochs})

    def _keep(self, epoch: int, model: nn.Module) -> None:
        state = copy_of_state(model)
        if isinstance(self.checkpoints, StoredCheckpoints):
            self.checkpoints.keep(epoch, state)
        else:
            self.checkpoints[epoch] = state

    def _measured(self, outputs: Tensor, ids: Tensor) -> dict[str, Tensor]:
        labels = self.labels[ids].to(outputs.device)
        return {
            "predictions": self._task.predictions(outputs).int().cpu(),
            "losses": self._task.loss(outputs, labels).float().cpu(),
            "margins": self._task.margin(outputs, labels).float().cpu(),
        }

    def _check(self, classes: int) -> None:
        if classes == self._classes:
            return
        outside = (self.labels < 0) | (self.labels >= classes)
        if outside.any():
            example = int(outside.nonzero()[0])
            raise ValueError(
                f"the model gives {classes} classes, 0 to {classes - 1}, and example {example} has "
                f"the label {int(self.labels[example])}; give labels that it has classes for."
            )
        self._classes = classes

    def _batches(self, size: int) -> Iterator[Batch]:
        if not isinstance(self._inputs, Tensor | Mapping):
            yield from with_ids(self._inputs)
            return
        for ids in torch.arange(len(self.labels)).split(size):
            if isinstance(self._inputs, Tensor):
                rows: Inputs = self._inputs[ids.to(self._inputs.device)]
            else:
                rows = {key: value[ids.to(value.device)] for key, value in self._inputs.items()}
            yield rows, self.labels[ids], ids


def _stacked(rows: list[Tensor], n: int) -> Tensor:
    return torch.stack(rows) if rows else torch.zeros(0, n)


def _call(model: nn.Module, inputs: Inputs) -> Any:
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    if isinstance(inputs, Tensor):
        return model(inputs.to(device))
    return model(**{key: value.to(device) for key, value in inputs.items()})


class _Evaluating:
    """Evaluation mode without gradients; then flags, buffers, draws and gradients as before.

    It may be left twice: the second time does what an interrupt kept from the first. It is no
    generator, whose end would run much later where an interrupt missed it.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._draws = seeded_draws(0)
        self._flags = [(module, module.training) for module in model.modules()]
        self._buffers = buffers_kept(model)

    def __enter__(self) -> None:
        try:
            self._draws.__enter__()
            torch.set_grad_enabled(False)
            self._model.eval()
        except BaseException:
            self.__exit__()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        where: TracebackType | None = None,
    ) -> None:
        self._buffers.put_back()
        for module, flag in self._flags:
            module.training = flag
        self._draws.__exit__()
