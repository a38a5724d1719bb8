"""Model selection: a measure orders a family of models, and an external figure judges it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import factorial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_ENUMERATED = 9999  # orders that are all tried where there are ties: up to 7 models


@dataclass(frozen=True, eq=False)
class ModelRanking:
    """A family of models, ordered by a measure and by an external figure.

    Attributes
    ----------
    models : tuple of str
    measured, external : float ``[models]``
    better : {"high", "low"}
        Which values of the measure are taken for the better model.
    tau : float
        Kendall's τ of both orders (τ-b where there are ties), 1 where they are the same.
    p : float
        Share of random orders whose τ is as far from 0: two-sided.
    how : str
        How p was found.
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
        """One row a model: both values, and its rank by each, the best first."""
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
        for later in range(2, len(self.models) + 1):  # pairs in the wrong order, model by model
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


def rank_models(
    measured: Mapping[Any, float],
    external: Mapping[Any, float],
    better: Literal["high", "low"] = "low",
) -> ModelRanking:
    """Order models by a measure and by an external figure, and say how alike the orders are.

    Parameters
    ----------
    measured : mapping of model to float
        Mean pair information of each, for example: it needs no label.
    external : mapping of the same models to float
        What they are judged by, held-out accuracy for example; higher is better.
    better : {"high", "low"}
        Which values of the measure are expected of the better model: low pair information or high
        entropy where a heuristic may be memorized; the other way round for memorized examples.

    Returns
    -------
    ModelRanking
        With Kendall's τ (Bansal et al. 2022, section 5) and its p from the exact distribution.
        With five models τ goes in steps of 0.2, and one of 1 has p = 2 / 5! = 0.017.

    Raises
    ------
    ValueError
        On fewer than three models, other models in the two, NaN, or values that are all the same.

    Examples
    --------
    >>> rank_models({"a": 0.2, "b": 0.3, "c": 0.7}, {"a": 0.64, "b": 0.59, "c": 0.49}).tau
    1.0
    """
    from scipy.stats import kendalltau, permutation_test  # type: ignore[import-untyped]

    if set(measured) != set(external) or len(measured) < 3:
        raise ValueError(
            f"the measure has {len(measured)} models and the external figure {len(external)}; "
            "give both of the same three models or more."
        )
    if better not in ("high", "low"):
        raise ValueError(f"better is {better!r}; it must be 'high' or 'low'.")
    x = np.array([float(measured[model]) for model in measured])
    y = np.array([float(external[model]) for model in measured])
    for what, values in (("measure", x), ("external figure", y)):
        if np.isnan(values).any() or len(np.unique(values)) == 1:
            raise ValueError(f"the {what} is NaN or the same for all models; there is no order.")
    signed = x if better == "high" else -x
    if len(np.unique(x)) == len(np.unique(y)) == len(x):
        tau, p = kendalltau(signed, y, method="exact")
        how = "exact"
    else:
        found = permutation_test(
            (signed,),
            lambda order: kendalltau(order, y)[0],
            permutation_type="pairings",
            n_resamples=_ENUMERATED,
            rng=np.random.default_rng(0),
        )
        tau, p = found.statistic, found.pvalue
        how = "all orders" if factorial(len(x)) <= _ENUMERATED else f"{_ENUMERATED:,} orders"
        how += ", with ties"
    models = tuple(str(model) for model in measured)
    return ModelRanking(models, x, y, better, float(tau), float(p), how)
