"""What a recorder reads: tensors with labels, or a loader that gives each example its index."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from memviz.tasks.task import Inputs

Batch = tuple[Inputs, Tensor, Tensor]  # inputs, labels, ids


def labels_for(inputs: Inputs, labels: Tensor | None) -> Tensor:
    """Labels, int64 ``[n]``, if there is one for each input."""
    tensors = [inputs] if isinstance(inputs, Tensor) else list(inputs.values())
    given = torch.as_tensor([] if labels is None else labels)
    counts = {len(tensor) if tensor.dim() else 0 for tensor in tensors}
    n = min(counts, default=0)
    if given.ndim != 1 or given.is_floating_point() or counts != {len(given)}:
        raise ValueError(
            f"labels must be integers, one for each input, but got {given.dtype} of shape "
            f"{list(given.shape)} for {n} inputs."
        )
    if n == 0:
        raise ValueError("there is nothing to record: inputs has no examples.")
    return given.long().cpu()


def labels_of(loader: Iterable[Any]) -> Tensor:
    """Labels in the order of the ids; each id from 0 to n - 1 must come once."""
    pairs = [(labels, ids) for _, labels, ids in with_ids(loader)]
    if not pairs:
        raise ValueError("there is nothing to record: the loader has no examples.")
    labels, ids = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    n = len(ids)
    if not torch.equal(ids.sort().values, torch.arange(n)):
        known = set(ids.tolist())
        absent = [example for example in range(n) if example not in known][:3]
        raise ValueError(
            f"the loader's {n} ids are not 0 to {n - 1}, each once (missing: "
            f"{', '.join(map(str, absent))}, ...); give each example its index in the dataset, "
            "and let the loader read all of it."
        )
    return labels[ids.argsort()]


def with_ids(loader: Iterable[Any]) -> Iterator[Batch]:
    """A loader's batches, if they have ids."""
    for batch in loader:
        if not isinstance(batch, tuple | list) or len(batch) != 3:
            parts = len(batch) if isinstance(batch, tuple | list) else "no"
            raise ValueError(
                f"the loader's batches have {parts} parts; make its dataset return (input, label, "
                "index), for example with memviz.training.WithIds(dataset)."
            )
        inputs, labels, ids = batch
        yield inputs, torch.as_tensor(labels).long().cpu(), torch.as_tensor(ids).long().cpu()


class WithIds(torch.utils.data.Dataset[tuple[Any, Any, int]]):
    """A dataset whose items end with their index, so that a recorder knows them.

    Examples
    --------
    >>> WithIds([("a", 0), ("b", 1)])[1]
    ('b', 1, 1)
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Any, Any, int]:
        given, label = self.dataset[index]
        return given, label, index
