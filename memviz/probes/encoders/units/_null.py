"""The null of UnitMem: the same network with random weights, where nothing was learned."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from memviz.study import Study
from memviz.training.batch_norm import recalibrate_batch_norm

_CALIBRATION = 1024  # most examples that batch-norm statistics are measured on


def random_network(study: Study, examples: Tensor, seed: int = 0) -> nn.Module:
    """A copy of a study's model with new random weights, batch norm measured on the examples.

    Every module is reinitialized. A parameter that no module initializes (a position embedding,
    say) is drawn from a normal distribution with its own mean and spread. With batch norm at mean 0
    and variance 1 a random network's units would be all on or all off and no null, so its
    statistics are measured. The global generator is restored.

    Parameters
    ----------
    study : Study
    examples : int64 ``[n]``
        Examples to measure batch norm on; the first 1,024 are used.
    seed : int

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
        torch.default_generator.manual_seed(seed)
        for module in model.modules():
            reset = getattr(module, "reset_parameters", getattr(module, "_reset_parameters", None))
            if callable(reset):
                reset()
        for name, parameter in model.named_parameters():
            old = before[name]
            varies = old.numel() > 1 and bool((old != old.flatten()[0]).any())
            if varies and torch.equal(parameter, old):
                drawn = torch.randn(old.shape).to(old)
                parameter.copy_(old.mean() + old.std() * drawn)
    model.to(study.device)
    if not any(_has_statistics(module) for module in model.modules()):
        return model.eval()
    measured = recalibrate_batch_norm(_OnExamples(model, study), examples[:_CALIBRATION])
    return measured.model


def _has_statistics(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats


class _OnExamples(nn.Module):
    """A model called with indices of a study's examples instead of their inputs."""

    model: nn.Module

    def __init__(self, model: nn.Module, study: Study) -> None:
        super().__init__()
        self.model, self._batch = model, study.batch

    def forward(self, examples: Tensor) -> Tensor:
        inputs = self._batch(examples)
        outputs: Tensor = self.model(**inputs) if isinstance(inputs, dict) else self.model(inputs)
        return outputs
