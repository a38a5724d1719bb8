"""The digits of both trainings, and the networks that are trained on them."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from memviz.data.noisy_labels import replace_labels
from memviz.demos import digits
from memviz.models.logic_gates import (
    DenseGates,
    GroupSum,
    Thresholds,
    TreeConv,
    logic_dense_net,
)

THRESHOLDS = (0.2, 0.4, 0.6, 0.8)
NOISY, WRONG, WIDTHS = 400, 0.2, (3000, 3000, 3000)
CLEAN = 1347  # training images of the published design
CLASSES = digits.CLASSES

Init = Literal["residual", "gaussian"]
# Leaves of any channel, two initializations; and the published routing, two channels a tree.
Variant = Literal["residual", "gaussian", "two channels"]


def noisy_digits(seed: int = 0) -> digits.Digits:
    """400 training images, 80 of them with wrong labels, and 1,397 test images.

    Examples
    --------
    >>> {name: int(mask.sum()) for name, mask in noisy_digits(seed=0).groups.items()}
    {'wrong': 80, 'clean': 320, 'test': 1397}
    """
    drawn = digits.examples(seed)
    labels, wrong = drawn.true_labels.clone(), torch.zeros(len(drawn.labels), dtype=torch.bool)
    labels[:NOISY], wrong[:NOISY] = replace_labels(labels[:NOISY], WRONG, CLASSES, seed)
    test = torch.arange(len(labels)) >= NOISY
    groups = {"wrong": wrong, "clean": ~wrong & ~test, "test": test}
    return digits.Digits(drawn.inputs, labels, drawn.true_labels, groups)


def clean_digits(seed: int = 0) -> digits.Digits:
    """1,347 training and 450 test images with their true labels."""
    drawn = digits.examples(seed)
    test = torch.arange(len(drawn.labels)) >= CLEAN
    groups = {"training": ~test, "test": test}
    return digits.Digits(drawn.inputs, drawn.true_labels, drawn.true_labels, groups)


def dense_network(seed: int = 0, init: Init = "residual") -> nn.Sequential:
    """Three layers of 3,000 gates, and 300 votes for each class."""
    return logic_dense_net(64, WIDTHS, CLASSES, thresholds=THRESHOLDS, init=init, seed=seed)


def tree_network(seed: int = 0, variant: Variant = "residual") -> nn.Sequential:
    """The published design but for its routing, for 8x8 pixels.

    Two tree convolutions, each pooled by OR, and two layers: 3,264 gates, 64 votes for each class.
    A tree's leaves read any channel; with ``"two channels"`` they are routed as published.
    """
    init: Init = "gaussian" if variant == "gaussian" else "residual"
    few, groups = (2, 8) if variant == "two channels" else (None, 1)
    inputs = len(THRESHOLDS)
    return nn.Sequential(
        Thresholds(THRESHOLDS),
        TreeConv(inputs, 64, padding=1, tree_channels=few, init=init, seed=seed * 1_000),
        nn.MaxPool2d(2),
        TreeConv(
            64,
            128,
            padding=1,
            groups=groups,
            tree_channels=few,
            init=init,
            seed=seed * 1_000 + 1,
        ),
        nn.MaxPool2d(2),
        nn.Flatten(),
        DenseGates(512, 1280, init=init, seed=seed * 1_000 + 100),
        DenseGates(1280, 640, init=init, seed=seed * 1_000 + 101),
        GroupSum(CLASSES, tau=8.0),
    )
