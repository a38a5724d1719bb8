"""Training of logic gate networks: the papers' recipe, with both readings of the network measured.

In training a gate is a mixture of sixteen (the soft reading); in use it is its most probable one
(the hard reading). Only the second is a circuit, and it may lag behind the first.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from memviz.checks import IndicesLike, as_indices, quoted
from memviz.models.logic_gates import Gates
from memviz.tensor_files import read_hashed, write_hashed
from memviz.training.epochs import OnEpoch
from memviz.training.loop import train
from memviz.training.run import TrainingRun

if TYPE_CHECKING:
    import pandas as pd

FILE = "curves.safetensors"
KIND = "curves of a logic gate network"
READINGS = ("soft", "hard")
_BATCH = 256


@dataclass(eq=False)
class GateTraining:
    """What the training of a gate network leaves behind.

    Attributes
    ----------
    run : TrainingRun
        Of the examples trained on, in their order, read hard.
    curves : pandas.DataFrame
        A row for each measured epoch, reading (soft or hard) and group: ``epoch``, ``step``,
        ``reading``, ``group``, and the shares of the group that are predicted as their ``given``
        and as their ``true`` label.
    """

    run: TrainingRun
    curves: pd.DataFrame


def train_gates(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    groups: Mapping[str, IndicesLike],
    *,
    true_labels: Tensor | None = None,
    examples: IndicesLike | None = None,
    epochs: int = 50,
    batch_size: int = 128,
    learning_rate: float = 0.02,
    weight_decay: float = 0.002,
    measure_epochs: Collection[int] | None = None,
    seed: int = 0,
    on_epoch: OnEpoch | None = None,
    folder: str | Path | None = None,
    progress: bool = True,
) -> GateTraining:
    """Train a gate network in place as its authors do, and measure it soft and hard.

    AdamW with a constant learning rate (Petersen et al. 2024), cross-entropy of the votes over
    tau. The loop is :func:`memviz.training.train`: reproducible, interruptible, and with a folder
    resumable. The model is left in evaluation mode, in which it is a circuit.

    Parameters
    ----------
    model : nn.Module
        With layers of gates, as :func:`memviz.models.logic_gates.logic_dense_net` makes it.
    inputs, labels : ``[n, ...]`` and integers ``[n]``
    groups : mapping of name to mask ``[n]`` or indices
        What the curves tell apart, held-out examples among them.
    true_labels : integers ``[n]``, optional
        Where some labels are wrong; the labels themselves unless given.
    examples : mask ``[n]`` or indices, optional
        Those to train on; all unless given.
    epochs, batch_size : int
    learning_rate, weight_decay : float
        The paper's for CIFAR-10.
    measure_epochs : collection of int, optional
        Epochs of the curves; all unless given.
    seed : int
    on_epoch : called as ``on_epoch(epoch, model)`` after each epoch, counted from 1.
    folder : str or Path, optional
        Keeps the training and its curves after every epoch; the same call goes on from there.
    progress : bool

    Returns
    -------
    GateTraining

    Raises
    ------
    ValueError
        If the model has no gates, an index is outside the examples, or as in the loop.
    FloatingPointError
        If the loss is no longer finite.

    Examples
    --------
    >>> from memviz.models.logic_gates import logic_dense_net
    >>> x = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    >>> xor, model = torch.tensor([0, 1, 1, 0]), logic_dense_net(2, [16], 2, tau=2.0)
    >>> trained = train_gates(model, x, xor, {"all": range(4)}, epochs=200, progress=False)
    >>> trained.curves.tail(1)[["epoch", "reading", "given"]].values.tolist()
    [[200, 'hard', 1.0]]
    """
    if not any(isinstance(module, Gates) for module in model.modules()):
        raise ValueError(
            f"the model, a {type(model).__name__}, has no layer of gates; make one with "
            "memviz.models.logic_gates, or train with memviz.training.train."
        )
    n = len(inputs)
    chosen = torch.arange(n) if examples is None else as_indices("examples", examples, n)
    rows = {name: as_indices(f"group {name}", members, n) for name, members in groups.items()}
    true = labels if true_labels is None else true_labels
    curves = _Curves(rows, inputs, labels, true, None if folder is None else Path(folder) / FILE)

    def after(epoch: int, model: nn.Module) -> None:
        if measure_epochs is None or epoch in measure_epochs:
            curves.measure(epoch, model)
        if on_epoch is not None:
            on_epoch(epoch, model)

    run = train(
        model,
        inputs[chosen.to(inputs.device)],
        labels[chosen.to(labels.device)],
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        optimizer="adamw",
        schedule="constant",
        seed=seed,
        on_epoch=after,
        folder=folder,
        progress=progress,
    )
    return GateTraining(run, curves.table(-(-len(chosen) // batch_size)))


@torch.no_grad()
def soft_and_hard(model: nn.Module, inputs: Tensor) -> dict[str, Tensor]:
    """Predicted classes, int64 ``[n]``, of the mixtures of gates and of the chosen gates.

    The modes of the model's modules are put back.

    Examples
    --------
    >>> from memviz.models.logic_gates import logic_dense_net
    >>> model = logic_dense_net(4, [8, 6], 3)
    >>> {name: len(found) for name, found in soft_and_hard(model, torch.rand(5, 4)).items()}
    {'soft': 5, 'hard': 5}
    """
    modes = [(module, module.training) for module in model.modules()]
    try:
        found = {}
        for reading in READINGS:
            model.train(reading == "soft")
            parts = [model(part).argmax(1) for part in inputs.split(_BATCH)]
            found[reading] = torch.cat(parts).cpu()
    finally:
        for module, mode in modes:
            module.training = mode
    return found


def curves_table(
    epochs: Sequence[int], shares: Tensor, groups: Sequence[str], steps: int
) -> pd.DataFrame:
    """The table of curves that :class:`GateTraining` has.

    Parameters
    ----------
    epochs : sequence of int
    shares : ``[epochs, readings, groups, 2]``
        Predicted as the given and as the true label; readings are soft, then hard.
    groups : sequence of str
    steps : int
        Of an epoch.

    Examples
    --------
    >>> curves_table([5], torch.tensor([[[[0.5, 0.25]], [[1.0, 0.0]]]]), ["noisy"], 4)
       epoch  step reading  group  given  true
    0      5    20    soft  noisy    0.5  0.25
    1      5    20    hard  noisy    1.0  0.00
    """
    import pandas as pd

    rows = [
        (epoch, epoch * steps, reading, group, *shares[k, i, j].tolist())
        for k, epoch in enumerate(epochs)
        for i, reading in enumerate(READINGS)
        for j, group in enumerate(groups)
    ]
    return pd.DataFrame(rows, columns=["epoch", "step", "reading", "group", "given", "true"])


class _Curves:
    """Shares of each group, epoch by epoch; kept in a file where there is one."""

    def __init__(
        self,
        rows: Mapping[str, Tensor],
        inputs: Tensor,
        labels: Tensor,
        true_labels: Tensor,
        path: Path | None,
    ) -> None:
        self._rows, self._inputs = rows, inputs
        self._labels = labels.cpu(), true_labels.cpu()
        self._path = path
        self._shares: dict[int, Tensor] = {}  # epoch to [readings, groups, given or true]
        if path is not None and path.is_file():
            self._read(path)

    def measure(self, epoch: int, model: nn.Module) -> None:
        """The shares after an epoch; one that is trained again is measured again."""
        together = torch.cat(list(self._rows.values()))
        sizes = [len(rows) for rows in self._rows.values()]
        found = soft_and_hard(model, self._inputs[together.to(self._inputs.device)])
        right = torch.stack(
            [
                torch.stack([found[reading] == labels[together] for labels in self._labels], 1)
                for reading in READINGS
            ]
        )
        shares = [part.double().mean(1) for part in right.split(sizes, 1)]
        self._shares[epoch] = torch.stack(shares, 1)
        if self._path is not None:
            self._write(self._path)

    def table(self, steps: int) -> pd.DataFrame:
        """Of all epochs so far."""
        epochs = sorted(self._shares)
        nothing = torch.zeros(0, len(READINGS), len(self._rows), 2)
        shares = torch.stack([self._shares[epoch] for epoch in epochs]) if epochs else nothing
        return curves_table(epochs, shares, list(self._rows), steps)

    def _write(self, path: Path) -> None:
        epochs = sorted(self._shares)
        tensors = {
            "epochs": torch.tensor(epochs),
            "shares": torch.stack([self._shares[epoch] for epoch in epochs]),
        }
        write_hashed(path, tensors, {"kind": KIND, "groups": json.dumps(list(self._rows))})

    def _read(self, path: Path) -> None:
        tensors, facts = read_hashed(path, KIND)
        if json.loads(facts["groups"]) != list(self._rows):
            raise ValueError(
                f"{quoted(str(path))} has curves of the groups {facts['groups']}; give the same "
                "groups, or name another folder."
            )
        self._shares = dict(zip(tensors["epochs"].tolist(), tensors["shares"], strict=True))
