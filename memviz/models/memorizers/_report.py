"""A network with explicit weights, and what is to be known of it."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Memorizer:
    """A network with explicit weights, the examples it memorizes, and the units that own them.

    Attributes
    ----------
    model : nn.Sequential
        Its linear layers are ``layer1``, ``layer2``, ..., ``output``; float64.
    inputs : float64 ``[n, d]``
    values : float64 ``[n]`` or ``[n, outputs]``
    method : str
    widths : tuple of int
        Units of the hidden layers as the construction counts them: hard-tanh units in those of Yun
        et al., of which a ReLU network has twice as many; otherwise the network's own.
    activation : ``"hardtanh"`` or ``"relu"``
    theorem : int
        Hidden units that the theorem or derivation asks for, at this number of points.
    owners : int64 ``[n]``
        Owner of each example, from 0.
    owner_layer : str
        The layer that the owners' units are in.
    owner_units : int64 ``[owners, k]``
        The units of each owner.
    groups : int64 ``[n]``, optional
        In the networks of Yun et al. the first-layer unit that is linear at the example.
    radii : float64 ``[n]``, optional
        In the certified network: within this distance of the example its sign is proven.
    """

    model: nn.Sequential
    inputs: Tensor
    values: Tensor
    method: str
    widths: tuple[int, ...]
    activation: str
    theorem: int
    owners: Tensor
    owner_layer: str
    owner_units: Tensor
    groups: Tensor | None = None
    radii: Tensor | None = None

    def units_of(self, owner: int) -> tuple[int, ...]:
        """The units of ``owner_layer`` that make up an owner.

        Raises
        ------
        IndexError
            If there is no such owner.
        """
        if not 0 <= owner < len(self.owner_units):
            raise IndexError(
                f"there is no owner {owner}; owners are 0 to {len(self.owner_units) - 1}."
            )
        return tuple(self.owner_units[owner].tolist())

    @property
    def units(self) -> int:
        """Number of hidden units."""
        linear = [layer for layer in self.model if isinstance(layer, nn.Linear)]
        return sum(layer.out_features for layer in linear[:-1])

    @property
    def parameters(self) -> int:
        """Number of weights and biases."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    @property
    def largest_weight(self) -> float:
        """The largest absolute weight or bias."""
        return max(float(parameter.detach().abs().max()) for parameter in self.model.parameters())

    def error(self, dtype: torch.dtype = torch.float64) -> float:
        """The largest error of the network over its examples, computed in this precision.

        The certified network gives signs, at least 1 in size: how far it falls short of that.
        """
        twin = deepcopy(self.model).to("cpu", dtype)  # where the inputs are
        values = self.values if self.values.dim() == 2 else self.values[:, None]
        with torch.no_grad():
            parts = [twin(part.to(dtype)).double() for part in self.inputs.split(256)]
        outputs = torch.cat(parts)
        if self.radii is not None:
            return float((1 - outputs * values).clamp_min(0).max())
        return float((outputs - values).abs().max())

    def __repr__(self) -> str:
        return (
            f"Memorizer({self.method}: {len(self.inputs):,} examples in {self.units:,} "
            f"{self.activation} units, {self.parameters:,} parameters; largest weight "
            f"{self.largest_weight:.1e}; error {self.error():.0e} in float64, "
            f"{self.error(torch.float32):.0e} in float32)"
        )
