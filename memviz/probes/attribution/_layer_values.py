"""A method of attribution with its settings, over the layers of a model."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from memviz.study import Study
from memviz.units import Layer

from ._captum import by_unit, explained, ready_for_captum
from ._methods import LAYER_METHODS
from ._outputs import Outputs, output_shape, outputs_of, targets_of
from ._path import Path
from ._result import Completeness

BATCH = 32
_PATHS = ("conductance", "integrated_gradients", "internal_influence")
Read = Callable[[Tensor, Layer], Tensor]  # of a layer's output [n, ...], what is wanted of it


class LayerValues:
    """A method with its settings, of some examples of a study."""

    def __init__(
        self, study: Study, indices: Tensor, method: str, rule: str, n_steps: int, of: str | None
    ) -> None:
        self.study, self.indices, self.of = study, indices, of
        self.method, self.rule, self.n_steps = method, rule, n_steps

    def means(
        self, model: nn.Module, layers: Sequence[Layer], stop: Callable[[], bool] | None
    ) -> tuple[np.ndarray, Completeness | None]:
        """Mean of each unit over the examples, ``[units]``; completeness ``[layers, n]``."""
        # All layers share the passes of a conductance, unless the work may be stopped in between.
        together = self.method == "conductance" and stop is None
        values: list[np.ndarray] = []
        errors: list[Completeness | None] = []
        with ready_for_captum(model):
            outputs = outputs_of(self.study, self.indices, self.of, model)
            for some in [list(layers)] if together else [[layer] for layer in layers]:
                if stop is not None and stop():
                    values += [np.full(layer.units, np.nan) for layer in some]
                    errors += [None for layer in some]
                    continue
                totals, parts = [torch.zeros(layer.units).double() for layer in some], []
                for batch in self.indices.split(BATCH):
                    rows, missed = self.batch(outputs, some, batch, by_unit)
                    totals = [t + r.sum(0) for t, r in zip(totals, rows, strict=True)]
                    parts += [] if missed is None else [missed]
                values += [(total / len(self.indices)).numpy() for total in totals]
                errors += [Completeness.join(parts) if parts else None for _ in some]
        return np.concatenate(values), _stacked(errors, len(self.indices))

    def batch(
        self, outputs: Outputs, layers: Sequence[Layer], examples: Tensor, read: Read
    ) -> tuple[list[Tensor], Completeness | None]:
        """What is read of each layer's attributions, and how far they miss the change."""
        given = outputs.given(self.study.batch(examples))
        goal = targets_of(outputs, given, self.study.labels[examples])
        path = Path(outputs, given, goal, self.rule, self.n_steps)
        modules = [outputs.model.get_submodule(layer.name) for layer in layers]
        if self.method == "conductance":
            return path.layers(modules, lambda values, k: read(values, layers[k]))
        values = self._by_captum(outputs, modules[0], given, goal)
        missed: Completeness | None = None
        if self.method == "integrated_gradients":
            missed = path.missed_by_layer(modules[0], values.flatten(1))
        elif self.method == "internal_influence":
            _, missed = path.inputs()
        return [read(values, layers[0])], missed

    def _by_captum(
        self, outputs: Outputs, module: nn.Module, given: tuple[Tensor, ...], goal: Tensor
    ) -> Tensor:
        import captum.attr

        shape = output_shape(outputs, module, given)
        explainer = getattr(captum.attr, LAYER_METHODS[self.method])(outputs, module)
        parameters = inspect.signature(explainer.attribute).parameters
        options: dict[str, Any] = {"target": goal, "n_steps": self.n_steps}
        if self.method in _PATHS:
            options["method"] = self.rule
        options = {key: value for key, value in options.items() if key in parameters}
        try:
            return explained(explainer, given, **options)
        except RuntimeError as error:
            if "not have been used" not in str(error):
                raise
            # The logit does not depend on the layer, which autograd refuses to differentiate.
            return given[0].new_zeros(len(goal), *shape[1:])


def _stacked(errors: Sequence[Completeness | None], n: int) -> Completeness | None:
    known = [error for error in errors if error is not None]
    if not known:
        return None
    missing = np.full(n, np.nan)
    return Completeness(
        np.stack([missing if error is None else error.errors for error in errors]),
        np.stack([missing if error is None else error.changes for error in errors]),
        known[0].how,
    )
