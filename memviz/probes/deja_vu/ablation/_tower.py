"""One tower of a CLIP model: its features of fixed inputs, with units of it ablated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from memviz.engine.record import Intervention, Replay
from memviz.engine.sets import Toggle, ablate
from memviz.models.clip import Clip
from memviz.study import Study
from memviz.tasks.image_text import ImageText
from memviz.units import Layer, UnitSet

_KEPT = 3  # sets of units whose features are kept


class Tower:
    """One tower's features of fixed inputs, with units of it ablated.

    Parameters
    ----------
    model : nn.Module
        Called as ``model(image=...)`` or ``model(text=...)``.
    key : str
        ``"image"`` or ``"text"``.
    inputs : Tensor ``[n, ...]``
    """

    def __init__(self, model: nn.Module, key: str, inputs: Tensor) -> None:
        labels = torch.ones(len(inputs))
        everything = {"all": torch.ones(len(inputs), dtype=torch.bool)}
        self.study = Study(model, {key: inputs}, labels, everything, task=ImageText())
        self._toggle = Toggle(Replay(self.study))
        self._kept: dict[tuple[UnitSet, Intervention], Tensor] = {}  # newest last

    @property
    def layers(self) -> list[Layer]:
        """The tower's layers with units, also those that make its output."""
        return self._toggle.replay.layers

    def features(
        self,
        units: UnitSet,
        kind: Intervention,
        stop: Callable[[], bool] | None = None,
        *,
        keep: bool = True,
    ) -> Tensor:
        """Float ``[n, features]``; units of the other tower change nothing here."""
        asked = (self.own(units), kind)
        if asked not in self._kept and not keep:
            return self._toggle.replay.outputs(*asked, stop=stop)
        if asked not in self._kept:
            found = self._toggle.outputs(*asked, stop=stop)
            for old in list(self._kept)[: len(self._kept) + 1 - _KEPT]:
                del self._kept[old]
            self._kept[asked] = found
        self._kept[asked] = self._kept.pop(asked)
        return self._kept[asked]

    def ask(self, clip: Clip, caption: str, units: UnitSet, kind: Intervention) -> Tensor:
        """A caption's features by any model, ``[1, features]``."""
        model: Any = clip.model
        tokens = clip.tokenizer([caption]).to(self.study.device)
        if not units:
            with torch.no_grad():
                return ImageText().outputs(model(text=tokens))
        with torch.no_grad(), ablate(self.study, units, kind):
            return ImageText().outputs(model(text=tokens))

    def own(self, units: UnitSet) -> UnitSet:
        """Those of the units that are this tower's."""
        names = {layer.name for layer in self.layers}
        return UnitSet({name: rows for name, rows in units.layers.items() if name in names})
