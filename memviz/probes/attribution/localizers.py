"""Localizers built on Captum: one value per unit, memorized examples minus clean ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from memviz.engine.record import layers as layers_of
from memviz.scores import Scores
from memviz.study import Study, sides
from memviz.units import Layer

from ._attribute import attribute_layers
from ._captum import (
    Outputs,
    by_unit,
    captum_layers,
    inputs_with_gradient,
    output_shape,
    ready_for_captum,
    unit_axis,
)

_STEPS = 10  # of the methods that integrate
_BATCH = 120


def layer_attribution(study: Study, method: str) -> Scores:
    """One of Captum's layer attributions, of the logit of the given label.

    Parameters
    ----------
    study : Study
    method : str
        A key of :data:`memviz.probes.attribution.LAYER_METHODS`.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    >>> groups = {"memorized": range(2), "clean": range(2, 6)}
    >>> study = Study(model, torch.randn(6, 4), torch.zeros(6), groups)
    >>> len(layer_attribution(study, "conductance"))
    8
    """
    memorized, clean = (
        attribute_layers(study, examples, method, n_steps=_STEPS, null_draws=0)
        for examples in sides(study)
    )
    return replace(
        memorized,
        name=method.replace("_", " "),
        measure="logits of the given label, memorized − clean",
        values=memorized.values - clean.values,
    )


def grad_cam(study: Study) -> Scores:
    """GradCam of each channel: mean gradient × activation, summed over positions.

    For convolutions only, as published; units of other layers are NaN.

    Raises
    ------
    ValueError
        If the model has no convolution.
    """
    import captum.attr

    if not any(_is_conv(layer) for layer in layers_of(study)):
        raise ValueError("GradCam is for convolutions, and this model has none.")

    def attribute(outputs: nn.Module, module: nn.Module, layer: Layer, *given: Any) -> Tensor:
        explainer = captum.attr.LayerGradCam(outputs, module)
        attributions: Tensor = explainer.attribute(*given, attr_dim_summation=False)
        return attributions

    return _by_layer(study, attribute, "GradCam", "Captum LayerGradCam", _is_conv)


def feature_ablation(study: Study) -> Scores:
    """Logit of the given label lost when Captum sets one unit of a layer's output to zero.

    If a normalization follows the layer, zero before it is not the absence of the unit.
    """
    import captum.attr

    def attribute(outputs: nn.Module, module: nn.Module, layer: Layer, *given: Any) -> Tensor:
        inputs, target = given
        explainer = captum.attr.LayerFeatureAblation(outputs, module)
        sizes = [1] * len(output_shape(study, module, inputs[:1]))
        sizes[unit_axis(layer)] = layer.units
        mask = torch.arange(layer.units, device=inputs.device).view(sizes)
        attributions: Tensor = explainer.attribute(inputs, 0, target, layer_mask=mask)
        # All positions of a unit are zeroed together, and each is given the whole difference.
        return attributions * layer.units / attributions[0].numel()

    return _by_layer(study, attribute, "feature ablation", "Captum LayerFeatureAblation")


def _is_conv(layer: Layer) -> bool:
    return layer.kind == "conv" and not layer.is_output


def _by_layer(
    study: Study,
    attribute: Callable[..., Tensor],
    name: str,
    source: str,
    known: Callable[[Layer], bool] = lambda layer: True,
) -> Scores:
    layers, groups = captum_layers(study), sides(study)
    values, outputs = [], Outputs(study)
    with ready_for_captum(study.model):
        for layer in layers:
            if not known(layer):
                values.append(np.full(layer.units, np.nan))
                continue
            module = study.model.get_submodule(layer.name)
            means = [
                _mean(study, partial(attribute, outputs, module), layer, examples)
                for examples in groups
            ]
            values.append((means[0] - means[1]).numpy())
    return Scores(
        name=name,
        measure="logits of the given label, memorized − clean",
        values=np.concatenate(values),
        units=tuple(unit for layer in layers for unit in layer.all()),
        source=source,
    )


def _mean(study: Study, attribute: Callable[..., Tensor], layer: Layer, examples: Tensor) -> Tensor:
    """Attribution of each unit, summed over its positions, mean over the examples: ``[units]``."""
    parts = []
    for batch in examples.split(_BATCH):
        goal = study.labels[batch].to(study.device)
        parts.append(by_unit(attribute(layer, inputs_with_gradient(study, batch), goal), layer))
    return torch.cat(parts).mean(0)


LOCALIZERS: dict[str, Callable[[Study], Scores]] = {
    "conductance": partial(layer_attribution, method="conductance"),
    "integrated gradients": partial(layer_attribution, method="integrated_gradients"),
    "gradient × activation": partial(layer_attribution, method="gradient_x_activation"),
    "GradCam": grad_cam,
    "feature ablation": feature_ablation,
}
LOOKS_AT = dict.fromkeys(LOCALIZERS, "gradients")
