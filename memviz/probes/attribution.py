"""Captum's attributions, by name, on any Study: of inputs, of layers, of one unit."""

from __future__ import annotations

import copy
import difflib
import inspect
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from memviz.engine.ablate import ablate
from memviz.engine.interventions import Intervention
from memviz.engine.runner import layers as layers_of
from memviz.engine.trace import buffers_kept
from memviz.scores import Null, Scores
from memviz.study import Study
from memviz.units import Layer, Unit, UnitSet, UnitsLike, UnknownLayerError, check_units

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
    """Which parts of the input speak for the given label, with units ablated if any are named.

    Parameters
    ----------
    study : Study
        Its inputs must be one floating-point Tensor.
    examples : int64 ``[n]``
    method : str
        A key of ``INPUT_METHODS``; the classes are Captum's, the baseline is zero.
    targets : int64 ``[n]``, optional
        The classes asked about; the given labels unless set.
    units, how
        Ablated while the attribution is made.
    n_steps : int
        Of integrated gradients.

    Returns
    -------
    Tensor ``[n, ...]`` of the inputs' shape; positive speaks for the target.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(4, 3)).eval()
    >>> study = Study(model, torch.ones(2, 4), torch.zeros(2), {"test": range(2)})
    >>> attribute_inputs(study, [0], "input_x_gradient").shape
    torch.Size([1, 4])
    """
    import captum.attr

    name = _method(method, INPUT_METHODS, "an input")
    indices = torch.as_tensor(examples).long()
    inputs = _floating(study, indices)
    goal = study.labels[indices] if targets is None else torch.as_tensor(targets).long()
    arguments: dict[str, Any] = {"target": goal.to(study.device)}
    if name == "IntegratedGradients":
        arguments["n_steps"] = n_steps
    if name == "Occlusion":
        arguments["sliding_window_shapes"] = _window(inputs.shape[1:])
    with _ready_for_captum(study.model), ablate(study, units, how):
        explainer = getattr(captum.attr, name)(_Outputs(study))
        found: Tensor = explainer.attribute(inputs, **arguments)
    return found.detach()


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
    """How much of the given labels' logits flows through each unit, mean over the examples.

    The layer is Captum's: the module of that name, before any normalization that follows it.
    Values are summed over a unit's positions.

    Parameters
    ----------
    study : Study
    examples : int64 ``[n]``
    method : str
        A key of ``LAYER_METHODS``.
    layers : sequence of str, optional
        All conv and linear layers but the output layer, unless given.
    n_steps : int
        Of the methods that integrate.
    null_draws : int
        Copies of the model with each weight tensor's values shuffled: the null. 0 for none.
    stop : callable, optional
        Asked between two layers; True ends early, the rest stays NaN.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    >>> study = Study(model, torch.ones(2, 4), torch.zeros(2), {"test": range(2)})
    >>> len(attribute_layers(study, [0, 1]))
    8
    """
    name = _method(method, LAYER_METHODS, "a layer")
    indices = torch.as_tensor(examples).long()
    chosen = _layers(study, layers)
    values = _layer_values(study, study.model, chosen, indices, name, n_steps, stop)
    null = []
    for draw in range(null_draws):
        shuffled = _shuffled(study.model, seed=draw)
        null.append(_layer_values(study, shuffled, chosen, indices, name, n_steps, stop))
    return Scores(
        name=f"{method} of {len(indices)} examples",
        measure="logits of the given label, summed over positions, mean of the examples",
        values=np.concatenate(values),
        units=tuple(unit for layer in chosen for unit in layer.all()),
        higher="carries the given labels",
        source=f"Captum {name}",
        null=Null(
            "the same model with the values of each weight tensor shuffled",
            np.stack([np.concatenate(draw) for draw in null]),
        )
        if null
        else None,
    )


def attribute_unit(
    study: Study,
    unit: Unit | str,
    examples: Sequence[int] | Tensor,
    method: str = "conductance",
    *,
    n_steps: int = 20,
) -> Tensor:
    """Which parts of the input drive one unit (a channel's positions are summed).

    Parameters
    ----------
    study : Study
    unit : Unit or text such as ``"conv4:59"``
    examples : int64 ``[n]``
    method : str
        A key of ``UNIT_METHODS``.
    n_steps : int
        Of the methods that integrate.

    Returns
    -------
    Tensor ``[n, ...]`` of the inputs' shape.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    >>> study = Study(model, torch.ones(2, 4), torch.zeros(2), {"test": range(2)})
    >>> attribute_unit(study, "0:5", [0], "gradient").shape
    torch.Size([1, 4])
    """
    import captum.attr

    name = _method(method, UNIT_METHODS, "a unit")
    found = UnitSet.of(unit)
    if len(found) != 1:
        raise ValueError(f"{str(found)!r} names {len(found)} units; attribute_unit takes one.")
    layer_name, index = next(iter(check_units(found, layers_of(study))))
    layer = _layers(study, [layer_name])[0]
    indices = torch.as_tensor(examples).long()
    if method == "conductance":
        return _conductance(study, layer, index, indices, n_steps)
    axis = 1 if layer.kind == "conv" else -1

    def activation(output: Tensor) -> Tensor:
        return output.select(axis, index).reshape(len(output), -1).sum(1)

    arguments: dict[str, Any] = {"neuron_selector": activation}
    if name == "NeuronIntegratedGradients":
        arguments["n_steps"] = n_steps
    with _ready_for_captum(study.model):
        explainer = getattr(captum.attr, name)(
            _Outputs(study), study.model.get_submodule(layer.name)
        )
        result: Tensor = explainer.attribute(_floating(study, indices), **arguments)
    return result.detach()


def _conductance(study: Study, layer: Layer, index: int, indices: Tensor, n_steps: int) -> Tensor:
    """Captum gives the conductance of one place; a unit's is the sum over its places."""
    from captum.attr import NeuronConductance

    inputs = _floating(study, indices)
    module = study.model.get_submodule(layer.name)
    shape: list[torch.Size] = []
    handle = module.register_forward_hook(lambda _m, _i, output: shape.append(output.shape))
    try:
        with torch.no_grad(), buffers_kept(study.model):
            study.call(inputs[:1])()
    finally:
        handle.remove()
    rest = shape[0][2:] if layer.kind == "conv" else shape[0][1:-1]
    total = torch.zeros_like(inputs, requires_grad=False)
    with _ready_for_captum(study.model):
        explainer = NeuronConductance(_Outputs(study), module)
        for place in np.ndindex(*rest):
            where = (index, *place) if layer.kind == "conv" else (*place, index)
            total += explainer.attribute(
                inputs,
                where if len(where) > 1 else index,
                target=study.labels[indices].to(study.device),
                n_steps=n_steps,
            ).detach()
    return total


def _layer_values(
    study: Study,
    model: nn.Module,
    layers: Sequence[Layer],
    indices: Tensor,
    name: str,
    n_steps: int,
    stop: Callable[[], bool] | None,
) -> list[np.ndarray]:
    import captum.attr

    found = []
    with _ready_for_captum(model):
        for layer in layers:
            if stop is not None and stop():
                found.append(np.full(layer.units, np.nan))
                continue
            total = torch.zeros(layer.units, dtype=torch.float64)
            module = model.get_submodule(layer.name)
            explainer = getattr(captum.attr, name)(_Outputs(study, model), module)
            takes = inspect.signature(explainer.attribute).parameters
            for batch in indices.split(_BATCH):
                arguments: dict[str, Any] = {}
                if "target" in takes:
                    arguments["target"] = study.labels[batch].to(study.device)
                if "n_steps" in takes:
                    arguments["n_steps"] = n_steps
                value = explainer.attribute(_floating(study, batch), **arguments)
                value = value[0] if isinstance(value, tuple) else value
                axis = 1 if layer.kind == "conv" else value.dim() - 1
                keep = [axis]
                total += (
                    value.detach()
                    .double()
                    .cpu()
                    .sum([a for a in range(value.dim()) if a not in keep])
                )
            found.append((total / len(indices)).numpy())
    return found


class _Outputs(nn.Module):
    """The study's outputs as a module, since Captum hooks into modules."""

    def __init__(self, study: Study, model: nn.Module | None = None) -> None:
        super().__init__()
        self.model = study.model if model is None else model
        self.task = study.task

    def forward(self, inputs: Tensor) -> Tensor:
        return self.task.outputs(self.model(inputs))


def _method(method: str, known: dict[str, str], of: str) -> str:
    if method not in known:
        near = difflib.get_close_matches(method, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise ValueError(
            f"{method!r} is not an attribution of {of}; there are {', '.join(known)}{hint}"
        )
    return known[method]


def _floating(study: Study, examples: Tensor) -> Tensor:
    inputs = study.batch(examples)
    if not isinstance(inputs, Tensor) or not inputs.is_floating_point():
        raise ValueError(
            "attribution needs inputs that are one floating-point tensor; these are "
            f"{inputs.dtype if isinstance(inputs, Tensor) else 'a dict'}."
        )
    # Captum asks for it with a warning otherwise; the batch is a copy of the study's inputs.
    return inputs.requires_grad_()


def _layers(study: Study, names: Sequence[str] | None) -> list[Layer]:
    known = {layer.name: layer for layer in layers_of(study)}
    if names is None:
        return [la for la in known.values() if not la.is_output and la.kind != "heads"]
    for name in names:
        if name not in known:
            raise UnknownLayerError(name, known)
        if known[name].kind == "heads":
            raise ValueError(
                f"layer {name!r} has attention heads, which Captum has no layer for; "
                "use sweep() or estimate()."
            )
    return [known[name] for name in names]


def _window(shape: torch.Size) -> tuple[int, ...]:
    side = max(1, shape[-1] // 8)
    return (shape[0], *(min(side, size) for size in shape[1:])) if len(shape) > 1 else (1,)


@contextmanager
def _ready_for_captum(model: nn.Module) -> Iterator[None]:
    # An in-place activation would overwrite the very output that Captum reads.
    changed = [m for m in model.modules() if getattr(m, "inplace", False) is True]
    for module in changed:
        setattr(module, "inplace", False)  # noqa: B010
    try:
        with buffers_kept(model), warnings.catch_warnings():
            # Said at each call, of hooks that Captum itself takes away again.
            warnings.filterwarnings("ignore", message="Setting forward, backward hooks")
            yield
    finally:
        for module in changed:
            setattr(module, "inplace", True)  # noqa: B010 - torch types attributes as modules


def _shuffled(model: nn.Module, seed: int) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in twin.parameters():
            order = torch.randperm(parameter.numel(), generator=generator)
            parameter.copy_(parameter.flatten()[order.to(parameter.device)].view_as(parameter))
    return twin
