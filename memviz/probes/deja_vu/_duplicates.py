"""Duplicates between the sets of a déjà vu test, which make a gap look smaller than it is."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from memviz.engine.search import nearest

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Duplicates:
    """Rows that a set shares with another set, or with an earlier row of its own.

    Attributes
    ----------
    rows : list of tuples
        ``(set, row, other set, other row, cosine)``; the cosine is 1 for equal rows. A row that has
        several duplicates in one other set is told once, with the first or nearest.
    sizes : dict
        Rows of each set.
    what : str
        Equal, or how near.
    """

    rows: list[tuple[str, int, str, int, float]]
    sizes: dict[str, int]
    what: str

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def frame(self) -> pd.DataFrame:
        """A tidy pandas table: set, row, other_set, other_row, cosine."""
        import pandas as pd

        return pd.DataFrame(self.rows, columns=["set", "row", "other_set", "other_row", "cosine"])

    def of(self, name: str) -> Tensor:
        """Rows of a set that are also elsewhere, int64, each once: what to leave out of it.

        A duplicate within the set is told by its later rows, so that one of them stays.
        """
        if name not in self.sizes:
            raise KeyError(f"there is no set {name!r}; there are {', '.join(self.sizes)}.")
        mine = {row for one, row, *_ in self.rows if one == name}
        mine |= {row for one, _, other, row, _ in self.rows if other == name != one}
        return torch.tensor(sorted(mine), dtype=torch.int64)

    def __repr__(self) -> str:
        if not self.rows:
            return f"no duplicates ({self.what}) in {', '.join(self.sizes)}"
        counts = Counter((one, other) for one, _, other, *_ in self.rows)
        lines = [f"{len(self.rows):,} duplicates ({self.what})"]
        for (one, other), count in counts.items():
            where = "earlier in it" if one == other else f"also in {other}"
            lines.append(f"  {count:,} of the {self.sizes[one]:,} rows of {one} are {where}")
        lines.append("what two sets share makes the gap smaller than it is; leave it out of one")
        return "\n".join(lines)


def duplicates(sets: Mapping[str, Any]) -> Duplicates:
    """Rows that are equal to the last bit, between sets and within each.

    A training picture in the reference's set teaches the reference the pair, in the public set it
    makes both models right: either way memorization is under-estimated. Two equal captions in one
    set are each other's false negatives.

    Parameters
    ----------
    sets : mapping of name to Tensor ``[n, ...]``, texts, or paths
        For example target, reference, public and held-out pictures, or their captions. Paths are
        compared by what the files hold.

    Raises
    ------
    ValueError
        On sets of different kinds, or tensors of another type or shape, which can't be equal.

    Examples
    --------
    >>> duplicates({"target": ["a dog", "a cat", "a dog"], "public": ["a cat"]})
    2 duplicates (equal)
      1 of the 3 rows of target are earlier in it
      1 of the 3 rows of target are also in public
    what two sets share makes the gap smaller than it is; leave it out of one
    """
    if len({_kind(rows) for rows in sets.values()}) > 1:
        kinds = ", ".join(f"{name} {_kind(rows)}" for name, rows in sets.items())
        raise ValueError(f"the sets are of different kinds ({kinds}); compare like with like.")
    hashes = {name: list(_hashes(rows)) for name, rows in sets.items()}
    first: dict[str, dict[bytes, int]] = {}
    found: list[tuple[str, int, str, int, float]] = []
    for name, mine in hashes.items():
        first[name] = {}
        for row, content in enumerate(mine):
            earlier = first[name].setdefault(content, row)
            if earlier != row:
                found.append((name, row, name, earlier, 1.0))
    for one, other in combinations(hashes, 2):
        for row, content in enumerate(hashes[one]):
            if content in first[other]:
                found.append((one, row, other, first[other][content], 1.0))
    return Duplicates(found, {name: len(mine) for name, mine in hashes.items()}, "equal")


def near_duplicates(
    embeddings: Mapping[str, Tensor], threshold: float = 0.95, *, progress: bool = True
) -> Duplicates:
    """Rows whose nearest row in another set has at least this cosine.

    Parameters
    ----------
    embeddings : mapping of name to float ``[n, features]``
        By one encoder, best one that was trained on none of the sets.
    threshold : float
        Depends on the encoder: look at the pairs near it.
    progress : bool

    Raises
    ------
    ValueError
        On a threshold that is no cosine, or embeddings that can't be searched.

    Examples
    --------
    >>> one, other = torch.eye(3), torch.tensor([[0.0, 1.0, 0.1]])
    >>> near_duplicates({"target": one, "public": other}).frame.values.tolist()[0][:4]
    ['target', 1, 'public', 0]
    """
    if not -1 <= threshold <= 1:
        raise ValueError(f"threshold is {threshold}; a cosine is from -1 to 1.")
    found = []
    for one, other in combinations(embeddings, 2):
        near = nearest(embeddings[one], embeddings[other], 1, progress=progress)
        values = near.values[:, 0]
        for row in (values >= threshold).nonzero()[:, 0].tolist():
            found.append((one, row, other, int(near.ids[row, 0]), float(values[row])))
    sizes = {name: len(rows) for name, rows in embeddings.items()}
    return Duplicates(found, sizes, f"cosine at least {threshold:g}")


def _kind(rows: Any) -> str:
    if isinstance(rows, Tensor):
        return f"{rows.dtype} {list(rows.shape[1:])}"
    if isinstance(rows, Sequence) and not isinstance(rows, str):
        for kind, name in ((str, "texts"), (Path, "paths")):
            if all(isinstance(row, kind) for row in rows):
                return name
    raise ValueError(
        f"a set is {type(rows).__name__}; give a tensor, a list of texts, or a list of paths."
    )


def _hashes(rows: Any) -> Iterator[bytes]:
    for row in rows:
        if isinstance(row, Tensor):
            content = row.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        else:
            content = row.read_bytes() if isinstance(row, Path) else row.encode()
        yield hashlib.sha256(content).digest()
