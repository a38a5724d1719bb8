"""Batch-norm statistics measured anew, for a network whose activations were changed."""

from __future__ import annotations

from copy import deepcopy
from typing import TypeVar

import torch
from torch import Tensor, nn

Model = TypeVar("Model", bound=nn.Module)


def recalibrate_batch_norm(model: Model, inputs: Tensor, *, batch_size: int = 256) -> Model:
    """A copy in evaluation mode whose batch-norm statistics are those of the inputs.

    Channels that are dropped for good shift the statistics of all that follows them. Here every
    batch norm forgets its running statistics and takes the mean over the batches, each layer after
    those before it; all else runs in evaluation mode, so example-tied dropout keeps its mode.
    Report accuracies with and without. (``torch.optim.swa_utils.update_bn`` does the same with the
    whole model in training mode, where dropout would be on.)

    Parameters
    ----------
    inputs : ``[n, ...]``, un-augmented training inputs; their labels are not used.
    batch_size : a last batch of fewer is left out, where there is another: batches count alike.

    Raises
    ------
    ValueError : the model has no batch norm with running statistics, or there are no inputs.

    Examples
    --------
    >>> model = torch.nn.Sequential(torch.nn.BatchNorm1d(1, momentum=0.5)).eval()
    >>> recalibrate_batch_norm(model, torch.tensor([[4.0], [6.0]]))[0].running_mean
    tensor([5.])
    """
    if len(inputs) == 0:
        raise ValueError("there are no inputs to measure batch-norm statistics of.")
    copied = deepcopy(model).eval()
    norms = [
        module
        for module in copied.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats
    ]
    if not norms:
        raise ValueError("the model has no batch norm with running statistics to measure anew.")
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches
        norm.train()
    batches = inputs.split(batch_size)
    with torch.no_grad():
        for batch in batches[: max(1, len(inputs) // batch_size)]:
            copied(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return copied.eval()
