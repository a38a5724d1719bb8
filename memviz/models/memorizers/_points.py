"""Points to be memorized: checked, made distinct, projected onto a line; layers for them."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from memviz.checks import described, quoted

_DIRECTIONS = 200
_MOST_BYTES = 2 * 2**30


@dataclass(frozen=True, eq=False)
class Points:
    """Distinct points and their values.

    Attributes
    ----------
    given : float64 ``[n, d]``
    given_values : float64 ``[n, outputs]``
    distinct : float64 ``[m, d]``
    values : float64 ``[m, outputs]``
    which : int64 ``[n]``
        The distinct point of each given one.
    single : bool
        Whether the values were given as ``[n]``.
    """

    given: Tensor
    given_values: Tensor
    distinct: Tensor
    values: Tensor
    which: Tensor
    single: bool

    @property
    def shown_values(self) -> Tensor:
        """As they were given."""
        return self.given_values[:, 0] if self.single else self.given_values

    def line(self, seed: int) -> Tensor:
        """The direction along which the closest are furthest apart, ``[d]``, of 200 random ones."""
        points = self.distinct
        generator = torch.Generator().manual_seed(seed)
        lines = torch.randn(_DIRECTIONS, points.shape[1], generator=generator, dtype=torch.float64)
        lines /= lines.norm(dim=1, keepdim=True)
        if len(points) == 1:
            return lines[0]
        places = (points @ lines.T).sort(0).values
        width = (places[-1] - places[0]).clamp_min(torch.finfo(torch.float64).tiny)
        shares = places.diff(dim=0).amin(0) / width
        if shares.max() <= 0:
            raise ValueError(
                "two points lie at one place along every direction that was tried: they are closer "
                "than float64 tells apart; leave one out."
            )
        return lines[shares.argmax()]


def checked_points(inputs: Tensor, values: Tensor) -> Points:
    """Points and values as float64 on the CPU, equal points merged.

    Raises
    ------
    ValueError
        If shapes don't fit, something is not finite, or a point has two values.
    """
    given = torch.as_tensor(inputs).detach().cpu()
    if given.dim() < 2 or not given.numel():
        raise ValueError(f"inputs is {described(given)}; give one row per point, [n, ...].")
    points = given.flatten(1).double()
    targets = torch.as_tensor(values).detach().cpu().double()
    if targets.dim() not in (1, 2) or len(targets) != len(points) or not targets.numel():
        raise ValueError(
            f"values has shape {tuple(targets.shape)} for {len(points)} points; give one value "
            "per point, [n], or one row of them, [n, outputs]."
        )
    if not points.isfinite().all() or not bool((targets.abs() <= 1).all()):
        raise ValueError(
            "inputs must be finite and values from -1 to 1; leave out or scale the others."
        )
    rows = targets if targets.dim() == 2 else targets[:, None]
    distinct, which = torch.unique(points, dim=0, return_inverse=True)
    value = torch.zeros(len(distinct), rows.shape[1], dtype=torch.float64)
    value[which] = rows
    wrong = (value[which] != rows).any(1)
    if wrong.any():
        clash = int(wrong.nonzero()[0])
        last = int((which == which[clash]).nonzero()[-1])
        raise ValueError(
            f"example {clash} has the same inputs as another one but another value: example "
            f"{last}; no network can tell them apart, so leave one out."
        )
    return Points(points, rows, distinct, value, which, targets.dim() == 1)


def check_size(numbers: int, words: str) -> None:
    """Refuse a network, or what is needed to build it, that takes more than memory holds.

    Parameters
    ----------
    numbers : int
        Of float64.
    words : str
        What takes them, with its verb.

    Raises
    ------
    ValueError
        Naming the size.
    """
    if 8 * numbers > _MOST_BYTES:
        raise ValueError(
            f"{words} {8 * numbers / 2**30:,.1f} GB of weights, and {_MOST_BYTES / 2**30:.0f} GB "
            "is the most; give fewer points."
        )


def network(activations: str, sizes: Sequence[int]) -> nn.Sequential:
    """Linear layers ``layer1``, ..., ``output`` with activations between, float64, unset.

    Raises
    ------
    ValueError
        If the activation is neither ``"relu"`` nor ``"hardtanh"``.
    """
    between = {"relu": nn.ReLU, "hardtanh": nn.Hardtanh}.get(activations)
    if between is None:
        raise ValueError(f"activation is {quoted(activations)}; use 'relu' or 'hardtanh'.")
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    # On "meta" no initial weights are drawn, so the global generator is left alone.
    with torch.device("meta"):
        for number, (before, after) in enumerate(itertools.pairwise(sizes), 1):
            last = number == len(sizes) - 1
            name = "output" if last else f"layer{number}"
            modules[name] = nn.Linear(before, after, dtype=torch.float64)
            if not last:
                modules[f"activation{number}"] = between()
    return nn.Sequential(modules).to_empty(device="cpu")


def filled(model: nn.Sequential, weights: Sequence[tuple[Tensor, Tensor]]) -> nn.Sequential:
    """The network with these weights and biases, layer by layer, in evaluation mode."""
    layers = [layer for layer in model if isinstance(layer, nn.Linear)]
    with torch.no_grad():
        for layer, (weight, bias) in zip(layers, weights, strict=True):
            layer.weight.copy_(weight)
            layer.bias.copy_(bias)
    return model.eval()
