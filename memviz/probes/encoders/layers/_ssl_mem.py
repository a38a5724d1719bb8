"""SSLMem: how much better a target holds an image's views together than a reference."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from memviz.data.subsets import Subsets
from memviz.engine.record import tensors_in
from memviz.scores import Null, Scores
from memviz.study import check_ready
from memviz.training.self_supervised import Augment

from .._scores import SOURCE
from ._alignment import alignments, check_indices, check_pair, memorized

_BATCH = 256  # views at a time


def ssl_mem(
    target: nn.Module,
    reference: nn.Module,
    images: Tensor,
    augment: Augment,
    subsets: Subsets | None = None,
    *,
    augmentations: int = 10,
    unit_norm: bool = True,
    seed: int = 0,
    progress: bool = True,
) -> Scores:
    """SSLMem: how much closer the target puts an image's views than a reference without it does.

    Normalised, ``(SSL_g - SSL_f) / (SSL_f + SSL_g)``: above 0 where f holds the views together
    better than g. It lies between -1 and 1 and is not clipped, since clipping makes positives out
    of noise. The paper's text says [0, 1].

    Features have length 1 unless told otherwise. The formula does not say so, the released code
    does it; without it the sign can come out wrong (small SimCLR encoders of digits: 3 of 3
    seeds): training stretches the features of the images it saw, and with them their distances.

    Departures from the released code: two augmented views are compared (as in the equation), not
    the image and a view; no division by the batch's range, which would tie an image's score to
    the others; evaluation mode.

    Parameters
    ----------
    target, reference : nn.Module
        f and g, in eval mode, of one architecture; g was trained without the candidates.
    images : float ``[n, ...]``
    augment : callable
        ``(images, generator) -> images``; both encoders get the same draws.
    subsets : Subsets, optional
        Who saw which image. With them the candidates are scored, and the null are the images of
        the other three sets; without them every image is scored and there is no null.
    augmentations : int
        Views an image; all their pairs are compared.
    unit_norm : bool
    seed : int
        Of the views.
    progress : bool

    Raises
    ------
    ValueError
        Encoders of other feature sizes, in train mode; fewer than 2 images or views.

    Examples
    --------
    >>> def noise(x, generator):
    ...     return x + torch.randn(x.shape, generator=generator)
    >>> f, g = nn.Linear(3, 3).eval(), nn.Linear(3, 3).eval()
    >>> one = ssl_mem(f, g, torch.randn(4, 3), noise).values
    >>> other = ssl_mem(g, f, torch.randn(4, 3), noise).values
    >>> len(one), bool((abs(one) <= 1).all())
    (4, True)
    """
    check_pair(target, reference, images, augmentations)
    chosen = (
        torch.arange(len(images)) if subsets is None else torch.cat([*subsets.named().values()])
    )
    check_indices(chosen, images)
    widths = [_encoded(one, images[:2])[""].shape[1] for one in (target, reference)]
    if widths[0] != widths[1]:
        raise ValueError(
            f"the target gives {widths[0]:,} features and the reference {widths[1]:,}; compare two "
            "encoders of one architecture."
        )
    both = [lambda x, one=one: _encoded(one, x) for one in (target, reference)]
    f, g = alignments(both, _BATCH, images, augment, augmentations, chosen,
                      unit_norm=unit_norm, seed=seed, progress=progress)  # fmt: skip
    values = memorized(f[""], g[""]).numpy()
    null = None
    if subsets is not None:
        sizes = [len(one) for one in subsets.named().values()]
        parts = dict(zip(subsets.named(), np.split(values, np.cumsum(sizes)[:-1]), strict=True))
        values, chosen = parts.pop("S_C"), subsets.candidate
        null = _null(parts, len(values))
    return Scores(
        "SSLMem",
        f"normalised SSLMem, {augmentations} views"
        + (", features of length 1" if unit_norm else ", raw features (the sign can be wrong)"),
        values,
        examples=chosen.numpy(),
        source=f"{SOURCE}, section 3",
        null=null,
    )


def _encoded(encoder: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """The encoder's output of each image, flattened, under an empty name."""
    check_ready(encoder)
    device = next((p.device for p in encoder.parameters()), images.device)
    with torch.no_grad():
        found = tensors_in(encoder(images.to(device)))
    if not found or len(found[0]) != len(images):
        raise ValueError("the encoder does not give one row of features an image.")
    return {"": found[0].flatten(1).float()}


def _null(parts: dict[str, np.ndarray], rows: int) -> Null | None:
    """Images of the other subsets, each a draw for every candidate."""
    if not parts:
        return None
    known = {name: values[~np.isnan(values)] for name, values in parts.items()}
    words = ", ".join(f"{name} {one.mean():+.3f}" for name, one in known.items() if len(one))
    drawn = np.concatenate(list(known.values()))
    if not len(drawn):
        return None
    return Null(
        f"images that were not in the target's training alone (mean of {words})",
        np.broadcast_to(drawn[:, None], (len(drawn), rows)),
    )
