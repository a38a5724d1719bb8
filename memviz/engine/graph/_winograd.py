"""3×3 convolution with a quarter of the multiplications: Winograd's F(4×4, 3×3) in plain torch.

Each 4×4 tile of the output takes 36 multiplications per pair of channels instead of 144 (Lavin and
Gray 2016, section 4.2, give the transforms). It rounds about ten times as coarsely as a direct
convolution, so it is used for *changes* only: the error is then relative to the change.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

# Lavin and Gray's Bᵀ, G and Aᵀ: input, weights and output are transformed along both axes.
_INPUT = [
    [4, 0, -5, 0, 1, 0],
    [0, -4, -4, 1, 1, 0],
    [0, 4, -4, -1, 1, 0],
    [0, -2, -1, 2, 1, 0],
    [0, 2, -1, -2, 1, 0],
    [0, 4, 0, -5, 0, 1],
]
_WEIGHT = [
    [1 / 4, 0, 0],
    [-1 / 6, -1 / 6, -1 / 6],
    [-1 / 6, 1 / 6, -1 / 6],
    [1 / 24, 1 / 12, 1 / 6],
    [1 / 24, -1 / 12, 1 / 6],
    [0, 0, 1],
]
_OUTPUT = [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]
# Tiles at a time: enough for the matrix products, few enough to stay in the cache.
_TILES = 64


@functools.cache
def _matrices() -> tuple[Tensor, Tensor]:
    # Both axes at once: the Kronecker square acts on flattened tiles.
    matrices = (torch.tensor(rows, dtype=torch.float32) for rows in (_INPUT, _OUTPUT))
    of_input, of_output = (torch.kron(matrix, matrix) for matrix in matrices)
    return of_input, of_output


def pays(channels_in: int, channels_out: int, high: int, wide: int) -> bool:
    """Whether it is faster than the direct convolution, as measured on two CPU cores."""
    return min(channels_in, channels_out) >= 128 and high % 4 == 0 and wide % 4 == 0 and high <= 16


def bytes_of(weight: Tensor) -> int:
    """Bytes of the transformed weights: 36 float32 values per pair of channels."""
    return weight.shape[0] * weight.shape[1] * 36 * 4


def transformed(weight: Tensor) -> Tensor:
    """Weights ``[out, in, 3, 3]`` transformed to ``[36, in, out]``, in double precision.

    Examples
    --------
    >>> transformed(torch.ones(5, 2, 3, 3)).shape
    torch.Size([36, 2, 5])
    """
    matrix = torch.tensor(_WEIGHT, dtype=torch.float64)
    product = torch.einsum("ia,jb,ocab->ijco", matrix, matrix, weight.double())
    return product.reshape(36, weight.shape[1], weight.shape[0]).float().contiguous()


def convolve(change: Tensor, weights: Tensor) -> Tensor:
    """Convolve with stride 1 and padding 1, both tensors channels last.

    Parameters
    ----------
    change : float32 ``[n, in, h, w]``
        Height and width divisible by 4.
    weights : float32 ``[36, in, out]``
        From ``transformed``.

    Returns
    -------
    float32 ``[n, out, h, w]``

    Examples
    --------
    >>> weight = torch.ones(5, 2, 3, 3)
    >>> convolve(torch.ones(1, 2, 4, 4), transformed(weight))[0, 0].round().int()
    tensor([[ 8, 12, 12,  8],
            [12, 18, 18, 12],
            [12, 18, 18, 12],
            [ 8, 12, 12,  8]], dtype=torch.int32)
    """
    of_input, of_output = _matrices()
    value = change.permute(0, 2, 3, 1)
    rows, high, wide, channels = value.shape
    down, right, width = high // 4, wide // 4, weights.shape[2]
    at_once = min(rows, max(1, _TILES // (down * right)))
    padded = value.new_zeros(at_once, high + 2, wide + 2, channels)
    result = value.new_empty(rows, high, wide, width)
    for start in range(0, rows, at_once):
        piece = value[start : start + at_once]
        n = len(piece)
        padded[:n, 1:-1, 1:-1] = piece
        step = padded.stride()
        # 6×6 tiles that overlap by 2, as a view.
        tiles = padded.as_strided(
            (6, 6, n, down, right, channels),
            (step[1], step[2], step[0], 4 * step[1], 4 * step[2], step[3]),
        )
        product = torch.mm(of_input, tiles.reshape(36, -1)).view(36, -1, channels)
        product = torch.bmm(product, weights).view(36, -1)
        out = torch.mm(of_output, product).view(4, 4, n, down, right, width)
        room = result[start : start + n].view(n, down, 4, right, 4, width)
        room.copy_(out.permute(2, 3, 0, 4, 1, 5))
    return result.permute(0, 3, 1, 2)
