"""Déjà vu: a model's embeddings of captions and public images, checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from memviz.checks import checked
from memviz.engine.search import embed

_STEP = 4096  # rows checked at a time


@dataclass(frozen=True, eq=False)
class Embedded:
    """A model's embeddings of the captions and of the public set.

    Attributes
    ----------
    captions : float ``[n, features]``
    public : float ``[m, features]``, or a FAISS inner-product index of unit-length rows
        Of the public images; for a text encoder, of the public captions.
    held_out : float ``[h, features]``, optional
        Of captions that neither model was trained on: the null.
    name : str
        Label in tables and figures.
    """

    captions: Tensor
    public: Any
    held_out: Tensor | None = None
    name: str = ""


@checked
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
    """Embed captions and public images with their encoders, one batch at a time.

    Parameters
    ----------
    encode_captions, encode_public : callable
        Map a batch to float ``[batch, features]``: a CLIP model's ``encode_text`` and
        ``encode_image``; for the one-model test the same text encoder twice.
    captions, public, held_out : Tensor or sequence
        Inputs of the encoders, split along the first dimension.
    name : str
        As in :class:`Embedded`.
    batch : int
        Examples per call.

    Examples
    --------
    >>> text, image = torch.nn.Linear(4, 2), torch.nn.ReLU()
    >>> embedded = embedded_by(text, torch.ones(3, 4), image, torch.eye(2))
    >>> embedded.captions.shape, embedded.public.shape
    (torch.Size([3, 2]), torch.Size([2, 2]))
    """
    return Embedded(
        embed(encode_captions, captions, batch=batch),
        embed(encode_public, public, batch=batch),
        None if held_out is None else embed(encode_captions, held_out, batch=batch),
        name,
    )


def nearest_distances(rows: Tensor, public: Any, ids: Tensor) -> Tensor | None:
    """Distance of each row to a public row, both scaled to length 1, float64 ``[n]``.

    None for a FAISS index, which does not hand out its rows.
    """
    if not isinstance(public, Tensor):
        return None
    distances = []
    for part, places in zip(rows.split(_STEP), ids.split(_STEP), strict=True):
        others = public[places.to(public.device)]
        distances.append((unit_rows(part) - unit_rows(others)).norm(dim=1))
    return torch.cat(distances)


def unit_rows(rows: Tensor) -> Tensor:
    """Rows of length 1, float64 on the CPU; scaled first, since a square may overflow."""
    rows = rows.detach().cpu().double()
    rows = rows / rows.abs().amax(1, keepdim=True)
    lengths: Tensor = rows.norm(dim=1, keepdim=True)
    return rows / lengths


def check_embeddings(rows: Any, words: str) -> Tensor:
    """Return rows that can be searched by cosine; the error names the first bad row."""
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
    return rows


def check_public(side: Embedded, rows: int, features: int, k: Any) -> None:
    """Refuse a public set that does not match its objects, the captions or k."""
    words = f"{side.name}'s public embeddings"
    if isinstance(side.public, Tensor):
        count, width = check_embeddings(side.public, words).shape
    elif hasattr(side.public, "ntotal"):
        count, width = side.public.ntotal, side.public.d
    else:
        raise ValueError(
            f"{words} are {type(side.public).__name__}; give a tensor or a FAISS index."
        )
    if count != rows:
        raise ValueError(
            f"{words} have {count} rows and public_objects {rows}; give both one row per image."
        )
    if width != features:
        raise ValueError(
            f"{words} have {width} features and its captions {features}; both must come from the "
            "same model."
        )
    if not isinstance(k, Integral) or not 1 <= int(k) <= rows:
        raise ValueError(
            f"k is {k} and the public set has {rows} images; use a k from 1 to {rows}."
        )
