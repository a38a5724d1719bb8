"""The sixteen gates, their four coefficients, and a layer's mixtures of them."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

Init = Literal["residual", "gaussian"]

# A gate's number is its truth table read as bits: its outputs for (0, 0), (0, 1), (1, 0), (1, 1).
GATES = (
    "False",
    "A and B",
    "A and not B",
    "A",
    "not A and B",
    "B",
    "A xor B",
    "A or B",
    "A nor B",
    "A xnor B",
    "not B",
    "B implies A",
    "not A",
    "A implies B",
    "A nand B",
    "True",
)
TRUTH = torch.tensor([[number >> bit & 1 for bit in (3, 2, 1, 0)] for number in range(16)])
# g(a, b) = c + ca·a + cb·b + cab·a·b: the expectation under independent Bernoulli inputs.
COEFFICIENTS = torch.stack(
    [
        TRUTH[:, 0],
        TRUTH[:, 2] - TRUTH[:, 0],
        TRUTH[:, 1] - TRUTH[:, 0],
        TRUTH[:, 0] - TRUTH[:, 1] - TRUTH[:, 2] + TRUTH[:, 3],
    ],
    1,
)
_PASS_A = 3
_RESIDUAL = 5.0  # softmax gives gate A a share of .908


class Gates(nn.Module):
    """A layer of gates: in training each is a mixture of all sixteen, in evaluation one of them.

    Parameters
    ----------
    *shape : int
        How many gates, along one axis or more.
    init : {"residual", "gaussian"}
        Logits of 5 for gate A, which passes its first input on, and 0 for the others (Petersen et
        al. 2024, residual initialization); or standard normal ones (Petersen et al. 2022).
    generator : torch.Generator, optional
        What the normal logits are drawn from.

    Attributes
    ----------
    logits : nn.Parameter ``[*shape, 16]``

    Examples
    --------
    >>> gates = Gates(2)
    >>> gates.logits.softmax(-1)[0, 3].item()  # doctest: +ELLIPSIS
    0.908...
    >>> _ = gates.eval()
    >>> [GATES[number] for number in gates.chosen()]
    ['A', 'A']
    """

    coefficients_of_gates: Tensor

    def __init__(
        self, *shape: int, init: Init = "residual", generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        if init == "residual":
            logits = torch.zeros(*shape, 16)
            logits[..., _PASS_A] = _RESIDUAL
        elif init == "gaussian":
            logits = torch.randn(*shape, 16, generator=generator)
        else:
            raise ValueError(f'init is {init!r}; give "residual" or "gaussian".')
        self.logits = nn.Parameter(logits)
        self.register_buffer("coefficients_of_gates", COEFFICIENTS.float(), persistent=False)

    def chosen(self) -> Tensor:
        """The most probable gate of each, int64 ``[*shape]``; of equal ones the first."""
        return self.logits.argmax(-1)

    def coefficients(self) -> Tensor:
        """``[*shape, 4]``: of the mixtures in training, of the chosen gates in evaluation."""
        table = self.coefficients_of_gates
        if self.training:
            # The gates are linear in their coefficients, so that mixing these mixes the gates.
            return self.logits.softmax(-1) @ table
        return table[self.chosen()]

    def forward(self, a: Tensor, b: Tensor, coefficients: Tensor | None = None) -> Tensor:
        """Each gate's value of two inputs ``[n, *shape, ...]``, of the same shape."""
        four = self.coefficients() if coefficients is None else coefficients
        more = (1,) * (a.dim() - four.dim())
        c, ca, cb, cab = (part.view(*part.shape, *more) for part in four.unbind(-1))
        return c + ca * a + b * (cb + cab * a)
