"""Example-tied dropout: each example memorizes in channels of its own, which are then dropped.

Maini et al. (2023), section 6.2. The mask of an example is a hash of its index, so nothing is
kept for it and no generator is touched. (The released code seeds the global generator by the
index, which also resets the shuffling, and keeps every mask.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ._hashed import uniform

Mode = Literal["own", "scaled", "dropped"]
Compensation = Literal["none", "expected", "released"]
_MODES = ("own", "scaled", "dropped")
_COMPENSATIONS = ("none", "expected", "released")
CHILD = "example_tied_dropout"
_UNFORGOTTEN = "_example_ids_unforgotten"


class ExampleTiedDropout(nn.Module):
    """Channels for all examples, and channels that an example keeps for itself.

    The first ``floor(generalization * channels)`` channels pass for all examples. Each of the
    others, the memorization channels, passes for an example with probability ``memorization``:
    drawn once for each (seed, layer, example, channel), the same in every epoch and at every
    position, and not rescaled. In training the mask is always the example's own; in evaluation
    ``mode`` chooses. Who comes is told by :func:`example_ids`.

    Parameters
    ----------
    channels : int, or None to take as many as there are.
    generalization, memorization : shares from 0 to 1.
    seed, layer : int
        Together they name the masks. Give each layer its own number: layers with the same one
        share their masks, as in the released code, and make a path through the network.
    axis : of the channels; 1 for ``[n, channels, ...]``, -1 for tokens ``[n, tokens, channels]``.
    mode : in evaluation
        ``"own"``: the example's mask, as in training. ``"scaled"``: memorization channels times
        ``memorization``, their mean in training. ``"dropped"``: memorization channels zero.
    compensation : what generalization channels are multiplied by in mode ``"dropped"``
        ``"none"``: 1. ``"expected"``: the channels that pass in training, on average, over those
        that pass now, ``(G + memorization * M) / G`` for G and M channels. ``"released"``:
        ``(generalization + memorization) / generalization`` as in the released code, which is
        not that ratio.

    Raises
    ------
    ValueError : a share outside 0 to 1, an unknown mode, no or too few ids, other channels.

    Examples
    --------
    >>> dropout = ExampleTiedDropout(10, layer=0).eval()
    >>> dropout(torch.ones(1, 10)).sum()
    tensor(2.)
    >>> dropout.mode = "own"
    >>> with example_ids(dropout, torch.tensor([7])):
    ...     dropout(torch.ones(1, 10)).shape
    torch.Size([1, 10])
    """

    def __init__(
        self,
        channels: int | None = None,
        generalization: float = 0.2,
        memorization: float = 0.1,
        *,
        layer: int,
        seed: int = 0,
        axis: int = 1,
        mode: Mode = "dropped",
        compensation: Compensation = "none",
    ) -> None:
        super().__init__()
        if not 0 <= generalization <= 1 or not 0 <= memorization <= 1:
            raise ValueError(
                f"generalization and memorization are shares from 0 to 1, but got "
                f"{generalization} and {memorization}."
            )
        self.channels, self.axis = channels, axis
        self.generalization, self.memorization = generalization, memorization
        self.seed, self.layer = seed, layer
        self.mode, self.compensation = mode, compensation
        self.ids: Tensor | None = None  # set by the context example_ids
        self.call_ids: Tensor | None = None  # set by the argument example_ids of one call
        _check_choice("mode", mode, _MODES)
        _check_choice("compensation", compensation, _COMPENSATIONS)

    def forward(self, x: Tensor) -> Tensor:
        """Activations to those that pass, the same shape."""
        channels = x.shape[self.axis]
        if self.channels is not None and channels != self.channels:
            raise ValueError(
                f"axis {self.axis} of the activations has {channels} channels, not "
                f"{self.channels}; give the number of channels, or the axis they lie on."
            )
        mask = self._mask(x, self._general(channels))
        shape = [1] * x.dim()
        shape[self.axis] = channels
        if mask.dim() == 2:
            shape[0] = len(mask)
        return x * mask.view(shape).to(x.dtype)

    def _mask(self, x: Tensor, general: int) -> Tensor:
        """Factors ``[channels]``, or ``[n, channels]`` where examples differ."""
        channels = x.shape[self.axis]
        mode = "own" if self.training else self.mode
        _check_choice("mode", mode, _MODES)
        if mode == "own":
            return self.own_masks(self._ids(len(x)).to(x.device), channels)
        mask = torch.zeros(channels, device=x.device)
        mask[:general] = 1 if mode == "scaled" else self._factor(channels, general)
        if mode == "scaled":
            mask[general:] = self.memorization
        return mask

    def own_masks(self, ids: Tensor, channels: int) -> Tensor:
        """The channels that pass for each of these examples, bool ``[n, channels]``."""
        names = torch.arange(channels, device=ids.device)
        passes = uniform(self.seed, self.layer, ids.long()[:, None], names) < self.memorization
        return passes | (names < self._general(channels))

    def _general(self, channels: int) -> int:
        # A hair more, since 0.29 * 100 is a hair less than 29.
        return math.floor(self.generalization * channels + 1e-9)

    def _ids(self, examples: int) -> Tensor:
        ids = self.ids if self.call_ids is None else self.call_ids
        if ids is None:
            raise ValueError(
                "example-tied dropout does not know which examples these are; run the model "
                "inside `with example_ids(model, ids):`, or in evaluation choose another mode."
            )
        if ids.shape != (examples,):
            raise ValueError(
                f"example_ids was given {ids.numel()} ids for a batch of {examples} examples; "
                "give the dataset's index of each."
            )
        return ids

    def _factor(self, channels: int, general: int) -> float:
        if self.compensation == "none" or general == 0:
            return 1.0
        if self.compensation == "released":
            return (self.generalization + self.memorization) / self.generalization
        return (general + self.memorization * (channels - general)) / general

    def extra_repr(self) -> str:
        """What ``repr`` says of it."""
        return (
            f"generalization={self.generalization}, memorization={self.memorization}, "
            f"layer={self.layer}, seed={self.seed}, mode={self.mode!r}"
        )


class _Told:
    """Ids told to dropouts, then taken back; twice does no harm, where an interrupt missed once."""

    def __init__(self, dropouts: list[ExampleTiedDropout], ids: Tensor) -> None:
        self._ids, self._before = ids, [(dropout, dropout.ids) for dropout in dropouts]

    def __enter__(self) -> None:
        try:
            for dropout, _ in self._before:
                dropout.ids = self._ids
        except BaseException:
            self.__exit__()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        where: TracebackType | None = None,
    ) -> None:
        for dropout, ids in self._before:
            dropout.ids = ids


def example_ids(model: nn.Module, ids: Tensor) -> _Told:
    """Tell every example-tied dropout of a model which examples the next calls are about.

    Parameters
    ----------
    ids : integers ``[n]``, the dataset's indices of the examples of each call.

    Examples
    --------
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 10), ExampleTiedDropout(layer=0))
    >>> with example_ids(model, torch.tensor([3, 8])):
    ...     model(torch.ones(2, 2)).shape
    torch.Size([2, 10])
    """
    return _Told(_dropouts(model), torch.as_tensor(ids))


def ids_put_back(model: nn.Module) -> Callable[[], None]:
    """A function that puts all ids back as they are now, after a call that was interrupted."""
    before = [(dropout, dropout.ids, dropout.call_ids) for dropout in _dropouts(model)]

    def put_back() -> None:
        for dropout, ids, call_ids in before:
            dropout.ids, dropout.call_ids = ids, call_ids

    return put_back


def insert_example_tied_dropout(
    model: nn.Module,
    layers: Sequence[str],
    generalization: float = 0.2,
    memorization: float = 0.1,
    *,
    seed: int = 0,
    axis: int = 1,
) -> nn.Module:
    """Put example-tied dropout behind named modules of a model, in place; gives the model.

    Name the last module of each layer: its non-linearity, where it has one of its own. The
    dropout becomes a child of that module and acts on what it gives, so all names and the keys of
    ``state_dict`` stay as they are. The k-th of ``layers`` gets masks of layer number k. The model
    then also takes ``example_ids=`` as an argument, for studies whose inputs bring their ids.

    Raises
    ------
    ValueError : no layers, a module that the model has not, or one that has a dropout already.

    Examples
    --------
    >>> model = insert_example_tied_dropout(
    ...     torch.nn.Sequential(torch.nn.Linear(2, 10), torch.nn.ReLU()), ["1"]
    ... )
    >>> model(torch.ones(2, 2), example_ids=torch.tensor([3, 8])).shape
    torch.Size([2, 10])
    """
    modules = dict(model.named_modules())
    for name in layers:
        if name not in modules or name == "":
            known = ", ".join(repr(name) for name in modules if name)
            raise ValueError(f"the model has no module {name!r}; choose from {known}.")
        if hasattr(modules[name], CHILD):
            raise ValueError(f"module {name!r} has an example-tied dropout already.")
    if not layers:
        raise ValueError("layers is empty; name the modules to put example-tied dropout behind.")
    for number, name in enumerate(layers):
        dropout = ExampleTiedDropout(None, generalization, memorization, layer=number, seed=seed)
        dropout.axis = axis
        dropout.train(modules[name].training)
        modules[name].add_module(CHILD, dropout)
        if not isinstance(modules[name], nn.Sequential):  # a Sequential calls its children itself
            modules[name].register_forward_hook(_drop_output)
    model.register_forward_pre_hook(_take_ids, with_kwargs=True)
    model.register_forward_hook(_forget_ids, always_call=True)
    return model


def set_mode(model: nn.Module, mode: Mode) -> None:
    """Choose what every example-tied dropout of a model does in evaluation.

    Raises
    ------
    ValueError : an unknown mode, or a model without example-tied dropout.
    """
    _check_choice("mode", mode, _MODES)
    found = _dropouts(model)
    if not found:
        raise ValueError("the model has no example-tied dropout; insert it first.")
    for module in found:
        module.mode = mode


def _drop_output(module: nn.Module, inputs: Any, output: Tensor) -> Any:
    return getattr(module, CHILD)(output)


def _take_ids(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
    if "example_ids" not in kwargs:
        if getattr(module, _UNFORGOTTEN, False):  # an interrupted call left its ids
            _forget_ids(module, args, None)
        return None
    setattr(module, _UNFORGOTTEN, True)
    for dropout in _dropouts(module):
        dropout.call_ids = torch.as_tensor(kwargs["example_ids"])
    return args, {key: value for key, value in kwargs.items() if key != "example_ids"}


def _forget_ids(module: nn.Module, inputs: Any, output: Any) -> None:
    for dropout in _dropouts(module):
        dropout.call_ids = None
    setattr(module, _UNFORGOTTEN, False)


def _dropouts(model: nn.Module) -> list[ExampleTiedDropout]:
    return [module for module in model.modules() if isinstance(module, ExampleTiedDropout)]


def _check_choice(name: str, given: str, allowed: Sequence[str]) -> None:
    if given not in allowed:
        words = ", ".join(repr(choice) for choice in allowed)
        raise ValueError(f"{name} is {given!r}; choose from {words}.")
