"""The encoders demo on CIFAR-10: a small SimCLR pair, at most 15 minutes on one core.

400 shared, 200 candidate and 200 independent training images, 400 test images as the external set;
a network of four convolutions (32, 64, 64, 128 units); SimCLR's crops, flips and colour jitter. It
trains for 60 epochs; the paper uses 600 epochs and 50,000 images, so expect the direction of its
results, not their size. The linear probe is fitted on 1,000 other training images and tested on
1,000 test images.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from pathlib import Path

import torch
from torch import Tensor, nn

from memviz.data.augmentations import CropAndColour
from memviz.data.loaders import Cifar10, load_cifar10
from memviz.data.subsets import Subsets, four_subsets
from memviz.probes.deja_vu_ssl import CORNERS, SSLDejaVu, corner_crop, crops, ssl_test, symmetrised
from memviz.probes.encoders import ProbeAccuracy
from memviz.probes.encoders.experiments import prune
from memviz.probes.encoders.layers import layer_mem
from memviz.probes.encoders.units import unit_mem
from memviz.study import Study
from memviz.training.self_supervised import seeded, train_simclr

from ._measures import print_layers, print_pruning

SHARED, CANDIDATES, EXTERNAL, PROBE = 400, 200, 400, 1000
CHANNELS = (32, 64, 64, 128)
EPOCHS, BATCH_SIZE, LEARNING_RATE = 60, 100, 1e-3
AUGMENT = CropAndColour(smallest=0.4)
LAYERS = tuple(f"conv{k}" for k in range(1, 5))


def pair(images: Tensor, subsets: Subsets, seed: int, epochs: int) -> tuple[nn.Module, nn.Module]:
    """Target and reference, with the same initial weights, order and augmentations."""
    encoders = []
    for chosen in (subsets.target, subsets.reference):
        model = network(seed)
        train_simclr(model, images[chosen], AUGMENT, epochs=epochs, batch_size=BATCH_SIZE,
                     learning_rate=LEARNING_RATE, seed=seed)  # fmt: skip
        encoders.append(model)
    return encoders[0], encoders[1]


def network(seed: int) -> nn.Module:
    """Four convolutions with batch norm and ReLU, max-pooled after each of the first three."""

    def made() -> nn.Module:
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        before = 3
        for k, width in enumerate(CHANNELS, 1):
            parts[f"conv{k}"] = nn.Conv2d(before, width, 3, padding=1, bias=False)
            parts[f"bn{k}"], parts[f"relu{k}"] = nn.BatchNorm2d(width), nn.ReLU()
            if k < len(CHANNELS):
                parts[f"pool{k}"] = nn.MaxPool2d(2)
            before = width
        parts["mean"], parts["flatten"] = nn.AdaptiveAvgPool2d(1), nn.Flatten()
        return nn.Sequential(parts)

    return seeded(seed, made)


def drawn(data: Cifar10, seed: int) -> tuple[Tensor, Subsets, Tensor]:
    """Images (training, then test), the four subsets, and the training images left over."""
    images = torch.cat([data.inputs(), data.inputs(test=True)])
    sets = four_subsets(len(data.images), SHARED, CANDIDATES, CANDIDATES, 0, seed=seed)
    order = torch.randperm(len(data.test_images), generator=torch.Generator().manual_seed(seed))
    external = len(data.images) + order[:EXTERNAL]
    used = torch.cat([sets.target, sets.independent])
    unused = torch.ones(len(data.images), dtype=torch.bool)
    unused[used] = False
    subsets = Subsets(sets.shared, sets.candidate, sets.independent, external)
    return images, subsets, unused.nonzero()[:, 0]


def print_deja_vu(
    encoders: tuple[nn.Module, nn.Module],
    images: Tensor,
    labels: Tensor,
    subsets: Subsets,
    public: Tensor,
) -> None:
    """Print the DV score (Meehan et al. 2023): whether an image's corners reveal its label."""
    height, width = images.shape[2:]

    def corner_crops(rows: Tensor, fraction: float) -> tuple[Tensor, Tensor]:
        boxes = [corner_crop(height, width, fraction, corner) for corner in CORNERS]
        cut = [crops(images[rows], [box] * len(rows), (height, width)) for box in boxes]
        return torch.cat(cut), labels[rows].repeat(len(boxes))

    target, reference = (model.eval() for model in encoders)
    for fraction in (0.3, 0.5):
        known = images[public], labels[public]
        null = corner_crops(subsets.external, fraction)
        own, swapped = (
            ssl_test(*pair, *corner_crops(rows, fraction), *known, held_out=null, progress=False)
            for pair, rows in (
                ((target, reference), subsets.candidate),
                ((reference, target), subsets.independent),
            )
        )
        assert own.null is not None
        error = (_error(own) ** 2 + _error(swapped) ** 2) ** 0.5 / 2
        accuracies = "{:.3f} and {:.3f}".format(*own.accuracies())
        print(
            f"corners of {fraction:.0%} of each side: "
            f"DV {symmetrised(own, swapped):+.3f} ± {error:.3f}, "
            f"held out {own.null.dv:+.3f} ± {_error(own.null):.3f}; accuracy {accuracies}, "
            f"{len(own.labels)} crops, {len(public)} public images"
        )


def _error(test: SSLDejaVu) -> float:
    """Standard error of a DV score over images; an image's corners are averaged first."""
    gap = test.target.right(test.labels).double() - test.reference.right(test.labels).double()
    by_image = gap.view(len(CORNERS), -1).mean(0)
    return float(by_image.std() / len(by_image) ** 0.5)


def report(folder: str | Path, seed: int = 0, epochs: int = EPOCHS) -> None:
    """Train the pair and print LayerMem, the DV score, UnitMem and pruning.

    Parameters
    ----------
    folder : str or Path
        Folder of CIFAR-10, or of a part of it; see :func:`memviz.data.loaders.load_cifar10`.

    Raises
    ------
    FileNotFoundError
        If the folder does not hold CIFAR-10.
    """
    data = load_cifar10(folder)
    images, subsets, unused = drawn(data, seed)
    start = time.process_time()
    target, reference = pair(images, subsets, seed, epochs)
    print(
        f"CIFAR-10, SimCLR, seed {seed}: {subsets}, {epochs} epochs, "
        f"{time.process_time() - start:.0f} CPU seconds for both encoders"
    )
    for unit_norm in (True, False):
        result = layer_mem(target, reference, images, AUGMENT, subsets, unit_norm=unit_norm)
        print_layers("features of length 1" if unit_norm else "raw", result)
    labels = torch.cat([data.labels, data.test_labels])
    print_deja_vu((target, reference), images, labels, subsets, unused)
    training = {"training": torch.arange(len(subsets.target))}
    study = Study(target, images[subsets.target], labels[subsets.target], training)
    scores = unit_mem(study, LAYERS, AUGMENT)
    print(f"\n{scores}")
    first, rest = unused[:PROBE], torch.arange(len(data.images), len(images))[-PROBE:]
    accuracy = ProbeAccuracy(images[first], labels[first], images[rest], labels[rest])
    print_pruning([prune(study, scores, accuracy)])
