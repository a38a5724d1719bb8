"""Embeddings: computed in batches, and cached on disk under a hash of model and data."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from memviz.checks import check_file, described, quoted
from memviz.progress import slow
from memviz.study import check_ready
from memviz.tensor_files import check_writable, digest, read_hashed, write_hashed

_KIND = "embeddings"
_FACTS = 4096  # bytes of a file that are no embeddings


def embed(
    encode: Callable[[Any], Tensor], items: Any, *, batch: int = 256, progress: bool = True
) -> Tensor:
    """Embed items batch by batch, without gradients.

    Parameters
    ----------
    encode : callable
        Maps a batch of items to floats ``[batch, features]``; moves it to the model's device.
    items : Tensor ``[n, ...]`` or sequence
    batch : int
    progress : bool

    Returns
    -------
    float32 ``[n, features]``, or float64 if ``encode`` returns that
        On the CPU.

    Raises
    ------
    ValueError
        If there are no items, or ``encode`` fails or returns anything but finite floats, a row per
        item.

    Examples
    --------
    >>> embed(lambda words: torch.tensor([[len(w), 1.0] for w in words]), ["a", "bcd"])
    tensor([[1., 1.],
            [3., 1.]])
    """
    return torch.cat(list(_parts(encode, items, batch, progress)))


def cached_embeddings(
    folder: str | Path,
    model: nn.Module,
    name: str,
    encode: Callable[[Any], Tensor],
    items: Any,
    *,
    batch: int = 256,
    progress: bool = True,
) -> Tensor:
    """Embed items, or read the embeddings of the same model and items from a folder.

    A file is named by a hash of the model's weights and architecture, ``name`` and the items. A
    model that is ablated or has hooks is not cached. That the file can be written is checked before
    the work, and that the disk has room for it after the first batch; if it fails all the same,
    there is a warning, and the embeddings are returned.

    Parameters
    ----------
    folder : path
        Created if it is missing.
    model : nn.Module
        In eval mode.
    name : str
        What else the embeddings depend on: the tower, the preprocessing, the prompt.
    encode, items, batch, progress
        As in :func:`embed`. Items are a tensor, texts, or paths (hashed by the files' content).

    Raises
    ------
    ValueError
        On train mode, items of another kind, or a truncated or altered file.
    FileNotFoundError
        If an item is a path without a file.
    OSError
        If the folder can't be written to.

    Examples
    --------
    >>> import tempfile
    >>> model = nn.Linear(4, 2).eval()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     cached_embeddings(folder, model, "images", model, torch.ones(3, 4)).shape
    torch.Size([3, 2])
    """
    check_ready(model)
    if _changed(model):
        return embed(encode, items, batch=batch, progress=progress)
    facts = {
        "kind": _KIND,
        "name": name,
        "weights": digest(model.state_dict(), {}),
        "architecture": _hash(repr(model).encode()),
        "items": _hash_of(items),
    }
    path = Path(folder) / f"{_hash(json.dumps(facts, sort_keys=True).encode())[:32]}.safetensors"
    if path.exists():
        return _kept(path, len(items))
    check_writable(path.parent)
    parts = _parts(encode, items, batch, progress)
    first = next(parts)
    check_writable(path.parent, first.nbytes // len(first) * len(items) + _FACTS)
    embeddings = torch.cat([first, *parts])
    try:
        write_hashed(path, {"embeddings": embeddings}, facts)
    except OSError as error:
        warnings.warn(f"the embeddings could not be kept: {error}.", stacklevel=2)
    return embeddings


def _parts(
    encode: Callable[[Any], Tensor], items: Any, batch: int, progress: bool
) -> Iterator[Tensor]:
    """The embeddings of one batch after the other."""
    if isinstance(batch, bool) or not hasattr(batch, "__index__") or batch < 1:
        raise ValueError(f"batch is {quoted(batch)}; embed at least 1 item at a time.")
    if not all(hasattr(items, name) for name in ("__len__", "__getitem__")) or isinstance(
        items, Mapping
    ):
        raise TypeError(
            f"the items to embed are {described(items)}, which has no slices; give a tensor or a "
            "list."
        )
    if getattr(items, "is_meta", False):
        raise ValueError("the items to embed are on the meta device; give them with their values.")
    if getattr(items, "ndim", 1) == 0:
        raise ValueError("the items to embed are a single number; give one row per item.")
    if not len(items):
        raise ValueError("there are no items to embed; give at least one.")
    for start in slow(range(0, len(items), batch), "embedding", progress=progress):
        chunk = items[start : start + batch]
        try:
            with torch.no_grad():
                output = encode(chunk)
        except Exception as error:
            first = str(error).split("\n")[0][:200]
            raise ValueError(
                f"the encoder failed on items {start:,} to {start + len(chunk) - 1:,}: "
                f"{type(error).__name__}: {first}; give what it takes, or mend it."
            ) from error
        yield _checked(output, len(chunk), start)


def _kept(path: Path, items: int) -> Tensor:
    """The embeddings in a file, once they are known to be of as many items."""
    check_file(path)
    embeddings = read_hashed(path, _KIND)[0].get("embeddings")
    if embeddings is None or embeddings.dim() != 2 or len(embeddings) != items:
        raise ValueError(f"{quoted(str(path))} holds no embeddings of {items:,} items; delete it.")
    return embeddings


def _checked(output: Any, items: int, start: int) -> Tensor:
    """The embeddings of one batch, on the CPU, once they are known to be usable."""
    if not isinstance(output, Tensor) or output.dim() != 2 or not output.is_floating_point():
        given = list(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(f"the encoder returned {given}; it must return floats [batch, features].")
    if len(output) != items:
        raise ValueError(
            f"the encoder returned {len(output)} rows for {items} items; it must return one per "
            "item."
        )
    rows: Tensor = output.detach().cpu()
    rows = rows if rows.dtype == torch.float64 else rows.float()
    bad = ~rows.isfinite().all(1)
    if bool(bad.any()):
        raise ValueError(
            f"the encoder returned NaN or infinity for item {start + int(bad.nonzero()[0])}; check "
            "that item, or leave it out."
        )
    return rows


def _changed(model: nn.Module) -> bool:
    """Whether the model is ablated or has hooks, which no hash of its weights shows."""
    return any(
        "forward" in module.__dict__ or module._forward_hooks or module._forward_pre_hooks
        for module in model.modules()
    )


def _hash_of(items: Any) -> str:
    if isinstance(items, Tensor):
        return digest({"items": items}, {})
    if isinstance(items, Sequence) and all(isinstance(item, str) for item in items):
        return _hash(json.dumps(list(items)).encode())
    if isinstance(items, Sequence) and all(isinstance(item, Path) for item in items):
        for item in items:
            check_file(item)
        return _hash(json.dumps([_hash(item.read_bytes()) for item in items]).encode())
    raise ValueError(
        f"items are {type(items).__name__}; to be cached they must be a tensor, texts, or paths."
    )


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
