"""A study whose memorizing units are known."""

from __future__ import annotations

import torch
from torch import nn

import memviz as mv


def planted() -> mv.Study:
    """Two memorized examples with a unit each, and six clean ones that share a unit a class.

    Inputs are one-hot. Units 0 and 1 fire for examples 0 and 1 alone and outvote the class units 2
    and 3, which fire for even and for odd examples. Unit 4 is dead, 5 always fires in vain.
    """
    layer, head = nn.Linear(8, 6, bias=False), nn.Linear(6, 2, bias=False)
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[0, 0] = layer.weight[1, 1] = 1
        layer.weight[2, 0::2] = layer.weight[3, 1::2] = 1
        layer.weight[5] = 1
        head.weight.zero_()
        head.weight[1, 0] = head.weight[0, 1] = 3
        head.weight[0, 2] = head.weight[1, 3] = 1
    model = nn.Sequential(layer, nn.ReLU(), head).eval()
    labels = torch.tensor([1, 0, 0, 1, 0, 1, 0, 1])
    return mv.Study(model, torch.eye(8), labels, {"memorized": [0, 1], "clean": range(2, 8)})
