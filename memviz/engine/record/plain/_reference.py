"""What the plain model answers on a few examples, with units ablated by hooks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from memviz.units import UnitSet

from .._interventions import Intervention
from .._paths import Path, Paths, copied
from .._replay import Edit, run_edited
from ..places import refusal
from ._calls import Inert
from ._hooks import Hooks, hooks_for

EditsFor = Callable[[Path, Tensor, UnitSet, Intervention], list[Edit]]


class Reference:
    """The independent answer for a few examples, that every engine must give.

    Where a layer's activation leaves or enters a module, a plain hook changes it there; where it
    does not, as inside ``F.relu(self.conv(x))``, the whole forward pass runs with the change and
    without any record.

    Parameters
    ----------
    paths : Paths
    examples : int64 ``[k]``
        Indices into the study.
    edits : callable
        The changes that ablate units in these examples, on their path.
    """

    def __init__(self, paths: Paths, examples: Tensor, edits: EditsFor) -> None:
        self.study, self.examples = paths.study, examples
        self._paths, self._edits = paths, edits
        self._activity: dict[str, Tensor] = {}
        self._path, _ = paths.follow(self._inputs(), self._measure)

    def units(self, layers: Sequence[str], how: Intervention) -> list[UnitSet]:
        """The busiest unit of each layer that is reached, the quietest, and the first.

        Of those that take the intervention. Of several layers together only the busiest, since
        each alone has been compared before. They do not depend on which units were asked for.
        """
        taking = {name: self._taking(name, how) for name in layers if name in self._activity}
        picks: list[Callable[[Tensor], Any]] = [torch.argmax, torch.argmin, lambda _: 0]
        chosen = [
            UnitSet(
                {
                    name: [int(ids[int(pick(self._activity[name][ids]))])]
                    for name, ids in taking.items()
                    if len(ids)
                }
            )
            for pick in (picks if len(layers) == 1 else picks[:1])
        ]
        return list(dict.fromkeys(units for units in chosen if units))

    def _taking(self, name: str, how: Intervention) -> Tensor:
        """The units of a layer that take an intervention, int64."""
        located = self._path.located[name]
        if located.declared is None or located.declared.allowed is None:
            return torch.arange(located.layer.units)
        layer, declared = located.layer, located.declared
        taking = [
            unit
            for unit in range(layer.units)
            if not refusal(layer.name, layer.kind, declared, [unit], how)
        ]
        return torch.tensor(taking, dtype=torch.long)

    def outputs(self, units: UnitSet, how: Intervention) -> Tensor:
        """Outputs of the examples with the units ablated, ``[k, ...]``."""
        path = self._path
        edits = self._edits(path, self.examples, units, how)
        hooks = hooks_for(path.trace, edits)
        calm = self._paths.calm(path)
        with calm, calm:
            if hooks is None:
                raw = run_edited(path.trace, edits, self._paths.prepare(path, self._inputs()))
                return self.study.task.outputs(raw)
            try:
                return self._hooked(hooks)
            except NotImplementedError:
                # The fused path of a transformer hands a hook nested tensors, which no edit takes;
                # while its calls are watched it does not, and its clean outputs were compared.
                with Inert():
                    return self._hooked(hooks)

    def _hooked(self, hooks: Hooks) -> Tensor:
        with hooks, hooks:
            return self.study.task.outputs(self.study.call(copied(self._inputs()))())

    def _inputs(self) -> Tensor | dict[str, Tensor]:
        inputs = self.study.batch(self.examples)
        return inputs if isinstance(inputs, Tensor) else dict(inputs)

    def _measure(self, path: Path) -> None:
        """The mean absolute activation of every unit, ``[units]`` by layer."""
        activity: dict[str, Tensor] = {}

        def reading(name: str) -> Edit:
            located = path.located[name]
            site = located.unit_sites[0]

            def keep(value: Tensor) -> Tensor:
                size = value.detach().abs().double().nan_to_num().movedim(site.axis, -1)
                features = size.reshape(-1, size.shape[-1]).mean(0)
                activity[name] = features.view(located.layer.units, -1).mean(1)
                return value

            return Edit(site, keep)

        edits = [reading(name) for name in path.located]
        calm = self._paths.calm(path)
        with calm, calm:
            run_edited(path.trace, edits, self._paths.prepare(path, self._inputs()))
        self._activity = activity
