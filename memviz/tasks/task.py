"""The protocol of a task: what a probe needs to know about a model's outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from memviz.checks import checked

from ._judged import Judged, check_judged
from ._pick import holds
from .labels import class_labels

Inputs = Tensor | Mapping[str, Tensor]


class Task(Protocol):
    """Tells right from wrong: what a probe needs to know about a model's outputs.

    ``n`` is the number of examples; a task may be any object with these four methods, for example
    :class:`memviz.tasks.Classification`. It may have more: ``check_labels(labels, what)`` returns
    the labels of a study as the task judges them, or refuses them (without it, they are whole
    numbers, one per example); ``probabilities(outputs)`` returns ``[n, classes]``;
    ``label_words(labels, class_name)`` says each label in words; and ``margin_unit`` and
    ``loss_unit`` name the units. What the task depends on belongs in its attributes: effects saved
    with others are then refused.
    """

    def outputs(self, raw: Any) -> Tensor:
        """The tensor to judge, ``[n, ...]``, taken from whatever the model returned."""

    def predictions(self, outputs: Tensor) -> Tensor:
        """Predicted label of each example, like the labels: int64 ``[n]`` for classes."""

    def margin(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """How far each example is from the decision boundary, ``[n]``; right if above 0."""

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Loss of each example, ``[n]``."""


@runtime_checkable
class _ChecksLabels(Protocol):
    def check_labels(self, labels: Tensor, what: str) -> Tensor: ...


@checked
def check_labels(task: Task, labels: Tensor, what: str) -> Tensor:
    """Labels as the task judges them; whole numbers, one per example, unless it says otherwise.

    Parameters
    ----------
    task : Task
    labels : Tensor
    what : str
        ``"labels"`` or ``"true_labels"``.

    Raises
    ------
    ValueError
        If the task does not judge such labels.

    Examples
    --------
    >>> import torch
    >>> from memviz.tasks import Classification
    >>> check_labels(Classification(), torch.tensor([0.0, 2.0]), "labels")
    tensor([0, 2])
    """
    if isinstance(task, _ChecksLabels):
        return task.check_labels(labels, what)
    return class_labels(labels, what)


@checked
def are_right(task: Task, outputs: Tensor, labels: Tensor) -> Tensor:
    """Which examples get these labels, bool ``[n]``, on the CPU.

    Numbers to predict are got within the task's tolerance, classes if they are predicted.

    Examples
    --------
    >>> import torch
    >>> from memviz.tasks import Classification
    >>> are_right(Classification(), torch.tensor([[2.0, 1.0], [2.0, 1.0]]), torch.tensor([0, 1]))
    tensor([ True, False])
    """
    check_judged(outputs, labels)
    if labels.is_floating_point():
        return (task.margin(outputs, labels.to(outputs.device)) > 0).cpu()
    predicted = task.predictions(outputs)
    if predicted.shape != labels.shape:  # never broadcast: that would give pairs of examples
        raise ValueError(
            f"the labels have shape {tuple(labels.shape)} and the predictions "
            f"{tuple(predicted.shape)}; give one label per prediction."
        )
    agrees: Tensor = predicted.cpu() == labels.cpu()
    return agrees.flatten(1).all(1) if agrees.dim() > 1 else agrees


def judged(task: Task, raw: Any) -> Any:
    """The part of a model's output that the task judges; all of it where that cannot be told.

    Examples
    --------
    >>> import torch
    >>> from memviz.tasks import Classification
    >>> features, logits = torch.ones(2, 8), torch.ones(2, 3)
    >>> judged(Classification(outputs=1), (features, logits)) is logits
    True
    """
    if not isinstance(task, Judged):
        return raw
    picked = task.pick(raw)
    return picked if holds(raw, picked) else raw


@checked
def lost(task: Task, on: str) -> str:
    """What an effect is measured in: ``on`` is ``"margin"`` or ``"loss"``.

    Examples
    --------
    >>> from memviz.tasks import Classification, Regression
    >>> lost(Classification(), "margin"), lost(Regression(0.5), "loss")
    ('logits of margin lost', 'loss gained')
    """
    unit = getattr(task, f"{on}_unit", "")
    words = "margin lost" if on == "margin" else "loss gained"
    return f"{unit} of {words}" if unit else words
