"""Mutual information of pairs of units: how much one unit says about another."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from memviz.checks import IndicesLike, Seed, checked, quoted
from memviz.engine.activations import binned_mutual_information
from memviz.scores import Null, Scores
from memviz.study import Study, check_examples
from memviz.units import Layer, Unit

from ._activations import WHERE, Where, unit_values
from ._bins import quantile_codes
from ._draws import drawn_units, shuffled
from ._entropy import PAPER
from ._ksg import Scale, neighbour_information
from ._values import repeated_examples, whole

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Estimator = Literal["binned", "ksg"]


@dataclass(frozen=True, eq=False)
class PairInformation:
    """Mutual information of all pairs of units, in nats, with its shuffled null.

    Attributes
    ----------
    values : float64 ``[units, units]``
        Symmetric, with a diagonal of NaN; 0 for a constant unit.
    null : float64 ``[draws, units, units]``
        The same with each unit's activations permuted over the examples, independently.
    units : tuple of Unit
    layers : tuple of Layer
    constant : bool ``[units]``
        Units with equal activations on all examples; means leave them out.
    examples : int
        Number of examples.
    estimator : str
        The estimator and its settings, in words.
    where : {"after", "before"}
    sample : str
        How units were subsampled; empty if all were used.
    """

    values: np.ndarray
    null: np.ndarray
    units: tuple[Unit, ...]
    layers: tuple[Layer, ...]
    constant: np.ndarray
    examples: int
    estimator: str
    where: Where
    sample: str = ""

    def pairs(self, layer: str | None = None, *, null: bool = False) -> np.ndarray:
        """Values of the pairs of units that are not constant, each pair once, ``[pairs]``.

        Parameters
        ----------
        layer : str, optional
            Only pairs within this layer; by default all pairs.
        null : bool
            Return those of the null instead, all draws concatenated.
        """
        kept = ~self.constant
        if layer is not None:
            kept = kept & np.array([unit.layer == layer for unit in self.units])
        rows, columns = np.triu_indices(int(kept.sum()), 1)
        index = np.flatnonzero(kept)
        table = self.null if null else self.values
        return np.asarray(table[..., index[rows], index[columns]]).ravel()

    @property
    def mean(self) -> float:
        """Mean over all pairs of units that are not constant."""
        return _mean(self.pairs())

    @property
    def null_mean(self) -> float:
        """Mean of the null; NaN without one."""
        return _mean(self.pairs(null=True))

    @property
    def by_layer(self) -> pd.DataFrame:
        """One row for the pairs within each layer, and one for all pairs, also across layers."""
        import pandas as pd

        names = np.array([unit.layer for unit in self.units])
        rows = {}
        for layer in (*(layer.name for layer in self.layers), None):
            members = names == (names if layer is None else layer)
            rows["all" if layer is None else layer] = {
                "units": int(members.sum()),
                "constant": int((members & self.constant).sum()),
                "pairs": len(self.pairs(layer)),
                "mutual information": _mean(self.pairs(layer)),
                "null": _mean(self.pairs(layer, null=True)),
            }
        counts = dict.fromkeys(("units", "constant", "pairs"), int)
        return pd.DataFrame(rows).T.astype(counts).rename_axis("layer")

    @property
    def frame(self) -> pd.DataFrame:
        """One row per pair, each pair once."""
        import pandas as pd

        rows, columns = np.triu_indices(len(self.units), 1)
        frame = pd.DataFrame({"value": self.values[rows, columns]})
        for place, side in enumerate((rows, columns)):
            other = "other " if place else ""
            frame.insert(2 * place, f"{other}layer", [self.units[i].layer for i in side])
            frame.insert(2 * place + 1, f"{other}unit", [self.units[i].index for i in side])
        if len(self.null):
            frame["null_mean"] = self.null.mean(0)[rows, columns]
        frame.attrs = {"measure": "nats", "estimator": self.estimator, "source": PAPER}
        return frame

    def scores(self) -> Scores:
        """Mean over each unit's pairs, a measure of its redundancy; 0 for a constant unit."""
        return Scores(
            "mutual information with other units",
            "nats, mean over the pairs of a unit",
            self._of_units(self.values),
            units=self.units,
            higher="more redundant (memorized heuristics raise it)",
            source=f"{PAPER}, section 2; {self.estimator}",
            null=Null(self._null_words, self._of_units(self.null)) if len(self.null) else None,
        )

    def plot(self) -> Figure:
        """Density of the pairs, and of the null."""
        from .figures import pair_density

        return pair_density({"pairs of units": self})

    @property
    def _null_words(self) -> str:
        return f"each unit's activations permuted on its own, {len(self.null)} draws"

    def _of_units(self, table: np.ndarray) -> np.ndarray:
        means = np.zeros(table.shape[:-1])
        live = np.flatnonzero(~self.constant)
        if len(live) > 1:
            pairs = table[..., live[:, None], live]
            means[..., live] = np.nansum(pairs, -1) / (len(live) - 1)
        return means

    def __repr__(self) -> str:
        sample = f"\n{self.sample}" if self.sample else ""
        null = self._null_words if len(self.null) else "none (null_draws=0)"
        return (
            f"mutual information of {len(self.pairs()):,} pairs of units on {self.examples:,} "
            f"examples, in nats; {self.estimator}\nread {WHERE[self.where]}{sample}\n"
            f"{self.by_layer.round(4).to_string()}\nnull: {null}\nsource: {PAPER}, section 2"
        )

    def _repr_html_(self) -> str:
        from html import escape

        words = repr(self).split("\n")
        return f"<p>{escape(words[0])}</p>{self.by_layer.round(4).to_html()}<p>{words[-2]}</p>"


@checked
def pair_information(
    study: Study,
    layers: Sequence[str] | None = None,
    examples: IndicesLike | None = None,
    *,
    estimator: Estimator = "binned",
    bins: int = 8,
    k: int = 3,
    scale: Scale = "rank",
    where: Where = "after",
    per_layer: int | None = None,
    null_draws: int = 3,
    seed: Seed = 0,
    progress: bool = True,
) -> PairInformation:
    """Mutual information of all pairs of units, in nats; labels are not used.

    High if units repeat each other, as in networks that have memorized a heuristic; low if units
    are independent, as in those that have memorized single examples (Bansal et al. 2022,
    section 3). It is not normalized. Departures from the released code: ties are counted
    (:func:`ksg_mutual_information`), units are ranked so that their scale does not matter, and
    means exclude the diagonal.

    Parameters
    ----------
    study : Study
    layers, examples, where, progress
        As for :func:`unit_values`. The paper uses held-out examples.
    estimator : {"binned", "ksg"}
        ``"binned"`` is the plug-in estimate in quantile bins: hundreds of units in seconds, biased
        upwards as the null shows. ``"ksg"`` uses nearest neighbours, as the paper does, and is
        nearly unbiased; hundreds of units take minutes, and as long again for each null draw.
    bins : int
        For ``"binned"``.
    k, scale
        For ``"ksg"``, as in :func:`ksg_mutual_information`.
    per_layer : int, optional
        Use only this many units of each layer, drawn at random: the same ones whichever other
        layers are chosen.
    null_draws : int
        Permutations for the null; 0 for none. Each is drawn for a unit and the study's examples,
        so that neither other units nor the order of examples matter.
    seed : int
        Seed of the drawn units and of the null.

    Raises
    ------
    KeyError
        If the study has no such layer.
    ValueError
        If there is a single unit, there are too few examples, a value is NaN, or the estimator is
        unknown.

    Warns
    -----
    UserWarning
        If more than 1 % of the examples seem to be copies of others, which raises the mutual
        information of all pairs, but not of the null.

    Examples
    --------
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    >>> study = Study(model.eval(), torch.randn(60, 4), torch.zeros(60), {"all": range(60)})
    >>> information = pair_information(study)
    >>> information.values.shape, information.by_layer.shape, len(information.scores())
    ((8, 8), (2, 5), 8)
    """
    if estimator not in get_args(Estimator):
        known = ", ".join(get_args(Estimator))
        raise ValueError(f"estimator is {quoted(estimator)}; choose from {known}.")
    if whole(null_draws, "null_draws") < 0:
        raise ValueError(f"null_draws is {null_draws}; use 0 or more.")
    activations = unit_values(study, layers, examples, where, progress=progress)
    chosen, sample = drawn_units(activations.layers, per_layer, seed)
    units = tuple(activations.units[i] for i in chosen.tolist())
    values = activations.values[:, chosen]
    if values.shape[1] < 2:
        raise ValueError(
            "there is only one unit, but a pair needs two; choose layers with more units."
        )
    _warn_of_copies(values)

    def measure(values: Tensor) -> np.ndarray:
        if estimator == "ksg":
            return neighbour_information(values, k, scale, progress=progress).numpy()
        codes = quantile_codes(values, bins)
        information = binned_mutual_information(codes, bins, progress=progress)
        return information.fill_diagonal_(torch.nan).numpy()

    n, count = values.shape
    rows = check_examples(study, examples)
    null = np.empty((null_draws, count, count))
    for draw in range(null_draws):
        null[draw] = measure(shuffled(values, units, rows, len(study), (seed, draw)))
    words = f"{bins} quantile bins" if estimator == "binned" else f"KSG, k = {k}, {scale} scale"
    return PairInformation(
        measure(values),
        null,
        units,
        activations.layers,
        (values.amax(0) == values.amin(0)).numpy(),
        n,
        words,
        where,
        sample,
    )


def _warn_of_copies(values: Tensor) -> None:
    copies, n = repeated_examples(values), len(values)
    if copies * 100 > n:
        warnings.warn(
            f"{copies:,} of the {n:,} examples have the same activations as another one; repeated "
            "examples make the mutual information too high, so keep one of each.",
            stacklevel=3,
        )


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
