"""Déjà vu in vision-language models (Jayaraman et al. 2024): a caption finds its picture's objects.

The caption of a training pair is embedded, its nearest public images are looked up, and their
objects are compared with those of the pair's own picture. What a model of the same recipe, trained
without the pair, finds as well can be inferred from the caption; the gap between the two is
memorized.

Departures from the authors' code (facebookresearch/VLMDejaVu): AUCG is the exact difference of the
mean recalls; pairs without objects are left out before sorting, not after; labels can be ranked by
the number of neighbours that show them, which gives a much cleaner gap than their union; pairs can
be sorted by the gap of recall, since a raw count lets crowded pictures win.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from memviz.engine.search import nearest

from ._embedded import Embedded, check_embeddings, check_public
from ._objects import Predictions, check_objects, predict
from ._table import DejaVu


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
    """Test whether a model's captions find more of their pictures' objects than a reference's do.

    The one-model test (Kokhlikyan et al., arXiv:2504.05651) is the same with a text encoder's
    embeddings as the reference: ``Embedded(texts, public captions)``. To search the target by text
    too, give it the public captions' embeddings instead of the public images'.

    Parameters
    ----------
    target, reference : Embedded
        Of a model trained on the pairs, and of one that never saw them. Their features may differ
        in number.
    objects : bool ``[n, kinds]``
        What the picture of each pair shows, whether or not its caption names it. Pairs whose
        picture shows nothing are counted and not scored.
    public_objects : bool ``[m, kinds]``
    held_out_objects : bool ``[h, kinds]``, optional
        Of the held-out pairs; with it, both sides need ``held_out``.
    k : int
        Neighbours by cosine.
    top : int, optional
        Objects kept, those that most neighbours show; all of them with None.
    ids : sequence, array or tensor ``[n]``, optional
        The user's names of the pairs; their numbers unless given.
    progress : bool
        Show a bar when it takes more than a second.

    Returns
    -------
    DejaVu

    Raises
    ------
    ValueError
        On shapes that do not fit, NaN or zero embeddings, k above the public set, or pictures that
        all have no object.

    Examples
    --------
    >>> import torch
    >>> one, other = torch.eye(3), torch.eye(3).roll(1, 0)
    >>> found = two_model_test(Embedded(one, one), Embedded(other, one), one > 0, one > 0, k=1)
    >>> found.ppg, found.prg, found.aucg
    (1.0, 1.0, 1.0)
    """
    names = (target.name or "target", reference.name or "reference")
    if names[0] == names[1]:
        raise ValueError(f"target and reference are both called {names[0]!r}; give two names.")
    named = np.arange(len(objects)) if ids is None else _array(ids)
    if len(named) != len(objects):
        raise ValueError(f"there are {len(named)} ids for {len(objects)} pairs; give one a pair.")
    sides = (replace(target, name=names[0]), replace(reference, name=names[1]))
    null = None
    if held_out_objects is not None:
        asked = (held_out_objects, public_objects, k, top, progress)
        one, other = (_predict(side, side.held_out, "held-out captions", *asked) for side in sides)
        rows = np.arange(len(held_out_objects))
        null = DejaVu(one, other, held_out_objects, public_objects, rows, names)
    elif target.held_out is not None or reference.held_out is not None:
        raise ValueError(
            "held-out captions were given without held_out_objects; give what their pictures show."
        )
    asked = (objects, public_objects, k, top, progress)
    one, other = (_predict(side, side.captions, "captions", *asked) for side in sides)
    return DejaVu(one, other, objects, public_objects, named, names, null)


def retest(found: DejaVu, target: Embedded, *, progress: bool = True) -> DejaVu:
    """The same test of another target, for example ablated, against the reference as it was.

    Only the target is searched again, so that a click waits for one search.

    Parameters
    ----------
    found : DejaVu
    target : Embedded
        Of the same captions, public images and, where ``found`` has a null, held-out captions.
    progress : bool

    Raises
    ------
    ValueError
        As :func:`two_model_test`.

    Examples
    --------
    >>> import torch
    >>> three = torch.eye(3)
    >>> one, other = Embedded(three, three), Embedded(three.flip(0), three)
    >>> found = two_model_test(one, other, three > 0, three > 0, k=1)
    >>> round(found.prg, 3), retest(found, other).prg
    (0.667, 0.0)
    """
    side = replace(target, name=target.name or found.names[0])
    asked = (found.public_objects, found.k, found.target.top, progress)
    null = found.null
    if null is not None:
        held_out = _predict(side, side.held_out, "held-out captions", null.objects, *asked)
        null = replace(null, target=held_out, names=(side.name, found.names[1]))
    again = _predict(side, side.captions, "captions", found.objects, *asked)
    return replace(found, target=again, names=(side.name, found.names[1]), null=null)


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
    """Look up captions among a side's public set; errors call both by the side's name."""
    check_objects(objects, "objects")
    check_objects(public_objects, "public_objects")
    if not bool(objects.any()):
        raise ValueError(
            "none of the pictures shows an object, so no recall is defined; check the masks."
        )
    rows = check_embeddings(captions, f"{side.name}'s {words}")
    check_public(side, len(public_objects), rows.shape[1], k)
    return predict(nearest(rows, side.public, k, progress=progress), objects, public_objects, top)


def _array(ids: Sequence[Any] | np.ndarray | Tensor) -> np.ndarray:
    """One entry an id as it is: np.array would make a table of tuples, and texts of numbers."""
    if isinstance(ids, np.ndarray | Tensor):
        return np.asarray(ids)
    found = np.empty(len(ids), dtype=object)
    for row, one in enumerate(ids):
        found[row] = one
    return found
