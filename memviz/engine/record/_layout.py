"""Where the examples are in a tensor of a forward pass, as passes of different sizes show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """The axis that grows with the examples, and how many places each example has there.

    ``interleaved`` if an example's places are not neighbours: ``[places, examples]``, flattened.
    """

    axis: int
    places: int = 1
    interleaved: bool = False

    def rows(self, tensor: Tensor) -> Tensor:
        """One row per example, ``[n, ...]``: the tensor's own axes, with the example's places.

        Examples
        --------
        >>> Layout(axis=1, places=2).rows(torch.zeros(5, 6, 7)).shape
        torch.Size([3, 5, 2, 7])
        """
        sizes = (self.places, -1) if self.interleaved else (-1, self.places)
        parted = torch.unflatten(tensor, self.axis, sizes)
        return parted.movedim(self.axis + self.interleaved, 0)


def layout(small: Sequence[int], examples: int, large: Sequence[int], more: int) -> Layout | None:
    """The layout that explains the shapes of a tensor in two passes, or None if none does.

    Examples
    --------
    >>> layout((2, 8, 4), 2, (3, 8, 4), 3), layout((8, 4), 2, (8, 4), 3)
    (Layout(axis=0, places=1, interleaved=False), None)
    """
    if len(small) != len(large):
        return None
    grown = [axis for axis, size in enumerate(large) if small[axis] != size]
    if len(grown) != 1:
        return None
    axis = grown[0]
    places = large[axis] // more
    if places * more != large[axis] or places * examples != small[axis]:
        return None
    return Layout(axis, places)
