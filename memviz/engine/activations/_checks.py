"""What makes activations of one example wrong: a random forward pass, and the rest of its batch."""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from memviz.tasks.task import Inputs

Key = TypeVar("Key", bound=Hashable)

_REPEATED = 1e-5  # of the largest activation: a GPU may add in another order
_BATCHED = 1e-3  # of a layer's largest activation: another batch size rounds differently
_COMPARED = 16  # examples among which two of different inputs are looked for


def differing(first: Mapping[Key, Tensor], second: Mapping[Key, Tensor]) -> set[Key]:
    """Where the activations of an example are not the same in two batches.

    Examples
    --------
    >>> differing({"a": torch.ones(2), "b": torch.ones(2)}, {"a": torch.ones(2), "b": torch.eye(2)})
    {'b'}
    """
    return {key for key in first if _differ(first[key], second[key], _BATCHED)}


def check_repeats(read: Callable[[], Mapping[Key, Tensor]], *, draws: bool) -> Mapping[Key, Tensor]:
    """What a forward pass gives, once a second one has given the same.

    Parameters
    ----------
    read : callable
        Runs the same forward pass each time and returns what it gave.
    draws : bool
        Whether the forward pass is known to draw from torch's generator, which ``read`` restores.

    Raises
    ------
    ValueError
        If the second pass differs, with what it draws from.

    Examples
    --------
    >>> check_repeats(lambda: {"": torch.rand(3)}, draws=True)
    Traceback (most recent call last):
    ValueError: the model's forward pass is random (it draws from torch's generator): ...
    """
    of_python, of_numpy = random.getstate(), _numpy_state()
    first = read()
    sources = ["torch's"] * draws
    sources += ["Python's"] * (random.getstate() != of_python)
    sources += ["NumPy's"] * (_numpy_state() != of_numpy)
    if draws:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(torch.initial_seed() + 1)
            second = read()
    else:
        second = read()
    if not any(_differ(first[key], second[key], _REPEATED) for key in first):
        return first
    if sources:
        raise ValueError(
            f"the model's forward pass is random (it draws from {' and '.join(sources)} "
            "generator): two calls on the same examples gave different activations; switch off "
            "its dropout or noise."
        )
    raise ValueError(
        "two calls of the model on the same examples gave different activations; use a model whose "
        "forward pass depends on its inputs alone, without state that calls change or random "
        "numbers of its own."
    )


def each_once(examples: Tensor) -> Tensor:
    """The examples, if none is named twice: it would count twice in every statistic.

    Raises
    ------
    ValueError
        If one is.

    Examples
    --------
    >>> each_once(torch.tensor([3, 1, 3]))
    Traceback (most recent call last):
    ValueError: examples names 3 more than once; give each example once.
    """
    named, counts = examples.unique(return_counts=True)
    if bool((counts > 1).any()):
        raise ValueError(
            f"examples names {int(named[counts > 1][0])} more than once; give each example once."
        )
    return examples


def two_unlike(inputs: Inputs, examples: Tensor) -> Tensor:
    """Two examples, if possible of different inputs: what couples equal ones can't be seen.

    Parameters
    ----------
    inputs : Tensor or dict of Tensors, ``[study, ...]``
    examples : int64 ``[n]``

    Returns
    -------
    int64 ``[2]``
        The same for any order of the examples; twice the same of a single one.

    Examples
    --------
    >>> two_unlike(torch.tensor([[5.0], [5.0], [6.0]]), torch.tensor([2, 1, 0]))
    tensor([0, 2])
    """
    first = examples.sort().values[:_COMPARED]
    parts = inputs.values() if isinstance(inputs, Mapping) else [inputs]
    unlike = torch.zeros(len(first), dtype=torch.bool)
    for part in parts:
        rows = part[first].cpu().reshape(len(first), -1)
        unlike |= (rows != rows[0]).any(1)
    second = int(unlike.nonzero()[0]) if bool(unlike.any()) else min(1, len(first) - 1)
    return first[[0, second]]


def _differ(first: Tensor, second: Tensor, share: float) -> bool:
    finite = first.isfinite()
    if first.shape != second.shape or not torch.equal(finite, second.isfinite()):
        return True
    gaps, sizes = (first - second)[finite].abs(), first[finite].abs()
    return bool((gaps > share * sizes.amax()).any()) if len(gaps) else False


def _numpy_state() -> tuple[bytes, int]:
    """The state of NumPy's global generator."""
    _, keys, place, *_ = np.random.get_state()  # noqa: NPY002 - a model may draw from it
    return np.asarray(keys).tobytes(), int(place)
