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

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memviz.engine.embeddings import embed
from memviz.engine.neighbours import nearest
from memviz.probes.deja_vu_objects import check_objects, predict
from memviz.probes.deja_vu_table import DejaVu

__all__ = ["DejaVu", "Embedded", "embedded_by", "two_model_test"]

_STEP = 4096  # rows checked at a time


@dataclass(frozen=True, eq=False)
class Embedded:
    """What one model makes of the captions and of the public set.

    Attributes
    ----------
    captions : float ``[n, features]``
    public : float ``[m, features]``, or a FAISS index of rows of length 1 by inner product
        Of the public images; of a text encoder, of the public captions.
    held_out : float ``[h, features]``, optional
        Of captions that no model was trained on: the null.
    name : str
        What it is called in tables and figures.
    """

    captions: Tensor
    public: Any
    held_out: Tensor | None = None
    name: str = ""


def two_model_test(
    target: Embedded,
    reference: Embedded,
    objects: Tensor,
    public_objects: Tensor,
    *,
    held_out_objects: Tensor | None = None,
    k: int = 10,
    top: int | None = 5,
    ids: Sequence[Any] | None = None,
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
    ids : sequence, optional
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
    >>> one, other = torch.eye(3), torch.eye(3).roll(1, 0)
    >>> found = two_model_test(Embedded(one, one), Embedded(other, one), one > 0, one > 0, k=1)
    >>> found.ppg, found.prg, found.aucg
    (1.0, 1.0, 1.0)
    """
    check_objects(public_objects, "public_objects")
    names = (target.name or "target", reference.name or "reference")
    sides = dict(zip(names, (target, reference), strict=True))
    if len(sides) < 2:
        raise ValueError(f"target and reference are both called {names[0]!r}; give two names.")
    null = None
    if held_out_objects is not None:
        rows = {f"{name}'s held-out captions": side.held_out for name, side in sides.items()}
        held_out = np.arange(len(held_out_objects))
        null = _test(sides, rows, held_out_objects, public_objects, k, top, held_out, progress)
        null = replace(null, names=names)
    elif target.held_out is not None or reference.held_out is not None:
        raise ValueError(
            "held-out captions were given without held_out_objects; give what their pictures show."
        )
    named = np.arange(len(objects)) if ids is None else _array(ids)
    captions = {f"{name}'s captions": side.captions for name, side in sides.items()}
    found = _test(sides, captions, objects, public_objects, k, top, named, progress)
    return replace(found, names=names, null=null)


def embedded_by(
    encode_captions: Callable[[Any], Tensor],
    captions: Any,
    encode_public: Callable[[Any], Tensor],
    public: Any,
    held_out: Any = None,
    *,
    name: str = "",
    batch: int = 256,
) -> Embedded:
    """Embed with two encoders, one batch at a time.

    Parameters
    ----------
    encode_captions, encode_public : callable
        A batch in, float ``[batch, features]`` out: a CLIP model's ``encode_text`` and
        ``encode_image``; for the one-model test the same text encoder twice.
    captions, public, held_out : Tensor or sequence
        What the encoders take, cut along the first dimension.
    name, batch
        As in :class:`Embedded`; examples a call.

    Examples
    --------
    >>> found = embedded_by(torch.nn.Linear(4, 2), torch.ones(3, 4), torch.nn.ReLU(), torch.eye(2))
    >>> found.captions.shape, found.public.shape
    (torch.Size([3, 2]), torch.Size([2, 2]))
    """
    return Embedded(
        embed(encode_captions, captions, batch=batch),
        embed(encode_public, public, batch=batch),
        None if held_out is None else embed(encode_captions, held_out, batch=batch),
        name,
    )


def _test(
    sides: Mapping[str, Embedded],
    captions: Mapping[str, Tensor | None],
    objects: Tensor,
    public_objects: Tensor,
    k: int,
    top: int | None,
    ids: np.ndarray,
    progress: bool,
) -> DejaVu:
    check_objects(objects, "objects")
    if len(ids) != len(objects):
        raise ValueError(f"there are {len(ids)} ids for {len(objects)} pairs; give one a pair.")
    if not bool(objects.any()):
        raise ValueError(
            "none of the pictures shows an object, so no recall is defined; check the masks."
        )
    predictions = []
    for (words, rows), (name, side) in zip(captions.items(), sides.items(), strict=True):
        check_embeddings(rows, words)
        _check_public(side.public, f"{name}'s public embeddings", len(public_objects), k)
        assert rows is not None
        features = side.public.shape[1] if isinstance(side.public, Tensor) else side.public.d
        if rows.shape[1] != features:
            raise ValueError(
                f"{words} have {rows.shape[1]} features and its public embeddings {features}; "
                "both must come from one model."
            )
        found = nearest(rows, side.public, k, progress=progress)
        predictions.append(predict(found, objects, public_objects, top))
    return DejaVu(predictions[0], predictions[1], objects, public_objects, ids)


def check_embeddings(rows: Any, words: str) -> None:
    """Refuse what can't be searched by cosine, naming the first bad row."""
    if not isinstance(rows, Tensor) or rows.dim() != 2 or not rows.is_floating_point():
        given = list(rows.shape) if isinstance(rows, Tensor) else type(rows).__name__
        raise ValueError(f"{words} are {given}; give floats [rows, features].")
    if not rows.numel():
        raise ValueError(f"{words} are empty, {list(rows.shape)}; give at least one row.")
    sizes = torch.cat([part.detach().float().abs().amax(1) for part in rows.split(_STEP)])
    for bad, what in ((~(sizes < torch.inf), "NaN or infinite"), (sizes == 0, "zero")):
        if bool(bad.any()):
            raise ValueError(
                f"row {int(bad.nonzero()[0])} of {words} is {what} ({int(bad.sum())} such rows); "
                "leave these rows out, or embed them again."
            )


def _check_public(public: Any, words: str, rows: int, k: int) -> None:
    there = len(public) if isinstance(public, Tensor) else getattr(public, "ntotal", rows)
    if isinstance(public, Tensor):
        check_embeddings(public, words)
    if there != rows:
        raise ValueError(
            f"{words} have {there} rows and public_objects {rows}; give one row an image in both."
        )
    if not 1 <= k <= rows:
        raise ValueError(
            f"k is {k} and the public set has {rows} images; use a k from 1 to {rows}."
        )


def _array(ids: Sequence[Any]) -> np.ndarray:
    """One entry an id, whatever they are: np.array would make a table of tuples."""
    plain = np.asarray(ids) if all(isinstance(i, int | str | np.integer) for i in ids) else None
    if plain is not None and plain.ndim == 1:
        return plain
    found = np.empty(len(ids), dtype=object)
    for row, one in enumerate(ids):
        found[row] = one
    return found
