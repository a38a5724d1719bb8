"""The utility of an encoder: accuracy of a linear probe or nearest neighbours on its features."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from memviz.checks import checked, quoted
from memviz.engine.search import embed
from memviz.study import check_ready
from memviz.training.loaders import labels_for

from ._encoded import check_own, encoded, not_its_own

_TIED = 1e-9  # cosines that are equal but for rounding


@checked
@dataclass(frozen=True, eq=False)
class ProbeAccuracy:
    """Test accuracy of a simple classifier on an encoder's features; call it with the encoder.

    Each call fits a new classifier on the encoder's current features.

    Parameters
    ----------
    images, labels : float ``[n, ...]`` and int64 ``[n]``
        Images to fit the classifier on; they need not be the encoder's training images.
    test_images, test_labels : float ``[m, ...]`` and int64 ``[m]``
    how : {"linear", "knn"}
        Logistic regression on standardized features, or the majority vote of the ``k`` nearest
        images by cosine. Images that tie for the last of the ``k`` seats share them, and classes
        that tie for the majority share the prediction: neither the order of the images nor the
        numbers of the classes decide.
    k : int

    Raises
    ------
    ValueError
        If lengths differ, labels are not integers, there is a single class, or ``how`` or ``k`` is
        not allowed; when called, if the encoder is in train mode, random, couples the images of a
        batch, or gives features that are NaN or infinite.

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
            if images.shape[:1] != labels.shape[:1] or not images.shape[:1].numel():
                counts = [len(given) if given.dim() else 0 for given in (images, labels)]
                raise ValueError(
                    f"there are {counts[0]} images and {counts[1]} labels; give one label per "
                    "image."
                )
            labels_for(images, labels)
        if self.how not in ("linear", "knn"):
            raise ValueError(f"how is {quoted(self.how)}; use 'linear' or 'knn'.")
        if len(self.labels.unique()) < 2:
            raise ValueError("all images to fit on have the same class; give at least two classes.")
        if not 1 <= self.k <= len(self.images):
            raise ValueError(f"k is {self.k}; use 1 to {len(self.images)}, the number of images.")

    def __call__(self, model: nn.Module) -> float:
        """Share of the test images that are classified right."""
        if next(model.parameters(), None) is not None:
            check_ready(model)
        if check_own(lambda images: {"": encoded(model, images)}, self.images, model):
            raise not_its_own()
        features, test_features = (
            embed(partial(encoded, model), images, progress=False)
            for images in (self.images, self.test_images)
        )
        right = self._linear if self.how == "linear" else self._nearest
        return float(right(features, test_features).double().mean())

    def _linear(self, features: Tensor, test_features: Tensor) -> Tensor:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
        classifier.fit(features.numpy(), self.labels.numpy())
        predicted = torch.from_numpy(classifier.predict(test_features.numpy()))
        return torch.eq(predicted, self.test_labels)

    def _nearest(self, features: Tensor, test_features: Tensor) -> Tensor:
        cosines = normalize(test_features.double(), dim=1) @ normalize(features.double(), dim=1).T
        last = cosines.topk(self.k, 1).values[:, -1:]
        nearer, tied = cosines > last + _TIED, (cosines - last).abs() <= _TIED
        seats = self.k - nearer.sum(1, keepdim=True)
        classes = self.labels.unique()
        member = (self.labels[:, None] == classes).double()
        # The seats that are left, times the tied: whole numbers, so that classes tie exactly.
        votes = tied.sum(1, keepdim=True) * (nearer.double() @ member)
        votes += seats * (tied.double() @ member)
        first = votes == votes.amax(1, keepdim=True)
        true = self.test_labels[:, None] == classes
        shares: Tensor = (first & true).sum(1) / first.sum(1)
        return shares
