"""What a localizer says of each neuron and each passage."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from memviz.checks import Share, checked
from memviz.scores import Null, Scores
from memviz.study import Study, default_groups
from memviz.units import Unit, UnitSet

_DRAWS = 200
SOURCE = "Chang et al. 2024 (arXiv:2311.09060), section 4"


@dataclass(frozen=True, eq=False)
class NeuronTable:
    """How much each FFN neuron, or each of other units, holds each passage, by one method.

    Attributes
    ----------
    study : Study
    method, measure, source : str
    units : tuple of Unit, ``U`` of them
        Neurons layer by layer, or the units that were asked for.
    examples : int64 ``[n]``
    values : float64 ``[n, U]``
        Each passage's own attribution: it depends on no other passage.
    missed : float64 ``[n, layers]``, optional
        For integrated gradients: how far their sum over a layer's neurons misses the change that
        they explain.
    """

    study: Study
    method: str
    measure: str
    units: tuple[Unit, ...]
    examples: Tensor
    values: np.ndarray
    source: str = SOURCE
    missed: np.ndarray | None = None

    def of_example(self, example: int) -> Scores:
        """Which neurons hold this passage; the null is the same for the others.

        Raises
        ------
        IndexError
            If it is not among the passages of the table.
        """
        rows = (self.examples == example).nonzero()[:, 0].tolist()
        if not rows:
            raise IndexError(
                f"example {example} is not among the {len(self.examples):,} passages of this "
                "table; choose one of table.examples."
            )
        # By example, so that the order in which they were given makes no difference.
        order = self.examples.argsort(stable=True)
        others = order[self.examples[order] != example][:_DRAWS]
        words = f"the same for {len(others):,} other passages"
        return self._scores(
            f"{self.method} of example {example}",
            self.measure,
            self.values[rows[0]],
            Null(words, self.values[others.numpy()]) if len(others) else None,
        )

    def scores(self, group: str | None = None, against: str | None = None) -> Scores:
        """Mean over a group's passages minus the mean over another's.

        Parameters
        ----------
        group, against : str, optional
            The study's first and second groups by default; ``against=""`` for none.

        Returns
        -------
        Scores
            Over neurons. The null draws groups of the same sizes from both together, or from all
            passages of the table.

        Raises
        ------
        ValueError
            If there is no such group, or the table has none of its passages.
        """
        group, against = default_groups(self.study, group, against)
        mine = self._rows(group)
        rest = self._rows(against) if against else mine[:0]
        measure = f"{self.measure}, mean of {len(mine):,} {group}"
        value = self.values[mine].mean(0)
        if len(rest):
            measure += f" − mean of {len(rest):,} {against}"
            value = value - self.values[rest].mean(0)
        return self._scores(self.method, measure, value, self._null(mine, rest))

    def _scores(self, name: str, measure: str, values: np.ndarray, null: Null | None) -> Scores:
        return Scores(
            name,
            measure,
            values,
            units=self.units,
            higher="holds the passage",
            source=self.source,
            null=null,
        )

    def _rows(self, group: str) -> np.ndarray:
        self.study.group(group)
        order = self.examples.argsort(stable=True)
        rows: np.ndarray = order[self.study.groups[group][self.examples[order]]].numpy()
        if not len(rows):
            raise ValueError(
                f"none of the passages of this table is in {group!r}; score some, or name another."
            )
        return rows

    def _null(self, mine: np.ndarray, rest: np.ndarray) -> Null | None:
        pool = np.concatenate([mine, rest]) if len(rest) else self.examples.argsort().numpy()
        if len(pool) <= len(mine) and not len(rest):
            return None
        draw, size = np.random.default_rng(0), len(mine)
        weights = np.zeros((_DRAWS, len(pool)))
        for row in weights:
            order = draw.permutation(len(pool))
            row[order[:size]] = 1 / size
            if len(rest):
                row[order[size:]] = -1 / len(rest)
        words = f"{_DRAWS} draws of {size:,} passages at random in place of the group"
        return Null(words, weights @ self.values[pool])

    def __repr__(self) -> str:
        return f"NeuronTable({self.method}, {len(self.examples):,} passages × {len(self.units):,})"


@checked
def top_per_layer(scores: Scores, share: Share) -> UnitSet:
    """The highest share of the units of every layer, at least one each.

    Chang et al. 2024 name the same share of neurons in each layer, since attributions of different
    layers are not on one scale.

    Parameters
    ----------
    scores : Scores
        Over units; those without a value are never named.
    share : float
        From 0 to 1.

    Raises
    ------
    ValueError
        If the scores are over examples, or the share is outside 0 to 1.

    Examples
    --------
    >>> units = [Unit(layer, k) for layer in "ab" for k in range(4)]
    >>> top_per_layer(Scores("demo", "logits", [0, 3, 1, 2, 9, 8, 7, 6], units=units), 0.5)
    UnitSet.parse('b:0,1 a:1,3')
    """
    if scores.units is None:
        raise ValueError("these scores are over examples; give scores over units.")
    sizes: dict[str, int] = {}
    for unit in scores.units:
        sizes[unit.layer] = sizes.get(unit.layer, 0) + 1
    left = {name: max(1, round(share * size)) if share else 0 for name, size in sizes.items()}
    named = []
    for row in scores.order().tolist():
        unit = scores.units[row]
        if left[unit.layer]:
            left[unit.layer] -= 1
            named.append(unit)
    return UnitSet(named)
