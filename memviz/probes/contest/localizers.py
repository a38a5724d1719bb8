"""Localizers built on the engine: exact and estimated effects, a search, activations, gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from memviz.engine.activations import UnitActivations
from memviz.engine.record import layers as layers_of
from memviz.engine.sets import greedy
from memviz.engine.sweep import estimate, sweep
from memviz.scores import Scores
from memviz.study import Study, private, sides
from memviz.units import Unit


def exact_ablation(study: Study) -> Scores:
    """Margin lost to each unit's exact ablation: on memorized examples minus on clean ones.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    >>> groups = {"memorized": range(2), "clean": range(2, 6)}
    >>> len(exact_ablation(Study(model, torch.randn(6, 4), torch.zeros(6), groups)))
    8
    """
    return sweep(study, examples=torch.cat(sides(study)), progress=False).scores()


def gradient_estimate(study: Study) -> Scores:
    """The same to first order: gradient × activation of the margins."""
    return replace(estimate(study, examples=torch.cat(sides(study))).scores(), exact=None)


def greedy_search(study: Study, size: int = 32, evaluations: int = 4) -> Scores:
    """Units in the order in which a greedy search picks them, then the rest by their estimate.

    Parameters
    ----------
    study : Study
    size : int
        The largest number of units to search for.
    evaluations : int
        Exact evaluations per unit of that number.
    """
    examples = torch.cat(sides(study))
    first = estimate(study, examples=examples).scores()
    assert first.units is not None
    size = min(size, len(first))
    path = greedy(
        study, size, examples=examples, budget=evaluations * size, random_draws=0, progress=False
    )
    # From 0 to below 1 by the estimate, then the path's units from its last to its first.
    values = np.empty(len(first))
    values[np.argsort(first.values, kind="stable")] = np.arange(len(first)) / len(first)
    rows = {unit: row for row, unit in enumerate(first.units)}
    for place, unit in enumerate(path.order):
        values[rows[unit]] = len(path.order) - place
    return Scores(
        name="greedy search",
        measure="place in the order, counted from its end",
        values=values,
        units=first.units,
        source="memviz: greedy search over sets, each step evaluated exactly",
    )


def activation(study: Study) -> Scores:
    """Mean absolute activation on memorized examples minus that on clean ones."""
    means: list[Tensor] = []
    units: tuple[Unit, ...] = ()
    for examples in sides(study):
        stream = UnitActivations(study, examples=examples)
        total = sum(values.abs().double().sum(0) for _, values in stream.chunks())
        means.append(torch.as_tensor(total) / len(examples))
        units = stream.units
    return Scores(
        name="activation",
        measure="mean absolute activation, memorized − clean",
        values=(means[0] - means[1]).numpy(),
        units=units,
        source="memviz: how strongly a unit fires",
    )


def unit_tracin(study: Study) -> Scores:
    """Self-influence through one unit's own weights, on memorized examples minus clean ones.

    TracIn (Pruthi et al. 2020) is the product of two examples' loss gradients; for an example with
    itself that is the squared norm. Restricting it to the weights and the bias of one unit, at the
    trained weights alone, is our definition. Only channels of convolutions and features of linear
    layers have a value; other units are NaN.
    """
    study = private(study)  # functional_call puts tensors into the modules for a while
    known = [layer for layer in layers_of(study) if not layer.is_output]
    modules = {la.name: study.model.get_submodule(la.name) for la in known if la.is_plain}
    plain = [
        name
        for name, module in modules.items()
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)
    ]
    weights = {
        f"{name}.{key}": value.detach().clone().requires_grad_()
        for name in plain
        for key, value in modules[name].named_parameters(recurse=False)
    }
    if not weights:
        raise ValueError(
            "TracIn of a unit reads the weights of convolutions and linear layers, and this model "
            "has none before its output layer; choose another localizer."
        )
    means = [_squared_gradients(study, weights, examples) for examples in sides(study)]
    values = []
    for layer in known:
        parts = [means[0][key] - means[1][key] for key in weights if _owner(key) == layer.name]
        values.append(torch.stack(parts).sum(0) if parts else torch.full((layer.units,), torch.nan))
    return Scores(
        name="TracIn of a unit",
        measure="squared norm of the loss gradient, memorized − clean",
        values=torch.cat(values).double().numpy(),
        units=tuple(unit for layer in known for unit in layer.all()),
        source="memviz, after Pruthi et al. 2020: self-influence restricted to a unit's weights",
    )


def _squared_gradients(
    study: Study, weights: Mapping[str, Tensor], examples: Tensor
) -> dict[str, Tensor]:
    """Each unit's squared gradient, mean over the examples: ``[units]`` for every parameter."""
    total = {key: torch.zeros(len(value), dtype=torch.float64) for key, value in weights.items()}
    for example in examples.tolist():
        index = torch.tensor([example])
        inputs = study.batch(index)
        given = ((), inputs) if isinstance(inputs, Mapping) else (inputs, {})
        raw = functional_call(study.model, dict(weights), *given)
        loss = study.task.loss(study.task.outputs(raw), study.labels[index].to(study.device)).sum()
        slopes = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
        for (key, value), slope in zip(weights.items(), slopes, strict=True):
            if slope is not None:
                total[key] += slope.double().square().reshape(len(value), -1).sum(1).cpu()
    return {key: value / len(examples) for key, value in total.items()}


def _owner(parameter: str) -> str:
    return parameter.rpartition(".")[0]


LOCALIZERS: dict[str, Callable[[Study], Scores]] = {
    "exact ablation": exact_ablation,
    "greedy search": greedy_search,
    "estimate": gradient_estimate,
    "TracIn of a unit": unit_tracin,
    "activation": activation,
}
LOOKS_AT = {
    **dict.fromkeys(("exact ablation", "greedy search", "estimate"), "effects"),
    "TracIn of a unit": "gradients",
    "activation": "activations",
}
