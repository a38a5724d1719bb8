"""Train both demos of gate networks, keep them as hard networks, and load them.

Recipe. *Noisy*: 400 training digits, 80 of them with a wrong label, and 1,397 test digits; three
dense layers of 3,000 gates, tau the square root of the 300 votes of a class, 1,000 epochs.
*Design*: 1,347 training and 450 test digits with true labels; the published design in small, tau
8, 120 epochs; with residual and with Gaussian initialization, and with the leaves of a tree kept to
two channels. Four thresholds, AdamW, learning rate
.02, weight decay .002, batches of 128, no augmentation. A seed draws the split, the wrong labels,
the wires and the order. What is kept are the hard networks, and curves of soft and hard accuracy.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from memviz.checks import Seed, checked
from memviz.study import Study
from memviz.training.gates import curves_table, train_gates
from memviz.training.loop import predict

from .. import _weight_files as weight_files
from .._kept import Kept, announce, folder_to_prepare, warn_not_kept
from ._data import CLASSES, NOISY, Variant, clean_digits, dense_network, noisy_digits, tree_network
from ._stored import numbers, state, wires

if TYPE_CHECKING:
    import pandas as pd

RECIPE = "gates-2"  # Change it with any setting below: other stored weights are refused.
DESIGN_RECIPE = "gates-design-3"
BATCH_SIZE = 128
EPOCHS, CHECKPOINT_EPOCHS = 1000, (50, 200)
MEASURED = (*range(1, 10), *range(10, 50, 5), *range(50, 200, 25), *range(200, 1001, 50))
TREE_EPOCHS = 120
TREE_MEASURED = (*range(1, 20), *range(20, 50, 5), *range(50, 121, 10))
SHIPPED_SEEDS = (0, 1, 2)
SHIPPED_DESIGNS: tuple[tuple[int, Variant], ...] = tuple((seed, "residual") for seed in range(3))
VARIANTS: tuple[Variant, ...] = ("residual", "gaussian", "two channels")
TRAINING_SECONDS = 120  # One training on one core, at most; printed before a training starts.
MINUTES = 4 * TRAINING_SECONDS / 60  # To prepare one seed: noisy, and the design three times.

Part = Literal["noisy"] | Variant


@dataclass(eq=False, repr=False)
class GateStudy(Study):
    """A study of a gate network, with the curves of its training, which ``mv.gates`` shows."""

    curves: pd.DataFrame | None = None


@checked
def load(seed: Seed = 0) -> GateStudy:
    """Digits with 20 % wrong labels, learnt and then memorized by 9,000 gates.

    Groups: memorized (a wrong label that the hard network gives), clean, test, and not memorized
    (the other wrong labels). Seeds 0, 1 and 2 come with the package; another is trained on first
    use, about two minutes on one core, and kept in the cache folder. ``study.checkpoints`` has the
    hard networks of epochs 0, 50, 200 and 1,000; of seeds 1 and 2 the first and the last.
    ``study.curves`` is :func:`curves`.

    Raises
    ------
    ValueError
        If the seed is not a whole number from 0 up, or the shipped weights are damaged.

    Examples
    --------
    >>> study = load(seed=0)
    >>> list(study.groups), len(study)
    (['memorized', 'clean', 'test', 'not memorized'], 1797)
    """
    data, model = noisy_digits(seed), dense_network(seed)
    stored = _part(seed, "noisy")
    wired = {name: table for name, table in stored.items() if name.endswith(".wires")}
    checkpoints = {0: state(model, numbers(model), wired)}
    for epoch in (*CHECKPOINT_EPOCHS, EPOCHS):
        if numbered := _under(f"epoch{epoch}", stored):
            checkpoints[epoch] = state(model, numbered, wired)
    model.load_state_dict(checkpoints[EPOCHS])
    fitted = predict(model, data.inputs) == data.labels
    wrong, clean, test = (data.groups[name] for name in ("wrong", "clean", "test"))
    groups = {"memorized": wrong & fitted, "clean": clean, "test": test}
    groups["not memorized"] = wrong & ~fitted
    return GateStudy(
        model,
        data.inputs,
        data.labels,
        groups,
        true_labels=data.true_labels,
        class_names=[str(digit) for digit in range(CLASSES)],
        name="gates",
        summary=f"9,000 logic gates · {NOISY} training images, {int(wrong.sum())} with wrong "
        f"labels, {int(groups['memorized'].sum())} of them memorized",
        checkpoints=checkpoints,
        origin=f'mv.demo("gates", seed={seed})',
        curves=curves(seed),
    )


@checked
def curves(seed: Seed = 0) -> pd.DataFrame:
    """Soft and hard accuracy over the training with wrong labels; a row a reading and group.

    Groups wrong (all 80), clean and test; ``given`` is the share that is predicted as its given
    label, ``true`` as its true one. Columns as in
    :class:`memviz.training.gates.GateTraining`.

    Examples
    --------
    >>> table = curves(seed=0)
    >>> sorted(set(table.group)), sorted(set(table.reading))
    (['clean', 'test', 'wrong'], ['hard', 'soft'])
    """
    return _curves(_part(seed, "noisy"), ("wrong", "clean", "test"), NOISY)


@checked
def design(seed: Seed = 0, variant: Variant = "residual") -> tuple[nn.Sequential, pd.DataFrame]:
    """The published design in small on clean digits, hard, and its curves (training, test).

    ``variant`` is ``"residual"`` or ``"gaussian"``, the initialization, with leaves that read any
    channel, or ``"two channels"``: those of a tree read two channels, as published.

    Examples
    --------
    >>> model, curves = design(seed=0)
    >>> model.training, sorted(set(curves.group))
    (False, ['test', 'training'])
    """
    stored, model = _part(seed, variant), tree_network(seed, variant)
    wired = {name: table for name, table in stored.items() if name.endswith((".wires", ".leaves"))}
    model.load_state_dict(state(model, _under(f"epoch{TREE_EPOCHS}", stored), wired))
    training = int(clean_digits(seed).groups["training"].sum())
    return model.eval(), _curves(stored, ("training", "test"), training)


def prepare(seeds: Iterable[int] = SHIPPED_SEEDS, folder: str | Path | None = None) -> Path:
    """Train from the recipe and write what ships; returns its folder."""
    target = folder_to_prepare() if folder is None else Path(folder)
    for seed in seeds:
        parts: tuple[Part, ...] = ("noisy", *VARIANTS)
        for part in parts:
            began = time.process_time()
            _kept(seed, part).write(part, _shipped(seed, _trained(seed, part)), target)
            print(f"gates, seed {seed}, {part}: {time.process_time() - began:.0f} CPU seconds")
    return target


def _shipped(seed: int, trained: weight_files.State) -> weight_files.State:
    """Seed 0 ships with all checkpoints, others with their last network."""
    early = tuple(f"epoch{epoch}/" for epoch in CHECKPOINT_EPOCHS)
    return {
        name: table for name, table in trained.items() if not seed or not name.startswith(early)
    }


def _trained(seed: int, part: Part) -> dict[str, Tensor]:
    """What is kept of one training."""
    noisy = part == "noisy"
    data = noisy_digits(seed) if noisy else clean_digits(seed)
    model = dense_network(seed) if part == "noisy" else tree_network(seed, part)
    epochs, kept = (
        (EPOCHS, (*CHECKPOINT_EPOCHS, EPOCHS)) if noisy else (TREE_EPOCHS, (TREE_EPOCHS,))
    )
    found: dict[str, Tensor] = {}

    def keep(epoch: int, model: nn.Module) -> None:
        if epoch in kept:
            found.update({f"epoch{epoch}/{k}": table for k, table in numbers(model).items()})

    trained = train_gates(
        model,
        data.inputs,
        data.labels,
        data.groups,
        true_labels=data.true_labels,
        examples=~data.groups["test"],
        epochs=epochs,
        batch_size=BATCH_SIZE,
        measure_epochs=MEASURED if noisy else TREE_MEASURED,
        seed=seed,
        on_epoch=keep,
    )
    shares = torch.tensor(trained.curves[["given", "true"]].to_numpy(), dtype=torch.float32)
    measured = trained.curves["epoch"].unique()
    found["curves"] = shares.view(len(measured), 2, -1, 2)
    found["epochs"] = torch.from_numpy(measured).to(torch.int16)
    return found | wires(model)


def _curves(stored: weight_files.State, groups: tuple[str, ...], training: int) -> pd.DataFrame:
    return curves_table(
        stored["epochs"].tolist(), stored["curves"], groups, -(-training // BATCH_SIZE)
    )


def _under(prefix: str, stored: weight_files.State) -> weight_files.State:
    start = len(prefix) + 1
    return {name[start:]: table for name, table in stored.items() if name.startswith(prefix + "/")}


def _kept(seed: int, part: Part) -> Kept:
    noisy = part == "noisy"
    shipped = seed in SHIPPED_SEEDS if noisy else (seed, part) in SHIPPED_DESIGNS
    recipe = RECIPE if noisy else DESIGN_RECIPE
    return Kept(f"gates-seed{seed}", {"recipe": recipe, "seed": str(seed)}, shipped)


def _part(seed: int, part: Part) -> weight_files.State:
    """Shipped, from the cache folder, or trained now and kept there."""
    kept = _kept(seed, part)
    stored = kept.read(part)
    if stored is None:
        folder = weight_files.cache_folder()
        announce(
            f"Training the gates demo ({part}) for seed {seed}: about {TRAINING_SECONDS} s on one "
            f"core, once; the weights are kept in {folder}."
        )
        stored = _trained(seed, part)
        try:
            kept.write(part, stored, folder)
        except OSError as error:
            warn_not_kept(error)
    return stored
