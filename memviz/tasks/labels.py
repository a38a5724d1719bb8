"""Labels that are classes, and one sentence for those that are not."""

from __future__ import annotations

import math

from torch import Tensor

from memviz.checks import coded


def class_labels(labels: Tensor, what: str, otherwise: str = "") -> Tensor:
    """Whole numbers, one per example, int64 ``[n]``.

    Parameters
    ----------
    labels : ``[n]``
    what : str
        ``"labels"`` or ``"true_labels"``.
    otherwise : str
        What the sentence about numbers that are not whole says further.

    Raises
    ------
    ValueError
        If there is more than one number per example, or one is not whole.

    Examples
    --------
    >>> import torch
    >>> class_labels(torch.tensor([0.0, 2.0]), "labels")
    tensor([0, 2])
    """
    if labels.dim() == 0:
        raise ValueError(f"{what} is a single number; give one label per example, [n].")
    if labels.dim() != 1:
        raise ValueError(
            f"{what} has shape {tuple(labels.shape)}; give one label per example, [n]"
            + _several(labels)
        )
    whole = labels.long()
    if (labels != whole).any():
        value = labels[labels != whole][0].item()
        ending = otherwise if math.isfinite(value) else ""
        raise ValueError(
            coded(
                "E19",
                f"{what} holds {value:g}, which is not a class; give whole numbers, [n]{ending}.",
            )
        )
    return whole.cpu()


def _several(labels: Tensor) -> str:
    if labels.dim() != 2:
        pass
    elif labels.shape[1] == 1:
        return ": labels[:, 0]."
    elif ((labels == 0) | (labels == 1)).all():
        return (
            " (labels.argmax(1) if they are one-hot), or task=mv.tasks.MultiLabel() if an example "
            "may belong to several classes."
        )
    return (
        "; to judge one position of several, take its label and name its logits: "
        "task=mv.Classification(outputs=lambda out: ...)."
    )
