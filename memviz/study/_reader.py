"""Inputs of a study that are read from a dataset when they are needed."""

from __future__ import annotations

import copy
import threading
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler, default_collate

from memviz.checks import as_numbers, coded, listed
from memviz.progress import slow
from memviz.restored import random_kept
from memviz.tasks import Inputs
from memviz.tensor_files import Pieces

from ._from_dataset import (
    Batch,
    FromDataset,
    arguments,
    fetched,
    known_labels,
    length_of,
    parted,
    picture_in,
    untransformed,
)
from ._known import check_known

_AT_ONCE = 256  # items in a batch: a large request is not held twice
_FEW = 8  # examples that are read more than once to see whether they stay the same
_REPEATS = 64  # more reads of a dataset that draws random numbers: they may rarely show
_UNREAD = -1


class _Requested(Sampler[list[int]]):
    """The batches asked for now, since the workers outlive them."""

    def __init__(self) -> None:
        self.pieces: list[list[int]] = []

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.pieces)

    def __len__(self) -> int:
        return len(self.pieces)


class DatasetInputs:
    """What a study holds as its inputs when it was given a dataset.

    ``inputs[examples]`` reads those examples, int64 ``[m]``: a tensor ``[m, ...]`` or a dict of
    them. Every read is compared with the first of the same example by a checksum, so that no two
    answers can be of other data.

    Parameters
    ----------
    source : FromDataset
    model : nn.Module
        For the names of its arguments.

    Raises
    ------
    ValueError, TypeError
        If an item can't be read, is no tensor, or is another one the second time.

    Examples
    --------
    >>> from torch.utils.data import TensorDataset
    >>> source = FromDataset(TensorDataset(torch.eye(3)))
    >>> inputs = DatasetInputs(source, nn.Linear(3, 2))
    >>> len(inputs), inputs[torch.tensor([2])]
    (3, tensor([[0., 0., 1.]]))
    """

    def __init__(self, source: FromDataset, model: nn.Module) -> None:
        self.source = source
        self._names = arguments(model)
        self._n = length_of(source.dataset)
        self._collate = source.collate_fn or default_collate
        self._lock = threading.RLock()  # a view reads in the background, a cell in the front
        self._requested = _Requested()
        self._loader: DataLoader[Any] | None = None
        self._shapes: dict[str, tuple[torch.dtype, torch.Size]] = {}
        self._sums = torch.full((self._n,), _UNREAD)
        self._kept: dict[str, Tensor] = {}
        self._is_kept = torch.zeros(self._n, dtype=torch.bool)
        self._labels: tuple[Tensor, ...] = ()
        drawn_back = random_kept(anywhere=True)
        with torch.inference_mode(False), torch.no_grad(), drawn_back, drawn_back:
            self._check_repeats(drawn_back)

    def __len__(self) -> int:
        return self._n

    def __repr__(self) -> str:
        return f"DatasetInputs({type(self.source.dataset).__name__}, {self._n:,} examples)"

    def __getitem__(self, examples: Tensor) -> Inputs:
        # What reading computes is no part of a forward pass that is being watched.
        with torch._C.DisableTorchFunction(), self._lock:
            if not self.source.keep:
                return self._read(examples)[0]
            missing = examples[~self._is_kept[examples]].unique()
            if len(missing):
                self._keep(missing)
            return self._whole({key: value[examples] for key, value in self._kept.items()})

    def own_labels(self) -> Tensor | None:
        """The dataset's labels, ``[n, ...]``; None if it has none."""
        few = self._few()
        with self._lock:
            of_few = self._read(few)[1]
            if of_few is None:
                return None
            known = self._known(few, of_few)
            if known is not None:
                return known
            pieces = torch.arange(self._n).split(_AT_ONCE * max(1, self.source.num_workers))
            parts = [self._read(piece)[1] for piece in slow(pieces, "reading labels")]
        return torch.cat([part for part in parts if part is not None])

    def told(self, labels: Tensor, true_labels: Tensor | None) -> DatasetInputs:
        """The same inputs, whose labels in the dataset must be these, or these true ones.

        Raises
        ------
        ValueError
            If some are known to be others; those that are not known yet are compared when read.
        """
        own, few = copy.copy(self), self._few()
        own._labels = (labels, *([] if true_labels is None else [true_labels]))
        with self._lock:
            of_few = own._read(few)[1]
        known = None if of_few is None else self._known(few, of_few)
        if known is not None:
            own._check_labels(known, torch.arange(self._n))
        return own

    def _known(self, few: Tensor, of_few: Tensor) -> Tensor | None:
        """The labels that the dataset holds beside its items, if they are those of its items."""
        known = None if self.source.collate_fn else known_labels(self.source.dataset)
        is_same = known is not None and _first_unlike(of_few, known[few]) is None
        return known if is_same else None

    def pictures(self, examples: Tensor) -> list[Any] | None:
        """The dataset's own pictures, of PIL, before any transform; None if it has none."""
        plain = untransformed(self.source.dataset)
        if plain is None:
            return None
        drawn_back = random_kept()
        with self._lock, drawn_back, drawn_back:
            try:
                found = [picture_in(plain[example]) for example in examples.tolist()]
            except Exception:  # it may need its transform
                return None
        return None if any(picture is None for picture in found) else found

    def pieces(self) -> Iterator[tuple[str, Pieces]]:
        """All examples of each input, read part by part: for a hash."""
        for name, (dtype, shape) in list(self._shapes.items()):
            yield name or "inputs", Pieces(dtype, torch.Size([self._n, *shape]), self._parts(name))

    def _parts(self, name: str) -> Iterator[Tensor]:
        for examples in torch.arange(self._n).split(_AT_ONCE * max(1, self.source.num_workers)):
            yield _named(self[examples])[name]

    def _few(self) -> Tensor:
        return torch.linspace(0, self._n - 1, min(self._n, _FEW)).round().long()

    def _check_repeats(self, drawn_back: random_kept) -> None:
        """Read a few examples again, in other batches, and more often if the dataset draws."""
        few = self._few()
        self._collated([0])  # its shape is what all others must have
        self._collated(few.tolist())
        for example in few.flip(0).tolist():
            self._collated([example])
        if drawn_back.moved():
            for _ in range(_REPEATS):
                self._collated(few.tolist())

    def _keep(self, examples: Tensor) -> None:
        inputs = _named(self._read(examples)[0])
        for key, value in inputs.items():
            if key not in self._kept:
                self._kept[key] = value.new_empty(self._n, *value.shape[1:])
            self._kept[key][examples] = value
        self._is_kept[examples] = True

    def _read(self, examples: Tensor) -> tuple[Inputs, Tensor | None]:
        size = _AT_ONCE
        if self.source.num_workers:
            size = min(size, -(-len(examples) // self.source.num_workers))
        pieces: list[list[int]] = [piece.tolist() for piece in examples.split(max(1, size))]
        whole: dict[str, Tensor] = {}
        labels, start = [], 0
        drawn_back = random_kept()
        with torch.inference_mode(False), torch.no_grad(), drawn_back, drawn_back:
            for piece, (inputs, of_piece) in zip(pieces, self._batches(pieces), strict=True):
                named = _named(inputs)
                if len(pieces) == 1:
                    whole = dict(named)
                for key, value in named.items() if len(pieces) > 1 else ():
                    if key not in whole:
                        whole[key] = value.new_empty(len(examples), *value.shape[1:])
                    whole[key][start : start + len(piece)] = value
                start += len(piece)
                if of_piece is not None:
                    self._check_labels(of_piece, torch.tensor(piece))
                    labels.append(of_piece)
        return self._whole(whole), torch.cat(labels) if labels else None

    def _batches(self, pieces: list[list[int]]) -> Iterator[tuple[Inputs, Tensor | None]]:
        if not self.source.num_workers:
            yield from map(self._collated, pieces)
            return
        if self._loader is None:
            self._loader = DataLoader(
                self.source.dataset,
                batch_sampler=self._requested,
                collate_fn=self.source.collate_fn,
                num_workers=self.source.num_workers,
                persistent_workers=True,
                generator=torch.Generator(),  # its seeds are not drawn from the user's
            )
        self._requested.pieces = pieces
        done = 0
        try:
            for batch in self._loader:
                yield self._checked(parted(batch, self._names), pieces[done])
                done += 1
        except BaseException as error:
            self._loader = None  # its workers may be in the middle of something
            if isinstance(error, Exception) and done < len(pieces):
                self._blame(pieces[done], error)
            raise

    def _collated(self, indices: list[int]) -> tuple[Inputs, Tensor | None]:
        """One batch, read in this process and checked."""
        try:
            batch = parted(self._collate(fetched(self.source.dataset, indices)), self._names)
        except Exception as error:
            self._blame(indices, error)
            raise
        return self._checked(batch, indices)

    def _blame(self, indices: list[int], error: Exception) -> None:
        """Say in one sentence which of these examples can't be read, and why."""
        if isinstance(error, UnreadableError):
            raise error
        for index in indices:
            try:
                batch = parted(self._collate(fetched(self.source.dataset, [index])), self._names)
            except Exception as reason:
                cure = "mend it, or leave it out with torch.utils.data.Subset"
                if "PIL." in str(reason):
                    cure = (
                        "give the dataset a transform that makes images tensors, the one of the "
                        "model's training, or torchvision.transforms.ToTensor()"
                    )
                raise UnreadableError(
                    f"example {index} of the dataset can't be read: {_short(reason)}; {cure}."
                ) from reason
            self._checked(batch, [index])
        raise UnreadableError(
            f"examples {listed(indices, 40)} of the dataset can't be read as one batch: "
            f"{_short(error)}; mend the dataset or its collate_fn."
        ) from error

    def _checked(self, batch: Batch, indices: list[int]) -> tuple[Inputs, Tensor | None]:
        """Refuse inputs of another shape than the first, or other values than at the first read."""
        inputs, labels = batch
        sums = [0] * len(indices)
        for key, value in _named(inputs).items():
            self._check_shape(key, value, indices)
            check_known(key or "the input", value, is_named=bool(key), examples=indices)
            rows = value.detach().cpu().contiguous().view(len(value), -1).view(torch.uint8).numpy()
            sums = [zlib.crc32(row, known) for row, known in zip(rows, sums, strict=True)]
        if len(self._shapes) != len(_named(inputs)):
            raise UnreadableError(
                f"example {indices[0]} of the dataset holds {', '.join(_named(inputs))}, and "
                f"example 0 {', '.join(self._shapes)}; give each the same parts."
            )
        before, now = self._sums[indices], torch.tensor(sums)
        other = (before != _UNREAD) & (before != now)
        if other.any():
            raise UnreadableError(
                coded(
                    "E22",
                    f"two reads of example {indices[int(other.nonzero()[0])]} of the dataset "
                    "differ; switch off its random transforms, and let collate_fn treat each item "
                    "alone.",
                )
            )
        self._sums[indices] = now
        if labels is None:
            return inputs, None
        numbers = as_numbers("labels of the dataset", labels, "let it give a number per example")
        return inputs, numbers.cpu()

    def _check_shape(self, key: str, value: Tensor, indices: list[int]) -> None:
        if value.dim() == 0 or len(value) != len(indices):
            rows = 0 if value.dim() == 0 else len(value)
            raise UnreadableError(
                f"{len(indices)} items of the dataset became a batch of {rows}; let collate_fn "
                "stack them along a first axis."
            )
        shape = value.dtype, value.shape[1:]
        first = self._shapes.setdefault(key, shape) if indices == [0] else self._shapes.get(key)
        if first != shape:
            was = "missing" if first is None else _told(*first)
            which = f"example {indices[0]} of the dataset is"
            if len(indices) > 1:
                for index in indices:
                    self._collated([index])
                which = f"examples {listed(indices, 40)} of the dataset, in one batch, are"
            raise UnreadableError(
                f"{which} {_told(*shape)}, and example 0 is {was}; bring all to one shape in a "
                "transform: resize images, pad texts to one length and not to a batch's longest."
            )

    def _check_labels(self, labels: Tensor, examples: Tensor) -> None:
        if not self._labels:
            return
        unlike = [_first_unlike(labels, given[examples]) for given in self._labels]
        if all(place is not None for place in unlike):
            place = unlike[0]
            assert place is not None
            example = int(examples[place])
            raise UnreadableError(
                coded(
                    "E23",
                    f"example {example} has the label {self._labels[0][example].tolist()} in "
                    f"labels and {labels[place].tolist()} in the dataset; leave labels out to take "
                    "the dataset's own, or give those as true_labels.",
                )
            )

    def _whole(self, named: Mapping[str, Tensor]) -> Inputs:
        return named[""] if list(named) == [""] else named


class UnreadableError(ValueError):
    """A dataset that can't be read, or not twice in the same way."""


def _named(inputs: Inputs) -> Mapping[str, Tensor]:
    return inputs if isinstance(inputs, Mapping) else {"": inputs}


def _first_unlike(labels: Tensor, others: Tensor) -> int | None:
    """The first example whose labels are not the same numbers."""
    one = labels.reshape(len(labels), -1).double()
    two = others.reshape(len(others), -1).double()
    if one.shape != two.shape:
        return 0
    unlike = ((one != two) & ~(one.isnan() & two.isnan())).any(1).nonzero()
    return int(unlike[0]) if len(unlike) else None


def _told(dtype: torch.dtype, shape: torch.Size) -> str:
    return f"{str(dtype).removeprefix('torch.')} of shape {tuple(shape)}"


def _short(error: Exception) -> str:
    text = " ".join(str(error).split()).rstrip(".")
    return listed([f"{type(error).__name__}: {text}" if text else type(error).__name__])
