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

from memviz.checks import check_file, checked, quoted
from memviz.engine.search import nearest

if TYPE_CHECKING:
    import pandas as pd

_SLACK = 1e-12  # the cosine of equal rows may be less than 1 by this


@dataclass(frozen=True, eq=False)
class Duplicates:
    """Rows that a set shares with another set, or with an earlier row of its own.

    Attributes
    ----------
    rows : list of tuples
        ``(set, row, other set, other row, cosine)``; the cosine is 1 for equal rows. A row with
        several duplicates in another set is listed once, with the first or nearest of them.
    sizes : dict
        Number of rows of each set.
    what : str
        ``"equal"``, or the least cosine.
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
        """Rows to leave out of a set, since they also occur elsewhere: int64, each once.

        Of duplicates within the set the later rows are listed, so that the first one stays.
        """
        if name not in self.sizes:
            raise KeyError(f"there is no set {quoted(name)}; choose from {', '.join(self.sizes)}.")
        shared = {row for owner, row, *_ in self.rows if owner == name}
        shared |= {row for owner, _, other, row, _ in self.rows if other == name != owner}
        return torch.tensor(sorted(shared), dtype=torch.int64)

    def __repr__(self) -> str:
        if not self.rows:
            return f"no duplicates ({self.what}) in {', '.join(self.sizes)}"
        counts = Counter((name, other) for name, _, other, *_ in self.rows)
        lines = [f"{len(self.rows):,} duplicates ({self.what})"]
        for (name, other), count in counts.items():
            place = "earlier in it" if name == other else f"also in {other}"
            lines.append(f"  {count:,} of the {self.sizes[name]:,} rows of {name} are {place}")
        lines.append("shared rows make the gap smaller than it is; leave them out of one set")
        return "\n".join(lines)


@checked
def duplicates(sets: Mapping[str, Any]) -> Duplicates:
    """Rows that are bitwise identical, between sets and within each set.

    A training image in the reference's set teaches the reference the pair; in the public set it
    makes both models right: either way memorization is underestimated. Two equal captions in one
    set are each other's false negatives.

    Parameters
    ----------
    sets : mapping of name to Tensor ``[n, ...]``, texts, or paths
        For example the target, reference, public and held-out images, or their captions. Paths are
        compared by the contents of the files.

    Raises
    ------
    ValueError
        If the sets are of different kinds, or tensors of different types or shapes.

    Examples
    --------
    >>> duplicates({"target": ["a dog", "a cat", "a dog"], "public": ["a cat"]})
    2 duplicates (equal)
      1 of the 3 rows of target are earlier in it
      1 of the 3 rows of target are also in public
    shared rows make the gap smaller than it is; leave them out of one set
    """
    if len({_kind(rows) for rows in sets.values()}) > 1:
        kinds = ", ".join(f"{name} {_kind(rows)}" for name, rows in sets.items())
        raise ValueError(f"the sets are of different kinds ({kinds}); give sets of the same kind.")
    hashes = {name: list(_hashes(rows)) for name, rows in sets.items()}
    first: dict[str, dict[bytes, int]] = {}
    shared: list[tuple[str, int, str, int, float]] = []
    for name, digests in hashes.items():
        first[name] = {}
        for row, digest in enumerate(digests):
            earlier = first[name].setdefault(digest, row)
            if earlier != row:
                shared.append((name, row, name, earlier, 1.0))
    for name, other in combinations(hashes, 2):
        for row, digest in enumerate(hashes[name]):
            if digest in first[other]:
                shared.append((name, row, other, first[other][digest], 1.0))
    return Duplicates(shared, {name: len(digests) for name, digests in hashes.items()}, "equal")


@checked
def near_duplicates(
    embeddings: Mapping[str, Tensor], threshold: float = 0.95, *, progress: bool = True
) -> Duplicates:
    """Rows whose nearest row in another set has at least this cosine.

    Parameters
    ----------
    embeddings : mapping of name to float ``[n, features]``
        All by the same encoder, ideally one that was trained on none of the sets.
    threshold : float
        Least cosine. It depends on the encoder: inspect the pairs just above and below it.
    progress : bool

    Raises
    ------
    ValueError
        If the threshold is not a cosine, or the embeddings cannot be searched.

    Examples
    --------
    >>> target, public = torch.eye(3), torch.tensor([[0.0, 1.0, 0.1]])
    >>> near_duplicates({"target": target, "public": public}).frame.values.tolist()[0][:4]
    ['target', 1, 'public', 0]
    """
    if not -1 <= threshold <= 1:
        raise ValueError(f"threshold is {threshold}; give a cosine from -1 to 1.")
    shared = []
    for name, other in combinations(embeddings, 2):
        neighbours = nearest(embeddings[name], embeddings[other], 1, progress=progress)
        values = neighbours.values[:, 0]
        for row in (values >= threshold - _SLACK).nonzero()[:, 0].tolist():
            shared.append((name, row, other, int(neighbours.ids[row, 0]), float(values[row])))
    sizes = {name: len(rows) for name, rows in embeddings.items()}
    return Duplicates(shared, sizes, f"cosine at least {threshold:g}")


def _kind(rows: Any) -> str:
    if isinstance(rows, Tensor):
        return f"{rows.dtype} {list(rows.shape[1:])}"
    if isinstance(rows, Sequence) and not isinstance(rows, str):
        for kind, name in ((str, "texts"), (Path, "paths")):
            if all(isinstance(row, kind) for row in rows):
                return name
    raise ValueError(
        f"a set is {type(rows).__name__}; expected a tensor, a list of texts, or a list of paths."
    )


def _hashes(rows: Any) -> Iterator[bytes]:
    for row in rows:
        if isinstance(row, Tensor):
            content = row.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        else:
            content = _content(row) if isinstance(row, Path) else row.encode()
        yield hashlib.sha256(content).digest()


def _content(path: Path) -> bytes:
    check_file(path)
    return path.read_bytes()
