"""What makes activations of one example wrong: a random forward pass, and the rest of its batch."""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from memviz.study import DatasetInputs
from memviz.tasks.task import Inputs

Key = TypeVar("Key", bound=Hashable)

_REPEATED = 1e-5  # of the largest activation: a GPU may add in another order
_BATCHED = 1e-3  # of a layer's largest activation: another batch size rounds differently
_DRAWING = 8  # more calls of a model that is seen to draw
_COMPARED = 16  # examples among which one unlike the first is looked for
_EXAMINED = 8  # examples that a model is tried on
_TRIED_BYTES = 2**26


def differing(
    first: Mapping[Key, Tensor], second: Mapping[Key, Tensor], model: nn.Module | None = None
) -> set[Key]:
    """Where the activations of some examples are not the same in two batches.

    Parameters
    ----------
    first, second : mapping to Tensor ``[rows, ...]``
    model : nn.Module, optional
        Its weights tell how coarse the numbers are; float32 by default.

    Examples
    --------
    >>> differing({"a": torch.ones(2), "b": torch.ones(2)}, {"a": torch.ones(2), "b": torch.eye(2)})
    {'b'}
    """
    weights = [] if model is None else [w.dtype for w in model.parameters()]
    steps = [torch.finfo(dtype).eps for dtype in weights if dtype.is_floating_point]
    share = max([_BATCHED, *(4 * step for step in steps)])
    return {key for key in first if _differ(first[key], second[key], share)}


def check_repeats(read: Callable[[], Mapping[Key, Tensor]], *, draws: bool) -> Mapping[Key, Tensor]:
    """What a forward pass gives, once a second one has given the same.

    Parameters
    ----------
    read : callable
        Runs the same forward pass each time and returns what it gave.
    draws : bool
        Whether the forward pass is known to draw from torch's generator, and ``read`` restores it.

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
    of_torch, of_python, of_numpy = torch.get_rng_state(), random.getstate(), _numpy_state()
    first = read()
    sources = ["torch's"] * (draws or not torch.equal(torch.get_rng_state(), of_torch))
    sources += ["Python's"] * (random.getstate() != of_python)
    sources += ["NumPy's"] * (_numpy_state() != of_numpy)
    # Dropout may by chance drop the same twice, or what is 0 anyway.
    for number in range(1, (_DRAWING if sources else 1) + 1):
        if draws:
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(torch.initial_seed() + number)
                again = read()
        else:
            again = read()
        if any(_differ(first[key], again[key], _REPEATED) for key in first):
            raise _random(sources)
    return first


def _random(sources: list[str]) -> ValueError:
    if sources:
        return ValueError(
            f"the model's forward pass is random (it draws from {' and '.join(sources)} "
            "generator): two calls on the same examples gave different activations; switch off "
            "its dropout or noise."
        )
    return ValueError(
        "two calls of the model on the same examples gave different activations; use a model whose "
        "forward pass depends on its inputs alone, without state that calls change or random "
        "numbers of its own."
    )


def floats(values: Tensor) -> Tensor:
    """Values that means can be taken of: float64 stays, all others become float32.

    Raises
    ------
    ValueError
        If they are complex.

    Examples
    --------
    >>> floats(torch.tensor([1.5], dtype=torch.float16)).dtype
    torch.float32
    """
    if values.is_complex():
        raise ValueError(
            "a layer's activations are complex numbers, which have no largest; name other layers."
        )
    return values if values.dtype == torch.float64 else values.float()


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


def rows_to_try(recorded: int) -> int:
    """How many examples a model is tried on: 8, but 3 of those that take long.

    Parameters
    ----------
    recorded : int
        Bytes that a pass of one example makes.

    Examples
    --------
    >>> rows_to_try(10_000), rows_to_try(100_000_000)
    (8, 3)
    """
    return max(3, min(_EXAMINED, _TRIED_BYTES // max(recorded, 1)))


def examined(inputs: Inputs | DatasetInputs, examples: Tensor) -> Tensor:
    """A few examples to try a model on, spread over all; the second is unlike the first.

    Equal examples would hide what couples them, and a quiet one what is random.

    Parameters
    ----------
    inputs : Tensor or dict of Tensors, ``[study, ...]``, or what reads them from a dataset
    examples : int64 ``[n]``

    Returns
    -------
    int64 ``[at most 8]``
        The same for any order of the examples.

    Examples
    --------
    >>> examined(torch.tensor([[5.0], [5.0], [6.0], [5.0]]), torch.tensor([2, 1, 0, 3]))
    tensor([0, 2, 1, 3])
    """
    ordered = examples.sort().values
    first = ordered[:_COMPARED]
    if isinstance(inputs, Mapping):
        given: Inputs = {key: part[first] for key, part in inputs.items()}
    else:
        given = inputs[first]
    unlike = torch.zeros(len(first), dtype=torch.bool)
    for part in given.values() if isinstance(given, Mapping) else [given]:
        rows = part.cpu().reshape(len(first), -1)
        unlike |= (rows != rows[0]).any(1)
    second = int(unlike.nonzero()[0]) if bool(unlike.any()) else min(1, len(first) - 1)
    spread = torch.linspace(0, len(ordered) - 1, min(_EXAMINED, len(ordered))).long()
    chosen = [first[0].item(), first[second].item(), *ordered[spread].tolist()]
    return torch.tensor(list(dict.fromkeys(chosen))[:_EXAMINED])


def _differ(first: Tensor, second: Tensor, share: float) -> bool:
    if not (first.is_floating_point() or first.is_complex()):
        return not torch.equal(first, second)
    finite = first.isfinite()
    if first.shape != second.shape or not torch.equal(finite, second.isfinite()):
        return True
    gaps, sizes = (first - second)[finite].abs(), first[finite].abs()
    return bool((gaps > share * sizes.amax()).any()) if len(gaps) else False


def _numpy_state() -> tuple[bytes, int]:
    """The state of NumPy's global generator."""
    _, keys, place, *_ = np.random.get_state()  # noqa: NPY002 - a model may draw from it
    return np.asarray(keys).tobytes(), int(place)
