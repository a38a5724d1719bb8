"""How a study judges a CLIP model: pair by pair, by the cosine of caption and picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class ImageText:
    """Features of pictures and captions; the margin of a pair is the cosine of the two.

    A model called as ``model(image=..., text=...)`` gives both features, called with one of the
    two it gives those of one tower. Labels are 1: each caption belongs to its picture.

    Examples
    --------
    >>> task, pair = ImageText(), (torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 2.0]]))
    >>> task.margin(task.outputs(pair), torch.ones(1))
    tensor([0.8000])
    """

    def outputs(self, raw: Any) -> Tensor:
        """Image features, then text features, ``[n, features]`` or ``[n, 2 * features]``."""
        if isinstance(raw, Mapping):
            found = [raw.get("image_features"), raw.get("text_features")]
        else:
            found = list(raw[:2]) if isinstance(raw, tuple | list) else [raw]
        features = [part for part in found if isinstance(part, Tensor) and part.dim() == 2]
        if not features:
            raise ValueError(
                f"the model returned {type(raw).__name__} without image or text features; give an "
                "open_clip model, called with image= and text=."
            )
        return torch.cat(features, 1)

    def predictions(self, outputs: Tensor) -> Tensor:
        """1 where caption and picture point the same way, else 0."""
        return (self._cosine(outputs) > 0).long()

    def margin(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Cosine of caption and picture, ``[n]``."""
        return self._cosine(outputs)

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """1 minus the cosine."""
        return 1 - self._cosine(outputs)

    def _cosine(self, outputs: Tensor) -> Tensor:
        image, text = outputs.chunk(2, 1)
        return torch.cosine_similarity(image, text, 1)
