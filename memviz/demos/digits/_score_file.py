"""Scores of examples on disk: one safetensors file, written whole and checked when it is read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from memviz.scores import Null, Scores
from memviz.tensor_files import read_hashed, write_hashed

_KIND = "scores of examples"
_WORDS = ("name", "measure", "higher", "source")


def write_scores(scores: Sequence[Scores], path: str | Path, about: str = "") -> None:
    """Write scores of examples with their nulls, values in single precision.

    Parameters
    ----------
    scores : sequence of Scores
        Of examples, each with a name of its own.
    path : str or Path
    about : str
        What they were measured on; asked for again when they are read.

    Raises
    ------
    ValueError
        If two have one name, or one scores units.
    """
    tables: dict[str, Tensor] = {}
    words = []
    last: np.ndarray | None = None
    for number, one in enumerate(scores):
        if one.examples is None or one.name in [other.name for other in scores[:number]]:
            why = "scores units" if one.examples is None else "is there twice"
            raise ValueError(f"{one.name!r} {why}; give scores of examples, each once.")
        if last is None or not np.array_equal(last, one.examples):
            tables[f"{number}/examples"] = torch.from_numpy(np.asarray(one.examples, np.int64))
        last = one.examples
        tables[f"{number}/values"] = torch.from_numpy(one.values.astype(np.float32))
        if one.null is not None:
            drawn = one.null.values
            # The same for all examples: once is enough.
            same = bool((drawn == drawn[:, :1]).all())
            kept = np.ascontiguousarray(drawn[:, :1] if same else drawn, dtype=np.float32)
            tables[f"{number}/null"] = torch.from_numpy(kept)
        words.append(
            {key: getattr(one, key) for key in _WORDS}
            | {"null": one.null.words if one.null is not None else None}
        )
    write_hashed(Path(path), tables, {"kind": _KIND, "about": about, "words": json.dumps(words)})


def read_scores(path: str | Path, about: str | None = None) -> list[Scores]:
    """Read what :func:`write_scores` wrote.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, altered, of another kind, or about something else.
    """
    tables, facts = read_hashed(Path(path), _KIND)
    if about is not None and facts["about"] != about:
        raise ValueError(
            f"{str(path)!r} holds scores of {facts['about']!r}, not of {about!r}; name another "
            "file, or write this one again."
        )
    found: list[Scores] = []
    for number, words in enumerate(json.loads(facts["words"])):
        values = tables[f"{number}/values"].double().numpy()
        null = words.pop("null")
        drawn = tables.get(f"{number}/null")
        if drawn is not None:
            wide = np.broadcast_to(drawn.double().numpy(), (len(drawn), len(values)))
            words["null"] = Null(null, wide)
        ids = tables.get(f"{number}/examples")  # those of the score before, where there are none
        examples = found[-1].examples if ids is None else ids.numpy()
        found.append(Scores(values=values, examples=examples, **words))
    return found
