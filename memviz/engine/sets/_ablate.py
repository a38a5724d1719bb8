"""ablate(): a model with units ablated while a with-block runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from memviz.checks import checked, coded, quoted
from memviz.engine.record import (
    Intervention,
    Replay,
    has_inner_layers,
    intervention,
    refusal,
    tensors_in,
)
from memviz.study import Study, check_ready
from memviz.tasks.task import Inputs
from memviz.units import (
    Layer,
    UnitSet,
    UnitsLike,
    UnknownLayerError,
    check_units,
    declared_units,
)

from .ablation import Block, in_force, is_layer, plain, unit_axis


@checked
@contextmanager
def ablate(
    model: nn.Module | Study,
    units: UnitsLike,
    how: str | Intervention = "zero",
    *,
    reference: Inputs | None = None,
) -> Iterator[nn.Module]:
    """Ablate units in whatever this thread calls while the block runs; then all is as it was.

    Calls of the model, of its other methods (``model.generate``, ``clip.encode_image``), of its
    modules by hand and of functions with its weights are ablated alike, for inputs of any rank:
    a layer's axis of units is that of its own definition. A unit is replaced where a sweep does
    it, after the norm and the non-linearity that directly follow the layer. Each call runs once;
    gradients flow, also through gradient checkpointing. Blocks add up, and what memviz computes
    inside a block is about the ablated model. They may end in any order. Calls from other threads
    are not ablated. What cannot be ablated is refused: scripted and exported copies, copies made
    inside the block.

    Parameters
    ----------
    model : nn.Module or Study
        In eval mode; call it as usual inside the block.
    units : UnitSet or text
    how : str or Intervention
    reference : Tensor or dict of Tensors, optional
        Examples that ``mean`` and ``resample`` take their values from; a Study's own by default.

    Raises
    ------
    KeyError, IndexError
        On an unknown layer or unit.
    ValueError
        On train mode, if ``mean`` or ``resample`` has no examples to take values from, if a block
        around this one ablates one of the units in another way, or, at the end, if the forward
        pass never reached the layer.
    RuntimeError
        Inside the block, on a call that cannot be ablated.

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
    _check(module, chosen, how)
    source = _source(module, study, reference, how)
    origin = None if source is None else reference if reference is not None else study
    if not chosen:
        yield module
        return
    with in_force(Block(module, chosen, how, source, origin)):
        yield module


def _check(model: nn.Module, units: UnitSet, how: Intervention) -> None:
    names = dict(model.named_modules())
    for name, indices in units.layers.items():
        if name not in names:
            outer = name.rpartition(".")[0]
            if outer in names and has_inner_layers(names[outer]):
                raise ValueError(
                    f"layer {quoted(name)} lies inside one call of {quoted(outer)} "
                    f"({type(names[outer]).__name__}), which mv.ablate cannot change; use mv.sweep "
                    "or mv.Replay."
                )
            raise UnknownLayerError(name, [known for known in names if known])
        module = names[name]
        kind = type(module).__name__
        if isinstance(module, torch.jit.ScriptModule):
            raise ValueError(
                f"layer {quoted(name)} is part of a scripted module, whose units memviz cannot "
                "ablate; give the model before it was scripted."
            )
        declared = declared_units(module)
        if declared is not None:
            check_units({name: indices}, [Layer(name, declared.kind, declared.count, "")])
            refused = refusal(name, declared.kind, declared, indices, how)
            if refused or how.at == "filter":
                raise ValueError(refused or _NO_FILTER.format(name=quoted(name)))
        elif is_layer(module):
            layer = Layer(name, "linear", unit_axis(module)[1], "")
            check_units({name: indices}, [layer])
            refused = refusal(name, kind, None, indices, how)
            if refused:
                raise ValueError(refused)
        elif next(module.parameters(), None) is None:
            raise ValueError(
                coded(
                    "E11",
                    f"layer {quoted(name)} ({kind}) has no units of its own; name a conv, linear "
                    "or attention layer, or let the module declare its units.",
                )
            )
        elif how.declared_only:
            raise ValueError(refusal(name, kind, None, indices, how))


_NO_FILTER = (
    "layer {name} declares its units, so what filter ablation would leave of one can't be told; "
    "choose another intervention, such as 'zero' or 'mean'."
)


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
    if how.needs not in ("mean", "donor"):
        return None
    if reference is None and study is None:
        raise ValueError(
            coded(
                "E15",
                f"{quoted(how.name)} takes its values from examples; give a Study instead of the "
                "model, or reference=inputs.",
            )
        )
    if reference is not None:
        first = reference if isinstance(reference, Tensor) else next(iter(reference.values()))
        n = len(first)
        everything = {"reference": torch.ones(n, dtype=torch.bool)}
        study = Study(module, reference, torch.zeros(n), everything, task=_Anything())
    assert study is not None
    with plain():  # the values of the model itself, also inside another block
        return Replay(study, memory=0)
