"""One tower of a CLIP model: its features of fixed inputs, with units ablated."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from memviz.engine.record import Intervention, Replay
from memviz.engine.sets import Toggle, ablate
from memviz.models.clip import Clip
from memviz.study import Study, private
from memviz.tasks.image_text import ImageText
from memviz.units import Layer, UnitSet

_KEPT = 3  # ablations whose features are kept


class Tower:
    """One tower of a CLIP model: its features of fixed inputs, with units ablated.

    Parameters
    ----------
    model : nn.Module
        Called as ``model(image=...)`` or ``model(text=...)``.
    key : str
        ``"image"`` or ``"text"``.
    inputs : Tensor ``[n, ...]``

    Attributes
    ----------
    layers : list of Layer
        The tower's layers with units, output layers included.
    """

    def __init__(self, model: nn.Module, key: str, inputs: Tensor) -> None:
        labels = torch.ones(len(inputs))
        everything = {"all": torch.ones(len(inputs), dtype=torch.bool)}
        self.study = Study(model, {key: inputs}, labels, everything, task=ImageText())
        self._toggle = Toggle(Replay(self.study))
        self.layers: list[Layer] = self._toggle.replay.layers
        self._kept: dict[tuple[UnitSet, Intervention], Tensor] = {}  # newest last
        # Several explorers of one retrieval, each with a thread, share this tower's recorded pass.
        self._one_at_a_time = threading.Lock()

    def features(
        self,
        units: UnitSet,
        how: Intervention,
        stop: Callable[[], bool] | None = None,
        *,
        keep: bool = True,
    ) -> Tensor:
        """Features of the inputs, float ``[n, features]``; units of the other tower are ignored."""
        with self._one_at_a_time:
            ablation = (self.own(units), how)
            if ablation not in self._kept and not keep:
                return self._toggle.replay.outputs(*ablation, stop=stop)
            if ablation not in self._kept:
                features = self._toggle.outputs(*ablation, stop=stop)
                for old in list(self._kept)[: len(self._kept) + 1 - _KEPT]:
                    del self._kept[old]
                self._kept[ablation] = features
            self._kept[ablation] = self._kept.pop(ablation)
            return self._kept[ablation]

    def ask(self, clip: Clip, caption: str, units: UnitSet, how: Intervention) -> Tensor:
        """Features of a caption by any model, or by the ablated model of this tower.

        Returns ``[1, features]``.
        """
        model: Any = clip.model
        tokens = clip.tokenizer([caption]).to(self.study.device)
        if not units:
            with torch.no_grad():
                return ImageText().outputs(model(text=tokens))
        own = private(self.study)  # others call the model itself, and watch it for changes
        with torch.no_grad(), ablate(own, units, how):
            return ImageText().outputs(own.model(text=tokens))

    def own(self, units: UnitSet) -> UnitSet:
        """The units that belong to this tower."""
        names = {layer.name for layer in self.layers}
        return UnitSet({name: rows for name, rows in units.layers.items() if name in names})
