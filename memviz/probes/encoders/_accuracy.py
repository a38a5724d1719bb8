"""What an encoder is good for: accuracy of a linear probe or of neighbours on its features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from memviz.engine.record import tensors_in
from memviz.engine.search import embed


@dataclass(frozen=True, eq=False)
class ProbeAccuracy:
    """Accuracy on test images of a simple classifier on an encoder's features; called with a model.

    The classifier is fitted anew at each call, on the features as they are then.

    Parameters
    ----------
    images, labels : float ``[n, ...]`` and int64 ``[n]``
        What the classifier is fitted on; they need not be the encoder's.
    test_images, test_labels : float ``[m, ...]`` and int64 ``[m]``
    how : {"linear", "knn"}
        Logistic regression on standardised features, or the majority of the ``k`` most alike
        images by cosine.
    k : int

    Raises
    ------
    ValueError
        On lengths that differ, a class alone, or another ``how``.

    Examples
    --------
    >>> y = torch.arange(40) % 2
    >>> x = torch.eye(2)[y] + torch.linspace(0, 0.1, 40)[:, None]
    >>> ProbeAccuracy(x, y, x, y)(nn.Identity()), ProbeAccuracy(x, y, x, y, "knn")(nn.Identity())
    (1.0, 1.0)
    """

    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    how: Literal["linear", "knn"] = "linear"
    k: int = 5

    def __post_init__(self) -> None:
        for images, labels in ((self.images, self.labels), (self.test_images, self.test_labels)):
            if len(images) != len(labels) or not len(images):
                raise ValueError(
                    f"there are {len(images)} images and {len(labels)} labels; give one an image."
                )
        if self.how not in ("linear", "knn"):
            raise ValueError(f"how is 'linear' or 'knn', but got {self.how!r}.")
        if len(self.labels.unique()) < 2:
            raise ValueError("all images to fit on are of one class; give at least two classes.")
        if not 1 <= self.k <= len(self.images):
            raise ValueError(f"k is {self.k}; there are {len(self.images)} images to look among.")

    def __call__(self, model: nn.Module) -> float:
        """Share of the test images that get their label."""
        device = next((p.device for p in model.parameters()), self.images.device)

        def encode(batch: Tensor) -> Tensor:
            return tensors_in(model(batch.to(device)))[0].flatten(1)

        rows, others = (embed(encode, x, progress=False) for x in (self.images, self.test_images))
        found = self._linear(rows, others) if self.how == "linear" else self._nearest(rows, others)
        return float((found == self.test_labels).double().mean())

    def _linear(self, rows: Tensor, others: Tensor) -> Tensor:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
        classifier.fit(rows.numpy(), self.labels.numpy())
        return torch.from_numpy(classifier.predict(others.numpy()))

    def _nearest(self, rows: Tensor, others: Tensor) -> Tensor:
        likeness = normalize(others, dim=1) @ normalize(rows, dim=1).T
        return self.labels[likeness.topk(self.k, 1).indices].mode(1).values
