"""The digits study: a small convolutional network that has memorized 120 wrong labels.

Recipe. scikit-learn's 1,797 handwritten digits (8x8, scaled to [0, 1]) are split into 1,200
training and 597 test images; 120 training labels (10 %) are replaced by wrong ones. A ConvNet
(convolutions of 48, 56, 64 and 64 units, a linear layer of 88; 320 units in all) is trained
until it gives every training image its given label, right or wrong: SGD with momentum 0.9,
batches of 128, 60 epochs, cosine learning rate from 0.05, no augmentation.

The weight decay of 0.03 is strong on purpose. With the usual 5e-4 the network memorizes as well,
but ablating any dozen units of an early layer breaks the memorized examples, and nothing can be
localized; with strong decay the network tolerates random ablation.

A seed draws the split, the wrong labels and the initial weights. Rounding differs with processor
and number of threads and grows in training, so a network trained again reaches the same accuracies
with somewhat different units; all published figures are of the shipped weights.
"""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from memviz.data.noisy_labels import replace_labels
from memviz.models.convnet import ConvNet
from memviz.study import Study
from memviz.tensor_files import atomic_write
from memviz.training.loop import predict, train
from memviz.training.run import TrainingRun

from .. import _weight_files as weight_files
from .._kept import announce, warn_not_kept

RECIPE = (
    "digits-1"  # Change it with any setting below: stored weights of another recipe are refused.
)
TRAINING, CLASSES, WRONG_FRACTION = 1200, 10, 0.1
CHANNELS, HIDDEN = (48, 56, 64, 64), 88
EPOCHS, BATCH_SIZE, LEARNING_RATE, WEIGHT_DECAY = 60, 128, 0.05, 0.03
CHECKPOINT_EPOCHS = (0, 3, 10, 20, 30, 40, 60)
SHIPPED_SEEDS = (0, 1, 2)
SHIPPED = Path(__file__).parents[1] / "weights"
TRAINING_SECONDS = 30  # On two cores; printed before a training starts.
MINUTES = TRAINING_SECONDS / 60  # To prepare one seed on two cores.


@dataclass(frozen=True)
class Digits:
    """The examples of one seed, training images first.

    ``inputs`` float32 ``[1797, 1, 8, 8]``; ``labels`` and ``true_labels`` Long ``[1797]``;
    ``groups`` name to bool ``[1797]``: memorized (wrong label), clean, test.
    """

    inputs: Tensor
    labels: Tensor
    true_labels: Tensor
    groups: dict[str, Tensor]

    @property
    def training(self) -> tuple[Tensor, Tensor]:
        """Inputs and given labels of the 1,200 training images."""
        return self.inputs[:TRAINING], self.labels[:TRAINING]

    def accuracies(self, model: torch.nn.Module) -> dict[str, float]:
        """Share of each group that is predicted as its given label."""
        right = predict(model, self.inputs) == self.labels
        return {name: right[mask].float().mean().item() for name, mask in self.groups.items()}


def examples(seed: int = 0) -> Digits:
    """Draw the split and the wrong labels of a seed; no training.

    Examples
    --------
    >>> {name: int(mask.sum()) for name, mask in examples(seed=0).groups.items()}
    {'memorized': 120, 'clean': 1080, 'test': 597}
    """
    if not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
        raise ValueError(f"seed must be a whole number from 0 to 2**32 - 1, but got {seed!r}.")
    # Imported here because it takes a second.
    from sklearn.datasets import load_digits

    images, truth = load_digits(return_X_y=True)
    # Its own random stream, so that the split says nothing about the wrong labels.
    order = np.random.RandomState([int(seed), len(images)]).permutation(len(images))
    inputs = torch.from_numpy(images[order].reshape(-1, 1, 8, 8) / 16).float()
    true_labels = torch.from_numpy(truth[order]).long()
    labels, memorized = true_labels.clone(), torch.zeros(len(inputs), dtype=torch.bool)
    labels[:TRAINING], memorized[:TRAINING] = replace_labels(
        true_labels[:TRAINING], WRONG_FRACTION, CLASSES, int(seed)
    )
    test = torch.arange(len(inputs)) >= TRAINING
    groups = {"memorized": memorized, "clean": ~memorized & ~test, "test": test}
    return Digits(inputs, labels, true_labels, groups)


def load(seed: int = 0) -> Study:
    """The ready study of a seed: groups memorized (120), clean (1,080) and test (597).

    Seeds 0, 1 and 2 come with the package. Another seed is trained on first use, about half a
    minute on two cores, and kept in the cache folder (``MEMVIZ_CACHE`` to choose it).
    ``study.checkpoints`` maps an epoch to a state dict, read when asked for; seed 0 and seeds
    trained here have epochs 0 (initialization) to 60, seeds 1 and 2 the last one only.

    Raises
    ------
    ValueError : the seed is not a whole number from 0 up, or the shipped weights are damaged.

    Examples
    --------
    >>> study = load(seed=0)
    >>> len(study), study.summary
    (1797, '4-conv net · 1,200 training images, 120 with wrong labels')
    """
    data, model = examples(seed), _model(seed)
    stored = _stored(model, seed)
    checkpoints = _train_and_keep(model, data, seed) if stored is None else stored
    return Study(
        # Twice as fast on a CPU; the figures stay the same.
        model.eval().to(memory_format=torch.channels_last),  # type: ignore[call-overload]
        data.inputs,
        data.labels,
        data.groups,
        true_labels=data.true_labels,
        class_names=[str(digit) for digit in range(CLASSES)],
        name="digits",
        summary=f"4-conv net · {TRAINING:,} training images, "
        f"{int(data.groups['memorized'].sum())} with wrong labels",
        checkpoints=checkpoints,
        origin=f'mv.demo("digits", seed={seed})',
    )


def prepare(seeds: Iterable[int] = SHIPPED_SEEDS, folder: str | Path | None = None) -> Path:
    """Train the study again from its recipe and write the weights; returns their folder.

    Without a folder they go into the package if it can be written, else into the cache. Seed 0
    keeps all checkpoints, the others their last one. Prints one line a seed, and writes the
    figures into ``digits.json`` beside the weights.
    """
    if folder is None:
        folder = SHIPPED if os.access(SHIPPED, os.W_OK) else weight_files.cache_folder()
    folder = Path(folder)
    facts: dict[str, object] = {}
    for seed in seeds:
        data, model = examples(seed), _model(seed)
        started = time.perf_counter()
        run = _fit(model, data, seed)
        seconds = time.perf_counter() - started
        _write(model, data, run, seed, folder, CHECKPOINT_EPOCHS if seed == 0 else (EPOCHS,))
        figures = data.accuracies(model)
        everything = next(e for e in range(1, EPOCHS + 1) if run.correct[e - 1 :].all())
        facts[str(seed)] = {**_rounded(figures), "all_right_from_epoch": everything}
        shares = ", ".join(f"{name} {share:.3f}" for name, share in figures.items())
        print(f"digits seed {seed}: {shares}; {seconds:.0f} s")
    recipe = {
        "recipe": RECIPE,
        "channels": CHANNELS,
        "hidden": HIDDEN,
        "epochs": EPOCHS,
        "batch_size": BATCH_SIZE,
        "learning_rate": LEARNING_RATE,
        "momentum": 0.9,
        "weight_decay": WEIGHT_DECAY,
        "checkpoint_epochs": CHECKPOINT_EPOCHS,
    }
    text = json.dumps({"recipe": recipe, "accuracy_by_seed": facts}, indent=2)
    with atomic_write(folder / "digits.json") as part:
        part.write_text(text + "\n", encoding="utf-8")
    return folder


def _model(seed: int) -> ConvNet:
    return ConvNet(CHANNELS, HIDDEN, CLASSES, seed=int(seed))


def _fit(model: ConvNet, data: Digits, seed: int) -> TrainingRun:
    return train(
        model,
        *data.training,
        epochs=EPOCHS,
        batch_size=BATCH_SIZE,
        learning_rate=LEARNING_RATE,
        weight_decay=WEIGHT_DECAY,
        seed=int(seed),
        checkpoint_epochs=CHECKPOINT_EPOCHS,
    )


def _path(folder: Path, seed: int, epoch: int) -> Path:
    return folder / f"digits-seed{seed}-epoch{epoch:02d}.safetensors"


def _stored(model: ConvNet, seed: int) -> weight_files.StoredCheckpoints | None:
    """Load stored weights into the model; None if the seed has yet to be trained."""
    shipped = seed in SHIPPED_SEEDS
    folder = SHIPPED if shipped else weight_files.cache_folder()
    last = _path(folder, seed, EPOCHS)
    if not shipped and not last.is_file():
        return None
    paths = {epoch: _path(folder, seed, epoch) for epoch in CHECKPOINT_EPOCHS}
    present = {epoch: path for epoch, path in paths.items() if path.is_file() or path == last}
    checkpoints = weight_files.StoredCheckpoints(present, {"recipe": RECIPE, "seed": str(seed)})
    try:
        model.load_state_dict(checkpoints[EPOCHS])
    except weight_files.DamagedWeights as error:
        if shipped:
            raise ValueError(
                f"The weights that come with memviz can't be used: {error}; install memviz "
                "again, or train them anew with `python -m memviz prepare`."
            ) from error
        warnings.warn(f"The cached weights are not used: {error}; training again.", stacklevel=3)
        return None
    return checkpoints


def _train_and_keep(model: ConvNet, data: Digits, seed: int) -> Mapping[int, Mapping[str, Tensor]]:
    folder = weight_files.cache_folder()
    announce(
        f"Training the digits study for seed {seed}: about {TRAINING_SECONDS} s on two cores, "
        f"once; the weights are kept in {folder}."
    )
    run = _fit(model, data, seed)
    try:
        _write(model, data, run, seed, folder, CHECKPOINT_EPOCHS)
    except OSError as error:
        model.load_state_dict(run.checkpoints[EPOCHS])  # it stopped at the checkpoint in hand
        warn_not_kept(error)
    return run.checkpoints


def _write(
    model: ConvNet,
    data: Digits,
    run: TrainingRun,
    seed: int,
    folder: Path,
    epochs: Iterable[int],
) -> None:
    """Write checkpoints with their accuracies, in half precision where no prediction changes."""
    for epoch in sorted(epochs):
        model.load_state_dict(run.checkpoints[epoch])
        before = predict(model, data.inputs)
        figures = {name: str(value) for name, value in _rounded(data.accuracies(model)).items()}
        about = {"recipe": RECIPE, "seed": str(seed), "epoch": str(epoch)}
        path = _path(folder, seed, epoch)
        for half in (True, False):
            weight_files.write(path, run.checkpoints[epoch], {**about, **figures}, half=half)
            model.load_state_dict(weight_files.read(path, about)[0])
            if torch.equal(predict(model, data.inputs), before):
                break


def _rounded(figures: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in figures.items()}
