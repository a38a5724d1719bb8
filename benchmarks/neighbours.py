"""The k nearest rows of an index, beside FAISS, scikit-learn and torch.

    python -m benchmarks.neighbours

Times are CPU seconds of one thread. Rows have length 1, so that dot product and cosine agree and
all sort by the same number; what a peer does before its first query (adding, fitting) is not timed,
while everything memviz does is. Rounding loses little where rows are spread out and much where they
are clustered, so there are three kinds: independent normal rows, and rows around 200 centres with a
cosine of about 0.8 and 0.96 to their neighbours. Correct ids are those of a float64 brute force;
FAISS sums in float32 and may swap two rows whose values differ by less than its rounding.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import torch
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.nn.functional import normalize

from benchmarks.report import about, parser, show, significant
from benchmarks.timing import Timing, in_turn, one_thread
from memviz.engine.search import nearest

QUERIES, ROWS, FEATURES, K = 1000, 100_000, 512, 10
SPREADS = {"normal": None, "clusters, cosine 0.8": 0.5, "clusters, cosine 0.96": 0.2}


def measure(
    queries: int = QUERIES, rows: int = ROWS, features: int = FEATURES, k: int = K, repeats: int = 3
) -> dict[str, Any]:
    """Medians, spread, ratios and whether the ids are correct, for each kind of rows."""
    found = {}
    with one_thread(), threadpool_limits(1):
        for name, spread in SPREADS.items():
            vectors = drawn(queries + rows, features, spread)
            found[name] = _measured(vectors[:queries], vectors[queries:], k, repeats)
    sizes = {"queries": queries, "rows": rows, "features": features, "k": k}
    return {**sizes, "faiss": _version("faiss-cpu"), **found}


def _measured(queries: Tensor, index: Tensor, k: int, repeats: int) -> dict[str, Any]:
    ways: dict[str, Callable[[], Any]] = {
        "ours": lambda: nearest(queries, index, k, measure="dot", progress=False),
        "ours_cosine": lambda: nearest(queries, index, k, progress=False),
        "torch": lambda: (queries @ index.T).topk(k),
    }
    with suppress(ImportError):
        ways["faiss"] = _faiss(queries, index, k)
    timings = in_turn(ways, repeats, warm=False)
    fitted = NearestNeighbors(n_neighbors=k, algorithm="brute", metric="cosine").fit(index.numpy())
    timings["sklearn"] = Timing()
    timings["sklearn"].run(lambda: fitted.kneighbors(queries.numpy()))  # slow: once

    ours, true = ways["ours"](), brute_force(queries, index, k)
    result = {f"{name}_s": significant(timing.median) for name, timing in timings.items()}
    result |= {f"{name}_spread": significant(timings[name].spread, 2) for name in ways}
    for name in ("faiss", "sklearn", "torch"):
        known = name in timings
        ratio = timings[name].median / timings["ours"].median if known else 0.0
        result[f"ratio_{name}"] = significant(ratio) if known else "not installed"
    result |= {"path": ours.engine, "identical_ids": bool((ours.ids == true.indices).all())}
    result["max_error"] = significant(float((ours.values - true.values).abs().max()), 2)
    if "faiss" in ways:
        ids = torch.from_numpy(ways["faiss"]()[1])
        values = (queries.double()[:, None] * index[ids].double()).sum(-1)
        result["ids_other_than_faiss"] = int((ids != ours.ids).sum())
        result["largest_difference_there"] = significant(
            float((values - true.values).abs().max()), 2
        )
    return {**result, "repeats": repeats, "repeats_sklearn": 1}


def _faiss(queries: Tensor, index: Tensor, k: int) -> Callable[[], Any]:
    import faiss

    faiss.omp_set_num_threads(1)
    flat = faiss.IndexFlatIP(index.shape[1])
    flat.add(index.numpy())
    return lambda: flat.search(queries.numpy(), k)


def drawn(n: int, features: int, spread: float | None) -> Tensor:
    """Rows of length 1: independent, or around one of 200 centres."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(n, features, generator=generator)
    if spread is not None:
        centres = torch.randn(200, features, generator=generator)
        rows = centres[torch.randint(200, (n,), generator=generator)] + spread * rows
    return normalize(rows)


def brute_force(queries: Tensor, index: Tensor, k: int) -> Any:
    """The same in float64, all at once."""
    exact = index.double()
    found = [(part.double() @ exact.T).topk(k) for part in queries.split(100)]
    values, indices = (torch.cat(parts) for parts in zip(*found, strict=True))
    return torch.return_types.topk((values, indices))


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    arguments = parser("neighbours", __doc__)
    arguments.add_argument("--repeats", type=int, default=3)
    chosen = arguments.parse_args(argv)
    with one_thread():
        show({**measure(repeats=chosen.repeats), "about": about()}, as_json=chosen.json)


if __name__ == "__main__":
    main()
