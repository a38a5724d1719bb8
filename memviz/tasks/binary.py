"""Binary: one logit per example, labels 0 and 1."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .classification import Classification
from .labels import class_labels


class Binary(Classification):
    """One logit z per example, above 0 for label 1: margin z or -z in logits, loss in nats.

    The outputs are the logits -z/2 and z/2 of the two classes, so everything defined for
    classes holds: the margin of label 1 is z, that of label 0 is -z, the loss is binary
    cross-entropy, and the probability of class 1 is the sigmoid of z. Attributions explain the
    logit of the given class, half of z or of -z. A logit of exactly 0 predicts class 0.

    A model that returns probabilities has ``Binary(outputs=torch.logit)``.

    Parameters
    ----------
    outputs : str, int or callable, optional
        Where the logit is in what the model returns, as in
        :class:`~memviz.tasks.Classification`.

    Examples
    --------
    >>> task = Binary()
    >>> outputs = task.outputs(torch.tensor([[2.0], [-1.0]]))
    >>> task.margin(outputs, torch.tensor([1, 1])), task.predictions(outputs)
    (tensor([ 2., -1.]), tensor([1, 0]))
    """

    def outputs(self, raw: Any) -> Tensor:
        """Logits ``[n, 2]`` of a logit per example, ``[n]`` or ``[n, 1]``.

        Raises
        ------
        ValueError
            If there is no floating-point logit per example, or several tensors could be it.
        """
        logit = self.pick(raw)
        if not isinstance(logit, Tensor) or not logit.is_floating_point():
            given = logit.dtype if isinstance(logit, Tensor) else type(raw).__name__
            raise ValueError(
                f"the model returned {given}, not one logit per example, [n] or [n, 1]; wrap it in "
                "a module whose forward returns it, or name it: task=mv.tasks.Binary(outputs=...)."
            )
        if logit.dim() != 1 and logit.shape[1:] != (1,):
            raise ValueError(
                f"the model returned {logit.dtype} of shape {tuple(logit.shape)}, not one logit "
                "per example, [n] or [n, 1]; use task=mv.Classification() for a logit per class, "
                "or task=mv.tasks.MultiLabel() if an example may belong to several classes."
            )
        half = logit.reshape(-1) / 2
        return torch.stack([-half, half], 1)

    def check_labels(self, labels: Tensor, what: str) -> Tensor:
        """Labels 0 and 1 as int64 ``[n]``, from ``[n]`` or ``[n, 1]``.

        Raises
        ------
        ValueError
            If there are other labels.
        """
        if labels.dim() == 2 and labels.shape[1] == 1:
            labels = labels[:, 0]
        labels = class_labels(labels, what)
        outside = (labels != 0) & (labels != 1)
        if outside.any():
            raise ValueError(
                f"{what} holds {int(labels[outside][0])}; mv.tasks.Binary needs labels 0 and 1."
            )
        return labels
