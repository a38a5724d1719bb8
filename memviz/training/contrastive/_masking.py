"""Caption masking: each word of a caption is left out with some probability, anew every time."""

from __future__ import annotations

import torch
from torch import Tensor


def mask_captions(
    tokens: Tensor, fraction: float, generator: torch.Generator, *, pad: int = 0
) -> Tensor:
    """Leave out tokens of each caption at random and close the gaps.

    The mitigation of Jayaraman et al. (2024): called at every presentation, so that no caption
    keeps all its private words together for long. The start, the end and the padding stay.

    Parameters
    ----------
    tokens : integers ``[b, context]`` of open_clip's own tokenizer: the start first, then the
        caption, then the end of text, which has the largest id, then padding.
    fraction : probability that a token between start and end is left out, from 0 to 1.
    generator : what is drawn from; on the CPU.
    pad : id of the padding.

    Returns
    -------
    Integers ``[b, context]``; the given tokens are not changed.

    Raises
    ------
    ValueError : the fraction lies outside 0 to 1, or tokens are no table of integers.

    Examples
    --------
    >>> tokens = torch.tensor([[8, 3, 4, 5, 9, 0]])
    >>> mask_captions(tokens, 1.0, torch.Generator()).tolist()
    [[8, 9, 0, 0, 0, 0]]
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"the fraction to leave out must lie between 0 and 1, but got {fraction}.")
    if tokens.ndim != 2 or tokens.is_floating_point() or tokens.dtype == torch.bool:
        raise ValueError(
            f"tokens must be integers [captions, context], but got {tokens.dtype} of shape "
            f"{list(tokens.shape)}."
        )
    place = torch.arange(tokens.shape[1], device=tokens.device)
    end = tokens.argmax(1, keepdim=True)
    drawn = torch.rand(tokens.shape, generator=generator).to(tokens.device)
    kept = (place == 0) | (place == end) | ((place < end) & (drawn >= fraction))
    # A stable sort brings what is kept to the front, in its own order.
    order = (~kept).to(torch.uint8).argsort(dim=1, stable=True)
    closed = tokens.gather(1, order)
    return torch.where(kept.gather(1, order), closed, torch.full_like(closed, pad))
