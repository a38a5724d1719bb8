"""Extraction of more passages than fit into memory, part by part, resumable after a kill."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from memviz import tensor_files
from memviz.checks import Count, checked, quoted
from memviz.models.causal import Causal
from memviz.progress import slow

from ._passages import as_passages
from ._scores import Extraction, extract, read_extraction, write_extraction


@checked
def extract_stream(
    model: nn.Module,
    passages: Any,
    folder: str | Path,
    prompt: int = 32,
    continuation: int = 32,
    *,
    ids: Sequence[Any] | None = None,
    part: Count = 4096,
    batch_size: Count = 64,
    progress: bool = True,
) -> Iterator[Extraction]:
    """What :func:`extract` says of many passages, a part at a time, each kept in a folder.

    No more than one part is in memory. After a kill the same call goes on with the first part that
    is not in the folder, and yields the stored ones without decoding them again. All parts are of
    the model as it is at the call: a stream begun inside an ``mv.ablate`` block is used up in it.

    Parameters
    ----------
    model, prompt, continuation, batch_size, progress
        As for :func:`extract`.
    passages : anything with a length and slices
        A list, an array, a tensor, or a memory-mapped file (``numpy.load(..., mmap_mode="r")``).
    folder : str or Path
        Created if it is missing; one file a part.
    ids : sequence, optional
        A name for each passage, by default its row.
    part : int
        Passages per file; the answers do not depend on it.

    Yields
    ------
    Extraction
        Of each part, in order.

    Raises
    ------
    TypeError, ValueError
        As for :func:`extract`; or if the folder holds parts of other passages, of another model, or
        of one in which other units are ablated.
    RuntimeError
        If the model changes before the last part, or a block ends in which it was ablated.

    Examples
    --------
    >>> import tempfile
    >>> successor = nn.Embedding.from_pretrained(torch.eye(5).roll(1, 1)).eval()
    >>> passages = torch.arange(40).view(10, 4) % 5
    >>> with tempfile.TemporaryDirectory() as place:
    ...     parts = extract_stream(successor, passages, place, 2, 2, part=4, progress=False)
    ...     [len(found) for found in parts]
    [4, 4, 2]
    """
    if not all(hasattr(passages, name) for name in ("__len__", "__getitem__")) or isinstance(
        passages, Mapping
    ):
        raise ValueError(
            f"passages is {type(passages).__name__}, which has no slices; give a list, an array or "
            "a memory-mapped file."
        )
    if not len(passages):
        raise ValueError("passages is empty; give token ids, [passages, tokens].")
    if ids is not None and len(ids) != len(passages):
        raise ValueError(
            f"ids holds {len(ids)} names for {len(passages)} passages; give one for each."
        )
    tensor_files.check_writable(Path(folder))
    Causal(model)  # refuses what is no model now, not at the first part
    facts = {"weights": _weights(model), "part": str(part)}
    return _parts(
        model, passages, Path(folder), prompt, continuation, ids, facts, batch_size, progress
    )


def _parts(
    model: nn.Module,
    passages: Any,
    folder: Path,
    prompt: int,
    continuation: int,
    ids: Sequence[Any] | None,
    facts: dict[str, str],
    batch_size: int,
    progress: bool,
) -> Iterator[Extraction]:
    part = int(facts["part"])
    starts = range(0, len(passages), part)
    for number, start in enumerate(slow(starts, "parts", progress=progress)):
        if _weights(model) != facts["weights"]:
            raise RuntimeError(
                f"the model is not as it was when this stream began, now that part {number} is "
                "due: other weights, or other units are ablated. Call extract_stream again, and "
                "use it up inside one mv.ablate block, or outside of any."
            )
        rows = passages[start : start + part]
        names = range(start, start + len(rows)) if ids is None else ids[start : start + part]

        def run(rows: Any, names: Sequence[Any]) -> Extraction:
            return extract(
                model, rows, prompt, continuation, ids=names, batch_size=batch_size, progress=False
            )

        path = _file(folder, number)
        if path.is_file():
            if not _file(folder, number + 1).exists():
                tensor_files.remove_orphans(path)  # a kill may come right after the file was named
            found, known = read_extraction(path)
            # Decoded again: what is ablated, or a module's own state, is not in the weights.
            first = run(rows[:1], names[:1])
            _check_same(path, found, known, facts, rows, names, first)
        else:
            found = run(rows, names)
            write_extraction(found, path, facts)
        yield found


def _file(folder: Path, number: int) -> Path:
    return folder / f"part-{number:06d}.safetensors"


def _weights(model: nn.Module) -> str:
    """The model's fingerprint; units that are ablated in this thread are part of it."""
    return tensor_files.digest([*model.named_parameters(), *model.named_buffers()])


def _check_same(
    path: Path,
    found: Extraction,
    known: dict[str, str],
    facts: dict[str, str],
    rows: Any,
    names: Sequence[Any],
    first: Extraction,
) -> None:
    if any(known.get(key) != value for key, value in facts.items()):
        is_other = known.get("weights") != facts["weights"]
        other = "another model, or other units were ablated" if is_other else "another part size"
    elif (found.prompt, found.continuation) != (first.prompt, first.continuation):
        other = "another prompt or continuation"
    elif found.ids != tuple(map(str, names)) or not torch.equal(
        found.passages, as_passages(rows, first.prompt, first.continuation)
    ):
        other = "other passages"
    elif not torch.equal(found.said[:1], first.said):
        other = "a model that says something else after the same prompt"
    else:
        return
    raise ValueError(f"{quoted(str(path))} is of {other}; name another folder, or delete it.")
