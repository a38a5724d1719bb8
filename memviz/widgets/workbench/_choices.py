"""What there is to pick: scores for the unit map, interventions, attribution methods."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from memviz.scores import Scores
from memviz.study import Study
from memviz.widgets.core import Choices

ALWAYS = {"effect", "estimate", "conductance"}  # keys that no score of the user's own may have

_METHODS = [
    {"key": "integrated_gradients", "label": "integrated gradients"},
    {"key": "saliency", "label": "saliency"},
    {"key": "input_x_gradient", "label": "input × gradient"},
    {"key": "occlusion", "label": "occlusion"},
]


def scores(study: Study, extra: Mapping[str, Scores]) -> Choices:
    """The unit scores that a map can wear, the user's own last."""
    names = list(study.groups)
    against = f" against {names[1]}" if len(names) > 1 else ""
    found = [
        {"key": "effect", "label": f"exact effect on {names[0]}{against}", "kind": "exact"},
        {"key": "estimate", "label": "gradient × activation", "kind": "estimate"},
    ]
    if _has_gradients(study):
        found.append({"key": "conductance", "label": "Captum conductance", "kind": "other"})
    for key, one in extra.items():
        kind = "estimate" if one.exact is not None and not one.exact.any() else "other"
        found.append({"key": key, "label": one.name, "kind": kind})
    return [{**score, "measure": ""} for score in found]


def methods(study: Study) -> Choices:
    """Attributions of an opened example; none where the inputs are not images."""
    images = isinstance(study.inputs, Tensor) and study.inputs.dim() == 4
    return _METHODS if images and _has_gradients(study) else []


def _has_gradients(study: Study) -> bool:
    return isinstance(study.inputs, Tensor) and study.inputs.is_floating_point()
