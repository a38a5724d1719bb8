"""Regression: numbers to predict, right within a tolerance."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memviz.checks import quoted

from ._judged import Judged, at_least_single, check_judged, check_outputs, finite_labels
from ._pick import Which


class Regression(Judged):
    """Numbers to predict: the margin is the tolerance minus the error, the loss the squared error.

    The labels of the study are the targets, floating-point ``[n]`` or ``[n, d]``. The error is the
    absolute difference, for several targets the largest of them, so an example is right exactly if
    each of its predictions is less than ``tolerance`` from its target. The loss is the mean of the
    squared errors over targets.

    Parameters
    ----------
    tolerance : float
        The error from which a prediction counts as wrong, in units of the targets.
    outputs : str, int or callable, optional
        Where the predictions are in what the model returns, as in
        :class:`~memviz.tasks.Classification`.

    Raises
    ------
    ValueError
        If the tolerance is not a positive number.

    Examples
    --------
    >>> import torch
    >>> task, outputs = Regression(0.5), torch.tensor([[3.25], [7.0]])
    >>> task.margin(task.outputs(outputs), torch.tensor([3.0, 6.0]))
    tensor([ 0.2500, -0.5000])
    """

    def __init__(self, tolerance: float, outputs: Which | None = None) -> None:
        super().__init__(outputs)
        if not isinstance(tolerance, int | float | np.floating) or not 0 < tolerance < math.inf:
            raise ValueError(f"tolerance is {quoted(tolerance)}; give a positive number.")
        self.tolerance: float = float(tolerance)

    def __repr__(self) -> str:
        given = "" if self.which is None else f", outputs={self.which!r}"
        return f"Regression({self.tolerance!r}{given})"

    def outputs(self, raw: Any) -> Tensor:
        """Predictions ``[n, d]``, with one target ``[n, 1]``.

        Raises
        ------
        ValueError
            If there are no floating-point predictions ``[n]`` or ``[n, d]``, or several tensors
            could be them.
        """
        values = self.pick(raw)
        is_table = isinstance(values, Tensor) and values.dim() in (1, 2)
        if not isinstance(values, Tensor) or not is_table or not values.is_floating_point():
            given = (
                f"{values.dtype} of shape {tuple(values.shape)}"
                if isinstance(values, Tensor)
                else type(raw).__name__
            )
            raise ValueError(
                f"the model returned {given}, not predictions [n] or [n, targets]; wrap it in a "
                "module whose forward returns them, or name them: "
                "task=mv.tasks.Regression(tolerance, outputs=...), for example a function that "
                "flattens them."
            )
        return values if values.dim() == 2 else values[:, None]

    def predictions(self, outputs: Tensor) -> Tensor:
        """The predicted numbers, ``[n, d]``, or ``[n]`` for one target."""
        check_outputs(outputs, 2, "predictions [n, targets]")
        return outputs[:, 0] if outputs.shape[1] == 1 else outputs

    def margin(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Tolerance minus the largest absolute error, ``[n]``; above 0 if right.

        Raises
        ------
        ValueError
            If there is another number of targets than of predictions.
        """
        largest: Tensor = _errors(outputs, labels).abs().amax(1)
        return self.tolerance - largest

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Squared error, mean over targets, ``[n]``."""
        return _errors(outputs, labels).square().mean(1)

    def check_labels(self, labels: Tensor, what: str) -> Tensor:
        """Targets as floating-point ``[n]`` or ``[n, d]``.

        Raises
        ------
        ValueError
            If they have another shape, or one is NaN or infinite.
        """
        if labels.dim() not in (1, 2):
            raise ValueError(
                f"{what} has shape {tuple(labels.shape)}; mv.tasks.Regression needs targets, [n] "
                "or [n, targets]."
            )
        return finite_labels(labels, what, "mv.tasks.Regression needs finite targets")

    def label_words(self, labels: Tensor, class_name: Callable[[int], str]) -> list[str]:
        """Each example's target and the tolerance.

        Examples
        --------
        >>> import torch
        >>> Regression(0.5).label_words(torch.tensor([3.25, 1 / 3]), str)
        ['3.25 ± 0.5', '0.333 ± 0.5']
        """
        targets = labels.reshape(len(labels), -1)
        # Rounded to a hundredth of the tolerance's leading digit.
        decimals = min(12, max(0, 2 - math.floor(math.log10(self.tolerance))))
        words = []
        for row in targets.tolist():
            shown = ", ".join(_rounded(value, decimals) for value in row[:3])
            listed = f"({shown}{', …' if len(row) > 3 else ''})" if len(row) > 1 else shown
            words.append(f"{listed} ± {self.tolerance:g}")
        return words


def _rounded(value: float, decimals: int) -> str:
    text = f"{round(value, decimals) + 0.0:.{decimals}f}"  # -0 is 0
    return text.rstrip("0").rstrip(".") if decimals else text


def _errors(outputs: Tensor, labels: Tensor) -> Tensor:
    """Predictions minus targets, ``[n, d]``."""
    check_judged(outputs, labels)
    check_outputs(outputs, 2, "predictions [n, targets]")
    targets = labels.flatten(1) if labels.dim() > 1 else labels[:, None]
    if targets.shape != outputs.shape:
        # Never broadcast: [n] and [n, 1] would give every pair of examples.
        raise ValueError(
            f"the model gives {outputs.shape[1]} predictions per example and the labels hold "
            f"{targets.shape[1]} targets; they must be equally many."
        )
    if labels.dtype == torch.bool:
        raise ValueError("the labels are bools; give the numbers to predict.")
    return at_least_single(outputs) - targets
