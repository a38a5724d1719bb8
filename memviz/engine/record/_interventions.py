"""Interventions: what replaces an ablated unit's activation."""

from __future__ import annotations

import math
import operator
from contextlib import suppress
from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from memviz.checks import coded, quoted


@dataclass(frozen=True)
class Intervention:
    """Base of all interventions.

    ``at`` says where: ``"unit"`` is the activation after the normalization and non-linearity that
    directly follow the layer, ``"filter"`` the layer's own output before them. ``needs`` says what
    the replacement takes from the reference examples, or that it takes an input of the module. Only
    units whose module's declaration names it take an intervention that is ``declared_only``.
    """

    at: ClassVar[Literal["unit", "filter"]] = "unit"
    needs: ClassVar[Literal["nothing", "mean", "donor", "input"]] = "nothing"
    name: ClassVar[str] = ""
    declared_only: ClassVar[bool] = False

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
    needs: ClassVar[Literal["nothing", "mean", "donor", "input"]] = "mean"

    def replace(self, activation: Tensor, reference: Tensor | None) -> Tensor:
        """The mean, expanded to the activation's shape."""
        assert reference is not None
        return reference.expand_as(activation).clone()


@dataclass(frozen=True)
class Constant(Intervention):
    """The activation becomes a given value.

    Raises
    ------
    ValueError
        If the value is no finite number, or, when it is used, larger than the activation can be.

    Examples
    --------
    >>> str(Constant(0.5))
    'constant 0.5'
    """

    value: float
    name: ClassVar[str] = "constant"

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", _finite("the value of a constant", self.value))

    def replace(self, activation: Tensor, reference: Tensor | None) -> Tensor:
        """The value everywhere."""
        if activation.is_floating_point() and abs(self.value) > torch.finfo(activation.dtype).max:
            raise ValueError(
                f"{self} is larger than an activation of {activation.dtype} can be; give a "
                "smaller value."
            )
        return torch.full_like(activation, self.value)

    def __str__(self) -> str:
        return f"constant {_number(self.value)}"


@dataclass(frozen=True)
class Scale(Intervention):
    """The activation is multiplied by a factor.

    Raises
    ------
    ValueError
        If the factor is no finite number.

    Examples
    --------
    >>> Scale(0.5).replace(torch.ones(1), None)
    tensor([0.5000])
    """

    factor: float
    name: ClassVar[str] = "scale"

    def __post_init__(self) -> None:
        object.__setattr__(self, "factor", _finite("the factor of a scale", self.factor))

    def replace(self, activation: Tensor, reference: Tensor | None) -> Tensor:
        """The activation times the factor."""
        return activation * self.factor

    def __str__(self) -> str:
        return f"scale {_number(self.factor)}"


@dataclass(frozen=True)
class Resample(Intervention):
    """The activation becomes that of another example of the study, drawn once from the seed.

    Raises
    ------
    ValueError
        If the seed is no whole number from 0 to 2**64 - 1.

    Examples
    --------
    >>> str(Resample(seed=3))
    'resample 3'
    """

    seed: int = 0
    name: ClassVar[str] = "resample"
    needs: ClassVar[Literal["nothing", "mean", "donor", "input"]] = "donor"

    def __post_init__(self) -> None:
        try:
            seed = -1 if isinstance(self.seed, bool) else operator.index(self.seed)
        except TypeError:  # text, a fraction, a tensor of several numbers
            seed = -1
        if not 0 <= seed < 1 << 64:
            raise ValueError(
                f"the seed of a resample is {quoted(self.seed)}; give a whole number from 0 to "
                "2**64 - 1."
            )
        object.__setattr__(self, "seed", seed)

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


@dataclass(frozen=True)
class Negation(Intervention):
    """The other bit: one minus the activation.

    For units that are bits, such as logic gates; their module's declaration says so.

    Examples
    --------
    >>> Negation().replace(torch.tensor([0.0, 1.0]), None)
    tensor([1., 0.])
    """

    name: ClassVar[str] = "negation"
    declared_only: ClassVar[bool] = True

    def replace(self, activation: Tensor, reference: Tensor | None) -> Tensor:
        """One minus the activation."""
        return 1 - activation


@dataclass(frozen=True)
class Input(Intervention):
    """The activation becomes an input of the module, in the unit's place: a wire past it.

    Parameters
    ----------
    argument : str
        Its name in the module's ``forward``.

    Raises
    ------
    ValueError
        If it is no name.

    Examples
    --------
    >>> str(Input("a"))
    'input a'
    """

    argument: str
    name: ClassVar[str] = "input"
    needs: ClassVar[Literal["nothing", "mean", "donor", "input"]] = "input"
    declared_only: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not isinstance(self.argument, str) or not self.argument.isidentifier():
            raise ValueError(
                f"the argument of an input is {quoted(self.argument)}; give the name of an "
                "argument of the module's forward, for example 'a'."
            )

    def replace(self, activation: Tensor, reference: Tensor | None) -> Tensor:
        """The input."""
        assert reference is not None
        return reference

    def __str__(self) -> str:
        return f"input {self.argument}"


_BY_NAME: dict[str, type[Intervention]] = {
    kind.name: kind for kind in (Zero, Mean, Constant, Scale, Resample, Filter, Negation, Input)
}
# What each may be given.
_TAKES = {Constant: (1,), Scale: (1,), Resample: (0, 1), Input: (1,)}


def _finite(what: str, given: Any) -> float:
    """The number as Python's own; one sentence for anything else."""
    value: Any = given.tolist() if hasattr(given, "tolist") else given
    number = math.nan
    if not isinstance(value, bool) and isinstance(value, Real):
        with suppress(OverflowError):  # a whole number that no float holds
            number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{what} is {quoted(given)}; give a finite number.")
    return number


def _number(value: float) -> str:
    """A short text of a number that means exactly that number."""
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


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
    name, *numbers = given.split() if isinstance(given, str) and given.split() else [""]
    kind = _BY_NAME.get(name)
    values: list[Any] = []
    try:
        read = str if kind is Input else int if kind is Resample else float
        values = [read(n) for n in numbers]
    except ValueError:
        kind = None
    if kind is None or len(values) not in _TAKES.get(kind, (0,)):
        raise ValueError(
            coded(
                "E14",
                f"{quoted(given)} is not an intervention; use 'zero', 'mean', 'filter', "
                "'resample', 'constant 0.5' or 'scale 0.5', or, of units whose module allows them, "
                "'negation' or 'input a'.",
            )
        )
    return kind(*values)
