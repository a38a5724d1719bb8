"""Déjà vu: what one model makes of captions and public images, embedded and checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from memviz.engine.search import embed

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


def check_embeddings(rows: Any, words: str) -> Tensor:
    """The rows, unless they can't be searched by cosine; names the first bad one."""
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


def check_public(side: Embedded, rows: int, features: int, k: int) -> None:
    """Refuse a public set that fits neither its objects, nor the captions, nor k."""
    words = f"{side.name}'s public embeddings"
    if isinstance(side.public, Tensor):
        there, size = check_embeddings(side.public, words).shape
    elif hasattr(side.public, "ntotal"):
        there, size = side.public.ntotal, side.public.d
    else:
        raise ValueError(
            f"{words} are {type(side.public).__name__}; give a tensor or a FAISS index."
        )
    if there != rows:
        raise ValueError(
            f"{words} have {there} rows and public_objects {rows}; give one row an image in both."
        )
    if size != features:
        raise ValueError(
            f"{words} have {size} features and its captions {features}; both must come from one "
            "model."
        )
    if not 1 <= k <= rows:
        raise ValueError(
            f"k is {k} and the public set has {rows} images; use a k from 1 to {rows}."
        )
