"""Density: how much likelier a model finds each example than models trained without it do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ._judged import Judged, at_least_single, check_judged, finite_labels


class Density(Judged):
    """A model of a density: the margin is log p(x) minus what models trained without x say.

    The model returns log p(x) of each example in nats, ``[n]``. The labels of the study are the
    held-out log-likelihoods, floating-point ``[n]``: the logarithm of the mean density that models
    give x when it was not in their training set, ``V`` of
    :meth:`memviz.probes.density.CrossFit.held_out`. The margin is then the memorization score M in
    nats (van den Burg & Williams 2021, section 3) with this one model in place of the average over
    trainings, and it moves when units are ablated. An example is right, "memorized", if its margin
    is above 0; half of all examples are where nothing is memorized, so read the margins. The loss
    is the negative log-likelihood in nats.

    Parameters
    ----------
    outputs : str, int or callable, optional
        Where log p(x) is in what the model returns, as in
        :class:`~memviz.tasks.Classification`.

    Examples
    --------
    >>> import torch
    >>> task = Density()
    >>> outputs = task.outputs(torch.tensor([-20.0, -25.0]))
    >>> task.margin(outputs, torch.tensor([-53.0, -24.0])), task.loss(outputs, torch.zeros(2))
    (tensor([33., -1.]), tensor([20., 25.]))
    """

    margin_unit, loss_unit = "nats", "nats"
    right_word = "above held-out"

    def outputs(self, raw: Any) -> Tensor:
        """Log p(x) of each example, ``[n]``, from ``[n]`` or ``[n, 1]``.

        Raises
        ------
        ValueError
            If there is no floating-point number per example, one is NaN, or several tensors could
            be it.
        """
        values = self.pick(raw)
        fits = isinstance(values, Tensor) and (values.dim() == 1 or values.shape[1:] == (1,))
        if not fits or not values.is_floating_point() or values.is_meta:
            given = (
                f"{values.dtype} on {values.device} of shape {tuple(values.shape)}"
                if isinstance(values, Tensor)
                else type(raw).__name__
            )
            raise ValueError(
                f"the model returned {given}, not log p(x) of each example, [n]; wrap it in a "
                "module whose forward returns it, or name it: "
                "task=mv.tasks.Density(outputs=lambda out: ...)."
            )
        flat: Tensor = values.reshape(-1)
        if flat.isnan().any():
            raise ValueError(
                "log p(x) is NaN for "
                f"{int(flat.isnan().sum())} of {len(flat)} examples; a density must be a number, "
                "-inf where it is 0: check the images and the weights."
            )
        return flat

    def predictions(self, outputs: Tensor) -> Tensor:
        """Log p(x) itself, ``[n]``."""
        return outputs

    def margin(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Log p(x) minus the held-out log-likelihood, in nats, ``[n]``.

        Raises
        ------
        ValueError
            If there is not one label per example.
        """
        self._check(outputs, labels)
        return at_least_single(outputs) - labels

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Negative log-likelihood in nats, ``[n]``."""
        self._check(outputs, labels)
        return -at_least_single(outputs)

    def check_labels(self, labels: Tensor, what: str) -> Tensor:
        """Held-out log-likelihoods as floating-point ``[n]``.

        Raises
        ------
        ValueError
            If they have another shape, or one is NaN or infinite.
        """
        if labels.dim() != 1:
            raise ValueError(
                f"{what} has shape {tuple(labels.shape)}; mv.tasks.Density needs the held-out "
                "log-likelihood of each example, [n]."
            )
        return finite_labels(labels, what, "mv.tasks.Density needs finite held-out log-likelihoods")

    def label_words(self, labels: Tensor, class_name: Callable[[int], str]) -> list[str]:
        """The held-out log-likelihood of each example.

        Examples
        --------
        >>> import torch
        >>> Density().label_words(torch.tensor([-53.04]), str)
        ['-53.0 nats held out']
        """
        return [f"{value:.1f} nats held out" for value in labels.tolist()]

    def _check(self, outputs: Tensor, labels: Tensor) -> None:
        check_judged(outputs, labels)
        if labels.shape != outputs.shape:
            # Never broadcast: [n] and [n, 1] would give every pair of examples.
            raise ValueError(
                f"the labels have shape {tuple(labels.shape)} and log p(x) {tuple(outputs.shape)}; "
                "give one held-out log-likelihood per example, [n]."
            )
        if torch.bool in (outputs.dtype, labels.dtype):
            raise ValueError(
                "log p(x) or its label is a bool; give log-likelihoods as floats, [n]."
            )
