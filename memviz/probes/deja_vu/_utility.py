"""The utility of a CLIP model beside its memorization: zero-shot retrieval and a linear probe."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ._embedded import check_embeddings
from ._objects import check_objects


def zero_shot(queries: Tensor, images: Tensor, objects: Tensor, *, least: int = 1) -> float:
    """Mean average precision of images ranked by cosine to a caption naming one kind of object.

    Parameters
    ----------
    queries : float ``[kinds, features]``
        Text embedding of a caption for each kind, such as ``"a photo of a dog"``.
    images : float ``[n, features]``
        Embeddings of images that the model was not trained on.
    objects : bool ``[n, kinds]``
    least : int
        Kinds shown by fewer images than this are left out of the mean.

    Returns
    -------
    float
        From 0 to 1; by chance about the mean share of images that show a kind (``by_chance``).

    Raises
    ------
    ValueError
        If the sizes do not match, or no kind is shown by enough images.

    Examples
    --------
    >>> zero_shot(torch.eye(2), torch.eye(2), torch.eye(2) > 0)
    1.0
    """
    queries, images = check_embeddings(queries, "queries"), check_embeddings(images, "images")
    _check_rows(objects, len(images), "images")
    if len(queries) != objects.shape[1] or queries.shape[1] != images.shape[1]:
        raise ValueError(
            f"queries are {list(queries.shape)}, images {list(images.shape)} and objects "
            f"{list(objects.shape)}; give one query per kind, with as many features as the images."
        )
    normalize = torch.nn.functional.normalize
    cosines = normalize(images.float(), dim=1) @ normalize(queries.float(), dim=1).T
    return _mean_precision(cosines.cpu().numpy(), objects, _kinds(objects, least))


def linear_probe(
    features: Tensor,
    objects: Tensor,
    test_features: Tensor,
    test_objects: Tensor,
    *,
    least: int = 5,
) -> float:
    """Mean average precision of a linear classifier per kind of object, on frozen image features.

    They are scikit-learn's logistic regressions, with default regularization, on standardized
    features.

    Parameters
    ----------
    features, test_features : float ``[n, features]``, ``[m, features]``
        Of images that the model was not trained on: to fit on, and to rank.
    objects, test_objects : bool ``[n, kinds]``, ``[m, kinds]``
    least : int
        A kind is left out of the mean if fewer images than this show it in either set, or fewer
        images to fit on do not show it.

    Returns
    -------
    float
        From 0 to 1; by chance about ``by_chance(test_objects)``.

    Raises
    ------
    ValueError
        If the sizes do not match, or no kind is shown by enough images.

    Examples
    --------
    >>> points = torch.tensor([[1.0], [2.0]]).repeat(9, 1)
    >>> linear_probe(points, points > 1, points, points > 1)
    1.0
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    rows, test_rows = (
        check_embeddings(embeddings, words).detach().cpu().numpy()
        for embeddings, words in ((features, "features"), (test_features, "test_features"))
    )
    _check_rows(objects, len(rows), "features")
    _check_rows(test_objects, len(test_rows), "test_features")
    if objects.shape[1] != test_objects.shape[1] or rows.shape[1] != test_rows.shape[1]:
        raise ValueError(
            f"features are {rows.shape[1]} and {test_rows.shape[1]}, kinds {objects.shape[1]} and "
            f"{test_objects.shape[1]}; they must be the same for both sets of images."
        )
    kinds = sorted(set(_kinds(objects, least, both=True)) & set(_kinds(test_objects, least)))
    scaler = StandardScaler().fit(rows)
    standardized = scaler.transform(rows)
    decisions = np.zeros((len(test_rows), objects.shape[1]))
    for kind in kinds:
        classifier = LogisticRegression(max_iter=1000).fit(standardized, objects[:, kind].numpy())
        decisions[:, kind] = classifier.decision_function(scaler.transform(test_rows))
    return _mean_precision(decisions, test_objects, kinds)


def by_chance(objects: Tensor, *, least: int = 1) -> float:
    """Mean share of images that show a kind: about the average precision of a random order."""
    return float(objects[:, _kinds(objects, least)].float().mean())


def _check_rows(objects: Tensor, rows: int, words: str) -> None:
    check_objects(objects, "objects")
    if len(objects) != rows:
        raise ValueError(
            f"there are {rows} {words} and {len(objects)} rows of objects; they must be the same."
        )


def _kinds(objects: Tensor, least: int, both: bool = False) -> list[int]:
    """Kinds that at least this many images show; with ``both``, as many must not show them."""
    shown = objects.sum(0)
    kept = (shown >= max(1, least)) & ((len(objects) - shown >= max(1, least)) | (not both))
    return [int(kind) for kind in kept.nonzero()[:, 0]]


def _mean_precision(decisions: np.ndarray, objects: Tensor, kinds: list[int]) -> float:
    from sklearn.metrics import average_precision_score

    if not kinds:
        raise ValueError("no kind of object is shown by enough images; lower least.")
    return float(
        average_precision_score(
            objects[:, kinds].cpu().numpy(), decisions[:, kinds], average="macro"
        )
    )
