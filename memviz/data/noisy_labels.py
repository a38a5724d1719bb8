"""Wrong labels on purpose: examples that can only be memorized, with their true labels kept."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def replace_labels(
    labels: Tensor, fraction: float, classes: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Replace a fraction of the labels by wrong ones.

    Exactly ``round(fraction * n)`` examples are drawn without replacement; each gets one of the
    other classes, all equally likely.

    Parameters
    ----------
    labels : integers ``[n]`` from 0 to ``classes - 1``; left unchanged.
    fraction : share to replace, from 0 to 1.
    classes : number of classes, at least 2.
    seed : fixes the draw; the global generator is not used.

    Returns
    -------
    noisy : int64 ``[n]``, the labels to train on.
    wrong : bool ``[n]``, True where the label was replaced.

    Raises
    ------
    ValueError : the labels, the fraction or the number of classes are out of range.

    Examples
    --------
    >>> truth = torch.arange(10)
    >>> noisy, wrong = replace_labels(truth, 0.3, classes=10, seed=0)
    >>> int(wrong.sum()), bool(((noisy != truth) == wrong).all())
    (3, True)
    """
    labels = torch.as_tensor(labels)
    if labels.ndim != 1 or labels.is_floating_point() or labels.dtype == torch.bool:
        raise ValueError(
            f"labels must be integers of shape [n], but got {labels.dtype} of shape "
            f"{list(labels.shape)}."
        )
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction must lie between 0 and 1, but got {fraction}.")
    if classes < 2:
        raise ValueError(f"a wrong label needs at least 2 classes, but got classes={classes}.")
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise ValueError(
            f"labels must lie between 0 and {classes - 1}, but they run from "
            f"{int(labels.min())} to {int(labels.max())}; give the right number of classes."
        )
    # NumPy has frozen RandomState's stream: the same seed gives the same labels in every version.
    generator = np.random.RandomState(seed)
    chosen = generator.permutation(len(labels))[: round(fraction * len(labels))]
    # Maini et al.'s (2023) released code draws up to classes - 2, which never uses one wrong class.
    offset = generator.randint(1, classes, size=len(chosen))
    where = torch.from_numpy(chosen).to(labels.device)
    noisy = labels.to(torch.long, copy=True)
    noisy[where] = (noisy[where] + torch.from_numpy(offset).to(labels.device)) % classes
    wrong = torch.zeros(len(labels), dtype=torch.bool, device=labels.device)
    wrong[where] = True
    return noisy, wrong
