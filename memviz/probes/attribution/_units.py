"""Which parts of the input drive a single unit."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from memviz.checks import IndicesLike, checked, quoted
from memviz.engine.record import layers as layers_of
from memviz.study import Study, check_classes, check_examples, check_study, private
from memviz.units import Unit, UnitSet, check_units

from ._captum import (
    captum_layers,
    check_guided,
    explained,
    ready_for_captum,
    units_first,
)
from ._inputs import per_position, token_mask
from ._methods import N_STEPS, UNIT_METHODS, captum_name, check_rule
from ._outputs import output_shape, outputs_of, targets_of
from ._path import Path
from ._result import Attribution, Completeness

_BATCH = 32


@checked
def attribute_unit(
    study: Study,
    unit: Unit | str,
    examples: IndicesLike,
    method: str = "conductance",
    *,
    n_steps: int = N_STEPS,
    rule: str = "riemann_middle",
    of: str | None = None,
) -> Attribution:
    """Which parts of the input drive a single unit; the positions of a channel are summed.

    Parameters
    ----------
    study : Study
    unit : Unit or str
        For example ``"conv4:59"``.
    examples : int64 ``[n]``
    method : str
        A key of ``UNIT_METHODS``. Conductance is what flows through the unit to the given label's
        logit, with exact derivatives at the points of the rule; summed over the input, it is that
        of :func:`attribute_layers`.
    n_steps, rule
        Steps and rule of the methods that integrate, as for :func:`attribute_inputs`.
    of : str, optional
        Input to attribute to, as for :func:`attribute_inputs`.

    Returns
    -------
    Attribution ``[n, ...]``
        Of the inputs' shape, for token indices ``[n, tokens]``. ``completeness`` says how far the
        path's integral misses the logit's change, and for integrated gradients that of the unit's
        activation.

    Raises
    ------
    ValueError
        If the method or the rule is unknown, ``unit`` names several units, or the study has no
        input to attribute to.

    Examples
    --------
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    >>> study = Study(model, torch.ones(2, 4), torch.zeros(2), {"test": range(2)})
    >>> attribute_unit(study, "0:5", [0], "gradient").shape
    torch.Size([1, 4])
    """
    import captum.attr

    name = captum_name(method, UNIT_METHODS, "a unit")
    check_study(study)
    check_classes(study, "attributions")
    study = private(study)
    check_rule(rule, n_steps)
    units = UnitSet.of(unit)
    if len(units) != 1:
        raise ValueError(
            f"{quoted(str(units))} names {len(units)} units; attribute_unit takes exactly one."
        )
    layer_name, index = next(iter(check_units(units, layers_of(study))))
    layer = captum_layers(study, [layer_name])[0]
    indices = check_examples(study, examples)
    module = study.model.get_submodule(layer.name)

    def positions(output: Tensor) -> Tensor:
        return units_first(output, layer).select(1, index)

    def activation(output: Tensor) -> Tensor:
        return positions(output).reshape(len(output), -1).sum(1)

    if method == "guided_backprop":
        check_guided(study.model)
    values, missed = [], []
    with ready_for_captum(study.model):
        outputs = outputs_of(study, indices, of)
        for batch in indices.split(_BATCH):
            given = outputs.given(study.batch(batch))
            goal = targets_of(outputs, given, study.labels[batch])
            path = Path(outputs, given, goal, rule, n_steps)
            if method == "conductance":
                whole, error = path.unit(module, positions)
                missed.append(error)
            else:
                output_shape(outputs, module, given)
                options: dict[str, Any] = {"neuron_selector": activation}
                if method == "integrated_gradients":
                    options |= {"n_steps": n_steps, "method": rule}
                if method == "feature_ablation" and outputs.leaf.embedding is not None:
                    options["feature_mask"] = token_mask(given[0])
                explainer = getattr(captum.attr, name)(outputs, module)
                whole = explained(explainer, given, **options)
                if method == "integrated_gradients":
                    missed.append(path.missed_by_unit(module, activation, whole))
            values.append(per_position(whole, outputs, method))
    return Attribution.of(torch.cat(values), Completeness.join(missed) if missed else None)
