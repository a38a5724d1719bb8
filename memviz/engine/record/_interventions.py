"""Interventions: what replaces an ablated unit's activation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Intervention:
    """Base of all interventions.

    ``at`` says where: ``"unit"`` is the activation after the normalization and non-linearity that
    directly follow the layer, ``"filter"`` the layer's own output before them. ``needs`` says what
    the replacement takes from the reference examples.
    """

    at: ClassVar[Literal["unit", "filter"]] = "unit"
    needs: ClassVar[Literal["nothing", "mean", "donor"]] = "nothing"
    name: ClassVar[str] = ""

    def replace(self, activation: Tensor, reference: Tensor | None) -> Tensor:
        """New values, in the activation's shape."""
        raise TypeError(f"{type(self).__name__} defines no replace(); define one.")

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Zero(Intervention):
    """Unit ablation: the activation becomes 0.

    Examples
    --------
    >>> Zero().replace(torch.ones(2), None)
    tensor([0., 0.])
    """

    name: ClassVar[str] = "zero"

    def replace(self, activation: Tensor, reference: Tensor | None) -> Tensor:
        """Zeros."""
        return torch.zeros_like(activation)


@dataclass(frozen=True)
class Mean(Intervention):
    """Mean ablation: the unit's mean over all examples and positions of the study.

    Examples
    --------
    >>> Mean().replace(torch.zeros(2, 1), torch.tensor([3.0]))
    tensor([[3.],
            [3.]])
    """

    name: ClassVar[str] = "mean"
    needs: ClassVar[Literal["nothing", "mean", "donor"]] = "mean"

    def replace(self, activation: Tensor, reference: Tensor | None) -> Tensor:
        """The mean, expanded to the activation's shape."""
        assert reference is not None
        return reference.expand_as(activation).clone()


@dataclass(frozen=True)
class Constant(Intervention):
    """The activation becomes a given value.

    Examples
    --------
    >>> str(Constant(0.5))
    'constant 0.5'
    """

    value: float
    name: ClassVar[str] = "constant"

    def replace(self, activation: Tensor, reference: Tensor | None) -> Tensor:
        """The value everywhere."""
        return torch.full_like(activation, self.value)

    def __str__(self) -> str:
        return f"constant {self.value:g}"


@dataclass(frozen=True)
class Scale(Intervention):
    """The activation is multiplied by a factor.

    Examples
    --------
    >>> Scale(0.5).replace(torch.ones(1), None)
    tensor([0.5000])
    """

    factor: float
    name: ClassVar[str] = "scale"

    def replace(self, activation: Tensor, reference: Tensor | None) -> Tensor:
        """The activation times the factor."""
        return activation * self.factor

    def __str__(self) -> str:
        return f"scale {self.factor:g}"


@dataclass(frozen=True)
class Resample(Intervention):
    """The activation becomes that of another example of the study, drawn once from the seed.

    Examples
    --------
    >>> str(Resample(seed=3))
    'resample 3'
    """

    seed: int = 0
    name: ClassVar[str] = "resample"
    needs: ClassVar[Literal["nothing", "mean", "donor"]] = "donor"

    def replace(self, activation: Tensor, reference: Tensor | None) -> Tensor:
        """The donor's activation."""
        assert reference is not None
        return reference

    def __str__(self) -> str:
        return f"resample {self.seed}"


@dataclass(frozen=True)
class Filter(Intervention):
    """Filter ablation: the unit's weights become 0, its bias stays (Maini et al. 2023).

    After a batch norm this leaves the constant ``beta - gamma * mean / sqrt(var + eps)``, not 0.
    The bias is the one the layer's call was given, which need not be its module's. Attention heads,
    neurons of gated MLPs and of experts, and features of recurrent layers have no weights of their
    own in this sense: for them it equals zero ablation. A layer that uses its weights in a way of
    its own is refused.

    Examples
    --------
    >>> Filter().at
    'filter'
    """

    name: ClassVar[str] = "filter"
    at: ClassVar[Literal["unit", "filter"]] = "filter"

    def replace(self, activation: Tensor, reference: Tensor | None) -> Tensor:
        """The bias, or zeros where the layer has none."""
        if reference is None:
            return torch.zeros_like(activation)
        return reference.expand_as(activation).clone()


_BY_NAME: dict[str, type[Intervention]] = {
    kind.name: kind for kind in (Zero, Mean, Constant, Scale, Resample, Filter)
}


def intervention(given: str | Intervention) -> Intervention:
    """An intervention from its name: ``"zero"``, ``"mean"``, ``"filter"``, ``"scale 0.5"``.

    Raises
    ------
    ValueError
        If there is no such intervention; the message lists them.

    Examples
    --------
    >>> intervention("constant 0.5")
    Constant(value=0.5)
    """
    if isinstance(given, Intervention):
        return given
    name, *numbers = str(given).split() or [""]
    kind = _BY_NAME.get(name)
    try:
        if kind is not None:
            return kind(*(int(n) if kind is Resample else float(n) for n in numbers))
    except (TypeError, ValueError):
        pass
    raise ValueError(
        f"{given!r} is not an intervention; use 'zero', 'mean', 'filter', 'resample', "
        "'constant 0.5' or 'scale 0.5'."
    )
