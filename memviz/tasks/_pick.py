"""Which tensor of a model's output a task judges; refused where several could be meant."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor

from memviz.checks import coded, quoted

Which = str | int | Callable[[Any], Any]
Found = list[tuple[str, Tensor]]


def pick(raw: Any, which: Which | None, task: str) -> Any:
    """The entry that ``which`` names, or the only one that can be meant.

    Without ``which``, that is a tensor itself, an entry or attribute ``logits``, or the only
    floating-point tensor of one or two axes in a tuple or list. An output that holds none is
    returned as it is, for the task to refuse.

    Raises
    ------
    ValueError
        If several tensors could be meant, or there is no such entry; the message names ``task``.

    Examples
    --------
    >>> import torch
    >>> pick((torch.tensor(0.3), torch.ones(2, 3)), None, "mv.Classification").shape
    torch.Size([2, 3])
    >>> pick((torch.ones(2, 8), torch.ones(2, 3)), 1, "mv.Classification").shape
    torch.Size([2, 3])
    """
    if which is not None:
        return _named(raw, which, task)
    if isinstance(raw, Tensor):
        return raw
    logits = raw.get("logits") if isinstance(raw, Mapping) else getattr(raw, "logits", None)
    if logits is not None:
        return logits
    if not isinstance(raw, tuple | list):
        return raw
    found = list(_candidates(raw, ""))
    if len(found) > 1:
        shapes = " and ".join(f"{path} {tuple(tensor.shape)}" for path, tensor in found[:3])
        path = found[-1][0]
        simple = path.removeprefix("[").removesuffix("]")
        which_one = simple if simple.isdecimal() else f"lambda out: out{path}"
        raise ValueError(
            coded(
                "E09",
                f"the model returned a {type(raw).__name__} in which {shapes} could be the outputs "
                f"to judge; name one, for example task={task}(outputs={which_one}).",
            )
        )
    if found:
        return found[0][1]
    known = names_in(raw)
    return raw[known[0]] if len(known) == 1 else raw  # the only one, of an unsuitable shape


def names_in(raw: Any) -> list[Any]:
    """Keys of the entries or fields of an output that hold floating-point tensors with axes.

    Examples
    --------
    >>> import torch
    >>> names_in({"boxes": torch.ones(2, 4), "cache": None})
    ['boxes']
    """
    tensors = [(name, value) for name, value in _fields(raw) if isinstance(value, Tensor)]
    return [name for name, value in tensors if value.is_floating_point() and value.dim()]


def holds(raw: Any, part: Any) -> bool:
    """Whether an output is this very object, or holds it.

    Examples
    --------
    >>> logits = object()
    >>> holds({"deep": [logits]}, logits), holds([], logits)
    (True, False)
    """
    return any(value is part or _inside(value, part) for _, value in [("", raw), *_fields(raw)])


def _inside(raw: Any, part: Any) -> bool:
    return any(value is part or _inside(value, part) for _, value in _entries(raw))


def _named(raw: Any, which: Which, task: str) -> Any:
    if callable(which):
        return which(raw)
    try:
        return raw[which]
    except (KeyError, IndexError, TypeError):
        pass
    if isinstance(which, str) and hasattr(raw, which) and not isinstance(raw, Tensor):
        return getattr(raw, which)
    known = ", ".join(repr(name) for name, _ in _fields(raw)) or "no entries"
    raise ValueError(
        f"{task}(outputs={quoted(which)}) names no entry of what the model returned, "
        f"{type(raw).__name__} with {known}."
    )


def _candidates(raw: Any, path: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(raw, Tensor):
        # A loss has no axis, hidden states and caches have three or more.
        if raw.is_floating_point() and raw.dim() in (1, 2):
            yield path, raw
        return
    for key, value in _entries(raw):
        is_field = not isinstance(raw, Mapping | tuple | list)
        yield from _candidates(value, f"{path}.{key}" if is_field else f"{path}[{key!r}]")


def _entries(raw: Any) -> list[tuple[Any, Any]]:
    """What a container holds; other objects, such as a cache, are not looked into."""
    if isinstance(raw, Mapping):
        return list(raw.items())
    if isinstance(raw, tuple | list):
        return list(enumerate(raw))
    if is_dataclass(raw) and not isinstance(raw, type):
        return [(field.name, getattr(raw, field.name)) for field in fields(raw)]
    return []


def _fields(raw: Any) -> list[tuple[Any, Any]]:
    """What the output of a model holds, a container or an object with attributes."""
    if isinstance(raw, Tensor):
        return []
    return _entries(raw) or list(getattr(raw, "__dict__", {}).items())
