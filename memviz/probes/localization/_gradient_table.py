"""The result of gradient accounting: norms and cosines by epoch and layer, with their null."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

SOURCE = "Maini et al. 2023 (arXiv:2307.09542), gradient accounting"


@dataclass(frozen=True, eq=False)
class GradientAccounting:
    """Gradient norms of clean and of noisy examples by layer, and the cosine between them.

    Gradients are summed over the batches of an epoch. The norm of a layer group adds up, over its
    parameter tensors, the norm of each tensor's summed gradient divided by the root of the tensor's
    size. The cosine is that between a tensor's clean and noisy sums, averaged over the tensors of
    the group that have a gradient; NaN if none has.

    Attributes
    ----------
    layers : tuple of str
        ``L`` of them.
    epochs : tuple of int
        ``E`` of them.
    clean, noisy, cosine : float64 ``[E, L]``
    null_clean, null_noisy, null_cosine : float64 ``[draws, E, L]``
        The same for as many random examples as there are noisy ones, against all others.
    share : float
        Share of the examples that are noisy.
    """

    layers: tuple[str, ...]
    epochs: tuple[int, ...]
    clean: np.ndarray
    noisy: np.ndarray
    cosine: np.ndarray
    null_clean: np.ndarray
    null_noisy: np.ndarray
    null_cosine: np.ndarray
    share: float

    @property
    def ratio(self) -> np.ndarray:
        """Noisy norm over clean norm, each first averaged over the epochs, ``[L]``."""
        return _ratio(self.noisy.mean(0), self.clean.mean(0))

    @property
    def null_ratio(self) -> np.ndarray:
        """The same for the random examples, ``[draws, L]``."""
        return _ratio(self.null_noisy.mean(1), self.null_clean.mean(1))

    @property
    def frame(self) -> pd.DataFrame:
        """One row per epoch and layer, with the mean of the null over its draws."""
        import pandas as pd

        shape = self.clean.shape
        columns = {
            "epoch": np.repeat(self.epochs, shape[1]),
            "layer": np.tile(self.layers, shape[0]),
            "clean": self.clean.ravel(),
            "noisy": self.noisy.ravel(),
            "ratio": _ratio(self.noisy, self.clean).ravel(),
            "cosine": self.cosine.ravel(),
        }
        if len(self.null_clean):
            columns["null_ratio"] = _ratio(self.null_noisy, self.null_clean).mean(0).ravel()
            columns["null_cosine"] = self.null_cosine.mean(0).ravel()
        frame = pd.DataFrame(columns)
        frame.attrs = {"name": "gradient accounting", "source": SOURCE}
        return frame

    @property
    def by_layer(self) -> pd.DataFrame:
        """One row per layer: ratio of the norms averaged over epochs, mean cosine, and nulls."""
        import pandas as pd

        columns = {"ratio": self.ratio, "cosine": self.cosine.mean(0)}
        if len(self.null_clean):
            columns["null_ratio"] = self.null_ratio.mean(0)
            columns["null_cosine"] = self.null_cosine.mean((0, 1))
        return pd.DataFrame(columns, index=pd.Index(self.layers, name="layer"))

    def plot(self) -> Figure:
        """Both norms by layer, and the cosine by layer over the epochs."""
        from .figures import gradient_accounting

        return gradient_accounting(self)

    def __repr__(self) -> str:
        return (
            f"gradient accounting over {len(self.epochs)} epochs; {self.share:.1%} of the "
            f"examples are noisy\n{self.by_layer.round(3).to_string()}\nsource: {SOURCE}"
        )


def _ratio(noisy: np.ndarray, clean: np.ndarray) -> np.ndarray:
    """Noisy over clean norms; NaN for a layer without a gradient."""
    undefined = np.full(clean.shape, np.nan)
    return np.asarray(np.divide(noisy, clean, out=undefined, where=clean > 0))
