"""Hard networks as small tables: the numbers of their gates, and their wires."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from memviz.models.logic_gates import DenseGates, Gates, TreeConv

_CHOSEN = 5.0  # the logit of the chosen gate, as in residual initialization; all others are 0


def numbers(model: nn.Module) -> dict[str, Tensor]:
    """The number of each chosen gate, two of them in a uint8, by the name of its layer."""
    return {
        name: _in_pairs(layer.chosen().flatten().to(torch.uint8))
        for name, layer in model.named_modules()
        if isinstance(layer, Gates)
    }


def _in_pairs(chosen: Tensor) -> Tensor:
    first, second = chosen[::2], chosen[1::2]
    pairs = first * 16
    pairs[: len(second)] += second
    return pairs


def wires(model: nn.Module) -> dict[str, Tensor]:
    """What each gate or leaf reads, int16, by the name of the buffer."""
    found = {}
    for name, layer in model.named_modules():
        if isinstance(layer, DenseGates):
            found[f"{name}.wires"] = layer.wires.to(torch.int16)
        elif isinstance(layer, TreeConv):
            found[f"{name}.leaves"] = layer.leaves.to(torch.int16)
    return found


def state(
    model: nn.Module, gates: Mapping[str, Tensor], wired: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """A state of the model in which these gates are chosen, with these wires.

    Examples
    --------
    >>> from memviz.models.logic_gates import logic_dense_net
    >>> model = logic_dense_net(4, [8, 6], 3, init="gaussian").eval()
    >>> model.load_state_dict(state(model, numbers(model), wires(model)))
    <All keys matched successfully>
    """
    logits = {}
    for name, pairs in gates.items():
        shape = model.get_parameter(f"{name}.logits").shape
        chosen = torch.stack([pairs // 16, pairs % 16], -1).flatten()[: shape[:-1].numel()]
        logits[f"{name}.logits"] = one_hot(chosen.long(), 16).float().view(shape) * _CHOSEN
    buffers = {name: places.long() for name, places in wired.items()}
    return {**model.state_dict(), **logits, **buffers}
