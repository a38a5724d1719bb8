"""Classification: logits over classes, one label per example."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from memviz.checks import coded, described

from ._judged import Judged, at_least_single, check_judged, check_outputs, right_is_positive
from ._pick import names_in
from .labels import class_labels


class Classification(Judged):
    """Logits over classes: margin in logits, loss in nats.

    The margin is the logit of the given label minus the largest other logit, in single precision
    at least. An example is right exactly if its label is the predicted one, and of classes whose
    logits tie the first is predicted, as ``argmax`` does; there the margin is the smallest
    positive number, so that right and "margin above 0" are the same everywhere. With a NaN among
    its logits, an example has no margin and counts as wrong.

    Parameters
    ----------
    outputs : str, int or callable, optional
        Where the logits are in what the model returns: a key or attribute, an index, or a function
        of it. By default the tensor itself, its ``logits``, or the only table in a tuple or list.

    Examples
    --------
    >>> Classification().margin(torch.tensor([[3.0, 1.0, 2.0]]), torch.tensor([0]))
    tensor([1.])
    >>> returned = (torch.ones(1, 8), torch.tensor([[3.0, 1.0, 2.0]]))  # features, logits
    >>> Classification(outputs=1).outputs(returned)
    tensor([[3., 1., 2.]])
    """

    margin_unit, loss_unit = "logits", "nats"

    def outputs(self, raw: Any) -> Tensor:
        """Logits ``[n, classes]`` from a tensor, a tuple, a dict or an object with ``.logits``.

        Raises
        ------
        ValueError
            If there are no floating-point logits of at least two classes, or several tensors could
            be the logits.
        """
        logits = self.pick(raw)
        is_table = isinstance(logits, Tensor) and logits.dim() == 2 and logits.shape[1] > 1
        if not isinstance(logits, Tensor) or not is_table or not logits.is_floating_point():
            raise ValueError(coded("E08", _no_logits(raw, logits)))
        return logits

    def predictions(self, outputs: Tensor) -> Tensor:
        """Class of the largest logit, int64 ``[n]``; the first of those that tie."""
        check_outputs(outputs, 2, "logits [n, classes]")
        return outputs.argmax(1)

    def margin(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Logit of the label minus the largest other logit, ``[n]``; above 0 exactly if predicted.

        Raises
        ------
        ValueError
            If a label has no logit.
        """
        labels = self._labels(outputs, labels)
        logits = at_least_single(outputs)
        given = logits.gather(1, labels[:, None])[:, 0]
        others = logits.scatter(1, labels[:, None], -torch.inf).amax(1)
        tied = given == others
        right = given > others
        if tied.any():  # looked for here alone: most logits do not tie
            right[tied] = self.predictions(outputs[tied]) == labels[tied]
        # Two infinite logits tie, too, and their difference is NaN.
        margin = torch.where(tied & given.isinf(), 0.0, given - others)
        return right_is_positive(margin, right)

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy in nats, ``[n]``, in single precision at least.

        Raises
        ------
        ValueError
            If a label has no logit.
        """
        labels = self._labels(outputs, labels)
        return nn.functional.cross_entropy(at_least_single(outputs), labels, reduction="none")

    def _labels(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """The labels as int64 that these logits know."""
        check_judged(outputs, labels)
        check_outputs(outputs, 2, "logits [n, classes]")
        if labels.dim() != 1 or labels.is_floating_point() or labels.dtype == torch.bool:
            raise ValueError(
                f"outputs is {described(outputs)} and labels {described(labels)}; give logits "
                "[n, classes] and whole numbers [n]."
            )
        classes = outputs.shape[1]
        if len(labels) and not (0 <= labels.min() and labels.max() < classes):
            outside = next(int(label) for label in labels if not 0 <= label < classes)
            raise ValueError(
                coded(
                    "E18",
                    f"the model gives {classes} classes, 0 to {classes - 1}, and the labels hold "
                    f"{outside}; give labels from 0 to {classes - 1}.",
                )
            )
        return labels.long()

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Probability of each class, ``[n, classes]``."""
        return at_least_single(outputs).softmax(1)

    def check_labels(self, labels: Tensor, what: str) -> Tensor:
        """Labels as int64 ``[n]``.

        Raises
        ------
        ValueError
            If they are not whole numbers, one per example.
        """
        return class_labels(
            labels, what, ", or task=mv.tasks.Regression(tolerance) if they are numbers to predict"
        )


def _no_logits(raw: Any, logits: Any) -> str:
    """Why there are no logits, and what to do."""
    if not isinstance(logits, Tensor):
        names = [repr(name) for name in names_in(raw)]
        example = ""
        if names:
            known = " or ".join(names)
            example = f", or name its entry, {known}: task=mv.Classification(outputs={names[0]})"
        return (
            f"the model returned {type(raw).__name__}, not logits [examples, classes]; wrap it in "
            f"a module whose forward returns the logits{example}."
        )
    given = f"the model returned {logits.dtype} of shape {tuple(logits.shape)}, not logits "
    if logits.is_floating_point() and (logits.dim() == 1 or logits.shape[1:] == (1,)):
        return (
            f"{given}[examples, classes]; use task=mv.tasks.Binary() for one logit per example, or "
            "task=mv.tasks.Regression(tolerance) for one number to predict."
        )
    if logits.is_floating_point() and logits.dim() > 2:
        return (
            f"{given}[examples, classes]; wrap it in a module whose forward returns the logits of "
            "one position, or name them: task=mv.Classification(outputs=lambda out: out[:, :, 0]) "
            "or out[:, 0], with the label of that position for each example."
        )
    return f"{given}[examples, classes]; wrap it in a module whose forward returns the logits."
