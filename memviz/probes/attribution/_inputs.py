"""Which parts of the input support a label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from memviz.checks import IndicesLike, checked
from memviz.engine.record import Intervention
from memviz.engine.sets import ablate
from memviz.study import Study, check_classes, check_examples, check_study, private
from memviz.units import UnitsLike

from ._captum import (
    check_guided,
    explained,
    ready_for_captum,
)
from ._methods import INPUT_METHODS, N_STEPS, captum_name, check_rule
from ._outputs import Outputs, outputs_of, targets_of
from ._path import Path
from ._result import Attribution, Completeness

_BATCH = 32
_ABLATIONS = ("occlusion", "feature_ablation")


@checked
def attribute_inputs(
    study: Study,
    examples: IndicesLike,
    method: str = "integrated_gradients",
    *,
    targets: Sequence[int] | Tensor | None = None,
    units: UnitsLike = "",
    how: str | Intervention = "zero",
    n_steps: int = N_STEPS,
    rule: str = "riemann_middle",
    of: str | None = None,
) -> Attribution:
    """Which parts of the input support the given label, optionally with units ablated.

    Token indices are attributed to by their embeddings, with one value per token: the sum over the
    features of its embedding, from a baseline of zero.

    Parameters
    ----------
    study : Study
    examples : int64 ``[n]``
    method : str
        A key of ``INPUT_METHODS``, with a baseline of zero.
    targets : int64 ``[n]``, optional
        Classes to attribute; the given labels by default.
    units, how
        Units to ablate during the attribution, and the intervention.
    n_steps : int
        Steps of integrated gradients.
    rule : str
        Rule of integration of integrated gradients, by Captum's name: ``"riemann_middle"``,
        ``"gausslegendre"``, ``"riemann_left"`` or ``"riemann_right"``.
    of : str, optional
        Name of the input to attribute to, in a study whose inputs are a dict: by default the only
        floating-point one, or else the first whose token indices are looked up.

    Returns
    -------
    Attribution ``[n, ...]``
        A tensor of the inputs' shape, of token indices ``[n, tokens]``; positive values support the
        target. ``completeness`` says how far the values of integrated gradients and DeepLift miss
        the logit's change from the baseline.

    Raises
    ------
    ValueError
        If the method or the rule is unknown, there is not one target per example, or the study has
        no input to attribute to.

    Examples
    --------
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Linear(4, 3)).eval()
    >>> study = Study(model, torch.ones(2, 4), torch.zeros(2), {"test": range(2)})
    >>> attribute_inputs(study, [0], "input_x_gradient").shape
    torch.Size([1, 4])
    """
    import captum.attr

    name = captum_name(method, INPUT_METHODS, "an input")
    check_study(study)
    check_classes(study, "attributions")
    study = private(study)
    check_rule(rule, n_steps)
    indices = check_examples(study, examples)
    labels = study.labels[indices] if targets is None else _classes(targets, len(indices))
    if method == "guided_backprop":
        check_guided(study.model)
    values, missed = [], []
    with ready_for_captum(study.model), ablate(study, units, how):
        outputs = outputs_of(study, indices, of)
        explainer = getattr(captum.attr, name)(outputs)
        for batch, classes in zip(indices.split(_BATCH), labels.split(_BATCH), strict=True):
            given = outputs.given(study.batch(batch))
            goal = targets_of(outputs, given, classes)
            path = Path(outputs, given, goal, rule, n_steps)
            if method == "integrated_gradients":
                # Captum would hold all steps of the batch at once, weighted in single precision.
                whole, error = path.inputs()
                missed.append(error)
            else:
                options = _options(outputs, given[0], method)
                whole = explained(explainer, given, target=goal, **options)
            if method == "deep_lift":
                sums = whole.flatten(1).sum(1, dtype=torch.float64)
                missed.append(path.missed(sums, "DeepLift"))
            values.append(per_position(whole, outputs, method))
    return Attribution.of(torch.cat(values), Completeness.join(missed) if missed else None)


def per_position(values: Tensor, outputs: Outputs, method: str) -> Tensor:
    """One value per token where an embedding is attributed to: ``[n, tokens]``."""
    if outputs.leaf.embedding is None:
        return values
    # Ablations take a token's features together, and give each the whole difference.
    return values.mean(-1) if method in _ABLATIONS else values.sum(-1)


def token_mask(values: Tensor) -> Tensor:
    """Numbers the tokens of embeddings ``[n, tokens, features]``, to be ablated one by one."""
    shape = values.shape[1:-1]
    numbers = torch.arange(shape.numel(), device=values.device).view(1, *shape, 1)
    return numbers.expand(1, *values.shape[1:])


def _options(outputs: Outputs, values: Tensor, method: str) -> dict[str, Any]:
    tokens = outputs.leaf.embedding is not None
    if method == "occlusion":
        window = (1, *values.shape[2:]) if tokens else _window(values.shape[1:])
        return {"sliding_window_shapes": window}
    if method == "feature_ablation" and tokens:
        return {"feature_mask": token_mask(values)}
    return {}


def _window(shape: torch.Size) -> tuple[int, ...]:
    side = max(1, shape[-1] // 8)
    return (shape[0], *(min(side, size) for size in shape[1:])) if len(shape) > 1 else (1,)


def _classes(targets: Sequence[int] | Tensor, n: int) -> Tensor:
    classes = torch.as_tensor(targets)
    if classes.shape != (n,) or classes.is_floating_point() or classes.dtype == torch.bool:
        raise ValueError(
            f"targets is {classes.dtype} of shape {list(classes.shape)} for {n} examples; give one "
            f"class per example, int64 [{n}]."
        )
    return classes.long().cpu()
