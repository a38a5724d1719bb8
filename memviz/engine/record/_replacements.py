"""What stands in for an ablated activation: a bias, a mean over the study, or a donor's."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ._edits import check_donors, filter_reference
from ._interventions import Intervention
from ._paths import Path

# Sites by name of the layer and number of the site: paths number their calls differently.
_Where = tuple[str, int]


class Replacements:
    """Means and donors of one study, kept as long as its weights are the same.

    Parameters
    ----------
    n : int
        Examples of the study.
    activations : callable
        The activation at a layer's k-th site, batch by batch, with that site's axis, for all
        examples.
    capture : callable
        The same for some examples, int64 ``[b]``.
    """

    def __init__(
        self,
        n: int,
        activations: Callable[[str, int], Iterator[tuple[Tensor, int]]],
        capture: Callable[[Tensor, str, int], Tensor],
    ) -> None:
        self._n, self._activations, self._capture = n, activations, capture
        self._means: dict[_Where, Tensor | None] = {}
        self._donors: dict[tuple[bytes, _Where, Intervention], Tensor] = {}
        self.most = 4  # donors to keep

    def forget(self, *, means: bool = True) -> None:
        """Drop what was kept."""
        self._donors.clear()
        if means:
            self._means.clear()

    def value(
        self, path: Path, name: str, k: int, how: Intervention, examples: Tensor
    ) -> Tensor | None:
        """What replaces the activation of some examples at a layer's k-th site; None for zeros."""
        if how.at == "filter":
            located = path.located[name]
            return filter_reference(located, located.filter_sites[k], path.trace)
        if how.needs == "mean":
            return self.mean(name, k)
        if how.needs == "donor":
            check_donors(path.located[name])
            return self.donors(name, k, how, examples)
        return None

    def mean(self, name: str, k: int) -> Tensor | None:
        """The mean over all examples and positions, ``[1, features, 1, ...]``."""
        if (name, k) not in self._means:
            total, count, rank, axis = torch.zeros(()), 0, 0, 0
            for activation, site_axis in self._activations(
                name, k
            ):  # one batch in memory at a time
                value = activation.transpose(site_axis, -1)
                rank, axis = value.dim(), site_axis % value.dim()
                rows = value.reshape(-1, value.shape[-1]).double()
                total = total.to(rows.device) + rows.sum(0)
                count += len(rows)
            shape = [-1 if place == axis else 1 for place in range(rank)]
            self._means[name, k] = (total / count).view(shape) if count else None
        return self._means[name, k]

    def donors(self, name: str, k: int, how: Intervention, examples: Tensor) -> Tensor:
        """The activation of each example's donor, drawn once from the intervention's seed."""
        key = (examples.numpy().tobytes(), (name, k), how)
        if key not in self._donors:
            if len(self._donors) >= self.most:
                self._donors.clear()  # bounds the memory
            self._donors[key] = self._capture(self.order(how)[examples], name, k)
        return self._donors[key]

    def order(self, how: Intervention) -> Tensor:
        """The donor of every example of the study, int64 ``[n]``."""
        generator = torch.Generator().manual_seed(getattr(how, "seed", 0))
        return torch.randperm(self._n, generator=generator)
