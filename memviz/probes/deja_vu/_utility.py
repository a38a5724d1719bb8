"""What a model is still good for, beside what it has memorized: two numbers that any CLIP has."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ._embedded import check_embeddings
from ._objects import check_objects


def zero_shot(queries: Tensor, images: Tensor, objects: Tensor, *, least: int = 1) -> float:
    """Mean average precision of images ranked by cosine to a caption that names one object.

    Parameters
    ----------
    queries : float ``[kinds, features]``
        The text embedding of each kind's own caption: ``"a photo of a dog"``.
    images : float ``[n, features]``
        Of pictures that the model was not trained on.
    objects : bool ``[n, kinds]``
    least : int
        Kinds that fewer images show are left out of the mean.

    Returns
    -------
    From 0 to 1; by chance about the mean share of the images that show a kind (``by_chance``).

    Raises
    ------
    ValueError
        On sizes that don't fit together, or no kind with so many images.

    Examples
    --------
    >>> zero_shot(torch.eye(2), torch.eye(2), torch.eye(2) > 0)
    1.0
    """
    texts, pictures = check_embeddings(queries, "queries"), check_embeddings(images, "images")
    _fit(objects, len(pictures), "images")
    if len(texts) != objects.shape[1] or texts.shape[1] != pictures.shape[1]:
        raise ValueError(
            f"queries are {list(texts.shape)}, images {list(pictures.shape)} and objects "
            f"{list(objects.shape)}; give a query each kind, of as many features as an image has."
        )
    normal = torch.nn.functional.normalize
    cosines = normal(pictures.float(), dim=1) @ normal(texts.float(), dim=1).T
    return _mean_precision(cosines.cpu().numpy(), objects, _kinds(objects, least))


def linear_probe(
    features: Tensor,
    objects: Tensor,
    test_features: Tensor,
    test_objects: Tensor,
    *,
    least: int = 5,
) -> float:
    """Mean average precision of linear classifiers of frozen image features, one a kind of object.

    Logistic regressions (scikit-learn's, with its own regularization) on standardized features.

    Parameters
    ----------
    features, test_features : float ``[n, features]``, ``[m, features]``
        Of pictures that the model was not trained on, to fit on and to rank.
    objects, test_objects : bool ``[n, kinds]``, ``[m, kinds]``
    least : int
        Kinds that fewer images of either set show, or all but so few, are left out of the mean.

    Returns
    -------
    From 0 to 1; by chance about ``by_chance(test_objects)``.

    Raises
    ------
    ValueError
        On sizes that don't fit together, or no kind with so many images.

    Examples
    --------
    >>> points = torch.tensor([[1.0], [2.0]]).repeat(9, 1)
    >>> linear_probe(points, points > 1, points, points > 1)
    1.0
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    rows, tested = (
        check_embeddings(given, words).detach().cpu().numpy()
        for given, words in ((features, "features"), (test_features, "test_features"))
    )
    _fit(objects, len(rows), "features")
    _fit(test_objects, len(tested), "test_features")
    if objects.shape[1] != test_objects.shape[1] or rows.shape[1] != tested.shape[1]:
        raise ValueError(
            f"features are {rows.shape[1]} and {tested.shape[1]}, kinds {objects.shape[1]} and "
            f"{test_objects.shape[1]}; give both sets of images the same."
        )
    kinds = sorted(set(_kinds(objects, least, both=True)) & set(_kinds(test_objects, least)))
    scaler = StandardScaler().fit(rows)
    fitted = scaler.transform(rows)
    ranked = np.zeros((len(tested), objects.shape[1]))
    for kind in kinds:
        classifier = LogisticRegression(max_iter=1000).fit(fitted, objects[:, kind].numpy())
        ranked[:, kind] = classifier.decision_function(scaler.transform(tested))
    return _mean_precision(ranked, test_objects, kinds)


def by_chance(objects: Tensor, *, least: int = 1) -> float:
    """Mean share of the images that show a kind: about the average precision of a random order."""
    return float(objects[:, _kinds(objects, least)].float().mean())


def _fit(objects: Tensor, rows: int, words: str) -> None:
    check_objects(objects, "objects")
    if len(objects) != rows:
        raise ValueError(f"there are {rows} {words} and {len(objects)} rows of objects.")


def _kinds(objects: Tensor, least: int, both: bool = False) -> list[int]:
    """Kinds that so many images show, and, for both, so many don't."""
    shown = objects.sum(0)
    kept = (shown >= max(1, least)) & ((len(objects) - shown >= max(1, least)) | (not both))
    return [int(kind) for kind in kept.nonzero()[:, 0]]


def _mean_precision(ranked: np.ndarray, objects: Tensor, kinds: list[int]) -> float:
    from sklearn.metrics import average_precision_score

    if not kinds:
        raise ValueError("no kind of object is shown by enough images; lower least.")
    return float(
        average_precision_score(objects[:, kinds].cpu().numpy(), ranked[:, kinds], average="macro")
    )
