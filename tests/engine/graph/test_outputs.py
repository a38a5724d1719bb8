"""Outputs of every form that models have, each unit against a plain module hook."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import memviz as mv

Pair = namedtuple("Pair", ["logits", "hidden"])


class LikeModelOutput(OrderedDict):
    """A mapping whose entries are attributes as well, as in Hugging Face's transformers."""

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        super().__setattr__(key, value)


@dataclass
class Plain:
    """An object with the logits among its fields."""

    logits: Tensor
    hidden: Tensor


def like_model_output(**entries: Any) -> LikeModelOutput:
    output = LikeModelOutput()
    for key, value in entries.items():
        output[key] = value
    return output


FORMS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "tensor": lambda logits, hidden: logits,
    "tuple": lambda logits, hidden: (logits, hidden),
    "named tuple": Pair,
    "dict": lambda logits, hidden: {"logits": logits, "hidden": hidden},
    "ordered dict": lambda logits, hidden: OrderedDict(logits=logits, hidden=hidden),
    "nested": lambda logits, hidden: OrderedDict(more=OrderedDict(h=hidden), logits=logits),
    "model output": lambda logits, hidden: like_model_output(logits=logits, hidden=(hidden,)),
    "object": Plain,
}


class Net(nn.Module):
    """Two layers, and an output of some form."""

    def __init__(self, form: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.first, self.last, self.form = nn.Linear(4, 12), nn.Linear(12, 3), form

    def forward(self, x: Tensor) -> Any:
        hidden = self.first(x).relu()
        return self.form(self.last(hidden), hidden)


def hooked_margins(study: mv.Study, unit: int) -> Tensor:
    """Margins with one unit at zero, by a hook on the last layer's input."""

    def ablated(_module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        keep = torch.ones(12)
        keep[unit] = 0
        return (args[0] * keep,)

    handle = study.model.last.register_forward_pre_hook(ablated)
    try:
        with torch.no_grad():
            outputs = study.task.outputs(study.model(study.inputs))
    finally:
        handle.remove()
    return study.task.margin(outputs, study.labels)


@pytest.mark.parametrize("n", [9, 2])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("order", ["up", "down"])
def test_each_unit_is_that_of_a_plain_hook(form: str, n: int, order: str) -> None:
    torch.manual_seed(1)
    net, inputs = Net(FORMS[form]).eval(), torch.randn(n, 4)
    # A bare tuple of two tables says nothing about which of them holds the logits.
    task = mv.Classification(outputs=0 if form == "tuple" else None)
    study = mv.Study(net, inputs, torch.arange(n) % 3, {"test": range(n)}, task=task)
    before = hooked_margins(study, 0)
    units = range(12) if order == "up" else range(11, -1, -1)
    effects = mv.sweep(study, mv.UnitSet({"first": units}), progress=False)
    assert effects.engine == "graph"
    for row, unit in enumerate(effects.units):
        margins = effects.margin + effects.margin_change[row]
        assert torch.allclose(margins, hooked_margins(study, unit.index), atol=1e-5)
    assert torch.equal(before, hooked_margins(study, 0))  # the model is as it was
