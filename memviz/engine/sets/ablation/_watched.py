"""Facts about tensors that last as long as the tensors do."""

from __future__ import annotations

import weakref
from typing import Generic, TypeVar

from torch import Tensor

T = TypeVar("T")


class Watched(Generic[T]):
    """A table by tensor identity that keeps no tensor alive.

    Examples
    --------
    >>> import torch
    >>> names, value = Watched(), torch.ones(1)
    >>> names.put(value, "ones")
    >>> names.get(value), names.get(torch.ones(1))
    ('ones', None)
    """

    def __init__(self) -> None:
        self._entries: dict[int, tuple[weakref.ref[Tensor], T]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, tensor: Tensor) -> bool:
        return id(tensor) in self._entries

    def put(self, tensor: Tensor, value: T) -> None:
        """Remember something about a tensor."""
        key, entries = id(tensor), self._entries
        # Python may give the id of a dead tensor to another one.
        entries[key] = (weakref.ref(tensor, lambda _: entries.pop(key, None)), value)

    def get(self, tensor: Tensor) -> T | None:
        """What is known about a tensor."""
        entry = self._entries.get(id(tensor))
        return None if entry is None else entry[1]

    def pop(self, tensor: Tensor) -> None:
        """Forget a tensor."""
        self._entries.pop(id(tensor), None)

    def clear(self) -> None:
        """Forget all tensors."""
        self._entries.clear()

    def living(self) -> list[tuple[Tensor, T]]:
        """The tensors that still exist, and what is known about each."""
        pairs = []
        for reference, value in list(self._entries.values()):
            tensor = reference()
            if tensor is not None:
                tensor._fix_weakref()  # type: ignore[attr-defined]
                pairs.append((tensor, value))
        return pairs
