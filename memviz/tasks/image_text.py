"""How a study judges a CLIP model: by the cosine between the caption and the image of a pair."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ._judged import at_least_single


class ImageText:
    """Features of images and captions; the margin of a pair is the cosine of its features.

    The cosine is computed in single precision at least; a pair is right if it is above 0.

    Called as ``model(image=..., text=...)``, a model returns the features of both towers; called
    with one of them, those of one tower. All labels are 1: each caption belongs to its image.

    Examples
    --------
    >>> task, pair = ImageText(), (torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 2.0]]))
    >>> task.margin(task.outputs(pair), torch.ones(1))
    tensor([0.8000])
    """

    def outputs(self, raw: Any) -> Tensor:
        """Image features, then text features, ``[n, features]`` or ``[n, 2 * features]``.

        Raises
        ------
        ValueError
            If there are no features ``[n, features]``.
        """
        if isinstance(raw, Mapping):
            candidates = [raw.get("image_features"), raw.get("text_features")]
        else:
            candidates = list(raw[:2]) if isinstance(raw, tuple | list) else [raw]
        features = [part for part in candidates if isinstance(part, Tensor) and part.dim() == 2]
        if not features:
            raise ValueError(
                f"the model returned {type(raw).__name__} without image or text features; use an "
                "open_clip model, called with image= and text=."
            )
        return torch.cat(features, 1)

    def predictions(self, outputs: Tensor) -> Tensor:
        """1 where the cosine of caption and image is positive, else 0, int64 ``[n]``."""
        return (self._cosine(outputs) > 0).long()

    def margin(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Cosine of caption and image, ``[n]``."""
        return self._cosine(outputs)

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """1 minus the cosine, ``[n]``."""
        return 1 - self._cosine(outputs)

    def _cosine(self, outputs: Tensor) -> Tensor:
        image, text = at_least_single(outputs).chunk(2, 1)
        return torch.cosine_similarity(image, text, 1)
