"""Model selection: order a family of models by a measure, and compare with an external one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import factorial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from memviz.checks import checked, quoted

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_ENUMERATED = 9999  # most orders to try with ties: all of them for up to 7 models


@dataclass(frozen=True, eq=False)
class ModelRanking:
    """A family of models, ordered by a measure and by an external measure.

    Attributes
    ----------
    models : tuple of str
    measured, external : float ``[models]``
    better : {"high", "low"}
        Which values of the measure mark the better model.
    tau : float
        Kendall's τ between both orders (τ-b with ties); 1 if they agree.
    p : float
        Two-sided: share of random orders with τ at least as far from 0.
    how : str
        How p was computed.
    """

    models: tuple[str, ...]
    measured: np.ndarray
    external: np.ndarray
    better: Literal["high", "low"]
    tau: float
    p: float
    how: str

    @property
    def frame(self) -> pd.DataFrame:
        """One row per model: both values and its rank by each, the best first."""
        import pandas as pd

        frame = pd.DataFrame({"measured": self.measured, "external": self.external}, self.models)
        frame["rank by measure"] = frame["measured"].rank(ascending=self.better == "low")
        frame["rank by external"] = frame["external"].rank(ascending=False)
        return frame.rename_axis("model").sort_values("rank by external")

    @property
    def distribution(self) -> pd.Series:
        """Probability of each τ if the measure orders the models at random, without ties."""
        import pandas as pd

        counts = np.ones(1)
        for later in range(2, len(self.models) + 1):  # numbers of inversions, model by model
            counts = np.convolve(counts, np.ones(later))
        taus = 1 - 2 * np.arange(len(counts)) / (len(counts) - 1)
        return pd.Series(counts / factorial(len(self.models)), taus, name="probability")

    def plot(self) -> Figure:
        """The external figure against the measure, each model by name."""
        from .figures import model_ranking

        return model_ranking(self)

    def __repr__(self) -> str:
        return (
            f"Kendall's tau {self.tau:.2f} over {len(self.models)} models, p = {self.p:.3f} "
            f"({self.how}); the {self.better}est measure first\n{self.frame.round(4).to_string()}"
        )


@checked
def rank_models(
    measured: Mapping[Any, float],
    external: Mapping[Any, float],
    better: Literal["high", "low"] = "low",
) -> ModelRanking:
    """Order models by a measure and by an external one, and report how well the orders agree.

    Parameters
    ----------
    measured : mapping of model to float
        For example the mean pair information of each model, which needs no labels.
    external : mapping of the same models to float
        What models are judged by, for example held-out accuracy; higher is better.
    better : {"high", "low"}
        Which values of the measure the better model should have: low pair information or high
        entropy if a heuristic may be memorized; the opposite for memorized examples.

    Returns
    -------
    ModelRanking
        With Kendall's τ (Bansal et al. 2022, section 5) and its p from the exact distribution.
        With five models τ comes in steps of 0.2, and τ = 1 has p = 2 / 5! = 0.017.

    Raises
    ------
    ValueError
        If there are fewer than three models, the two mappings have different models, a value is
        NaN, or all values are equal.

    Examples
    --------
    >>> rank_models({"a": 0.2, "b": 0.3, "c": 0.7}, {"a": 0.64, "b": 0.59, "c": 0.49}).tau
    1.0
    """
    from scipy.stats import kendalltau, permutation_test  # type: ignore[import-untyped]

    if set(measured) != set(external) or len(measured) < 3:
        raise ValueError(
            f"measured has {len(measured)} models and external {len(external)}; give both for the "
            "same models, at least three."
        )
    if better not in ("high", "low"):
        raise ValueError(f"better is {quoted(better)}; use 'high' or 'low'.")
    x = np.array([float(measured[model]) for model in measured])
    y = np.array([float(external[model]) for model in measured])
    for name, values in (("measured", x), ("external", y)):
        if np.isnan(values).any() or len(np.unique(values)) == 1:
            raise ValueError(f"{name} is NaN or the same for all models, so there is no order.")
    signed = x if better == "high" else -x
    if len(np.unique(x)) == len(np.unique(y)) == len(x):
        tau, p = kendalltau(signed, y, method="exact")
        how = "exact"
    else:
        test = permutation_test(
            (signed,),
            lambda order: kendalltau(order, y)[0],
            permutation_type="pairings",
            n_resamples=_ENUMERATED,
            rng=np.random.default_rng(0),
        )
        tau, p = test.statistic, test.pvalue
        how = "all orders" if factorial(len(x)) <= _ENUMERATED else f"{_ENUMERATED:,} orders"
        how += ", with ties"
    models = tuple(str(model) for model in measured)
    return ModelRanking(models, x, y, better, float(tau), float(p), how)
