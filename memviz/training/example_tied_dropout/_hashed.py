"""Random numbers that are a function of what they are for: no state, no generator."""

from __future__ import annotations

import torch
from torch import Tensor


def uniform(seed: int, layer: int, ids: Tensor, channels: Tensor) -> Tensor:
    """Numbers in [0, 1) that depend on these four alone, float64, of the broadcast shape.

    A counter-based generator: each argument goes through the finalizer of SplitMix64 (Steele et
    al. 2014) on top of the one before, in integer arithmetic modulo 2**64.

    Examples
    --------
    >>> uniform(0, 0, torch.arange(2)[:, None], torch.arange(5)).shape
    torch.Size([2, 5])
    """
    state = torch.full((), seed, dtype=torch.int64, device=ids.device)
    for part in (layer, ids, channels):
        state = _mixed(state) ^ part
    # 53 bits, as many as a float64 holds exactly.
    return _shifted(_mixed(state), 11).double() * 2.0**-53


def _mixed(state: Tensor) -> Tensor:
    state = state + -0x61C8864680B583EB  # 0x9E3779B97F4A7C15, as a signed number
    state = (state ^ _shifted(state, 30)) * -0x40A7B892E31B1A47  # 0xBF58476D1CE4E5B9
    state = (state ^ _shifted(state, 27)) * -0x6B2FB644ECCEEE15  # 0x94D049BB133111EB
    return state ^ _shifted(state, 31)


def _shifted(state: Tensor, bits: int) -> Tensor:
    # torch shifts the sign in; a logical shift needs it masked.
    return (state >> bits) & ((1 << (64 - bits)) - 1)
