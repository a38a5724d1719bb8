"""A map-style dataset in place of a tensor: how it is read, and what its items hold."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from memviz.checks import CountOrZero, as_numbers, checked, coded, described, quoted
from memviz.tasks import Inputs

_LABELS = ("labels", "label")  # as Hugging Face calls them
Batch = tuple[Inputs, Any]  # inputs, and labels or None


@checked
@dataclass(frozen=True, eq=False)
class FromDataset:
    """A map-style dataset, and how it is read.

    ``mv.Study(model, dataset, groups=groups)`` takes the dataset itself; this is for what a
    ``DataLoader`` would be told beside it. A study reads by index, in batches, and keeps nothing.

    Parameters
    ----------
    dataset : torch.utils.data.Dataset, or any other with ``__getitem__`` and ``__len__``
        An item is an input, a pair of input and label, or a dict as Hugging Face has it, with the
        model's arguments by name and ``label`` or ``labels``. All inputs have one shape, and an
        item is the same each time it is read: no random transforms.
    collate_fn : callable, optional
        Makes a batch of a list of items; torch's own by default.
    num_workers : int
        Processes that read; by default this one does.
    keep : bool
        Whether to keep in memory what was read once.

    Raises
    ------
    TypeError
        If it is no map-style dataset.

    Examples
    --------
    >>> from torch.utils.data import TensorDataset
    >>> from memviz.study import Study
    >>> digits = TensorDataset(torch.randn(6, 4), torch.tensor([0, 1, 2, 0, 1, 2]))
    >>> model, groups = nn.Linear(4, 3).eval(), {"test": range(6)}
    >>> study = Study(model, FromDataset(digits, keep=True), groups=groups)
    >>> study.labels, study.batch(torch.tensor([5, 0])).shape
    (tensor([0, 1, 2, 0, 1, 2]), torch.Size([2, 4]))
    """

    dataset: Any
    collate_fn: Callable[[list[Any]], Any] | None = None
    num_workers: CountOrZero = 0
    keep: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.dataset, DataLoader):
            raise TypeError(
                coded(
                    "E21",
                    "dataset is DataLoader; give loader.dataset, which is read by index, and its "
                    "collate_fn and num_workers beside it.",
                )
            )
        if not is_dataset(self.dataset) and not hasattr(type(self.dataset), "__getitem__"):
            raise TypeError(
                f"dataset is {described(self.dataset)}; give a map-style dataset, with __getitem__ "
                "and __len__."
            )
        length_of(self.dataset)


def is_dataset(value: Any) -> bool:
    """Whether this is a dataset, by torch's class or by its protocol for reading batches."""
    return isinstance(value, Dataset) or hasattr(type(value), "__getitems__")


def length_of(dataset: Any) -> int:
    """How many items a dataset has.

    Raises
    ------
    TypeError
        If it has no length, or none by which it could be read.
    ValueError
        If it is empty.
    """
    kind = type(dataset).__name__
    if isinstance(dataset, IterableDataset):
        raise TypeError(
            f"{kind} is an IterableDataset, which is read in one order only, and memviz reads by "
            "index; give a map-style dataset, with __getitem__ and __len__."
        )
    try:
        n = len(dataset)
    except (TypeError, NotImplementedError, AttributeError) as error:
        raise TypeError(
            f"{kind} has no length; give its class __len__, the number of its items."
        ) from error
    if n == 0:
        raise ValueError(f"{kind} is empty; give a dataset with at least one item.")
    return n


def fetched(dataset: Any, indices: list[int]) -> list[Any]:
    """Items by index, all at once where the dataset has a way to."""
    if hasattr(dataset, "__getitems__"):
        return list(dataset.__getitems__(indices))
    return [dataset[index] for index in indices]


def arguments(model: nn.Module) -> frozenset[str] | None:
    """The names of a model's arguments; None where they can't be told, or it takes any."""
    try:
        parameters = inspect.signature(model.forward).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(p.kind == p.VAR_KEYWORD for p in parameters):
        return None
    return frozenset(p.name for p in parameters)


def parted(batch: Any, names: frozenset[str] | None) -> Batch:
    """Inputs and labels of a batch.

    Parameters
    ----------
    batch : Any
        What the collate function made.
    names : frozenset of str, optional
        The model's arguments.

    Raises
    ------
    TypeError
        If it holds anything else.
    """
    if isinstance(batch, list | tuple):
        if len(batch) not in (1, 2):
            raise TypeError(
                f"an item has {len(batch)} parts; make it (input, label), or let collate_fn return "
                "(inputs, labels)"
            )
        return _inputs(batch[0], names), batch[1] if len(batch) == 2 else None
    if not isinstance(batch, Mapping):
        return _inputs(batch, names), None
    key = next((key for key in _LABELS if key in batch), None)
    rest = {name: value for name, value in batch.items() if name != key}
    labels = None if key is None else batch[key]
    if names is None:  # texts and ids that no tensor holds are not for the model
        rest = {name: value for name, value in rest.items() if _is_numbers(value)}
    elif names & rest.keys():
        rest = {name: value for name, value in rest.items() if name in names}
    elif len(rest) == 1:
        return _inputs(next(iter(rest.values())), names), labels
    if not rest or (names is not None and not names & rest.keys()):
        raise TypeError(
            f"an item holds {', '.join(quoted(name) for name in batch)}, and the model takes "
            f"{', '.join(sorted(names or [])) or 'tensors'}; rename them in a transform or a "
            "collate_fn"
        )
    return _inputs(rest, names), labels


def untransformed(dataset: Any) -> Any:
    """The same dataset without its transform, for its own pictures; None where that is not known.

    Examples
    --------
    >>> untransformed([1, 2]) is None
    True
    """
    if isinstance(dataset, Subset):
        inner = untransformed(dataset.dataset)
        return None if inner is None else Subset(inner, dataset.indices)
    if hasattr(dataset, "column_names") and hasattr(dataset, "with_format"):
        return dataset.with_format(None)
    if not hasattr(dataset, "transform"):
        return None
    plain = copy.copy(dataset)
    plain.transform = None
    if hasattr(plain, "transforms"):  # torchvision's, which some of its datasets call instead
        plain.transforms = None
    return plain


def picture_in(item: Any) -> Any:
    """The first picture of PIL in an item; None if there is none."""
    if isinstance(item, Mapping):
        item = tuple(item.values())
    parts = item if isinstance(item, tuple | list) else (item,)
    return next((part for part in parts if _is_picture(part)), None)


def _is_picture(value: Any) -> bool:
    return any(kind.__module__.startswith("PIL.") for kind in type(value).__mro__)


def known_labels(dataset: Any) -> Tensor | None:
    """Labels that a dataset holds beside its items, ``[n]``; None if it must be read for them."""
    found = _labels_beside(dataset)
    if found is None:
        return None
    try:
        return as_numbers("labels", found, "give numbers")
    except ValueError:
        return None


def _labels_beside(dataset: Any) -> Any:
    if isinstance(dataset, Subset):
        known = known_labels(dataset.dataset)
        return None if known is None else known[torch.as_tensor(dataset.indices)]
    if isinstance(dataset, TensorDataset):
        return dataset.tensors[1] if len(dataset.tensors) == 2 else None
    if hasattr(dataset, "column_names") and hasattr(dataset, "with_format"):
        key = next((key for key in _LABELS if key in dataset.column_names), None)
        return None if key is None else list(dataset.with_format(None)[key])
    targets = getattr(dataset, "targets", None)  # of torchvision's datasets
    return targets if targets is not None and len(targets) == len(dataset) else None


def _is_numbers(value: Any) -> bool:
    return isinstance(value, Tensor | np.ndarray)


def _inputs(value: Any, names: frozenset[str] | None) -> Inputs:
    if isinstance(value, Mapping):
        wrong = next((name for name, part in value.items() if not _is_numbers(part)), None)
        if wrong is not None or not value:
            what = "an empty dict" if wrong is None else f"{_told(value[wrong])} as {quoted(wrong)}"
            raise TypeError(f"an item holds {what}; {_ADVICE}")
        return {str(name): torch.as_tensor(part).detach() for name, part in value.items()}
    if not _is_numbers(value):
        raise TypeError(f"an item's input is {_told(value)}; {_ADVICE}")
    return torch.as_tensor(value).detach()


_ADVICE = "make it a tensor in the dataset's transform or in a collate_fn"


def _told(value: Any) -> str:
    return "text" if isinstance(value, str) else f"{type(value).__name__}"
