"""Déjà vu in vision-language models (Jayaraman et al. 2024): a caption finds its image's objects.

The caption of a training pair is embedded, its nearest public images are looked up, and their
objects are compared with those of the pair's own image. Whatever a model of the same recipe,
trained without the pair, finds as well can be inferred from the caption; the gap between the two
models is memorization.

Departures from the authors' code (facebookresearch/VLMDejaVu): AUCG is the exact difference of the
mean recalls; pairs without objects are left out before sorting, not after; labels can be ranked by
the number of neighbours that show them, which gives a much cleaner gap than their union; pairs can
be sorted by the recall gap, since a raw count favours crowded images. What ties for the last places
of a cut, objects or pairs, shares them, so that neither label numbers nor the order of rows matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from memviz.checks import checked, quoted
from memviz.engine.search import nearest

from ._embedded import Embedded, check_embeddings, check_public, nearest_distances
from ._objects import Predictions, check_objects, predict
from ._table import DejaVu


@checked
def two_model_test(
    target: Embedded,
    reference: Embedded,
    objects: Tensor,
    public_objects: Tensor,
    *,
    held_out_objects: Tensor | None = None,
    k: int = 10,
    top: int | None = 5,
    ids: Sequence[Any] | np.ndarray | Tensor | None = None,
    progress: bool = True,
) -> DejaVu:
    """Test whether a model finds more of an image's objects from its caption than a reference does.

    The one-model test (Kokhlikyan et al., arXiv:2504.05651) is the same with a text encoder's
    embeddings as the reference: ``Embedded(texts, public captions)``. To search the target by text
    too, give it embeddings of the public captions instead of the public images.

    Parameters
    ----------
    target, reference : Embedded
        Of a model trained on the pairs, and of one that never saw them. They may differ in their
        number of features.
    objects : bool ``[n, kinds]``
        The objects that each pair's image shows, whether or not its caption names them. Pairs whose
        image shows none are counted but not scored.
    public_objects : bool ``[m, kinds]``
    held_out_objects : bool ``[h, kinds]``, optional
        Of the held-out pairs; both sides then need ``held_out``.
    k : int
        Number of neighbours, by cosine.
    top : int, optional
        Number of objects to keep, those that most neighbours show; None keeps all.
    ids : sequence, array or tensor ``[n]``, optional
        Your names of the pairs; row numbers by default.
    progress : bool
        Show a progress bar if the search takes more than a second.

    Returns
    -------
    DejaVu

    Raises
    ------
    ValueError
        If shapes do not match, an embedding is NaN or zero, k exceeds the public set, or no image
        has an object.

    Examples
    --------
    >>> import torch
    >>> eye = torch.eye(3)
    >>> target, reference = Embedded(eye, eye), Embedded(eye.roll(1, 0), eye)
    >>> result = two_model_test(target, reference, eye > 0, eye > 0, k=1)
    >>> result.ppg, result.prg, result.aucg
    (1.0, 1.0, 1.0)
    """
    names = (target.name or "target", reference.name or "reference")
    if names[0] == names[1]:
        raise ValueError(
            f"target and reference are both called {quoted(names[0])}; give them different names."
        )
    pair_ids = np.arange(len(objects)) if ids is None else _array(ids)
    if not pair_ids.ndim:
        raise ValueError("ids is a single number; give one name per pair.")
    if len(pair_ids) != len(objects):
        raise ValueError(
            f"there are {len(pair_ids)} ids for {len(objects)} pairs; give one per pair."
        )
    sides = (replace(target, name=names[0]), replace(reference, name=names[1]))
    null = None
    if held_out_objects is not None:
        settings = (held_out_objects, public_objects, k, top, progress)
        of_target, of_reference = (
            _predict(side, side.held_out, "held-out captions", *settings) for side in sides
        )
        rows = np.arange(len(held_out_objects))
        shown = held_out_objects.cpu(), public_objects.cpu()
        null = DejaVu(of_target, of_reference, *shown, rows, names)
    elif target.held_out is not None or reference.held_out is not None:
        raise ValueError(
            "held-out captions were given without held_out_objects; give the objects that their "
            "images show."
        )
    settings = (objects, public_objects, k, top, progress)
    of_target, of_reference = (
        _predict(side, side.captions, "captions", *settings) for side in sides
    )
    shown = objects.cpu(), public_objects.cpu()
    return DejaVu(of_target, of_reference, *shown, pair_ids, names, null)


@checked
def retest(found: DejaVu, target: Embedded, *, progress: bool = True) -> DejaVu:
    """Repeat the test with another target, an ablated one for example, and the same reference.

    Only the target is searched again, so that a click waits for a single search.

    Parameters
    ----------
    found : DejaVu
    target : Embedded
        Of the same captions and public images, and held-out captions if ``found`` has a null.
    progress : bool

    Raises
    ------
    ValueError
        As for :func:`two_model_test`.

    Examples
    --------
    >>> import torch
    >>> eye = torch.eye(3)
    >>> target, reference = Embedded(eye, eye), Embedded(eye.flip(0), eye)
    >>> result = two_model_test(target, reference, eye > 0, eye > 0, k=1)
    >>> round(result.prg, 3), retest(result, reference).prg
    (0.667, 0.0)
    """
    side = replace(target, name=target.name or found.names[0])
    settings = (found.public_objects, found.k, found.target.top, progress)
    null = found.null
    if null is not None:
        held_out = _predict(side, side.held_out, "held-out captions", null.objects, *settings)
        null = replace(null, target=held_out, names=(side.name, found.names[1]))
    predictions = _predict(side, side.captions, "captions", found.objects, *settings)
    return replace(found, target=predictions, names=(side.name, found.names[1]), null=null)


def _predict(
    side: Embedded,
    captions: Tensor | None,
    words: str,
    objects: Tensor,
    public_objects: Tensor,
    k: int,
    top: int | None,
    progress: bool,
) -> Predictions:
    """Predict from a side's captions and public set; errors name the side."""
    check_objects(objects, "objects")
    check_objects(public_objects, "public_objects")
    if not bool(objects.any()):
        raise ValueError(
            "none of the images shows an object, so recall is undefined; check the masks."
        )
    rows = check_embeddings(captions, f"{side.name}'s {words}")
    check_public(side, len(public_objects), rows.shape[1], k)
    neighbours = nearest(rows, side.public, k, ties=True, progress=progress)
    distance = nearest_distances(rows, side.public, neighbours.ids[:, 0])
    return replace(predict(neighbours, objects, public_objects, top), distance=distance)


def _array(ids: Sequence[Any] | np.ndarray | Tensor) -> np.ndarray:
    """One entry per id, unchanged: np.array would make a table of tuples, or text of numbers."""
    if isinstance(ids, np.ndarray | Tensor):
        return np.asarray(ids.cpu() if isinstance(ids, Tensor) else ids)
    entries = np.empty(len(ids), dtype=object)
    for row, name in enumerate(ids):
        entries[row] = name
    return entries
