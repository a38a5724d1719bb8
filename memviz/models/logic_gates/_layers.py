"""Layers of logic gate networks: thresholds, dense gates, trees of gates, sums of groups."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memviz.checks import quoted

from ._gates import Gates, Init
from ._patterns import has_few_patterns, trees_by_pattern
from ._trees import trees_of_gates


class Thresholds(nn.Module):
    """Bits of real inputs: whether each is above each threshold.

    Parameters
    ----------
    thresholds : sequence of float
        In ascending order; chosen on training data alone.

    Raises
    ------
    ValueError
        If there is none, or they do not ascend.

    Examples
    --------
    >>> Thresholds([0.25, 0.5])(torch.tensor([[0.3, 0.9]]))
    tensor([[1., 0., 1., 1.]])
    """

    levels: Tensor

    def __init__(self, thresholds: Sequence[float]) -> None:
        super().__init__()
        levels = torch.as_tensor(list(thresholds), dtype=torch.float32)
        if levels.dim() != 1 or not len(levels) or not (levels.diff() > 0).all():
            raise ValueError(
                f"thresholds is {quoted(list(thresholds))}; give at least one, in ascending order."
            )
        self.register_buffer("levels", levels)

    def forward(self, x: Tensor) -> Tensor:
        """``[n, features · thresholds, ...]``: the thresholds of one feature stand together."""
        levels = self.levels.view(1, 1, -1, *(1,) * (x.dim() - 2))
        return (x.unsqueeze(2) > levels).flatten(1, 2).to(x.dtype)


def bits_of(layers: Sequence[nn.Module], inputs: Tensor) -> Tensor:
    """What gates read behind these layers, on the CPU; inputs may be elsewhere than the layers."""
    with torch.no_grad():
        for layer in layers:
            if isinstance(layer, Thresholds):
                inputs = inputs.to(layer.levels.device)
            inputs = layer(inputs)
    return inputs.cpu()


class DenseGates(nn.Module):
    """Gates that each read two of the inputs, drawn once (Petersen et al. 2022).

    A random order of twice as many wires as gates is laid over a random order of the inputs, so
    that every input is read about equally often.

    Parameters
    ----------
    inputs, gates : int
        Twice the gates must be at least the inputs.
    init : {"residual", "gaussian"}
    seed : int

    Attributes
    ----------
    wires : int64 ``[2, gates]``
        Which inputs each gate reads; stored with the weights.
    gates : Gates

    Raises
    ------
    ValueError
        If an input would be read by no gate.

    Examples
    --------
    >>> layer = DenseGates(4, 3)
    >>> layer(torch.rand(5, 4)).shape
    torch.Size([5, 3])
    """

    wires: Tensor

    def __init__(self, inputs: int, gates: int, *, init: Init = "residual", seed: int = 0) -> None:
        super().__init__()
        if inputs < 2 or 2 * gates < inputs:
            raise ValueError(
                f"{gates:,} gates of two wires can't read {inputs:,} inputs; give at least 2 "
                "inputs and half as many gates as inputs."
            )
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(2 * gates, generator=generator) % inputs
        order = torch.randperm(inputs, generator=generator)[order]
        self.inputs = inputs
        self.register_buffer("wires", order.view(2, gates))
        self.gates = Gates(gates, init=init, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        """``[n, gates]`` of inputs ``[n, inputs]``."""
        first, second = self.wires
        if self.training:
            # Several times as fast as an index, above all in its backward pass.
            a, b = x.index_select(1, first), x.index_select(1, second)
        else:
            a, b = x[:, first], x[:, second]
        output: Tensor = self.gates(a, b)
        return output

    def walk_back(self, read: Tensor | None) -> tuple[dict[nn.Module, Tensor], Tensor]:
        """Of the outputs that are read, None for all: which gates that makes live, which inputs."""
        wires = self.wires.cpu()
        known = read is not None and len(read) == wires.shape[1]
        live = read if known else None
        live = torch.ones(wires.shape[1], dtype=torch.bool) if live is None else live
        used = self.gates.reads(self.wires[0] == self.wires[1]).cpu() & live
        inputs = torch.zeros(self.inputs, dtype=torch.bool)
        inputs[wires[used]] = True
        return {self.gates: live}, inputs


class TreeConv(nn.Module):
    """Kernels that are binary trees of gates over a window (Petersen et al. 2024, section 3).

    The leaves of a tree read inputs of the window that are drawn once; its gates are the same at
    every place. All leaves of one tree read two channels only, unless told otherwise, and kernels
    are split into groups that read a group of channels each.

    Parameters
    ----------
    channels, kernels : int
    window : int
        Side of the window.
    depth : int
        Of the tree: ``2 ** depth`` leaves and ``2 ** depth - 1`` gates.
    padding : int
        Zeros around the image.
    groups : int
        Groups of channels; must divide both channels and kernels.
    tree_channels : int, optional
        How many channels one tree reads at most; None for all of its group.
    init : {"residual", "gaussian"}
    seed : int

    Attributes
    ----------
    leaves : int64 ``[kernels, 2 ** depth]``
        Place of each leaf in the window, ``(channel · window + row) · window + column``; stored
        with the weights.
    trees : nn.ModuleList of Gates
        The gates of each level, leaves first.

    Raises
    ------
    ValueError
        If the groups don't divide channels and kernels, or a tree shall read no channel.

    Examples
    --------
    >>> layer = TreeConv(2, 8, window=3, depth=3, padding=1)
    >>> layer(torch.rand(1, 2, 6, 6)).shape
    torch.Size([1, 8, 6, 6])
    """

    leaves: Tensor

    def __init__(
        self,
        channels: int,
        kernels: int,
        *,
        window: int = 3,
        depth: int = 3,
        padding: int = 0,
        groups: int = 1,
        tree_channels: int | None = 2,
        init: Init = "residual",
        seed: int = 0,
    ) -> None:
        super().__init__()
        if tree_channels is not None and tree_channels < 1:
            raise ValueError(
                f"tree_channels is {tree_channels}; give a number from 1 up, or None for all "
                "channels of a group."
            )
        if channels % groups or kernels % groups:
            raise ValueError(
                f"{groups} groups don't divide {channels} channels and {kernels} kernels; give a "
                "number that divides both."
            )
        self.channels, self.window, self.depth, self.padding = channels, window, depth, padding
        generator = torch.Generator().manual_seed(seed)
        self.register_buffer(
            "leaves",
            _drawn_leaves(channels, kernels, window, 2**depth, groups, tree_channels, generator),
        )
        self.trees = nn.ModuleList(
            Gates(kernels, 2**level, init=init, generator=generator)
            for level in reversed(range(depth))
        )

    def forward(self, x: Tensor) -> Tensor:
        """``[n, kernels, rows, columns]`` of inputs ``[n, channels, height, width]``."""
        # The same values in a third of the time or less; but the levels' modules are not called.
        if not _watched(self.trees):
            tables = [gates.coefficients() for gates in self.trees if isinstance(gates, Gates)]
            few = self.training and has_few_patterns(x, self.leaves, self.window, self.padding)
            trees = trees_by_pattern if few else trees_of_gates
            return trees(x, self.leaves, tables, self.window, self.padding)
        rows, columns = (size + 2 * self.padding - self.window + 1 for size in x.shape[2:])
        places = F.unfold(x, self.window, padding=self.padding)
        values = places[:, self.leaves]  # [n, kernels, leaves, rows · columns]
        for gates in self.trees:
            values = gates(values[:, :, 0::2], values[:, :, 1::2])
        return values.view(len(x), len(self.leaves), rows, columns)

    def walk_back(self, read: Tensor | None) -> tuple[dict[nn.Module, Tensor], Tensor]:
        """Of the outputs that are read, None for all: which gates that makes live, which channels.

        ``read`` is by channel or by channel and place, ``[kernels · places]``.
        """
        kernels = len(self.leaves)
        known = read is not None and len(read) % kernels == 0
        live = read.view(kernels, -1).any(1) if read is not None and known else None
        live = torch.ones(kernels, dtype=torch.bool) if live is None else live
        live, found = live[:, None], dict[nn.Module, Tensor]()
        for gates in reversed(self.trees):
            assert isinstance(gates, Gates)
            found[gates] = live
            pairs = self.leaves.view(kernels, -1, 2)
            same = pairs[..., 0] == pairs[..., 1] if gates is self.trees[0] else None
            used = gates.reads(same).cpu() & live
            live = torch.stack([*used], -1).flatten(1)
        channels = torch.zeros(self.channels, dtype=torch.bool)
        channels[(self.leaves.cpu() // self.window**2)[live]] = True
        return found, channels


def _watched(levels: nn.ModuleList) -> bool:
    """Whether anybody asks for the output of a level, or changes it, or records what is called."""
    hooked = any(gates._forward_hooks or gates._forward_pre_hooks for gates in levels)
    return hooked or torch._C._len_torch_function_stack() > 0


def _drawn_leaves(
    channels: int,
    kernels: int,
    window: int,
    leaves: int,
    groups: int,
    tree_channels: int | None,
    generator: torch.Generator,
) -> Tensor:
    """Channels for each kernel, of its own group, then one of these and a place for each leaf."""
    each, within = kernels // groups, channels // groups
    own = torch.rand(kernels, within, generator=generator).argsort(1)[:, :tree_channels]
    own = own + (torch.arange(kernels) // each * within)[:, None]
    which = torch.randint(own.shape[1], (kernels, leaves), generator=generator)
    place = torch.randint(window * window, (kernels, leaves), generator=generator)
    return own.gather(1, which) * window * window + place


class GroupSum(nn.Module):
    """The gates' votes, summed class by class: contiguous groups of equal size, over ``tau``.

    In a hard network a logit is a whole number of votes over tau, and so is a margin; ``votes``
    gives the number back.

    Parameters
    ----------
    classes : int
    tau : float

    Examples
    --------
    >>> GroupSum(2, tau=2.0)(torch.tensor([[1.0, 1.0, 1.0, 0.0]]))
    tensor([[1.0000, 0.5000]])
    """

    def __init__(self, classes: int, tau: float) -> None:
        super().__init__()
        if classes < 2 or not tau > 0:
            raise ValueError(
                f"{classes} classes and tau {tau}; give at least 2 classes and tau above 0."
            )
        self.classes, self.tau = classes, tau

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[n, classes]`` of votes ``[n, gates]``."""
        if x.shape[1] % self.classes:
            raise ValueError(
                f"{x.shape[1]:,} gates can't vote in {self.classes} groups of equal size; give a "
                "last layer that the number of classes divides."
            )
        votes: Tensor = x.unflatten(1, (self.classes, -1)).sum(2)
        return votes / self.tau

    def votes(self, logits: Tensor) -> Tensor:
        """Votes of a hard network's logits, or of their differences, such as margins: int64.

        Examples
        --------
        >>> GroupSum(2, tau=3.0).votes(torch.tensor([11 / 3, -7 / 3]))
        tensor([11, -7])
        """
        return (logits.double() * self.tau).round().long()
