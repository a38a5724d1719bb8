"""Search: screen all pairs in steps, and score exactly those that may be among the k nearest."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from memviz.engine.record import split
from memviz.progress import slow

from ._screen import Measure, Rows, Screen, product

_STEP = 4096  # index rows at a time
_ENTRIES = 2**22  # scores at a time
_KEPT = 2**22  # pairs kept before they are scored exactly
_LOOSE = 0.002  # share of all pairs left undecided above which float32 screens faster


class Search:
    """One search: a bound on each query's k-th best score so far, and the undecided pairs."""

    def __init__(
        self, queries: Tensor, index: Tensor, k: int, measure: Measure, largest: float
    ) -> None:
        self.queries, self.index, self.k, self.measure = queries, index, k, measure
        few = 1 << (4 * k - 1).bit_length()
        self.step = min(len(index), max(_STEP, few))
        # Every `classes`-th row of every step is one class. The best of each class are different
        # rows, so the k-th best of them is never above the k-th best of all.
        self.classes = min(self.step, max(64, few))
        shape = (self.classes, len(queries))
        self.best = queries.new_full(shape, -torch.inf, dtype=torch.float32)
        self.least = queries.new_full(shape[1:], -torch.inf, dtype=torch.float32)
        self.tiles = split(len(queries), max(1, _ENTRIES // self.step))
        sample = index[:: max(1, len(index) // 1024)].to(queries)
        self.screen = Screen(sample, largest, measure)
        self.pairs: list[tuple[Tensor, Tensor, Tensor]] = []
        self.precisions: list[str] = []

    def run(self, dtypes: list[torch.dtype], progress: bool) -> None:
        """Screen all rows; in the second dtype once the first leaves too many pairs undecided."""
        self._screen_in(dtypes[0])
        starts = range(0, len(self.index), self.step)
        for start in slow(starts, "nearest rows", progress=progress):
            rows = self.screen.index(
                self.index[start : start + self.step].to(self.queries), self.low
            )
            for tile in self.tiles:
                self._scan(start, rows, slice(int(tile[0]), int(tile[-1]) + 1))
            usual = len(self.queries) * (32 + 4 * self.k + _LOOSE * start)
            if (
                self._held() > usual
                and self._prune() > usual
                and len(dtypes) > len(self.precisions)
            ):
                self._screen_in(dtypes[len(self.precisions)])
            if self._held() > max(_KEPT, usual) and self._prune() > max(_KEPT, usual) / 2:
                self.settle(progress=False)

    def settle(self, progress: bool) -> tuple[Tensor, Tensor]:
        """Score the undecided pairs: each query's k best rows and float64 values, in order."""
        self._prune()
        # The likely pairs first: their exact values rule out most of the others.
        query, row, upper = self.pairs[0]
        likely = self._first(query, row, upper)
        value = self._exact(query[likely], row[likely], progress)
        kth = value.view(-1, self.k).amin(1)
        self.least = torch.maximum(self.least, self.screen.at_least(self.queries, kth))
        unlikely = torch.ones_like(query, dtype=torch.bool).index_fill_(0, likely, False)
        others = (unlikely & (upper >= self.least[query])).nonzero()[:, 0]

        value = torch.cat([value, self._exact(query[others], row[others], progress)])
        query, row = (ids[torch.cat([likely, others])] for ids in (query, row))
        kept = self._first(query, row, value)
        self.pairs = [(query[kept], row[kept], value.new_full(kept.shape, torch.inf).float())]
        return row[kept], value[kept]

    def _screen_in(self, low: torch.dtype) -> None:
        self.low = low
        self.rounded = self.screen.queries(self.queries, low)
        self.precisions.append(str(low).removeprefix("torch."))

    def _scan(self, start: int, rows: Rows, tile: slice) -> None:
        """Score a step's rows with a tile's queries; keep pairs that may be among the k nearest."""
        sizes = self.rounded.size[:, tile]
        scores = product(rows.low, self.rounded.low[tile])
        group = -(-len(scores) // self.classes)
        missing = group * self.classes - len(scores)
        if missing:
            scores = pad(scores, (0, 0, 0, missing), value=torch.finfo(scores.dtype).min)
        last = 0.51 * torch.finfo(scores.dtype).eps  # half a last digit, and a little more
        error = self.screen.error(sizes, rows.size.amax(1))

        # Per class first: only classes whose best may be near enough are looked at row by row.
        top = scores.view(group, self.classes, -1).amax(0).float()
        slack = top.abs() * last + error
        best = self.best[:, tile]
        torch.maximum(best, top - slack, out=best)
        top += slack
        hits = top >= self.least[tile]
        if int(hits.sum()) > 4 * len(error):
            self._lift(tile)
            hits = top >= self.least[tile]

        place = hits.flatten().nonzero()[:, 0]
        query = place % len(error)
        likely = scores.view(group, -1).index_select(1, place).float()
        likely += likely.abs() * last  # upper bounds, but for the product's own error
        member, hit = (likely + error[query] >= self.least[tile][query]).nonzero().unbind(1)
        row = member * self.classes + place[hit] // len(error)
        query, upper = query[hit], likely[member, hit]
        real = row < len(rows.low)
        row, query, upper = row[real], query[real], upper[real]
        upper = upper + self.screen.error(sizes[:, query], rows.size[:, row])
        self.pairs.append((query + tile.start, row + start, upper))

    def _lift(self, tile: slice) -> None:
        """Raise the bound on each query's k-th best score to that of the best of each class."""
        kth = self.best[:, tile].topk(self.k, dim=0).values[-1]
        self.least[tile] = torch.maximum(self.least[tile], kth)

    def _held(self) -> int:
        return sum(row.numel() for _, row, _ in self.pairs)

    def _prune(self) -> int:
        """Drop the pairs that later rows have ruled out; returns how many are left."""
        self._lift(slice(None))
        query, row, upper = (torch.cat(part) for part in zip(*self.pairs, strict=True))
        kept = upper >= self.least[query]
        self.pairs = [(query[kept], row[kept], upper[kept])]
        return self._held()

    def _first(self, query: Tensor, row: Tensor, value: Tensor) -> Tensor:
        """Positions of each query's k pairs of highest value, in order, ties by row."""
        order = row.argsort()
        order = order[value[order].argsort(stable=True, descending=True)]
        order = order[query[order].argsort(stable=True)]
        counts = torch.bincount(query, minlength=len(self.queries))
        before = (counts.cumsum(0) - counts)[query[order]]
        return order[torch.arange(len(order), device=order.device) - before < self.k]

    def _exact(self, query: Tensor, row: Tensor, progress: bool) -> Tensor:
        return exact_values(self.queries, self.index, self.measure, query, row, progress=progress)


def exact_values(
    queries: Tensor,
    index: Tensor,
    measure: Measure,
    query: Tensor,
    row: Tensor,
    *,
    progress: bool = False,
) -> Tensor:
    """Values of pairs in float64; distances are negative, so that higher is nearer."""
    # Always the same number of pairs: equal rows then get sums equal to the last bit.
    size = max(16, 2**17 // queries.shape[1])
    lengths = torch.linalg.vector_norm(queries, dim=1, dtype=torch.float64)
    values = torch.empty(len(row), dtype=torch.float64, device=row.device)
    for start in slow(range(0, len(row), size), "nearest, exactly", progress=progress):
        part = slice(start, min(start + size, len(row)))
        filled = [pad(ids[part], (0, start + size - part.stop)) for ids in (query, row)]
        q = queries[filled[0]].double()
        v = index[filled[1].to(index.device)].to(queries).double()
        if measure == "euclidean":
            value = -(q - v).square_().sum(1).sqrt()
        else:
            value = (q * v).sum(1)
        if measure == "cosine":
            value /= lengths[filled[0]] * v.square_().sum(1).sqrt()
        values[part] = value[: part.stop - start]
    return values
