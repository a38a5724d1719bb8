"""The sixteen gates, their four coefficients, and a layer's mixtures of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from memviz.units import DeclaredUnits

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
# What may stand in for a gate in a circuit of bits.
INTERVENTIONS = ("zero", "constant 1", "input a", "input b", "negation")


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

    @property
    def declared_units(self) -> DeclaredUnits:
        """A gate is a unit; along several axes they are counted as if they were one."""
        axes = tuple(range(1, self.logits.dim()))
        count = self.logits.shape[:-1].numel()
        return DeclaredUnits(
            count, axes, kind="gates", interventions=INTERVENTIONS, live=live_gates
        )

    def chosen(self) -> Tensor:
        """The most probable gate of each, int64 ``[*shape]``; of equal ones the first."""
        return self.logits.argmax(-1)

    def reads(self, same: Tensor | None = None) -> Tensor:
        """Whether the chosen gates depend on each input, bool ``[2, *shape]``.

        ``same``, bool ``[*shape]``, says where both inputs are one.
        """
        truth = TRUTH.bool().to(self.logits.device)[self.chosen()]
        first, second, third, fourth = truth.unbind(-1)
        reads = torch.stack(
            [(first ^ third) | (second ^ fourth), (first ^ second) | (third ^ fourth)]
        )
        return reads if same is None else torch.where(same, first ^ fourth, reads)

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
        if self.training:
            output: Tensor = _Polynomial.apply(a, b, four)  # type: ignore[no-untyped-call]
            return output
        c, ca, cb, cab = _along(four, a)
        return c + ca * a + b * (cb + cab * a)


def live_gates(model: nn.Module) -> dict[str, Tensor]:
    """The gates of a hard network that something reads, by layer.

    Back from the votes, through the inputs that each gate really uses: a gate "A" reads nothing of
    its second input, and "A xor B" nothing at all where both are one wire. A gate of a tree is live
    if it is read at any place. Whatever replaces a dead gate, no vote changes; a live one may still
    change none, where a circuit says the same in two ways. All gates count as live before a layer
    that is not known, and in a model that is no ``nn.Sequential``.

    Parameters
    ----------
    model : nn.Module
        In evaluation mode.

    Returns
    -------
    dict of str to bool ``[units]``
        By the name of the layer, such as ``"2.gates"``, in the order of its units.

    Raises
    ------
    ValueError
        If gates of the model are in training mode, or it has none.

    Examples
    --------
    >>> from memviz.models.logic_gates import logic_dense_net
    >>> model = logic_dense_net(4, [8, 6], 3).eval()
    >>> {name: int(live.sum()) for name, live in live_gates(model).items()}
    {'2.gates': 5, '3.gates': 6}
    """
    names = {module: name for name, module in model.named_modules() if isinstance(module, Gates)}
    if not names:
        raise ValueError(f"{type(model).__name__} has no gates; give a logic gate network.")
    check_hard(model)
    found: dict[nn.Module, Tensor] = {}
    read: Tensor | None = None  # which outputs of a layer are read; None for all
    for layer in reversed(list(_in_order(model))):
        walk = getattr(layer, "walk_back", None)
        if walk is not None:
            live, read = walk(read)
            for gates, known in live.items():
                found[gates] = found[gates] | known if gates in found else known
        elif not isinstance(layer, nn.Flatten | nn.MaxPool2d):
            read = None
    return {
        name: found.get(gates, torch.ones(gates.logits.shape[:-1], dtype=torch.bool)).flatten()
        for gates, name in names.items()
    }


def check_hard(model: nn.Module) -> None:
    """Refuse a network some gates of which are mixtures.

    Raises
    ------
    ValueError
        Naming the layer.
    """
    for name, module in model.named_modules():
        if isinstance(module, Gates) and module.training:
            raise ValueError(
                f"the gates of layer {name!r} are in training mode, in which each is a mixture "
                "of all sixteen; call model.eval()."
            )


def _in_order(model: nn.Module) -> Iterator[nn.Module]:
    """The layers of a sequence, and of sequences inside it."""
    if not isinstance(model, nn.Sequential) or type(model).forward is not nn.Sequential.forward:
        yield model
        return
    for layer in model:
        yield from _in_order(layer)


class _Polynomial(torch.autograd.Function):
    """The gates' bilinear form; with its derivatives written out it takes half the time."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, four: Tensor) -> Tensor:
        ctx.save_for_backward(a, b, four)
        c, ca, cb, cab = _along(four, a)
        return (cab * a).add_(cb).mul_(b).add_(ca * a).add_(c)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        a, b, four = ctx.saved_tensors
        _, ca, cb, cab = _along(four, a)
        # All axes but the gates' own.
        over = [0, *range(four.dim(), a.dim())]
        product = g * a
        sums = [g.sum(over), product.sum(over), (g * b).sum(over), product.mul_(b).sum(over)]
        return (cab * b).add_(ca).mul_(g), (cab * a).add_(cb).mul_(g), torch.stack(sums, -1)


def _along(four: Tensor, values: Tensor) -> tuple[Tensor, ...]:
    """The coefficients of ``[*shape, 4]``, each broadcast to values ``[n, *shape, ...]``."""
    more = (1,) * (values.dim() - four.dim())
    return tuple(part.reshape(*part.shape, *more) for part in four.unbind(-1))
