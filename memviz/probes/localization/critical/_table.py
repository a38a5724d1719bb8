"""The result of a search for critical units: each example's units, and what they cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from memviz.engine.record import layers
from memviz.scores import Null, Scores
from memviz.study import Study
from memviz.units import Unit, UnitSet

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

SOURCE = "Maini et al. 2023 (arXiv:2307.09542), greedy search for the units that flip an example"


@dataclass(eq=False)
class CriticalUnits:
    """The units that had to be ablated to flip each example.

    Attributes
    ----------
    study : Study
    examples : int64 ``[k]``
        The study's indices.
    units : tuple of tuple of Unit
        The units of each example, in the order they were ablated.
    flipped : bool ``[k]``
        False if the cap was reached or no unit was left before the example flipped.
    retained : dict of group to float64 ``[k]``
        Accuracy of the group, without the example itself, with the example's units ablated.
    random : float64 ``[draws, k]``
        How many units in random order flip the example (inf if all together do not).
    how, method : str
        The intervention, and whether the search was first-order or exact.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    >>> groups = {"memorized": range(2), "clean": range(2, 6)}
    >>> study = Study(model.eval(), torch.randn(6, 4), torch.zeros(6), groups)
    >>> from memviz.probes.localization.critical import critical_units
    >>> critical = critical_units(study, torch.tensor([0, 3]), random_draws=2, progress=False)
    >>> critical.counts.shape, critical.random.shape
    ((2,), (2, 2))
    """

    study: Study
    examples: Tensor
    units: tuple[tuple[Unit, ...], ...]
    flipped: np.ndarray
    retained: dict[str, np.ndarray]
    random: np.ndarray
    how: str
    method: str

    @property
    def counts(self) -> np.ndarray:
        """Number of units that flip each example, float64 ``[k]``; inf if it did not flip."""
        sizes = np.array([len(units) for units in self.units], float)
        return np.where(self.flipped, sizes, np.inf)

    def scores(self) -> Scores:
        """The counts as Scores over examples, NaN if not flipped; the null is random order.

        A null draw in which no number of units flips an example counts as all units.
        """
        total = sum(layer.units for layer in layers(self.study) if not layer.is_output)
        return Scores(
            name="critical units",
            measure="units ablated until the example flips",
            values=np.where(self.flipped, self.counts, np.nan),
            examples=self.examples.numpy(),
            higher="held by more units",
            source=SOURCE,
            null=Null("units ablated in random order", np.minimum(self.random, total))
            if len(self.random)
            else None,
        )

    @property
    def frame(self) -> pd.DataFrame:
        """One row per example: its group, units and their number, and the accuracy retained."""
        import pandas as pd

        columns = {
            "example": self.examples.numpy(),
            "group": self._groups(),
            "count": self.counts,
            "flipped": self.flipped,
            "units": [str(UnitSet(units)) for units in self.units],
            "layers": [len({unit.layer for unit in units}) for units in self.units],
        }
        if len(self.random):
            columns["random"] = np.median(self.random, 0)
        columns |= {f"retained {name}": values for name, values in self.retained.items()}
        frame = pd.DataFrame(columns)
        frame.attrs = {"name": "critical units", "how": self.how, "source": SOURCE}
        return frame

    @property
    def by_group(self) -> pd.DataFrame:
        """One row per group: examples, median and quartiles of the counts, flipped, retained."""
        frame = self.frame
        rows = {}
        for name in dict.fromkeys(frame["group"]):
            members = frame[frame["group"] == name]
            low, median, high = np.quantile(members["count"], [0.25, 0.5, 0.75], method="nearest")
            row = {"n": len(members), "median": median, "low": low, "high": high}
            row["flipped"] = members["flipped"].mean()
            if len(self.random):
                row["random median"] = np.median(self.random[:, members.index])
            row |= {key: members[key].mean() for key in members if key.startswith("retained ")}
            rows[name] = row
        import pandas as pd

        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("group")

    @property
    def by_layer(self) -> pd.DataFrame:
        """One row per layer, one column per group: the layer's share of the group's units."""
        import pandas as pd

        groups = self._groups()
        names = [layer.name for layer in layers(self.study) if not layer.is_output]
        shares = {}
        for group in dict.fromkeys(groups):
            unit_layers = [
                unit.layer
                for name, units in zip(groups, self.units, strict=True)
                if name == group
                for unit in units
            ]
            shares[group] = [unit_layers.count(name) / max(len(unit_layers), 1) for name in names]
        return pd.DataFrame(shares, index=pd.Index(names, name="layer"))

    def plot(self) -> Figure:
        """How many units flip what share of a group, beside random order; and in which layers."""
        from ..figures import critical_units

        return critical_units(self)

    def __repr__(self) -> str:
        return (
            f"units whose {self.how} ablation flips an example, {self.method} search:\n"
            f"{self.by_group.round(3).to_string()}\nsource: {SOURCE}"
        )

    def _groups(self) -> list[str]:
        named = self.study.groups.items()
        return [
            next((name for name, mask in named if mask[example]), "none")
            for example in self.examples.tolist()
        ]
