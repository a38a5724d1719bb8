"""Embeddings: computed in batches, and kept on disk under a hash of model and data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from memviz.progress import slow
from memviz.study import check_ready
from memviz.tensor_files import digest, read_hashed, write_hashed

_KIND = "embeddings"


def embed(
    encode: Callable[[Any], Tensor], items: Any, *, batch: int = 256, progress: bool = True
) -> Tensor:
    """What an encoder makes of items, batch by batch, without gradients.

    Parameters
    ----------
    encode : callable
        A batch of items in, float ``[batch, features]`` out.
    items : Tensor ``[n, ...]`` or sequence
        Cut along the first dimension; moving a batch to the model's device is the encoder's.
    batch : int
    progress : bool
        Show a bar when it takes more than a second.

    Returns
    -------
    float32 ``[n, features]``
        On the CPU.

    Raises
    ------
    ValueError
        If there are no items, or the encoder gives something else, NaN or infinity.

    Examples
    --------
    >>> embed(lambda words: torch.tensor([[len(w), 1.0] for w in words]), ["a", "bcd"])
    tensor([[1., 1.],
            [3., 1.]])
    """
    if batch < 1:
        raise ValueError(f"batch is {batch}; embed at least 1 item at a time.")
    if not len(items):
        raise ValueError("there are no items to embed; give at least one.")
    parts = []
    with torch.no_grad():
        for start in slow(range(0, len(items), batch), "embedding", progress=progress):
            given = items[start : start + batch]
            parts.append(_checked(encode(given), len(given), start))
    return torch.cat(parts)


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
    """The same from a folder, where they were computed before with the same model and items.

    The file's name is a hash of the model's weights and architecture, of ``name`` and of the items;
    a file that was cut or altered is refused. A model that is changed for the moment (ablated, or
    with a hook) is embedded anew and not kept: its weights do not show the change.

    Parameters
    ----------
    folder : path
        Made where it is missing.
    model : nn.Module
        In eval mode.
    name : str
        What else the embeddings depend on: the tower, the preprocessing, the prompt.
    encode, items, batch, progress
        As in :func:`embed`. Items are tensors, texts, or paths of files (hashed by their content).

    Raises
    ------
    ValueError
        On train mode, items of another kind, or a damaged file.

    Examples
    --------
    >>> import tempfile
    >>> model = nn.Linear(4, 2).eval()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     one = cached_embeddings(folder, model, "images", model, torch.ones(3, 4))
    ...     again = cached_embeddings(folder, model, "images", model, torch.ones(3, 4))
    >>> torch.equal(one, again)
    True
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
    if path.is_file():
        return read_hashed(path, _KIND)[0]["embeddings"]
    found = embed(encode, items, batch=batch, progress=progress)
    write_hashed(path, {"embeddings": found}, facts)
    return found


def _checked(found: Any, items: int, start: int) -> Tensor:
    if not isinstance(found, Tensor) or found.dim() != 2 or not found.is_floating_point():
        given = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(f"the encoder gave {given}; it must give floats [batch, features].")
    if len(found) != items:
        raise ValueError(f"the encoder gave {len(found)} rows for {items} items; give one an item.")
    rows: Tensor = found.detach().float().cpu()
    bad = ~rows.isfinite().all(1)
    if bool(bad.any()):
        raise ValueError(
            f"the encoder gave NaN or infinity for item {start + int(bad.nonzero()[0])}; check "
            "that item, or leave it out."
        )
    return rows


def _changed(model: nn.Module) -> bool:
    """Whether the model computes something that its weights and classes do not tell."""
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
        return _hash(json.dumps([_hash(item.read_bytes()) for item in items]).encode())
    raise ValueError(
        f"items are {type(items).__name__}; to be kept they must be a tensor, texts, or paths."
    )


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
