"""Classification: logits over classes, one label per example."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


class Classification:
    """Logits over classes: margin in logits, loss in nats.

    The margin is the logit of the given label minus the largest other logit.

    Examples
    --------
    >>> Classification().margin(torch.tensor([[3.0, 1.0, 2.0]]), torch.tensor([0]))
    tensor([1.])
    """

    def outputs(self, raw: Any) -> Tensor:
        """Logits ``[n, classes]`` from a tensor, a tuple, a dict or an object with ``.logits``.

        Raises
        ------
        ValueError
            If there are no floating-point logits of at least two classes.
        """
        logits = raw
        if isinstance(raw, Mapping):
            logits = raw.get("logits")
        elif not isinstance(raw, Tensor):
            first = raw[0] if isinstance(raw, tuple | list) and raw else raw
            logits = getattr(raw, "logits", first)
        is_table = isinstance(logits, Tensor) and logits.dim() == 2 and logits.shape[1] > 1
        if not isinstance(logits, Tensor) or not is_table or not logits.is_floating_point():
            given = (
                f"{logits.dtype} of shape {tuple(logits.shape)}"
                if isinstance(logits, Tensor)
                else type(raw).__name__
            )
            raise ValueError(
                f"the model returned {given}, not logits [examples, classes]; wrap it in a module "
                "whose forward returns the logits."
            )
        return logits

    def predictions(self, outputs: Tensor) -> Tensor:
        """Class of the largest logit, int64 ``[n]``."""
        return outputs.argmax(1)

    def margin(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Logit of the label minus the largest other logit, ``[n]``.

        Raises
        ------
        ValueError
            If a label has no logit.
        """
        classes = outputs.shape[1]
        if len(labels) and not (0 <= labels.min() and labels.max() < classes):
            outside = next(int(label) for label in labels if not 0 <= label < classes)
            raise ValueError(
                f"the model gives {classes} classes, 0 to {classes - 1}, and the labels hold "
                f"{outside}; give labels from 0 to {classes - 1}."
            )
        given = outputs.gather(1, labels[:, None])
        others = outputs.scatter(1, labels[:, None], -torch.inf)
        return given[:, 0] - others.amax(1)

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy in nats, ``[n]``."""
        return nn.functional.cross_entropy(outputs, labels, reduction="none")
