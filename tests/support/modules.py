"""Ablation by plain hooks on modules, and whether every engine agrees with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import memviz as mv

Change = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Hook:
    """A plain hook: it zeroes some features of what a module takes or returns."""

    module: str
    features: Sequence[int]
    at: str = "into"
    axis: int = -1

    def zeroed(self, value: Tensor) -> Tensor:
        return value.index_fill(self.axis, torch.tensor(list(self.features)), 0)


@contextmanager
def hooked(model: nn.Module, hook: Hook) -> Iterator[None]:
    module = model.get_submodule(hook.module)

    def into(_module: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        return (hook.zeroed(given[0]), *given[1:])

    def out(_module: nn.Module, _given: Any, output: Any) -> Any:
        return hook.zeroed(output)

    if hook.at == "into":
        handle = module.register_forward_pre_hook(into)
    else:
        handle = module.register_forward_hook(out)
    try:
        yield
    finally:
        handle.remove()


def outputs(study: mv.Study) -> Tensor:
    with torch.no_grad():
        return study.task.outputs(study.call(study.inputs)())


def study_of(model: nn.Module, inputs: Any) -> mv.Study:
    n = len(inputs if isinstance(inputs, Tensor) else next(iter(inputs.values())))
    groups = {"memorized": [0], "clean": range(1, n)}
    return mv.Study(model, inputs, torch.arange(n) % 3, groups)


def every_engine_agrees(
    study: mv.Study, hooks: Mapping[str, Hook], *, seen: float = 0.6, block: bool = True
) -> None:
    """Each unit's outputs equal those with its hook; and most of the hooks can be seen at all."""
    clean = outputs(study)
    wanted = {}
    for unit, hook in hooks.items():
        with hooked(study.model, hook):
            wanted[unit] = outputs(study)
    every_engine_gives(study, wanted, clean, seen=seen, block=block)


def every_engine_gives(
    study: mv.Study,
    wanted: Mapping[str, Tensor],
    clean: Tensor,
    *,
    seen: float = 0.6,
    block: bool = True,
) -> None:
    """``block`` is False where ``mv.ablate`` is not tried."""
    scale = float(clean.abs().max())
    moved = [float((each - clean).abs().max()) > 1e-4 * scale for each in wanted.values()]
    assert sum(moved) >= seen * len(wanted)
    engines = {
        "replay": mv.Replay(study),
        "hook": mv.Replay(study, memory=0),
    }
    for name, replay in engines.items():
        assert replay.engine == name
        assert torch.allclose(replay.clean, clean, atol=1e-5 * scale)
        for unit, expected in wanted.items():
            error = float((replay.outputs(unit) - expected).abs().max())
            assert error <= 1e-5 * scale, f"{unit} by {name} is off by {error / scale:.1e}"
    units = mv.UnitSet.parse(" ".join(wanted))
    for engine in ("auto", "replay"):
        effects = mv.sweep(study, units, engine=engine, progress=False)
        for row, swept in enumerate(effects.units):
            margin = effects.margin + effects.margin_change[row]
            expected = study.task.margin(wanted[str(swept)], study.labels)
            assert torch.allclose(margin, expected, atol=2e-5 * scale), f"{swept} by {engine}"
    with torch.no_grad():
        modules = dict(study.model.named_modules())
        for unit, expected in [*wanted.items()][-2:] if block else ():
            if unit.rpartition(":")[0] not in modules:
                continue  # a layer inside a module
            with mv.ablate(study.model, unit):
                assert torch.allclose(outputs(study), expected, atol=1e-5 * scale), unit
        assert torch.allclose(outputs(study), clean, atol=1e-6 * scale)
