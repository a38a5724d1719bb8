"""The largest activation of each unit and its example, whatever the order they come in."""

from __future__ import annotations

import torch
from torch import Tensor


def tie_order(n: int, seed: int) -> Tensor:
    """A place for each of ``n`` examples or classes, int64 ``[n]``: of tied ones the first wins.

    Drawn by a seed: the order of the rows would favour the group that stands first in a study.

    Examples
    --------
    >>> tie_order(4, seed=0).sort().values
    tensor([0, 1, 2, 3])
    """
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))


class Strongest:
    """The largest activation so far of each unit, and the example that reaches it.

    Parameters
    ----------
    units : int
    order : int64 ``[examples]``
        From :func:`tie_order`; breaks ties.

    Attributes
    ----------
    values : float ``[units]``

    Examples
    --------
    >>> strongest = Strongest(1, tie_order(9, seed=0))
    >>> for examples in ([3, 8], [5, 1]):
    ...     strongest.add(torch.tensor([[1.0], [2.0]]), torch.tensor(examples))
    >>> strongest.values, strongest.examples in (torch.tensor([8]), torch.tensor([1]))
    (tensor([2.]), True)
    """

    def __init__(self, units: int, order: Tensor) -> None:
        self.values = torch.full((units,), -torch.inf)
        self._order, self._place = order, torch.full((units,), len(order))

    def add(self, values: Tensor, examples: Tensor) -> None:
        """Take up activations ``[b, units]`` of examples, int64 ``[b]``."""
        high = values.amax(0)
        places = self._order[examples][:, None].expand_as(values)
        place = places.masked_fill(values < high, len(self._order)).amin(0)
        better = (high > self.values) | ((high == self.values) & (place < self._place))
        self._place = torch.where(better, place, self._place)
        self.values = torch.maximum(self.values, high)

    @property
    def examples(self) -> Tensor:
        """The example of each unit's largest activation, int64 ``[units]``."""
        return self._order.argsort()[self._place]
