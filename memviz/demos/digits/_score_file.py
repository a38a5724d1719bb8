"""Scores over examples on disk: one safetensors file, written atomically and checked when read."""

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
    """Write scores over examples with their nulls, values in single precision.

    Parameters
    ----------
    scores : sequence of Scores
        Over examples, with distinct names.
    path : str or Path
    about : str
        What they were measured on; ``read_scores`` can check it.

    Raises
    ------
    ValueError
        If two scores have the same name, or one is over units.
    """
    tables: dict[str, Tensor] = {}
    words = []
    last: np.ndarray | None = None
    for number, score in enumerate(scores):
        if score.examples is None or score.name in [other.name for other in scores[:number]]:
            why = "is over units" if score.examples is None else "was given twice"
            raise ValueError(f"{score.name!r} {why}; give scores over examples, each once.")
        if last is None or not np.array_equal(last, score.examples):
            tables[f"{number}/examples"] = torch.from_numpy(np.asarray(score.examples, np.int64))
        last = score.examples
        tables[f"{number}/values"] = torch.from_numpy(score.values.astype(np.float32))
        if score.null is not None:
            drawn = score.null.values
            # A null that is the same for all examples is stored once.
            same = bool((drawn == drawn[:, :1]).all())
            kept = np.ascontiguousarray(drawn[:, :1] if same else drawn, dtype=np.float32)
            tables[f"{number}/null"] = torch.from_numpy(kept)
        words.append(
            {key: getattr(score, key) for key in _WORDS}
            | {"null": score.null.words if score.null is not None else None}
        )
    write_hashed(Path(path), tables, {"kind": _KIND, "about": about, "words": json.dumps(words)})


def read_scores(path: str | Path, about: str | None = None) -> list[Scores]:
    """Read what :func:`write_scores` wrote.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, altered, of another kind, or measured on something else.
    """
    tables, facts = read_hashed(Path(path), _KIND)
    if about is not None and facts["about"] != about:
        raise ValueError(
            f"{str(path)!r} holds scores of {facts['about']!r}, not of {about!r}; give another "
            "file, or write this one again."
        )
    scores: list[Scores] = []
    for number, words in enumerate(json.loads(facts["words"])):
        values = tables[f"{number}/values"].double().numpy()
        null = words.pop("null")
        drawn = tables.get(f"{number}/null")
        if drawn is not None:
            wide = np.broadcast_to(drawn.double().numpy(), (len(drawn), len(values)))
            words["null"] = Null(null, wide)
        ids = tables.get(f"{number}/examples")  # stored only where they differ from the last
        examples = scores[-1].examples if ids is None else ids.numpy()
        scores.append(Scores(values=values, examples=examples, **words))
    return scores
