"""Inputs of a study: tensors whose first axis is the examples, and one sentence for the rest."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from memviz.tasks import Inputs


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
        If an input has another number of examples, holds no values, or is sparse or nested.

    Examples
    --------
    >>> as_inputs({"left": [[1.0], [2.0]]}, 2, nn.Identity())
    {'left': tensor([[1.],
            [2.]])}
    """
    if not isinstance(given, Mapping):
        tensor = _as_tensor("inputs", given, model)
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
                f"inputs has the key {name!r}; the keys are the names of the model's arguments"
                f"{_arguments(model)}."
            )
        inputs[name] = _as_tensor(name, value, model)
    for name, tensor in inputs.items():
        _check(name, tensor, n, others=len(inputs) > 1)
    return inputs


def _as_tensor(what: str, value: Any, model: nn.Module) -> Tensor:
    if isinstance(value, Tensor):
        return value.detach() if value.requires_grad else value
    advice = _advice(what, value, model)
    if advice is None:
        try:
            # Read-only arrays are copied: torch warns that it might write to them.
            copied = isinstance(value, np.ndarray) and not value.flags.writeable
            return torch.as_tensor(value.copy() if copied else value)
        except (TypeError, ValueError, RuntimeError):
            advice = (
                "give a tensor [n, ...]; examples of several lengths must be padded to one length "
                "first."
            )
    raise TypeError(f"{what} is {_kind(value)}; {advice}")


def _advice(what: str, value: Any, model: nn.Module) -> str | None:
    """What to do about an input that is no table of numbers; None if it may be one."""
    if isinstance(value, DataLoader):
        return f"concatenate its batches: torch.cat([batch[0] for batch in {_loader(what)}])."
    if isinstance(value, Dataset):
        return "stack its examples: torch.stack([example for example, label in dataset])."
    if hasattr(value, "to_numpy"):
        return "give its numbers as a tensor: torch.tensor(table.to_numpy(), dtype=torch.float32)."
    if isinstance(value, tuple):
        return (
            "give one tensor [n, ...], or a dict with the names of the model's arguments"
            f"{_arguments(model)}."
        )
    if isinstance(value, np.ndarray):
        return None
    if not isinstance(value, list | range):
        return (
            "each input must be a tensor whose first axis is the examples: build constants and "
            "shared inputs into the model."
        )
    first = value[0] if value else None
    if isinstance(first, Tensor):
        return "stack the examples: torch.stack(inputs), padded to one shape first."
    if isinstance(first, str | bytes):
        return 'tokenize them first: dict(tokenizer(texts, padding=True, return_tensors="pt")).'
    if _is_picture(first):
        return (
            "stack them: torch.stack([torchvision.transforms.functional.to_tensor(image) for image "
            "in images])."
        )
    return None


def _check(what: str, tensor: Tensor, n: int, others: bool = False) -> None:
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
    if len(tensor) != n:
        shared = (
            " (what all examples share, for example the edges of a graph, must be built into the "
            "model)"
            if others
            else ""
        )
        raise ValueError(
            f"{what} holds {len(tensor)} examples and labels {n}; they must have the same length"
            f"{shared}."
        )


def _arguments(model: nn.Module) -> str:
    try:
        parameters = inspect.signature(model.forward).parameters.values()
    except (TypeError, ValueError):
        return ""
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return f", which are {', '.join(names[:6])}" if names else ""


def _kind(value: Any) -> str:
    name = type(value).__name__
    if isinstance(value, list | tuple) and value:
        kinds = {type(part).__name__ for part in value}
        of = kinds.pop() if len(kinds) == 1 else "several types"
        return f"a {name} of {len(value)} ({of})"
    return name


def _is_picture(value: Any) -> bool:
    return any(kind.__module__.startswith("PIL.") for kind in type(value).__mro__)


def _loader(what: str) -> str:
    return "loader" if what == "inputs" else what
