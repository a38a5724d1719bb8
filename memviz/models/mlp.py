"""A multi-layer perceptron of any widths."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


class MLP(nn.Module):
    """Linear layers with a ReLU after each but the last.

    The layers to ablate are ``fc1``, ``fc2`` and so on, each followed by its own ``relu`` module;
    ``head`` gives the logits.

    Parameters
    ----------
    widths : input features, units of each hidden layer, number of logits.
    seed : fixes the initial weights without the global generator; None draws from it.

    Raises
    ------
    ValueError : there is no hidden layer, or a width is not positive.

    Examples
    --------
    >>> model = MLP((784, 512, 512, 10), seed=0)
    >>> model(torch.zeros(5, 1, 28, 28)).shape
    torch.Size([5, 10])
    """

    def __init__(self, widths: Sequence[int], seed: int | None = None) -> None:
        super().__init__()
        if len(widths) < 3 or min(widths) < 1:
            raise ValueError(
                "MLP takes the input features, the units of at least one hidden layer and the "
                f"number of logits, all positive, but got widths={tuple(widths)}."
            )
        # fork_rng puts the global generator back, so building a model changes no other draw.
        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.default_generator.manual_seed(seed)
            self.flatten = nn.Flatten()
            for layer, (before, units) in enumerate(pairwise(widths[:-1]), 1):
                self.add_module(f"fc{layer}", nn.Linear(before, units))
                self.add_module(f"relu{layer}", nn.ReLU())
            self.head = nn.Linear(widths[-2], widths[-1])

    def forward(self, x: Tensor) -> Tensor:
        """Inputs ``[n, ...]``, flattened to the first width, to logits ``[n, classes]``."""
        for module in self.children():
            x = module(x)
        return x
