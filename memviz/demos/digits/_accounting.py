"""Where the digits' wrong labels are memorized: the experiments of Maini et al. (2023) in small.

Recipe. Examples, seeds and training are those of ``memviz.demos.digits`` (1,200 images, 120 with
wrong labels; ConvNet, 60 epochs), but with the usual weight decay of 5e-4, which is the paper's.
The study's own 0.03 is far stronger: fitted clean examples then keep a gradient that holds the
weights against their decay. Gradient accounting is done for both.

Critical units are searched for in an MLP with two hidden layers of 512 units, trained on the same
examples with learning rate 0.1 for 200 epochs: the fewest of 100, 200 and 400 after which every
given label is predicted, for seeds 0 to 2.

``python -m memviz.demos.digits.localization`` prints the figures of three seeds. Results are stored
in the cache folder, so it can be interrupted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from memviz.models.convnet import ConvNet
from memviz.models.mlp import MLP
from memviz.probes.localization import EpochGradients, GradientAccounting, layer_groups
from memviz.study import Study
from memviz.training.loop import train

from .. import _weight_files as weight_files
from .._kept import Kept, announce, folder_to_prepare, warn_not_kept
from . import _study as digits

RECIPE = "digit-localization-1"  # Change it with any setting below: other files are refused.
ACCOUNTING_WEIGHT_DECAY = 5e-4
CHECKPOINT_EPOCHS = (0, 1, 2, 3, 5, 8, 10, 15, 20, 30, 40, 60)
WIDTH, WIDE_EPOCHS, WIDE_LEARNING_RATE = 512, 200, 0.1
SHIPPED_SEEDS = (0, 1, 2)
MINUTES = 10  # For one seed; printed before a measurement starts.


def accounting_study(seed: int = 0, weight_decay: float = ACCOUNTING_WEIGHT_DECAY) -> Study:
    """The ConvNet of a seed with checkpoints from epoch 0 to 60; trained on first use, about 30 s.

    Examples
    --------
    >>> study = accounting_study(seed=0)  # doctest: +SKIP
    """
    data, model = digits.examples(seed), _convnet(seed)
    kept = Kept(f"{RECIPE}-{weight_decay:g}-seed{seed}", _facts(seed, weight_decay), False)
    stored = {epoch: kept.read(f"epoch{epoch:02d}") for epoch in CHECKPOINT_EPOCHS}
    checkpoints = {epoch: state for epoch, state in stored.items() if state is not None}
    if len(checkpoints) < len(CHECKPOINT_EPOCHS):
        announce(f"Training the ConvNet of seed {seed}: about 30 s, once; kept in {kept.folder}.")
        checkpoints = _train_convnet(model, data, seed, weight_decay, kept)
    model.load_state_dict(checkpoints[digits.EPOCHS])
    name = f"digits, weight decay {weight_decay:g}"
    return _study(model.eval(), data, name, seed, checkpoints)


def wide_study(seed: int = 0, width: int = WIDTH) -> Study:
    """An MLP with two hidden layers of this width; trained on first use, about 15 s at 512."""
    data = digits.examples(seed)
    model = MLP((64, width, width, digits.CLASSES), seed=int(seed))
    kept = Kept(f"{RECIPE}-mlp{width}-seed{seed}", _facts(seed, ACCOUNTING_WEIGHT_DECAY), False)
    state = kept.read("last")
    if state is None:
        announce(f"Training the MLP of seed {seed}: about 15 s, once; kept in {kept.folder}.")
        train(
            model,
            *data.training,
            epochs=WIDE_EPOCHS,
            batch_size=digits.BATCH_SIZE,
            learning_rate=WIDE_LEARNING_RATE,
            weight_decay=ACCOUNTING_WEIGHT_DECAY,
            seed=int(seed),
        )
        _keep(kept, {"last": model.state_dict()})
    else:
        model.load_state_dict(state)
    return _study(model.eval(), data, f"digits, MLP of width {width}", seed, {})


def accounting(seed: int = 0, weight_decay: float = ACCOUNTING_WEIGHT_DECAY) -> GradientAccounting:
    """Gradient accounting over all 60 epochs of the ConvNet's training.

    Seeds 0, 1 and 2 ship with the package; any other is trained, about two minutes.

    Examples
    --------
    >>> accounting(seed=0).layers
    ('conv1', 'conv2', 'conv3', 'conv4', 'fc', 'head')
    """
    shipped = seed in SHIPPED_SEEDS and weight_decay in (
        ACCOUNTING_WEIGHT_DECAY,
        digits.WEIGHT_DECAY,
    )
    kept = _kept_accounting(seed, weight_decay, shipped)
    tables = kept.read("tables")
    if tables is None:
        announce(f"Accounting for the training of seed {seed}: about two minutes, once.")
        result = account(seed, weight_decay)
        _keep(kept, {"tables": _tables(result)})
        return result
    return _accounting(seed, {name: t.double() for name, t in tables.items()})


def keep() -> None:
    """Load what the notebooks load; what does not ship is trained and kept."""
    digits.load(0)
    accounting_study(0)
    wide_study(0)


def account(seed: int, weight_decay: float) -> GradientAccounting:
    """Train the ConvNet with gradient accounting."""
    data, model = digits.examples(seed), _convnet(seed)
    loss = EpochGradients(model, data.groups["memorized"][: digits.TRAINING], seed=int(seed))
    train(
        model,
        *data.training,
        epochs=digits.EPOCHS,
        batch_size=digits.BATCH_SIZE,
        learning_rate=digits.LEARNING_RATE,
        weight_decay=weight_decay,
        seed=int(seed),
        loss=loss,
        on_epoch=loss.end_epoch,
    )
    return loss.result()


def prepare(seeds: Iterable[int] = SHIPPED_SEEDS, folder: str | Path | None = None) -> Path:
    """Account for the trainings again and write the tables; returns their folder."""
    target = folder_to_prepare() if folder is None else Path(folder)
    for seed in seeds:
        for weight_decay in (ACCOUNTING_WEIGHT_DECAY, digits.WEIGHT_DECAY):
            found = account(seed, weight_decay)
            kept = _kept_accounting(seed, weight_decay, True)
            kept.write("tables", _tables(found), target)
            print(f"accounting, seed {seed}, weight decay {weight_decay:g}: written to {target}")
    return target


def _convnet(seed: int) -> ConvNet:
    return ConvNet(digits.CHANNELS, digits.HIDDEN, digits.CLASSES, seed=int(seed))


def _train_convnet(
    model: ConvNet, data: digits.Digits, seed: int, weight_decay: float, kept: Kept
) -> dict[int, weight_files.State]:
    run = train(
        model,
        *data.training,
        epochs=digits.EPOCHS,
        batch_size=digits.BATCH_SIZE,
        learning_rate=digits.LEARNING_RATE,
        weight_decay=weight_decay,
        seed=int(seed),
        checkpoint_epochs=CHECKPOINT_EPOCHS,
    )
    _keep(kept, {f"epoch{epoch:02d}": state for epoch, state in run.checkpoints.items()})
    return {epoch: dict(state) for epoch, state in run.checkpoints.items()}


def _study(
    model: torch.nn.Module,
    data: digits.Digits,
    name: str,
    seed: int,
    checkpoints: Mapping[int, Mapping[str, Tensor]],
) -> Study:
    return Study(
        model,
        data.inputs,
        data.labels,
        data.groups,
        true_labels=data.true_labels,
        class_names=[str(digit) for digit in range(digits.CLASSES)],
        name=f"{name}, seed {seed}",
        summary=f"{digits.TRAINING:,} training images, "
        f"{int(data.groups['memorized'].sum())} with wrong labels",
        images=(data.inputs[:, 0] * 255).byte().numpy(),
        checkpoints=checkpoints,
    )


def _facts(seed: int, weight_decay: float) -> dict[str, str]:
    return {"recipe": RECIPE, "seed": str(seed), "weight_decay": f"{weight_decay:g}"}


def _kept_accounting(seed: int, weight_decay: float, shipped: bool) -> Kept:
    name = f"{RECIPE}-accounting-{weight_decay:g}-seed{seed}"
    return Kept(name, _facts(seed, weight_decay), shipped)


def _keep(kept: Kept, parts: Mapping[str, Mapping[str, Tensor]]) -> None:
    try:
        for part, state in parts.items():
            kept.write(part, state)
    except OSError as error:
        warn_not_kept(error)


def _tables(result: GradientAccounting) -> dict[str, Tensor]:
    names = ("clean", "noisy", "cosine", "null_clean", "null_noisy", "null_cosine")
    return {name: torch.from_numpy(getattr(result, name).copy()).float() for name in names}


def _accounting(seed: int, tables: Mapping[str, Tensor]) -> GradientAccounting:
    return GradientAccounting(
        layers=tuple(group.name for group in layer_groups(_convnet(seed))),
        epochs=tuple(range(1, digits.EPOCHS + 1)),
        share=digits.WRONG_FRACTION,
        **{name: table.numpy() for name, table in tables.items()},
    )
