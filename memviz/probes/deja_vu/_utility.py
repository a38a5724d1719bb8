"""The utility of a CLIP model beside its memorization: zero-shot retrieval and a linear probe."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from memviz.checks import checked
from memviz.engine.search import nearest

from ._embedded import check_embeddings, unit_rows
from ._objects import check_objects

_STEP = 4096  # rows at a time


@checked
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
    _check_queries(queries, images, objects)
    cosines = np.zeros(objects.shape)
    kinds = _kinds(objects, least)
    for kind in kinds:
        cosines[:, kind] = _cosines(queries[kind], images)
    return _mean_precision(cosines, objects, kinds)


@checked
def precision_of_first(queries: Tensor, images: Tensor, objects: Tensor, count: int) -> float:
    """Share of the images nearest to a caption of one object that show it, mean over the objects.

    Images that tie for the last places share them, so that their order does not matter.

    Parameters
    ----------
    queries : float ``[kinds, features]``
        Text embedding of a caption for each kind of object.
    images : float ``[n, features]``
    objects : bool ``[n, kinds]``
        Kinds that no image shows are left out of the mean.
    count : int
        How many images count, at most n.

    Examples
    --------
    >>> precision_of_first(torch.eye(2), torch.ones(4, 2), torch.eye(2).repeat(2, 1) > 0, 3)
    0.5
    """
    _check_queries(queries, images, objects)
    kinds = _kinds(objects, 1)
    found = nearest(queries[kinds], images, count, ties=True, progress=False)
    shown = objects.T[kinds].cpu()
    shares = shown.gather(1, found.ids).double().mean(1)
    tied = torch.zeros(2, 0, dtype=torch.int64) if found.tied is None else found.tied
    for row in tied[0].unique().tolist():
        images_that_tie = tied[1, tied[0] == row]
        nearer = found.ids[row, found.values[row] != found.values[row, -1]]
        share = shown[row, images_that_tie].double().mean() * (count - len(nearer))
        shares[row] = (shown[row, nearer].sum() + share) / count
    return float(shares.mean())


@checked
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
        check_embeddings(embeddings, words).detach().double().cpu().numpy()
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
        classifier = LogisticRegression(max_iter=1000).fit(
            standardized, objects[:, kind].cpu().numpy()
        )
        decisions[:, kind] = classifier.decision_function(scaler.transform(test_rows))
    return _mean_precision(decisions, test_objects, kinds)


@checked
def by_chance(objects: Tensor, *, least: int = 1) -> float:
    """Mean share of images that show a kind: about the average precision of a random order."""
    return float(objects[:, _kinds(objects, least)].float().mean())


def _check_queries(queries: Tensor, images: Tensor, objects: Tensor) -> None:
    check_embeddings(queries, "queries")
    check_embeddings(images, "images")
    _check_rows(objects, len(images), "images")
    if len(queries) != objects.shape[1] or queries.shape[1] != images.shape[1]:
        raise ValueError(
            f"queries are {list(queries.shape)}, images {list(images.shape)} and objects "
            f"{list(objects.shape)}; give one query per kind, with as many features as the images."
        )


def _cosines(query: Tensor, images: Tensor) -> Tensor:
    """Of each image, float64 ``[n]``; equal images have equal cosines, whatever their place."""
    parts = [
        (unit_rows(part) * unit_rows(query[None])).sum(1) for part in images.detach().split(_STEP)
    ]
    return torch.cat(parts)


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
