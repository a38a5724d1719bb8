"""What can be picked: scores for the unit map and the scatter, and attribution methods."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from memviz.probes.contest import LOCALIZERS, fits
from memviz.scores import Scores
from memviz.study import Study, has_classes
from memviz.widgets.core import Choices

from ._localizers import LOCALIZER

ALWAYS = {"effect", "estimate", "conductance"}
_THE_SAME = {"exact ablation", "estimate", "conductance"}  # localizers that these three are

_METHODS = [
    {"key": "integrated_gradients", "label": "integrated gradients"},
    {"key": "saliency", "label": "saliency"},
    {"key": "input_x_gradient", "label": "input × gradient"},
    {"key": "occlusion", "label": "occlusion"},
]


def scores(study: Study, own: Mapping[str, Scores]) -> Choices:
    """The scores that a unit map can show, in three groups; the user's own come last."""
    names = list(study.groups)
    against = f" against {names[1]}" if len(names) > 1 else ""
    effect = f"exact effect on {names[0]}{against}"
    picks = [
        _pick("effect", effect, "exact", "exact"),
        _pick("estimate", "estimate: gradient × activation", "estimate", "localizers"),
    ]
    if _has_gradients(study):
        picks.append(_pick("conductance", "Captum conductance", "other", "localizers"))
    for name in LOCALIZERS:
        if name not in _THE_SAME and fits(name, study):
            picks.append(_pick(f"{LOCALIZER}{name}", name, "other", "localizers"))
    for key, given in own.items():
        estimated = given.exact is not None and not given.exact.any()
        picks.append(_pick(key, given.name, "estimate" if estimated else "other", "your own"))
    return picks


def is_taken(key: str) -> bool:
    """Whether a score of the user's own must not have this key."""
    return key in ALWAYS or key.startswith(LOCALIZER)


def _pick(key: str, label: str, kind: str, group: str) -> dict[str, str]:
    return {"key": key, "label": label, "kind": kind, "measure": "", "group": group}


def methods(study: Study) -> Choices:
    """Attributions for the opened example; none unless the inputs are images."""
    one = study.rows(torch.tensor([0]))
    images = isinstance(one, Tensor) and one.dim() == 4
    return _METHODS if images and _has_gradients(study) else []


def _has_gradients(study: Study) -> bool:
    # Attribution explains the logit of a class.
    one = study.rows(torch.tensor([0]))
    floats = isinstance(one, Tensor) and one.is_floating_point()
    return floats and has_classes(study)
