"""Captum's attributions by name, for any Study: of inputs, of layers, of a single unit."""

from __future__ import annotations

import copy
import difflib
import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from memviz.engine.record import Intervention
from memviz.engine.record import layers as layers_of
from memviz.engine.sets import ablate
from memviz.scores import Null, Scores
from memviz.study import Study, check_examples, check_study
from memviz.units import Layer, Unit, UnitSet, UnitsLike, check_units

from ._captum import (
    Outputs,
    by_unit,
    captum_layers,
    inputs_with_gradient,
    output_shape,
    ready_for_captum,
    unit_axis,
)

INPUT_METHODS = {
    "integrated_gradients": "IntegratedGradients",
    "saliency": "Saliency",
    "input_x_gradient": "InputXGradient",
    "deep_lift": "DeepLift",
    "guided_backprop": "GuidedBackprop",
    "occlusion": "Occlusion",
    "feature_ablation": "FeatureAblation",
}
LAYER_METHODS = {
    "conductance": "LayerConductance",
    "gradient_x_activation": "LayerGradientXActivation",
    "integrated_gradients": "LayerIntegratedGradients",
    "internal_influence": "InternalInfluence",
    "deep_lift": "LayerDeepLift",
    "activation": "LayerActivation",
}
UNIT_METHODS = {
    "conductance": "NeuronConductance",
    "gradient": "NeuronGradient",
    "integrated_gradients": "NeuronIntegratedGradients",
    "guided_backprop": "NeuronGuidedBackprop",
    "deep_lift": "NeuronDeepLift",
    "feature_ablation": "NeuronFeatureAblation",
}
_BATCH = 32


def attribute_inputs(
    study: Study,
    examples: Sequence[int] | Tensor,
    method: str = "integrated_gradients",
    *,
    targets: Tensor | None = None,
    units: UnitsLike = "",
    how: str | Intervention = "zero",
    n_steps: int = 50,
) -> Tensor:
    """Which parts of the input support the given label, optionally with units ablated.

    Parameters
    ----------
    study : Study
        Its inputs must be a single floating-point tensor.
    examples : int64 ``[n]``
    method : str
        A key of ``INPUT_METHODS``; Captum computes it, with a baseline of zero.
    targets : int64 ``[n]``, optional
        Classes to attribute; the given labels by default.
    units, how
        Units to ablate during the attribution, and the intervention.
    n_steps : int
        Steps of integrated gradients.

    Returns
    -------
    Tensor ``[n, ...]`` of the inputs' shape; positive values support the target.

    Raises
    ------
    ValueError
        If the method is unknown, or the inputs are not a single floating-point tensor.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(4, 3)).eval()
    >>> study = Study(model, torch.ones(2, 4), torch.zeros(2), {"test": range(2)})
    >>> attribute_inputs(study, [0], "input_x_gradient").shape
    torch.Size([1, 4])
    """
    import captum.attr

    name = _method(method, INPUT_METHODS, "an input")
    check_study(study)
    indices = check_examples(study, examples)
    inputs = inputs_with_gradient(study, indices)
    labels = study.labels[indices] if targets is None else torch.as_tensor(targets).long()
    arguments: dict[str, Any] = {"target": labels.to(study.device)}
    if name == "IntegratedGradients":
        arguments["n_steps"] = n_steps
    if name == "Occlusion":
        arguments["sliding_window_shapes"] = _window(inputs.shape[1:])
    with ready_for_captum(study.model), ablate(study, units, how):
        explainer = getattr(captum.attr, name)(Outputs(study))
        attributions: Tensor = explainer.attribute(inputs, **arguments)
    return attributions.detach()


def attribute_layers(
    study: Study,
    examples: Sequence[int] | Tensor,
    method: str = "conductance",
    *,
    layers: Sequence[str] | None = None,
    n_steps: int = 20,
    null_draws: int = 1,
    stop: Callable[[], bool] | None = None,
) -> Scores:
    """How much of the given labels' logits flows through each unit, averaged over the examples.

    Captum reads a layer's own module, before any normalization that follows it. Values are summed
    over a unit's positions.

    Parameters
    ----------
    study : Study
    examples : int64 ``[n]``
    method : str
        A key of ``LAYER_METHODS``.
    layers : sequence of str, optional
        By default all convolutions and linear layers except the output layer.
    n_steps : int
        Steps of the methods that integrate.
    null_draws : int
        Draws of the null: copies of the model with the values of each weight tensor shuffled. 0
        for none.
    stop : callable, optional
        Called before each layer; once it returns True, the remaining layers stay NaN.

    Raises
    ------
    ValueError
        If the method is unknown, a layer has attention heads, or the inputs are not a single
        floating-point tensor.
    UnknownLayerError
        If the study has no such layer.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    >>> study = Study(model, torch.ones(2, 4), torch.zeros(2), {"test": range(2)})
    >>> len(attribute_layers(study, [0, 1]))
    8
    """
    name = _method(method, LAYER_METHODS, "a layer")
    check_study(study)
    indices = check_examples(study, examples)
    chosen = captum_layers(study, layers)
    measured = partial(_layer_values, study, chosen, indices, name, n_steps, stop)
    values = measured(study.model)
    null = [measured(_shuffled(study.model, seed=draw)) for draw in range(null_draws)]
    shuffled = "the same model with the values of each weight tensor shuffled"
    return Scores(
        name=f"{method} of {len(indices)} examples",
        measure="logits of the given label, summed over positions, mean over the examples",
        values=values,
        units=tuple(unit for layer in chosen for unit in layer.all()),
        higher="carries the given labels",
        source=f"Captum {name}",
        null=Null(shuffled, np.stack(null)) if null else None,
    )


def attribute_unit(
    study: Study,
    unit: Unit | str,
    examples: Sequence[int] | Tensor,
    method: str = "conductance",
    *,
    n_steps: int = 20,
) -> Tensor:
    """Which parts of the input drive a single unit; the positions of a channel are summed.

    Parameters
    ----------
    study : Study
    unit : Unit or str
        For example ``"conv4:59"``.
    examples : int64 ``[n]``
    method : str
        A key of ``UNIT_METHODS``.
    n_steps : int
        Steps of the methods that integrate.

    Returns
    -------
    Tensor ``[n, ...]`` of the inputs' shape.

    Raises
    ------
    ValueError
        If the method is unknown, ``unit`` names several units, or the inputs are not a single
        floating-point tensor.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    >>> study = Study(model, torch.ones(2, 4), torch.zeros(2), {"test": range(2)})
    >>> attribute_unit(study, "0:5", [0], "gradient").shape
    torch.Size([1, 4])
    """
    import captum.attr

    name = _method(method, UNIT_METHODS, "a unit")
    units = UnitSet.of(unit)
    if len(units) != 1:
        raise ValueError(
            f"{str(units)!r} names {len(units)} units; attribute_unit takes exactly one."
        )
    layer_name, index = next(iter(check_units(units, layers_of(study))))
    layer = captum_layers(study, [layer_name])[0]
    check_study(study)
    indices = check_examples(study, examples)
    if method == "conductance":
        return _conductance(study, layer, index, indices, n_steps)

    def activation(output: Tensor) -> Tensor:
        return output.select(unit_axis(layer), index).reshape(len(output), -1).sum(1)

    arguments: dict[str, Any] = {"neuron_selector": activation}
    if name == "NeuronIntegratedGradients":
        arguments["n_steps"] = n_steps
    with ready_for_captum(study.model):
        module = study.model.get_submodule(layer.name)
        explainer = getattr(captum.attr, name)(Outputs(study), module)
        attributions: Tensor = explainer.attribute(
            inputs_with_gradient(study, indices), **arguments
        )
    return attributions.detach()


def _conductance(study: Study, layer: Layer, index: int, indices: Tensor, n_steps: int) -> Tensor:
    """Captum gives the conductance of one position; a unit's is the sum over its positions."""
    from captum.attr import NeuronConductance

    inputs = inputs_with_gradient(study, indices)
    module = study.model.get_submodule(layer.name)
    positions = list(output_shape(study, module, inputs[:1])[1:])
    positions.pop(0 if layer.kind == "conv" else -1)
    total, labels = torch.zeros_like(inputs), study.labels[indices].to(study.device)
    with ready_for_captum(study.model):
        explainer = NeuronConductance(Outputs(study), module)
        for position in np.ndindex(*positions):
            neuron = (index, *position) if layer.kind == "conv" else (*position, index)
            selector = neuron if len(neuron) > 1 else index
            attributions = explainer.attribute(inputs, selector, target=labels, n_steps=n_steps)
            total += attributions.detach()
    return total


def _layer_values(
    study: Study,
    layers: Sequence[Layer],
    indices: Tensor,
    name: str,
    n_steps: int,
    stop: Callable[[], bool] | None,
    model: nn.Module,
) -> np.ndarray:
    import captum.attr

    values = []
    with ready_for_captum(model):
        for layer in layers:
            if stop is not None and stop():
                values.append(np.full(layer.units, np.nan))
                continue
            total = torch.zeros(layer.units, dtype=torch.float64)
            module = model.get_submodule(layer.name)
            explainer = getattr(captum.attr, name)(Outputs(study, model), module)
            parameters = inspect.signature(explainer.attribute).parameters
            for batch in indices.split(_BATCH):
                options = {"target": study.labels[batch].to(study.device), "n_steps": n_steps}
                arguments = {key: option for key, option in options.items() if key in parameters}
                attributions = explainer.attribute(inputs_with_gradient(study, batch), **arguments)
                attributions = attributions[0] if isinstance(attributions, tuple) else attributions
                total += by_unit(attributions, layer).sum(0)
            values.append((total / len(indices)).numpy())
    return np.concatenate(values)


def _method(method: str, known: dict[str, str], of: str) -> str:
    if method not in known:
        near = difflib.get_close_matches(method, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise ValueError(
            f"{method!r} is not an attribution of {of}; choose from {', '.join(known)}{hint}"
        )
    return known[method]


def _window(shape: torch.Size) -> tuple[int, ...]:
    side = max(1, shape[-1] // 8)
    return (shape[0], *(min(side, size) for size in shape[1:])) if len(shape) > 1 else (1,)


def _shuffled(model: nn.Module, seed: int) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    shuffled = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in shuffled.parameters():
            order = torch.randperm(parameter.numel(), generator=generator)
            parameter.copy_(parameter.flatten()[order.to(parameter.device)].view_as(parameter))
    return shuffled
