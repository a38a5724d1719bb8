"""Déjà vu: measures that sort pairs, the most memorized first."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch

from memviz.checks import quoted

from ._objects import Predictions

Sort = Literal["max_pred_gap", "recall_gap", "crct_pred", "min_dist"]
MEASURES: dict[Sort, str] = {
    "max_pred_gap": "right objects of the target less the reference's",
    "recall_gap": "recall of the target less the reference's",
    "crct_pred": "right objects of the target",
    "min_dist": "minus the distance to the nearest public image, unit vectors",
}


def sort_values(target: Predictions, reference: Predictions, by: Sort) -> np.ndarray:
    """The measure that pairs are sorted by, higher for more memorized, float64 ``[n]``.

    - ``max_pred_gap``: ``|G ∩ O_target| - |G ∩ O_reference|``, the authors' choice; as a count it
      favours crowded images.
    - ``recall_gap``: the same as a share of the image's objects.
    - ``crct_pred``: ``|G ∩ O_target|``, without a reference.
    - ``min_dist``: minus the Euclidean distance of the caption to its nearest public image, on unit
      vectors, in float64. It needs neither reference nor objects, so an attacker can sort by it. A
      FAISS index gives a cosine in float32, which tells no distances below about 3e-4 apart.

    NaN where the image has no object.

    Raises
    ------
    ValueError
        If the measure is unknown, or ``min_dist`` is asked of neighbours not found by cosine.
    """
    if by == "max_pred_gap":
        values = target.right - reference.right
    elif by == "recall_gap":
        values = (target.right - reference.right) / target.own
    elif by == "crct_pred":
        values = target.right
    elif by == "min_dist":
        values = -_distances(target)
    else:
        raise ValueError(f"pairs can't be sorted by {quoted(by)}; use {', '.join(get_args(Sort))}.")
    return np.asarray(values.masked_fill(target.own == 0, torch.nan).numpy())


def _distances(target: Predictions) -> torch.Tensor:
    if target.neighbours.measure != "cosine":
        raise ValueError(
            f"the neighbours were found by {target.neighbours.measure}; min_dist needs cosines."
        )
    if target.distance is not None:
        return target.distance
    # |u - v|² = 2 - 2 u·v for rows of length 1.
    return (2 - 2 * target.neighbours.values[:, 0].double()).clamp(min=0).sqrt()
