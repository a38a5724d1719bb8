"""What a search for critical units returns: the units of each example, and what they cost."""

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
    """The units that had to be ablated until each example no longer got its label.

    Attributes
    ----------
    study : Study
    examples : int64 ``[k]``
        The study's indices.
    units : tuple of tuple of Unit
        Of each example, in the order they were taken.
    flipped : bool ``[k]``
        False where it was not flipped: the cap was reached, or nothing was left to ablate.
    retained : dict of group to float64 ``[k]``
        Accuracy of the group, the example itself left out, with the example's units ablated.
    random : float64 ``[draws, k]``
        How many units in random order flip it (inf: not even all of them).
    how, method : str
        The intervention, and whether units were ranked to first order or evaluated exactly.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    >>> groups = {"memorized": range(2), "clean": range(2, 6)}
    >>> study = Study(model.eval(), torch.randn(6, 4), torch.zeros(6), groups)
    >>> from memviz.probes.localization.critical import critical_units
    >>> found = critical_units(study, torch.tensor([0, 3]), random_draws=2, progress=False)
    >>> found.counts.shape, found.random.shape
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
        """Units that flip each example, float64 ``[k]``; inf where it was not flipped."""
        sizes = np.array([len(found) for found in self.units], float)
        return np.where(self.flipped, sizes, np.inf)

    @property
    def scores(self) -> Scores:
        """The counts as Scores over examples (NaN where not flipped), random order as their null.

        A null draw in which all units did not flip an example counts all the units there are.
        """
        every = sum(layer.units for layer in layers(self.study) if not layer.is_output)
        return Scores(
            name="critical units",
            measure="units ablated until the example flips",
            values=np.where(self.flipped, self.counts, np.nan),
            examples=self.examples.numpy(),
            higher="held by more units",
            source=SOURCE,
            null=Null("units ablated in random order", np.minimum(self.random, every))
            if len(self.random)
            else None,
        )

    @property
    def frame(self) -> pd.DataFrame:
        """One row an example: its group, units, their number, and what else was lost."""
        import pandas as pd

        columns = {
            "example": self.examples.numpy(),
            "group": self._groups(),
            "count": self.counts,
            "flipped": self.flipped,
            "units": [str(UnitSet(found)) for found in self.units],
            "layers": [len({unit.layer for unit in found}) for found in self.units],
        }
        if len(self.random):
            columns["random"] = np.median(self.random, 0)
        columns |= {f"retained {name}": values for name, values in self.retained.items()}
        frame = pd.DataFrame(columns)
        frame.attrs = {"name": "critical units", "how": self.how, "source": SOURCE}
        return frame

    @property
    def by_group(self) -> pd.DataFrame:
        """One row a group: examples, median and quartiles of the counts, flipped, retained."""
        frame = self.frame
        rows = {}
        for name in dict.fromkeys(frame["group"]):
            mine = frame[frame["group"] == name]
            low, median, high = np.quantile(mine["count"], [0.25, 0.5, 0.75], method="nearest")
            row = {"n": len(mine), "median": median, "low": low, "high": high}
            row["flipped"] = mine["flipped"].mean()
            if len(self.random):
                row["random median"] = np.median(self.random[:, mine.index])
            row |= {key: mine[key].mean() for key in mine if key.startswith("retained ")}
            rows[name] = row
        import pandas as pd

        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("group")

    @property
    def by_layer(self) -> pd.DataFrame:
        """One row a layer, one column a group: the layer's share of the group's units."""
        import pandas as pd

        groups = self._groups()
        names = [layer.name for layer in layers(self.study) if not layer.is_output]
        shares = {}
        for group in dict.fromkeys(groups):
            theirs = zip(groups, self.units, strict=True)
            places = [unit.layer for mine, found in theirs if mine == group for unit in found]
            shares[group] = [places.count(name) / max(len(places), 1) for name in names]
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
