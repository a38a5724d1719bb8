"""What is compared must fit: inputs, labels and widths, before anything is built of them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from memviz.checks import described
from memviz.tasks.labels import class_labels

_MOST_CLASSES = 10_000
_MOST_BYTES = 2 * 2**30


def checked_examples(
    inputs: Tensor, labels: Tensor, name: str = "inputs", labels_name: str = "labels"
) -> tuple[Tensor, Tensor]:
    """Inputs as float64 ``[n, d]`` and labels as int64 ``[n]``, both on the CPU.

    Raises
    ------
    ValueError
        If there are none, something is not finite, or the labels are no classes of these inputs.
    """
    if inputs.dim() < 2 or not inputs.numel():
        raise ValueError(f"{name} is {described(inputs)}; give [n, ...], at least one row.")
    x = inputs.flatten(1).cpu().double()  # no float64 on MPS
    if not x.isfinite().all():
        row = int((~x.isfinite()).any(1).nonzero()[0])
        raise ValueError(f"{name} holds a number that is not finite, in row {row}; leave it out.")
    if labels.dim() != 1 or not len(labels):
        raise ValueError(f"{labels_name} is {described(labels)}; give one class per row, [n].")
    y = class_labels(labels, labels_name).cpu()
    if len(y) != len(x):
        raise ValueError(
            f"{labels_name} has {len(y):,} entries for {len(x):,} {name}; give one for each."
        )
    if int(y.min()) < 0 or int(y.max()) >= _MOST_CLASSES:
        wrong = int(y.min()) if int(y.min()) < 0 else int(y.max())
        raise ValueError(
            f"{labels_name} holds {wrong}; give classes from 0, at most {_MOST_CLASSES:,} of them."
        )
    return x, y


def checked_classes(labels: Tensor) -> int:
    """How many classes there are.

    Raises
    ------
    ValueError
        If all labels are the same.
    """
    if len(labels.unique()) < 2:
        raise ValueError(
            f"all {len(labels):,} labels are {int(labels[0])}: every network fits them; give "
            "examples of at least two classes."
        )
    return int(labels.max()) + 1


def checked_widths(widths: Sequence[int], features: int, layers: int = 2) -> list[int]:
    """Widths, for networks with so many hidden layers of them.

    Raises
    ------
    ValueError
        If there are none, one comes twice, or a network would be too large.
    """
    listed = list(widths)
    if not listed or len(set(listed)) < len(listed):
        raise ValueError(f"widths is {listed[:20]}; give at least one, and each once.")
    widest = max(listed)
    # Adam holds two numbers for each weight and its gradient.
    size = 4 * 8 * (widest * features + (layers - 1) * widest**2)
    if size > _MOST_BYTES:
        raise ValueError(
            f"a width of {widest:,} takes {size / 2**30:,.1f} GB to train, and "
            f"{_MOST_BYTES / 2**30:.0f} GB is the most; give a narrower one."
        )
    return listed


def checked_size(points: int, features: int) -> None:
    """Refuse more points than memory holds.

    Raises
    ------
    ValueError
        If they take too much.
    """
    size = 8 * points * features
    if size > _MOST_BYTES:
        raise ValueError(
            f"{points:,} points of {features:,} features take {size / 2**30:,.1f} GB, and "
            f"{_MOST_BYTES / 2**30:.0f} GB is the most; give fewer."
        )
