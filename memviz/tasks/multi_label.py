"""Several labels: one logit per class, each class yes or no."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from memviz.checks import described

from ._judged import Judged, at_least_single, check_judged, right_is_positive


class MultiLabel(Judged):
    """One logit per class, above 0 where the example belongs to it; right if all are right.

    Labels are 0 or 1, ``[n, classes]``. The margin is the smallest signed logit (z where the label
    is 1, -z where it is 0), so an example is right exactly if every class is (exact match); a
    logit of exactly 0 predicts 0. The loss is binary cross-entropy in nats, the mean over classes.
    A model that returns probabilities has ``MultiLabel(outputs=torch.logit)``.

    Parameters
    ----------
    outputs : str, int or callable, optional
        Where the logits are in what the model returns, as in
        :class:`~memviz.tasks.Classification`.

    Examples
    --------
    >>> task, logits = MultiLabel(), torch.tensor([[2.0, -3.0], [2.0, 1.0]])
    >>> task.margin(logits, torch.tensor([[1, 0], [1, 0]]))
    tensor([ 2., -1.])
    """

    margin_unit, loss_unit = "logits", "nats"

    def outputs(self, raw: Any) -> Tensor:
        """Logits ``[n, classes]``.

        Raises
        ------
        ValueError
            If there are no floating-point logits, or several tensors could be them.
        """
        logits = self.pick(raw)
        if not isinstance(logits, Tensor) or logits.dim() != 2 or not logits.is_floating_point():
            given = (
                f"{logits.dtype} of shape {tuple(logits.shape)}"
                if isinstance(logits, Tensor)
                else type(raw).__name__
            )
            raise ValueError(
                f"the model returned {given}, not logits [examples, classes]; wrap it in a module "
                "whose forward returns the logits, or name them: "
                "task=mv.tasks.MultiLabel(outputs=...)."
            )
        return logits

    def predictions(self, outputs: Tensor) -> Tensor:
        """1 where a logit is above 0, int64 ``[n, classes]``."""
        return (outputs > 0).long()

    def margin(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """The smallest signed logit of each example, ``[n]``; above 0 exactly if all are right.

        Raises
        ------
        ValueError
            If the labels have another number of classes.
        """
        _check_classes(outputs, labels)
        logits = at_least_single(outputs)
        smallest = torch.where(labels == 1, logits, -logits).amin(1)
        return right_is_positive(smallest, (self.predictions(outputs) == labels).all(1))

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Binary cross-entropy in nats, mean over classes, ``[n]``."""
        _check_classes(outputs, labels)
        logits = at_least_single(outputs)
        losses = nn.functional.binary_cross_entropy_with_logits(
            logits, labels.to(logits.dtype), reduction="none"
        )
        return losses.mean(1)

    def check_labels(self, labels: Tensor, what: str) -> Tensor:
        """Labels as int64 ``[n, classes]``.

        Raises
        ------
        ValueError
            If they are not 0 or 1, one per class.
        """
        if labels.dim() != 2:
            raise ValueError(
                f"{what} has shape {tuple(labels.shape)}; mv.tasks.MultiLabel needs 0 or 1 for "
                "each example and class, [n, classes]."
            )
        outside = (labels != 0) & (labels != 1)
        if outside.any():
            raise ValueError(
                f"{what} holds {labels[outside][0].item():g}; mv.tasks.MultiLabel needs 0 or 1 for "
                "each example and class, [n, classes]."
            )
        return labels.long().cpu()

    def label_words(self, labels: Tensor, class_name: Callable[[int], str]) -> list[str]:
        """The names of each example's classes, joined by commas.

        Examples
        --------
        >>> MultiLabel().label_words(torch.tensor([[1, 1], [0, 0]]), ["cat", "dog"].__getitem__)
        ['cat, dog', 'none']
        """
        sets = [[class_name(k) for k in row.nonzero()[:, 0].tolist()] for row in labels]
        return [", ".join(names) or "none" for names in sets]


def _check_classes(outputs: Tensor, labels: Tensor) -> None:
    check_judged(outputs, labels)
    if outputs.dim() != 2 or labels.dim() != 2:
        raise ValueError(
            f"outputs is {described(outputs)} and labels {described(labels)}; give both as "
            "[n, classes]."
        )
    if outputs.shape != labels.shape:
        raise ValueError(
            f"the model gives {outputs.shape[1]} logits per example and the labels are of "
            f"{labels.shape[1]} classes; they must be equally many."
        )
