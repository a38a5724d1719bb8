"""locate(): every layer with units that a traced forward pass reaches."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from .._trace import Trace
from ._declared import declared_layers
from ._flow import Flow
from ._heads import head_layers
from ._neurons import expert_layers, gated_layers
from ._recurrent import recurrent_layers
from ._site import Located
from ._weights import weight_layers


def locate(model: nn.Module, trace: Trace) -> dict[str, Located]:
    """Every layer with units that the traced forward pass reaches, in that order.

    Examples
    --------
    >>> import torch
    >>> from memviz.engine.record import trace
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    >>> inputs = torch.zeros(2, 4)
    >>> located = locate(model, trace(model, lambda: model(inputs)))
    >>> [(name, place.layer.site) for name, place in located.items()]
    [('0', 'linear > relu'), ('2', 'linear')]
    """
    flow = Flow(model, trace)
    by_name, _ = weight_layers(flow)
    for layers in (head_layers(flow), gated_layers(flow)):
        for name, place in layers.items():
            if name not in by_name:
                by_name[name] = replace(place, layer=replace(place.layer, name=name))
    by_name |= {**recurrent_layers(flow), **expert_layers(flow)}
    by_name |= declared_layers(flow, by_name.values())

    def order(item: tuple[str, Located]) -> tuple[int, int]:
        first = item[1].unit_sites[0]
        return first.call, first.argument

    return dict(sorted(by_name.items(), key=order))
