"""Inputs of a study: tensors whose first axis is the examples, and one sentence for the rest."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from memviz.checks import coded, quoted
from memviz.tasks import Inputs

from ._from_dataset import FromDataset, is_dataset
from ._known import check_known
from ._reader import DatasetInputs

# How torch speaks of types that differ, or that an operation lacks.
_OF_DTYPES = re.compile(r"dtype|(scalar|input|weight|bias|result) type|not implemented for '", re.I)


def read_lazily(given: Any, model: nn.Module) -> DatasetInputs | None:
    """The inputs in a dataset, which are read when they are needed; None if it is no dataset.

    Examples
    --------
    >>> from torch.utils.data import TensorDataset
    >>> read_lazily(TensorDataset(torch.eye(3)), nn.Linear(3, 2))
    DatasetInputs(TensorDataset, 3 examples)
    """
    if isinstance(given, DataLoader):
        raise TypeError(
            coded(
                "E21",
                "inputs is DataLoader; give loader.dataset, which memviz reads by index, or "
                "mv.study.FromDataset(loader.dataset, collate_fn=loader.collate_fn, "
                "num_workers=loader.num_workers).",
            )
        )
    if is_dataset(given):
        given = FromDataset(given)
    return DatasetInputs(given, model) if isinstance(given, FromDataset) else None


def check_length(what: str, inputs: Tensor | DatasetInputs, n: int, advice: str = "") -> None:
    """Refuse inputs of another number of examples than there are labels.

    Examples
    --------
    >>> check_length("inputs", torch.eye(3), 2)
    Traceback (most recent call last):
    ValueError: inputs holds 3 examples and labels 2; they must have the same length (memviz E16).
    """
    if len(inputs) != n:
        raise ValueError(
            coded(
                "E16",
                f"{what} holds {len(inputs)} examples and labels {n}; they must have the same "
                f"length{advice}.",
            )
        )


def as_inputs(given: Any, n: int, model: nn.Module) -> Inputs:
    """One tensor, or a dict of tensors, with ``n`` examples each.

    Parameters
    ----------
    given : Tensor, array or nested list ``[n, ...]``, or mapping of names to these
    n : int
    model : nn.Module
        For the names of its arguments.

    Raises
    ------
    TypeError
        If an input is not a tensor and cannot be read as one.
    ValueError
        If an input has another number of examples, holds no values, NaN or infinite ones, or is
        sparse or nested. Only a named input, which may be a mask added to attention, may hold -inf.

    Examples
    --------
    >>> as_inputs({"left": [[1.0], [2.0]]}, 2, nn.Identity())
    {'left': tensor([[1.],
            [2.]])}
    """
    if not isinstance(given, Mapping):
        tensor = _as_tensor("inputs", given, n, model)
        _check("inputs", tensor, n)
        return tensor
    if not given:
        raise ValueError(
            "inputs is an empty dict; give the model's arguments by name, each a tensor [n, ...]."
        )
    inputs = {}
    for name, value in given.items():
        if not isinstance(name, str):
            raise TypeError(
                f"inputs has the key {quoted(name)}; the keys are the names of the model's "
                f"arguments{_arguments(model)}."
            )
        inputs[name] = _as_tensor(name, value, n, model)
    for name, tensor in inputs.items():
        _check(name, tensor, n, is_named=True, others=len(inputs) > 1)
    return inputs


def advice_on_batches(value: Any) -> str:
    """How to read a loader or a data set; empty if it is neither."""
    # Once, since a loader that shuffles has another order the next time.
    if isinstance(value, DataLoader):
        return "read it once: inputs, labels = (torch.cat(part) for part in zip(*loader))."
    if isinstance(value, Dataset):
        return "read it once: inputs, labels = zip(*dataset), then inputs = torch.stack(inputs)."
    return ""


def explain(error: Exception, model: nn.Module, inputs: Inputs) -> None:
    """Add to the model's error what it was called with, and what to do where types differ."""
    if type(error) not in (RuntimeError, TypeError, ValueError):
        return  # memviz's own, which says what to do
    named = inputs if isinstance(inputs, Mapping) else {"": inputs}
    given = ", ".join(
        f"{name}{'=' if name else ''}{str(part.dtype).removeprefix('torch.')} {list(part.shape)}"
        for name, part in named.items()
    )
    error.add_note(f"memviz called {type(model).__name__}({given}): a batch of the study's inputs.")
    if not _OF_DTYPES.search(str(error)):
        return
    weights = next((p.dtype for p in model.parameters() if p.is_floating_point()), None)
    for name, part in named.items():
        # Whole numbers of 32 or 64 bits are ids, as an embedding wants them; bools are masks.
        meant = part.dtype in (torch.int64, torch.int32, torch.bool)
        if weights not in (None, part.dtype) and not meant:
            kind, own = (str(dtype).removeprefix("torch.") for dtype in (part.dtype, weights))
            error.add_note(
                f"{name or 'inputs'} is {kind} and the model's weights are {own}: give "
                f"{name or 'inputs'}.to(torch.{own}), scaled as in training."
            )


def _as_tensor(what: str, value: Any, n: int, model: nn.Module) -> Tensor:
    if isinstance(value, Tensor):
        return value.detach() if value.requires_grad else value
    advice = _advice(what, value, n, model)
    if not advice:
        try:
            if isinstance(value, list | tuple) and value and isinstance(value[0], np.ndarray):
                value = np.stack(value)
            # Torch warns of arrays that it must not write to.
            is_shared = not isinstance(value, np.ndarray) or value.flags.writeable
            return torch.as_tensor(value if is_shared else value.copy())
        except (TypeError, ValueError, RuntimeError):
            advice = (
                "give numbers as a tensor, [n, ...]; examples of several lengths must first be "
                "padded to one."
            )
    raise TypeError(f"{what} is {_kind(value)}; {advice}")


def _advice(what: str, value: Any, n: int, model: nn.Module) -> str:
    """What to do about an input that is no table of numbers; empty if it may be one."""
    if isinstance(value, DataLoader | Dataset):
        return advice_on_batches(value)
    if hasattr(value, "to_numpy"):
        return "give its numbers as a tensor: torch.tensor(table.to_numpy(), dtype=torch.float32)."
    if isinstance(value, np.ndarray | range):
        return ""
    if isinstance(value, list | tuple) and value:
        return _advice_on_list(value, n, model)
    if what == "inputs":
        return _by_name(model)
    return (
        "each input must be a tensor whose first axis is the examples: build constants into the "
        "model."
    )


def _advice_on_list(values: Sequence[Any], n: int, model: nn.Module) -> str:
    first = values[0]
    if isinstance(first, str | bytes):
        return 'tokenize them first: dict(tokenizer(texts, padding=True, return_tensors="pt")).'
    if any(kind.__module__.startswith("PIL.") for kind in type(first).__mro__):
        return (
            "stack them: torch.stack([torchvision.transforms.functional.to_tensor(image) for image "
            "in images])."
        )
    if not any(isinstance(value, Tensor | np.ndarray) for value in values):
        return ""
    if len(values) != n or hasattr(values, "_fields"):
        return _by_name(model)
    stack = "torch.stack" if isinstance(first, Tensor) else "numpy.stack"
    return f"stack the examples, padded to one shape: {stack}(inputs)."


def _by_name(model: nn.Module) -> str:
    return (
        "give one tensor, [n, ...], or a dict of tensors with the names of the model's arguments"
        f"{_arguments(model)}."
    )


def _check(
    what: str, tensor: Tensor, n: int, *, is_named: bool = False, others: bool = False
) -> None:
    if tensor.is_nested:
        raise ValueError(f"{what} is a nested tensor; pad it: torch.nested.to_padded_tensor.")
    if tensor.layout != torch.strided:
        raise ValueError(f"{what} is sparse; give a dense tensor: {what}.to_dense().")
    if tensor.is_meta:
        raise ValueError(
            f"{what} is on the meta device and holds no values; give it on a real device."
        )
    if tensor.dim() == 0:
        raise ValueError(
            f"{what} is a single number; give a tensor whose first axis is the examples, [n, ...]."
        )
    shared = (
        " (what all examples share, for example the edges of a graph, must be built into the model)"
    )
    check_length(what, tensor, n, shared if others else "")
    check_known(what, tensor, is_named)


def _arguments(model: nn.Module) -> str:
    try:
        parameters = inspect.signature(model.forward).parameters.values()
    except (TypeError, ValueError):
        return ""
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return f", which are {', '.join(names[:6])}" if names else ""


def _kind(value: Any) -> str:
    name = type(value).__name__
    if isinstance(value, list | tuple) and value and not hasattr(value, "_fields"):
        kinds = {type(part).__name__ for part in value}
        of = kinds.pop() if len(kinds) == 1 else "several types"
        return f"a {name} of {len(value)} ({of})"
    return name
