"""Pictures with captions and known objects, in memory, in files or in tar shards."""

from __future__ import annotations

import hashlib
import io
import unicodedata
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from memviz.checks import check_file, quoted
from memviz.progress import slow


class Stretch(NamedTuple):
    """A range of bytes in a file: a picture inside a tar shard."""

    path: Path
    offset: int
    size: int

    def read(self) -> bytes:
        """The bytes, read from the file on each call."""
        check_file(self.path)
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


Picture = np.ndarray | Path | Stretch


@dataclass(frozen=True, eq=False)
class CaptionPairs:
    """Pictures, one caption each, and the objects that each picture shows.

    Parameters
    ----------
    images : one per pair: uint8 ``[h, w, 3]``, a file, or a range of bytes in one; files are
        opened only when needed.
    captions : untrusted text: show it as text, never as HTML.
    objects : bool ``[n, classes]``, True where the picture shows an object of the class; all
        False for a picture without objects.
    class_names : the classes, in the order of the columns.
    ids : the source's own name of each pair; row numbers by default.
    named : bool ``[n, classes]``, the objects that the caption names, where that is known.

    Raises
    ------
    ValueError : not lists, mismatched lengths, no pairs, captions that are not text, or objects
        that are not a bool tensor.

    Examples
    --------
    >>> picture = np.zeros((4, 4, 3), np.uint8)
    >>> pairs = CaptionPairs([picture], ["a seven"], torch.ones(1, 1, dtype=torch.bool), ["seven"])
    >>> pairs
    CaptionPairs(1 pairs, 1 classes)
    """

    images: Sequence[Picture]
    captions: Sequence[str]
    objects: Tensor
    class_names: Sequence[str]
    ids: Sequence[str] | None = None
    named: Tensor | None = None

    def __post_init__(self) -> None:
        for what in ("images", "captions", "class_names"):
            given = getattr(self, what)
            if isinstance(given, str) or not hasattr(given, "__len__"):
                raise ValueError(
                    f"{what} is of type {type(given).__name__}; give a list. "
                    "memviz.data.caption_readers reads pairs from files."
                )
        other = next((text for text in self.captions if not isinstance(text, str)), None)
        if other is not None:
            raise ValueError(
                f"a caption is of type {type(other).__name__}; give one str per picture."
            )
        n, classes = len(self.images), len(self.class_names)
        if not n:
            raise ValueError("there are no pairs of picture and caption; give at least one.")
        if len(self.captions) != n or (self.ids is not None and len(self.ids) != n):
            raise ValueError(
                f"there are {n} images, {len(self.captions)} captions and "
                f"{n if self.ids is None else len(self.ids)} ids; give one of each per pair."
            )
        for what, table in (("objects", self.objects), ("named", self.named)):
            if table is not None and not isinstance(table, Tensor):
                raise ValueError(
                    f"{what} is of type {type(table).__name__}; give a bool tensor "
                    f"[{n}, {classes}], for example torch.as_tensor({what})."
                )
            if table is not None and (
                table.dtype != torch.bool or tuple(table.shape) != (n, classes)
            ):
                raise ValueError(
                    f"{what} is {table.dtype} of shape {list(table.shape)}; for {n} pictures and "
                    f"{classes} class names it must be bool [{n}, {classes}]."
                )

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        return f"CaptionPairs({len(self):,} pairs, {len(self.class_names)} classes)"

    @property
    def pictures(self) -> Sequence[Picture]:
        """The former name of ``images``."""
        warnings.warn("pairs.pictures is now pairs.images.", DeprecationWarning, stacklevel=2)
        return self.images

    def id(self, pair: int) -> str:
        """The source's name of a pair, or its row number."""
        return str(pair) if self.ids is None else self.ids[pair]

    def object_names(self, pair: int) -> list[str]:
        """The names of the objects in a picture."""
        return [self.class_names[int(c)] for c in self.objects[pair].nonzero()[:, 0]]

    def image(self, pair: int) -> Any:
        """The picture as a ``PIL.Image`` in RGB.

        Raises
        ------
        ValueError : the file is missing, truncated or not an image; the message names the pair.
        """
        from PIL import Image

        picture = self.images[pair]
        try:
            if isinstance(picture, np.ndarray):
                return Image.fromarray(picture)
            if isinstance(picture, Path):
                check_file(picture)
            source = io.BytesIO(picture.read()) if isinstance(picture, Stretch) else picture
            with Image.open(source) as opened:
                return opened.convert("RGB")
        # PIL's plugins raise almost anything on a broken file, even SyntaxError and struct.error.
        except Exception as error:
            where = picture.path if isinstance(picture, Stretch) else picture
            raise ValueError(
                f"the picture of pair {quoted(self.id(pair))} can't be read ({error}) in "
                f"{where if isinstance(where, Path) else 'memory'}; leave it out, as "
                "pairs.subset(pairs.readable()) does."
            ) from error

    def digests(self) -> list[str]:
        """A hash of each picture's decoded pixels: equal pictures match whatever their files.

        Raises
        ------
        ValueError : a picture can't be read.
        """
        images = (self.image(pair) for pair in range(len(self)))
        return [hashlib.sha256(repr(i.size).encode() + i.tobytes()).hexdigest() for i in images]

    def readable(self) -> Tensor:
        """Whether each picture can be opened and decoded, bool ``[n]``; reads all of them."""
        readable = torch.ones(len(self), dtype=torch.bool)
        for pair in slow(range(len(self)), "reading pictures"):
            try:
                self.image(pair)
            except ValueError:
                readable[pair] = False
        return readable

    def subset(self, chosen: Tensor) -> CaptionPairs:
        """The chosen pairs, by indices or by a bool mask ``[n]``."""
        rows = (chosen.nonzero()[:, 0] if chosen.dtype == torch.bool else chosen).tolist()
        return CaptionPairs(
            [self.images[row] for row in rows],
            [self.captions[row] for row in rows],
            self.objects[rows],
            self.class_names,
            [self.id(row) for row in rows],
            None if self.named is None else self.named[rows],
        )

    def inputs(self, preprocess: Callable[[Any], Tensor]) -> Tensor:
        """All pictures, preprocessed for a model, float32 ``[n, 3, size, size]``."""
        return torch.stack([preprocess(self.image(pair)) for pair in range(len(self))])


def plain_caption(text: object) -> str:
    r"""One line of text: control and format characters become spaces, runs of spaces become one.

    Invisible characters could hide from the reader words that the model sees, or reverse the
    text beside them.

    Raises
    ------
    ValueError : the caption is not text, or nothing readable is left of it.

    Examples
    --------
    >>> plain_caption("a dog\n on\u202e grass")
    'a dog on grass'
    """
    if not isinstance(text, str):
        raise ValueError(f"a caption is of type {type(text).__name__}; it must be a str.")
    kept = "".join(" " if unicodedata.category(c).startswith("C") else c for c in text)
    line = " ".join(kept.split())
    if not line:
        raise ValueError("a caption is empty; leave the pair out or write one.")
    return line
