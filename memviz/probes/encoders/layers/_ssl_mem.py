"""SSLMem: how much better a target aligns the views of an image than a reference does."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from memviz.checks import Seed, checked
from memviz.data.subsets import Subsets
from memviz.scores import Null, Scores
from memviz.study import check_ready
from memviz.training.self_supervised import Augment

from .._encoded import check_own, encoded, not_its_own
from .._scores import SOURCE
from ._alignment import (
    Compare,
    alignments,
    check_indices,
    check_pair,
    measure_words,
    memorized,
)

_BATCH = 256  # views at a time


@checked
def ssl_mem(
    target: nn.Module,
    reference: nn.Module,
    images: Tensor,
    augment: Augment,
    subsets: Subsets | None = None,
    *,
    augmentations: int = 10,
    unit_norm: bool = True,
    compare: Compare = "views",
    seed: Seed = 0,
    progress: bool = True,
) -> Scores:
    """SSLMem: how much better a target aligns an image's views than a reference without the image.

    Normalised, ``(SSL_g - SSL_f) / (SSL_f + SSL_g)``: above 0 where f aligns the views better than
    g. It lies between -1 and 1 and is not clipped, since clipping turns noise into positive scores;
    the paper's text says [0, 1].

    By default features are scaled to length 1, as in the released code, though not in the formula.
    Without it the sign can be wrong (small SimCLR encoders of digits: in 3 of 3 seeds), because
    training stretches the features of the images it saw, and with them their distances.

    Departures from the released code: two augmented views are compared (as in the equation), not
    the image and a view, which ``compare="clean"`` does; scores are not divided by the batch's
    range, which would make an image's score depend on the others; the encoders are in eval mode.

    Parameters
    ----------
    target, reference : nn.Module
        f and g, of the same architecture and in eval mode; g was trained without the candidates.
    images : float ``[n, ...]``
    augment : callable
        ``(images, generator) -> images``; both encoders get the same views.
    subsets : Subsets, optional
        Which encoder saw which image. With subsets the candidates are scored and the images of the
        other three are the null; without, every image is scored and there is no null.
    augmentations : int
        Views per image.
    unit_norm : bool
    compare : {"views", "clean"}
        All pairs of views, as in the equation, or the image itself with each view, as in the
        released code.
    seed : int
        Seed of the views.
    progress : bool

    Returns
    -------
    Scores
        Over images.

    Raises
    ------
    ValueError
        If the encoders differ in their number of features or are in train mode, there are fewer
        than 2 images or views, features are NaN or infinite, or an encoder is random, couples the
        images of a batch or returns several tensors that could be the features.

    Examples
    --------
    >>> def noise(x, generator):
    ...     return x + torch.randn(x.shape, generator=generator)
    >>> f, g = nn.Linear(3, 3).eval(), nn.Linear(3, 3).eval()
    >>> values = ssl_mem(f, g, torch.randn(4, 3), noise).values
    >>> len(values), bool((abs(values) <= 1).all())
    (4, True)
    """
    check_pair(target, reference, images, augmentations, compare)
    chosen = (
        torch.arange(len(images)) if subsets is None else torch.cat([*subsets.named().values()])
    )
    check_indices(chosen, images)
    widths = [_encoded(encoder, images[:2])[""].shape[1] for encoder in (target, reference)]
    if widths[0] != widths[1]:
        raise ValueError(
            f"the target has {widths[0]:,} features and the reference {widths[1]:,}; compare two "
            "encoders of the same architecture."
        )
    both = [partial(_encoded, encoder) for encoder in (target, reference)]
    for encode, encoder in zip(both, (target, reference), strict=True):
        if check_own(encode, images, encoder):
            raise not_its_own()
    f, g = alignments(both, _BATCH, images, augment, augmentations, chosen, unit_norm=unit_norm,
                      compare=compare, seed=seed, progress=progress)  # fmt: skip
    values = memorized(f[""], g[""]).numpy()
    null = None
    if subsets is not None:
        sizes = [len(members) for members in subsets.named().values()]
        parts = dict(zip(subsets.named(), np.split(values, np.cumsum(sizes)[:-1]), strict=True))
        values, chosen = parts.pop("S_C"), subsets.candidate
        null = _null(parts, len(values))
    return Scores(
        "SSLMem",
        f"normalised SSLMem, {augmentations} views, {measure_words(unit_norm, compare)}",
        values,
        examples=chosen.numpy(),
        source=f"{SOURCE}, section 3",
        null=null,
    )


def _encoded(encoder: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """The encoder's features of each image, under an empty name."""
    check_ready(encoder)
    return {"": encoded(encoder, images)}


def _null(parts: dict[str, np.ndarray], rows: int) -> Null | None:
    """Each image of the other subsets is a draw of the null for every candidate."""
    if not parts:
        return None
    known = {name: values[~np.isnan(values)] for name, values in parts.items()}
    words = ", ".join(
        f"{name} {scores.mean():+.3f}" for name, scores in known.items() if len(scores)
    )
    drawn = np.concatenate(list(known.values()))
    if not len(drawn):
        return None
    return Null(
        f"images that were not in the target's training alone (mean of {words})",
        np.broadcast_to(drawn[:, None], (len(drawn), rows)),
    )
