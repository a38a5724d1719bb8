"""What is built: points, method, widths and precision; with the steps that undo goes back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

from memviz.checks import quoted
from memviz.models.memorizers import Activation, Method
from memviz.probes.capacity import hidden_units

from ._points import DEEPEST, KINDS, MOST, PIXELS, Own

# What each entry of the list builds: a method, and its activation.
METHODS: Mapping[str, tuple[Method, Activation, str]] = {
    "yun": ("yun", "hardtanh", "Yun, hard-tanh"),
    "yun relu": ("yun", "relu", "Yun, ReLU"),
    "yun4": ("yun4", "relu", "Yun, 4 layers"),
    "zhang": ("zhang", "relu", "Zhang"),
    "bubeck": ("bubeck", "relu", "Slabs"),
    "yu": ("yu", "relu", "Certified"),
    "narrow": ("narrow", "relu", "Narrow, deep"),
}
PRECISIONS = ("float64", "float32")


@dataclass(frozen=True)
class Settings:
    """One state of the playground, but for the units that are off.

    Attributes
    ----------
    kind : str
    n, features : int
    method, precision : str
    seed : int
        Of the points and of the directions that are tried.
    widths : (first, second), optional
        Of the constructions of Yun et al.; about the square root of n each by default.
    """

    kind: str = "crescents"
    n: int = 24
    features: int = 2
    method: str = "yun"
    precision: str = "float64"
    seed: int = 0
    widths: tuple[int, int] | None = None

    @property
    def shown_widths(self) -> tuple[int, int]:
        """The widths, or those that are used without any."""
        second = max(1, round(self.n**0.5))
        return self.widths or (-(-self.n // second), second)

    @property
    def words(self) -> str:
        """Of the method."""
        return METHODS[self.method][2]

    def changed(self, key: str, value: Any, own: Own | None) -> Settings:
        """With one other value.

        Raises
        ------
        ValueError
            If there is no such setting, or it cannot be that.
        """
        kinds = [*KINDS, *(["own"] if own is not None else [])]
        choices = {"kind": kinds, "method": [*METHODS], "precision": [*PRECISIONS]}
        if key in choices:
            if value not in choices[key]:
                known = ", ".join(choices[key])
                raise ValueError(f"{key} is {quoted(value)}; choose from {known}.")
            return self._fitting(own, **{key: value})
        ends = self.ends(own)
        if key not in ends:
            known = ", ".join([*choices, *ends])
            raise ValueError(f"there is no setting {quoted(key)}; there are {known}.")
        low, high = ends[key]
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError(f"{key} is {quoted(value)}; give a whole number from {low} to {high}.")
        if key in ("first", "second"):
            first, second = self.shown_widths
            widths = (value, second) if key == "first" else (first, value)
            self._check(widths, self.n)
            return replace(self, widths=widths)
        return self._fitting(own, **{key: value})

    def with_widths(self, widths: tuple[int, int], own: Own | None) -> Settings:
        """With both widths.

        Raises
        ------
        ValueError
            If they are out of range, or hold fewer points than there are.
        """
        low, high = self.ends(own)["first"]
        if not all(low <= width <= high for width in widths):
            raise ValueError(f"widths is {widths}; give two numbers from {low} to {high}.")
        self._check(widths, self.n)
        return replace(self, widths=widths)

    def ends(self, own: Own | None) -> dict[str, tuple[int, int]]:
        """The least and the largest value of each number."""
        most, features = MOST, (1, PIXELS if self.kind == "digits" else DEEPEST)
        if self.kind == "own" and own is not None:
            most = min(MOST, len(own.inputs))
            features = (own.inputs.shape[1], own.inputs.shape[1])
        widths = (1, most)
        ends = {"n": (2, most), "features": features, "first": widths, "second": widths}
        return ends | {"seed": (0, 999)}

    def _fitting(self, own: Own | None, **change: Any) -> Settings:
        """With other points, of a number and with widths that they allow."""
        new = replace(self, **change)
        ends = new.ends(own)
        held = {key: min(max(getattr(new, key), low), high) for key, (low, high) in ends.items()
                if key in ("n", "features")}  # fmt: skip
        new = replace(new, **held)
        if new.widths is not None and new.widths[0] * new.widths[1] < new.n:
            new = replace(new, widths=None)
        return new

    def _check(self, widths: tuple[int, int], n: int) -> None:
        first, second = widths
        if first * second < n:
            raise ValueError(
                f"{first} × {second} = {first * second} is less than N = {n}: this construction "
                f"needs a product of at least {n}."
            )

    def units(self, method: str, balance: tuple[int, int]) -> int:
        """Hidden units that a method takes for these points, ``balance`` of either sign."""
        kind, activation, _ = METHODS[method]
        tanh = activation == "hardtanh"
        if kind in ("yun", "yun4") and self.widths is not None:
            return sum(self.widths) * (1 if tanh else 2) + (8 if kind == "yun4" else 0)
        if kind == "yu":
            return 2 * balance[0] * balance[1] + self.n
        outputs = 2 if kind == "yun4" else 1
        return hidden_units(kind, self.n, self.features, outputs, hardtanh=tanh)


assert {kind for kind, *_ in METHODS.values()} == set(get_args(Method))
