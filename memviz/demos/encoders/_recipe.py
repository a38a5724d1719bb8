"""Self-supervised encoders of handwritten digits: a target, and a reference without 50 images.

Recipe. Of scikit-learn's 1,797 digits (8x8, scaled to [0, 1]), 100 are shared, 50 are candidates
(seen by the target only), 50 independent (seen by the reference only) and 200 external. A network
of four convolutions (24, 24, 48, 48 units, each with batch norm and ReLU, max pooling after the
second, average pooling at the end) is trained with SimCLR on one-pixel shifts and noise of 0.1:
Adam, cosine learning rate from 1e-3, weight decay 1e-4, temperature 0.5, batches of 75, 800 epochs.
Target and reference share initial weights, order and augmentations; only 50 images differ.

``how="masked"`` reconstructs masked patches instead, ``how="supervised"`` predicts labels, with the
target's images only. A seed draws subsets, weights, order and augmentation. Weights are rounded to
half precision after training, and all figures are of the rounded weights.

``python -m memviz.demos.encoders`` prints the figures of three seeds; ``... train`` trains the
shipped weights again; ``... cifar10 FOLDER`` trains a pair on CIFAR-10.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from memviz.data.augmentations import ShiftAndNoise
from memviz.data.subsets import Subsets, four_subsets
from memviz.study import Study
from memviz.training.loop import train
from memviz.training.self_supervised import seeded, train_masked, train_simclr

from .._kept import Kept, announce, folder_to_prepare, warn_not_kept

RECIPE = "encoders-1"  # Change it with any setting below: other stored weights are refused.
SHARED, CANDIDATES, INDEPENDENT, EXTERNAL = 100, 50, 50, 200
CHANNELS = (24, 24, 48, 48)
EPOCHS, BATCH_SIZE, LEARNING_RATE, WEIGHT_DECAY = 800, 75, 1e-3, 1e-4
AUGMENT = ShiftAndNoise(pixels=1, noise=0.1)
COPIES = 10  # augmented copies of each image to train the supervised network on
SHIPPED_SEEDS = (0,)
TRAINING_SECONDS = 90  # One encoder on one core, at most; printed before a training starts.
LAYERS = ("conv1", "conv2", "conv3", "conv4")

How = Literal["simclr", "masked", "supervised"]
Side = Literal["target", "reference"]
_LAST = f"epoch{EPOCHS}"
_SHIPPED: tuple[tuple[How, Side], ...] = (
    ("simclr", "target"), ("simclr", "reference"), ("supervised", "target")
)  # fmt: skip
MINUTES = len(_SHIPPED) * TRAINING_SECONDS / 60  # To prepare one seed, at most.


@dataclass(frozen=True, eq=False)
class Encoders:
    """A pair of encoders and the digits.

    Attributes
    ----------
    images : float32 ``[1797, 1, 8, 8]``
    labels : int64 ``[1797]``
    subsets : Subsets
    target, reference : nn.Sequential
        Layers ``conv1`` to ``conv4``; the output is 48 features. With ``how="supervised"`` the
        target outputs logits, and the reference is None.
    how : str
    seed : int
    """

    images: Tensor
    labels: Tensor
    subsets: Subsets
    target: nn.Sequential
    reference: nn.Sequential | None
    how: How
    seed: int
    augment: ShiftAndNoise = AUGMENT

    def study(self, side: Side = "target") -> Study:
        """An encoder with its training images and with those that neither encoder has seen.

        Groups: ``shared``, ``own`` (the target's candidates, or the reference's independent
        images) and ``test`` (seen by neither).

        Raises
        ------
        ValueError : ``side`` is the reference, and there is none.
        """
        model = self.target if side == "target" else self.reference
        if model is None:
            raise ValueError("there is no reference of the supervised network; use the target.")
        own = self.subsets.candidate if side == "target" else self.subsets.independent
        seen = torch.cat([self.subsets.target, self.subsets.independent])
        test = torch.ones(len(self.images), dtype=torch.bool)
        test[seen] = False
        kept = torch.cat([self.subsets.shared, own, test.nonzero()[:, 0]])
        sizes = {"shared": len(self.subsets.shared), "own": len(own), "test": int(test.sum())}
        groups, start = {}, 0
        for name, size in sizes.items():
            groups[name] = torch.arange(start, start + size)
            start += size
        return Study(
            model,
            self.images[kept],
            self.labels[kept],
            groups,
            class_names=[str(digit) for digit in range(10)],
            name=f"digit encoder ({self.how})",
            summary=f"4-conv encoder by {self.how} · {sizes['shared'] + sizes['own']} images",
            images=(self.images[kept, 0] * 255).byte().numpy(),
            origin=f"memviz.demos.encoders.load({self.seed}, {self.how!r}).study({side!r})",
        )


def load(seed: int = 0, how: How = "simclr") -> Encoders:
    """The encoders of a seed.

    SimCLR and supervised of seed 0 come with the package; others are trained on first use, at most
    a minute and a half an encoder on one core, and kept in the cache folder.

    Raises
    ------
    ValueError : the seed is not a whole number from 0 up, ``how`` is unknown, or the shipped
        weights are damaged.

    Examples
    --------
    >>> encoders = load(seed=0)
    >>> encoders.subsets, encoders.target(encoders.images[:5]).shape
    (Subsets(S_S 100, S_C 50, S_I 50, S_E 200), torch.Size([5, 48]))
    """
    if not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise ValueError(f"seed must be a whole number from 0 to 2**32 - 1, but got {seed!r}.")
    if how not in ("simclr", "masked", "supervised"):
        raise ValueError(f"how is 'simclr', 'masked' or 'supervised', but got {how!r}.")
    images, labels = digits()
    subsets = draw(seed)
    models = [_network(seed, how), _network(seed, how)]
    sides: tuple[Side, ...] = ("target",) if how == "supervised" else ("target", "reference")
    for side, model in zip(sides, models, strict=False):
        kept = _kept(seed, how, side)
        state = kept.read(_LAST)
        if state is None:
            announce(
                f"Training the {how} {side} of seed {seed}: at most {TRAINING_SECONDS} s on one "
                f"core, once; the weights are kept in {kept.folder}."
            )
            state = _trained(seed, how, side)
            try:
                kept.write(_LAST, state, half=True)
            except OSError as error:
                warn_not_kept(error)
        model.load_state_dict(state)
    reference = models[1].eval() if len(sides) == 2 else None
    return Encoders(images, labels, subsets, models[0].eval(), reference, how, seed)


def keep() -> None:
    """Load what the notebook loads; what does not ship is trained and kept."""
    hows: tuple[How, ...] = ("simclr", "supervised", "masked")
    for how in hows:
        load(0, how)


def digits() -> tuple[Tensor, Tensor]:
    """scikit-learn's digits: images float32 ``[1797, 1, 8, 8]`` in [0, 1], labels int64."""
    # Imported here because it takes a second.
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return torch.from_numpy(images.reshape(-1, 1, 8, 8) / 16).float(), torch.from_numpy(labels)


def draw(seed: int) -> Subsets:
    """The four subsets of a seed."""
    return four_subsets(1797, SHARED, CANDIDATES, INDEPENDENT, EXTERNAL, seed=seed)


def prepare(seeds: Iterable[int] = SHIPPED_SEEDS, folder: str | Path | None = None) -> Path:
    """Train from the recipe what ships with the package; returns its folder."""
    target = folder_to_prepare() if folder is None else Path(folder)
    for seed in seeds:
        for how, side in _SHIPPED:
            _kept(seed, how, side).write(_LAST, _trained(seed, how, side), target, half=True)
            print(f"encoders, seed {seed}, {how} {side}: written to {target}", flush=True)
    return target


def _network(seed: int, how: How) -> nn.Sequential:
    def made() -> nn.Module:
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        before = 1
        for k, width in enumerate(CHANNELS, 1):
            parts[f"conv{k}"] = nn.Conv2d(before, width, 3, padding=1, bias=False)
            parts[f"bn{k}"], parts[f"relu{k}"] = nn.BatchNorm2d(width), nn.ReLU()
            if k == 2:
                parts["pool"] = nn.MaxPool2d(2)
            before = width
        parts["mean"], parts["flatten"] = nn.AdaptiveAvgPool2d(1), nn.Flatten()
        if how == "supervised":
            parts["head"] = nn.Linear(before, 10)
        return nn.Sequential(parts)

    model = seeded(seed, made)
    assert isinstance(model, nn.Sequential)
    return model


def _kept(seed: int, how: How, side: Side) -> Kept:
    facts = {"recipe": RECIPE, "seed": str(seed), "how": how, "side": side}
    shipped = seed in SHIPPED_SEEDS and (how, side) in _SHIPPED
    return Kept(f"encoders-seed{seed}-{how}-{side}", facts, shipped)


def _trained(seed: int, how: How, side: Side) -> dict[str, Tensor]:
    """The state after training, rounded as it is stored."""
    images, labels = digits()
    chosen = draw(seed).target if side == "target" else draw(seed).reference
    model = _network(seed, how)
    if how == "supervised":
        generator = torch.Generator().manual_seed(seed)
        copies = AUGMENT(images[chosen].repeat(COPIES, 1, 1, 1), generator)
        train(
            model,
            copies,
            labels[chosen].repeat(COPIES),
            epochs=EPOCHS // COPIES,
            batch_size=BATCH_SIZE,
            learning_rate=0.05,
            weight_decay=WEIGHT_DECAY,
            seed=seed,
        )
    else:
        fit = train_simclr if how == "simclr" else partial(train_masked, masked=0.5)
        fit(
            model,
            images[chosen],
            augment=AUGMENT,
            epochs=EPOCHS,
            batch_size=BATCH_SIZE,
            learning_rate=LEARNING_RATE,
            weight_decay=WEIGHT_DECAY,
            seed=seed,
        )
    state = model.state_dict()
    return {k: v.half().float() if v.ndim > 1 else v.clone() for k, v in state.items()}
