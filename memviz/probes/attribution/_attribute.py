"""How much of a label's logit flows through each unit of a layer."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from memviz.checks import IndicesLike, checked, quoted
from memviz.scores import Null
from memviz.study import Study, check_classes, check_examples, check_study, private

from ._captum import captum_layers, ready_for_captum, units_first
from ._layer_values import BATCH, LayerValues
from ._methods import LAYER_METHODS, N_STEPS, captum_name, check_rule
from ._outputs import outputs_of
from ._result import Attribution, Completeness, LayerAttribution


@checked
def attribute_layers(
    study: Study,
    examples: IndicesLike,
    method: str = "conductance",
    *,
    layers: Sequence[str] | None = None,
    n_steps: int = N_STEPS,
    rule: str = "riemann_middle",
    null_draws: int = 1,
    of: str | None = None,
    stop: Callable[[], bool] | None = None,
) -> LayerAttribution:
    """How much of the given labels' logits flows through each unit, averaged over the examples.

    A layer's own module is read, before any normalization that follows it. Values are summed over a
    unit's positions; :func:`layer_attributions` keeps examples and positions apart.

    Conductance (Dhamdhere et al. 2018) takes exact derivatives at the points of the rule, where
    Captum takes differences between them and leaves out both ends of the path.

    Parameters
    ----------
    study : Study
    examples : int64 ``[n]``
        Each once.
    method : str
        A key of ``LAYER_METHODS``.
    layers : sequence of str, optional
        By default all convolutions and linear layers except the output layer.
    n_steps, rule
        Steps and rule of the methods that integrate, as for :func:`attribute_inputs`.
    null_draws : int
        Draws of the null: copies of the model with the values of each weight tensor shuffled. 0
        for none.
    of : str, optional
        Input that paths run along, as for :func:`attribute_inputs`.
    stop : callable, optional
        Called before each layer; once it returns True, the remaining layers stay NaN.

    Returns
    -------
    LayerAttribution
        Scores over units. ``completeness`` says how far the path's integral misses the logit's
        change; for layer integrated gradients, the change that replacing the layer's output makes.

    Raises
    ------
    ValueError
        If the method or the rule is unknown, no layer is named, a layer has attention heads, an
        example is given twice, or the study has no input to attribute to.
    UnknownLayerError
        If the study has no such layer.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    >>> study = Study(model, torch.ones(2, 4), torch.zeros(2), {"test": range(2)})
    >>> len(attribute_layers(study, [0, 1]))
    8
    """
    name = captum_name(method, LAYER_METHODS, "a layer")
    check_study(study)
    check_classes(study, "attributions")
    study = private(study)
    check_rule(rule, n_steps)
    indices = check_examples(study, examples)
    if len(indices.unique()) < len(indices):
        raise ValueError("examples names an example twice; give each once.")
    chosen = captum_layers(study, layers)
    run = LayerValues(study, indices, method, rule, n_steps, of)
    values, completeness = run.means(study.model, chosen, stop)
    null = [
        run.means(_shuffled(study.model, seed=draw), chosen, stop)[0] for draw in range(null_draws)
    ]
    shuffled = "the same model with the values of each weight tensor shuffled"
    own = ", exact derivatives at each step" if method == "conductance" else ""
    return LayerAttribution(
        name=f"{method} of {len(indices)} examples",
        measure="logits of the given label, summed over positions, mean over the examples",
        values=values,
        units=tuple(unit for layer in chosen for unit in layer.all()),
        higher="carries the given labels",
        source=f"Captum {name}{own}",
        null=Null(shuffled, np.stack(null)) if null else None,
        completeness=completeness,
    )


@checked
def layer_attributions(
    study: Study,
    layer: str,
    examples: IndicesLike,
    method: str = "conductance",
    *,
    n_steps: int = N_STEPS,
    rule: str = "riemann_middle",
    of: str | None = None,
) -> Attribution:
    """A layer's attributions for each example, unit and position.

    Parameters
    ----------
    study, examples, method, n_steps, rule, of
        As for :func:`attribute_layers`; an example may be given twice.
    layer : str

    Returns
    -------
    Attribution ``[n, units, positions...]``
        In the model's precision. Summed over positions and averaged over examples, these are the
        values of :func:`attribute_layers`.

    Raises
    ------
    ValueError
        As for :func:`attribute_layers`, or if the layer's output has no row for each example.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    >>> study = Study(model, torch.ones(2, 4), torch.zeros(2), {"test": range(2)})
    >>> layer_attributions(study, "0", [0, 1]).shape
    torch.Size([2, 8])
    """
    captum_name(method, LAYER_METHODS, "a layer")
    check_study(study)
    check_classes(study, "attributions")
    study = private(study)
    check_rule(rule, n_steps)
    indices = check_examples(study, examples)
    chosen = captum_layers(study, [layer])
    run = LayerValues(study, indices, method, rule, n_steps, of)
    values, parts = [], []
    with ready_for_captum(study.model):
        outputs = outputs_of(study, indices, of)
        for batch in indices.split(BATCH):
            (rows,), missed = run.batch(outputs, chosen, batch, units_first)
            if len(rows) != len(batch):
                raise ValueError(
                    f"layer {quoted(layer)} has {len(rows)} rows for {len(batch)} examples; use "
                    "attribute_layers, which averages over the examples."
                )
            values.append(rows)
            parts += [] if missed is None else [missed]
    return Attribution.of(torch.cat(values), Completeness.join(parts) if parts else None)


def _shuffled(model: nn.Module, seed: int) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    shuffled = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in shuffled.parameters():
            order = torch.randperm(parameter.numel(), generator=generator)
            parameter.copy_(parameter.flatten()[order.to(parameter.device)].view_as(parameter))
    return shuffled
