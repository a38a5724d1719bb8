"""ablate(): a model with units ablated while a with-block runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from memviz.engine.record import (
    ANOTHER_PATH,
    DivergedError,
    Edit,
    Intervention,
    Replay,
    Trace,
    edit,
    filter_reference,
    intervention,
    locate,
    run_edited,
    tensors_in,
    trace,
)
from memviz.study import Study, check_ready
from memviz.tasks.task import Inputs
from memviz.units import UnitSet, UnitsLike, UnknownLayerError, check_units


@contextmanager
def ablate(
    model: nn.Module | Study,
    units: UnitsLike,
    how: str | Intervention = "zero",
    *,
    reference: Inputs | None = None,
) -> Iterator[nn.Module]:
    """Ablate units of a model while the block runs; afterwards the model is as it was.

    Parameters
    ----------
    model : nn.Module or Study
        In eval mode; call it as usual inside the block. Gradients flow, so Captum works there.
    units : UnitSet or text
    how : str or Intervention
    reference : Tensor or dict of Tensors, optional
        Examples that ``mean`` and ``resample`` take their values from; a Study's own by default.

    Raises
    ------
    KeyError, IndexError
        On an unknown layer or unit; of units, when the model is first called.
    ValueError
        On train mode, or if ``mean`` or ``resample`` has no examples to take values from.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1, bias=False)).eval()
    >>> with ablate(model, "0:0-2"):
    ...     model(torch.ones(1, 2))
    tensor([[0.]], grad_fn=<MmBackward0>)
    """
    study = model if isinstance(model, Study) else None
    module = model.model if isinstance(model, Study) else model
    how, chosen = intervention(how), UnitSet.of(units)
    check_ready(module)
    names = dict(module.named_modules())
    for name in chosen.layers:
        if name not in names:
            raise UnknownLayerError(name, [known for known in names if known])
    source = _source(module, study, reference, how)
    patched = _Patched(module, chosen, how, source)
    # An attribute of the instance hides the class's forward: no hook, and nested blocks work.
    before = module.__dict__.get("forward")
    module.__dict__["forward"] = patched
    try:
        yield module
    finally:
        if before is None:
            module.__dict__.pop("forward", None)
        else:
            module.__dict__["forward"] = before


class _Anything:
    """A task for models whose output is not judged."""

    def outputs(self, raw: Any) -> Tensor:
        return tensors_in(raw)[0]

    def predictions(self, outputs: Tensor) -> Tensor:
        return torch.zeros(len(outputs), dtype=torch.int64)

    def margin(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return torch.zeros(len(outputs))

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return torch.zeros(len(outputs))


def _source(
    module: nn.Module, study: Study | None, reference: Inputs | None, how: Intervention
) -> Replay | None:
    if how.needs == "nothing":
        return None
    if reference is None and study is None:
        raise ValueError(
            f"{how.name!r} takes its values from examples; give a Study instead of the model, or "
            "reference=inputs."
        )
    if reference is not None:
        first = reference if isinstance(reference, Tensor) else next(iter(reference.values()))
        n = len(first)
        everything = {"reference": torch.ones(n, dtype=torch.bool)}
        study = Study(module, reference, torch.zeros(n), everything, task=_Anything())
    assert study is not None
    return Replay(study, memory=0)


class _Patched:
    """Stands in for ``forward`` while the block runs."""

    def __init__(
        self, module: nn.Module, units: UnitSet, how: Intervention, source: Replay | None
    ) -> None:
        self.module, self.units, self.how, self.source = module, units, how, source
        self.original = module.forward
        self.trace: Trace | None = None
        self.reading = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # The source calls this same model to read its values: nothing may be ablated then.
        if not self.units or self.reading:
            return self.original(*args, **kwargs)
        if self.trace is not None:
            try:
                return self.run(args, kwargs)
            except DivergedError:
                pass  # another batch may take another path
        self.learn(args, kwargs)
        try:
            return self.run(args, kwargs)
        except DivergedError as error:
            raise RuntimeError(ANOTHER_PATH) from error

    def learn(self, args: Any, kwargs: Any) -> None:
        # The model may change its inputs in place, and the real call still needs them.
        copies = [_copied(value) for value in args]
        named = {key: _copied(value) for key, value in kwargs.items()}

        def call() -> Any:
            return self.original(*copies, **named)

        self.trace = trace(self.module, call, gradients=torch.is_grad_enabled())
        self.located = locate(self.module, self.trace)
        check_units(self.units, [located.layer for located in self.located.values()])

    def run(self, args: Any, kwargs: Any) -> Any:
        assert self.trace is not None
        batch = len(next(iter(tensors_in([*args, kwargs])), ()))
        return run_edited(self.trace, self.edits(batch), lambda: self.original(*args, **kwargs))

    def edits(self, batch: int) -> list[Edit]:
        assert self.trace is not None
        edits = []
        for name, indices in self.units.layers.items():
            located = self.located[name]
            at_filter = self.how.at == "filter"
            sites = located.filter_sites if at_filter else located.unit_sites
            for k, site in enumerate(sites):
                value = None
                if at_filter and located.bias is not None:
                    value = filter_reference(located, site, self.trace)
                elif self.source is not None:
                    value = self.read(self.source, name, k, batch)
                edits.append(edit(site, indices, self.how, value))
        return edits

    def read(self, source: Replay, name: str, k: int, batch: int) -> Tensor | None:
        self.reading = True
        try:
            return source.reference_for(name, k, self.how, batch)
        finally:
            self.reading = False


def _copied(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value
