"""Localizers built on Captum: one value per unit, memorized examples minus clean ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from memviz.engine.record import layers as layers_of
from memviz.scores import Scores
from memviz.study import Study, check_classes, private, sides
from memviz.units import Layer

from ._attribute import attribute_layers
from ._captum import (
    by_unit,
    captum_layers,
    explained,
    ready_for_captum,
    unit_axes,
)
from ._outputs import Outputs, output_shape, outputs_of, targets_of
from ._result import Completeness

_BATCH = 120
_STEPS = 32  # of the methods that integrate: the digits' completeness error is .7 %


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
        completeness=Completeness.join([memorized.completeness, clean.completeness])
        if memorized.completeness is not None and clean.completeness is not None
        else None,
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

    def attribute(
        outputs: Outputs, module: nn.Module, layer: Layer, given: tuple[Tensor, ...], target: Tensor
    ) -> Tensor:
        output_shape(outputs, module, given)
        explainer = captum.attr.LayerGradCam(outputs, module)
        return explained(explainer, given, target=target, attr_dim_summation=False)

    return _by_layer(study, attribute, "GradCam", "Captum LayerGradCam", _is_conv)


def feature_ablation(study: Study) -> Scores:
    """Logit of the given label lost when Captum sets one unit of a layer's output to zero.

    If a normalization follows the layer, zero before it is not the absence of the unit.
    """
    import captum.attr

    def attribute(
        outputs: Outputs, module: nn.Module, layer: Layer, given: tuple[Tensor, ...], target: Tensor
    ) -> Tensor:
        explainer = captum.attr.LayerFeatureAblation(outputs, module)
        shape = output_shape(outputs, module, given)
        axes = unit_axes(layer, len(shape))
        sizes = [size if axis in axes else 1 for axis, size in enumerate(shape)]
        mask = torch.arange(layer.units, device=target.device).view(sizes)
        options = {"layer_baselines": 0, "target": target, "layer_mask": mask}
        attributions = explained(explainer, given, **options)
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
    check_classes(study, "localizers by attribution")
    study = private(study)
    values = []
    with ready_for_captum(study.model):
        outputs = outputs_of(study, torch.cat(groups))
        for layer in layers:
            if not known(layer):
                values.append(np.full(layer.units, np.nan))
                continue
            module = study.model.get_submodule(layer.name)
            means = [
                _mean(study, outputs, partial(attribute, outputs, module, layer), layer, examples)
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


def _mean(
    study: Study,
    outputs: Outputs,
    attribute: Callable[[tuple[Tensor, ...], Tensor], Tensor],
    layer: Layer,
    examples: Tensor,
) -> Tensor:
    """Attribution of each unit, summed over its positions, mean over the examples: ``[units]``."""
    total = torch.zeros(layer.units, dtype=torch.float64)
    for batch in examples.split(_BATCH):
        given = outputs.given(study.batch(batch))
        goal = targets_of(outputs, given, study.labels[batch])
        total += by_unit(attribute(given, goal), layer).sum(0)
    return total / len(examples)


LOCALIZERS: dict[str, Callable[[Study], Scores]] = {
    "conductance": partial(layer_attribution, method="conductance"),
    "integrated gradients": partial(layer_attribution, method="integrated_gradients"),
    "gradient × activation": partial(layer_attribution, method="gradient_x_activation"),
    "GradCam": grad_cam,
    "feature ablation": feature_ablation,
}
LOOKS_AT = dict.fromkeys(LOCALIZERS, "gradients")
