"""What attributions return: the values, with how far they miss the change they must add up to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from memviz.scores import Scores

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Completeness:
    """How far attributions miss the change that they must add up to.

    By the completeness axiom, attributions along a path add up to the logit at the input minus the
    logit at the baseline. What they miss is the error of the numerical integral.

    Attributes
    ----------
    errors, changes : float64 ``[..., n]``
        For each example: the sum of the attributions minus the change, and the change.
    how : str
        The rule and its steps.

    Examples
    --------
    >>> Completeness(np.array([0.02, -0.01]), np.array([4.0, -2.0]), "riemann_middle, 50 steps")
    completeness error: 0.50% of the change, 0.02 at most (riemann_middle, 50 steps)
    """

    errors: np.ndarray
    changes: np.ndarray
    how: str

    @property
    def share(self) -> np.ndarray:
        """Mean absolute error over mean absolute change, over the examples, ``[...]``."""
        changes = np.abs(self.changes).mean(-1)
        undefined = np.full(changes.shape, np.nan)
        errors = np.abs(self.errors).mean(-1)
        return np.asarray(np.divide(errors, changes, out=undefined, where=changes > 0))

    @classmethod
    def join(cls, parts: Sequence[Completeness]) -> Completeness:
        """Of the examples of all parts, in this order."""
        errors, changes = (
            np.concatenate([getattr(part, name) for part in parts], -1)
            for name in ("errors", "changes")
        )
        return cls(errors, changes, parts[0].how)

    def __repr__(self) -> str:
        share, most = np.nanmax(self.share), np.nanmax(np.abs(self.errors))
        return f"completeness error: {share:.2%} of the change, {most:.2g} at most ({self.how})"


class Attribution(Tensor):
    """Attributions, a tensor with the error of completeness of methods that have one.

    Whatever is computed from it is a plain tensor.

    Attributes
    ----------
    completeness : Completeness or None
        None for methods whose attributions need not add up to anything.

    Examples
    --------
    >>> Attribution.of(torch.ones(2), None)
    tensor([1., 1.])
    >>> type(Attribution.of(torch.ones(2), None) + 1).__name__
    'Tensor'
    """

    completeness: Completeness | None
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def of(cls, values: Tensor, completeness: Completeness | None) -> Attribution:
        """A tensor, and its completeness."""
        attribution = values.detach().as_subclass(cls)
        attribution.completeness = completeness
        return attribution

    def __repr__(self, **options: Any) -> str:  # type: ignore[override]
        plain = self.as_subclass(Tensor).__repr__(**options)
        completeness = getattr(self, "completeness", None)
        return plain if completeness is None else f"{plain}\n{completeness}"


@dataclass(frozen=True, eq=False)
class LayerAttribution(Scores):
    """Attributions of units, with the error of completeness of path methods.

    Attributes
    ----------
    completeness : Completeness or None
        ``[layers, n]``, with the layers in the order of the units.
    """

    completeness: Completeness | None = None

    @property
    def frame(self) -> pd.DataFrame:
        """As of Scores; path methods have a column ``completeness_error``, the layer's share."""
        frame = super().frame
        if self.completeness is not None and self.units is not None:
            layers = list(dict.fromkeys(unit.layer for unit in self.units))
            shares = dict(zip(layers, self.completeness.share.tolist(), strict=True))
            frame["completeness_error"] = [shares[unit.layer] for unit in self.units]
        return frame

    def __repr__(self) -> str:
        line = "" if self.completeness is None else f"\n{self.completeness}"
        return super().__repr__() + line

    def _repr_html_(self) -> str:
        line = "" if self.completeness is None else f"<p>{self.completeness}</p>"
        return super()._repr_html_() + line
