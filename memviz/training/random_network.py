"""A study's network with random weights, where nothing was learned: the null of unit measures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from memviz.checks import IndicesLike, Seed, checked
from memviz.study import Study, check_examples
from memviz.tasks.task import Inputs
from memviz.training.batch_norm import recalibrate_batch_norm

_CALIBRATION = 1024  # most examples that batch-norm statistics are measured on


@checked
def random_network(study: Study, examples: IndicesLike, seed: Seed = 0) -> nn.Module:
    """A copy of a study's model with new random weights, batch norm measured on the examples.

    Every module is reinitialized. A parameter that no module initializes (a position embedding,
    say) is drawn from a normal distribution with its own mean and spread. With batch norm at mean 0
    and variance 1 a random network's units would be all on or all off and no null, so its
    statistics are measured. The global generator is restored.

    Parameters
    ----------
    study : Study
    examples : int64 ``[n]``
        Examples to measure batch norm on, at least 2; of more than 1,024 a sample. Their order
        does not matter.
    seed : int

    Raises
    ------
    ValueError
        If the model keeps running statistics that are not batch norm's, or there are too few
        examples to measure them on.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    >>> study = Study(model, torch.randn(6, 4), torch.zeros(6), {"test": range(6)})
    >>> random = random_network(study, torch.arange(6))
    >>> bool((random[0].weight == model[0].weight).any())
    False
    """
    # On the CPU, so that a device's own generator stays untouched.
    model = deepcopy(study.model).cpu()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        # Twice: the weights of an untrained model may be those that this very seed draws.
        left = _reinitialized(model, seed + 1, before)
        left &= _reinitialized(model, seed, before)
        for name, parameter in model.named_parameters():
            old = before[name]
            varies = old.numel() > 1 and bool((old != old.flatten()[0]).any())
            if varies and name in left:
                drawn = torch.randn(old.shape).to(old)
                parameter.copy_(old.mean() + old.std() * drawn)
    return with_batch_norm_of(model.to(study.device).eval(), study, examples, seed)


def with_batch_norm_of(
    model: nn.Module, study: Study, examples: IndicesLike, seed: int = 0
) -> nn.Module:
    """A network with batch norm measured on a study's examples.

    A network without batch norm is returned as it is, one with batch norm is copied.

    Parameters
    ----------
    model : nn.Module
        In eval mode; takes the study's inputs.
    study, examples, seed
        As for :func:`random_network`; the seed draws the sample.

    Raises
    ------
    ValueError
        As for :func:`random_network`.

    Examples
    --------
    >>> study = Study(nn.Linear(1, 1).eval(), torch.tensor([[4.0], [6.0]]), [0, 0], {"a": [0, 1]})
    >>> norm = nn.BatchNorm1d(1, momentum=0.5).eval()
    >>> with_batch_norm_of(norm, study, torch.arange(2)).running_mean
    tensor([5.])
    """
    for name, module in model.named_modules():
        keeps = "running_mean" in dict(module.named_buffers(recurse=False))
        if keeps and not isinstance(module, _BatchNorm):
            raise ValueError(
                f"module {name or 'model'!r} is a {type(module).__name__}, whose running "
                "statistics memviz can't measure for random weights; leave out the null of random "
                "networks, or replace it by a plain batch norm."
            )
    if not any(isinstance(m, _BatchNorm) and m.track_running_stats for m in model.modules()):
        return model
    members = check_examples(study, examples).unique()
    if len(members) < 2:
        raise ValueError(
            f"batch norm can't be measured on {len(members)} example; give at least 2 examples."
        )
    # A sample in an order of its own: a study sorted by class would have batches of one class.
    order = torch.randperm(len(members), generator=torch.Generator().manual_seed(seed))
    sample = members[order[:_CALIBRATION]]
    return recalibrate_batch_norm(_OnExamples(replace(study, model=model)), sample).model


def without_initializer(model: nn.Module) -> list[str]:
    """Names of the modules that hold parameters and no function that initializes them.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
    >>> model.position = nn.Parameter(torch.zeros(4))
    >>> without_initializer(model)
    ['model']
    """
    return [
        name or "model"
        for name, module in model.named_modules()
        if _initializer(module) is None and next(module.parameters(recurse=False), None) is not None
    ]


def _reinitialized(model: nn.Module, seed: int, before: Mapping[str, Tensor]) -> set[str]:
    """Reinitialize every module; the parameters that are as they were before."""
    torch.default_generator.manual_seed(seed)
    for module in model.modules():
        if (reset := _initializer(module)) is not None:
            reset()
    return {name for name, weight in model.named_parameters() if torch.equal(weight, before[name])}


def _initializer(module: nn.Module) -> Callable[[], object] | None:
    reset = getattr(module, "reset_parameters", getattr(module, "_reset_parameters", None))
    return reset if callable(reset) else None


class _OnExamples(nn.Module):
    """A model called with indices of a study's examples instead of their inputs."""

    model: nn.Module

    def __init__(self, study: Study) -> None:
        super().__init__()

        def batch(examples: Tensor) -> Inputs:
            return study.batch(examples)

        # A function, since a copy of this module must not copy the study.
        self.model, self._batch = study.model, batch

    def forward(self, examples: Tensor) -> object:
        inputs = self._batch(examples)
        return self.model(**inputs) if isinstance(inputs, dict) else self.model(inputs)
