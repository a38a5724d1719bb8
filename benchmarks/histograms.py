"""Mutual information of all pairs of units, beside np.bincount and scikit-learn pair by pair.

    python -m benchmarks.histograms

Times are CPU seconds of one thread. Ours is always the whole table; the others run on a sample of
pairs, in turn with ours, and are extrapolated to all pairs (each unit with itself included). The
loop over np.bincount is a good one: ``c ln c`` from a table and each unit's own part precomputed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sklearn.metrics import mutual_info_score
from torch import Tensor

from benchmarks.report import about, parser, show, significant
from benchmarks.timing import in_turn, one_thread
from memviz.engine.activations import binned_mutual_information

UNITS, EXAMPLES, BINS = 512, 10_000, (10, 100)
PAIRS = {"bincount": 400, "sklearn": 20}


def measure(
    units: int = UNITS, examples: int = EXAMPLES, bins: Sequence[int] = BINS, repeats: int = 5
) -> dict[str, Any]:
    """Medians, spread, ratios and the largest error for each number of bins."""
    with one_thread():
        found = {f"{count} bins": _measured(units, examples, count, repeats) for count in bins}
    return {"units": units, "examples": examples, "extrapolated_from_pairs": PAIRS, **found}


def _measured(units: int, examples: int, bins: int, repeats: int) -> dict[str, Any]:
    codes = binned(units, examples, bins)
    arrays = codes.numpy()
    rng = np.random.default_rng(0)
    # As the loops over all pairs would meet them: one unit with many others in turn.
    pairs = {
        name: np.stack([np.repeat(rng.integers(0, units, 4), count // 4), np.arange(count) % units])
        for name, count in PAIRS.items()
    }
    lookup = xlogx(examples)
    single = np.array([lookup[np.bincount(unit)].sum() for unit in arrays])
    ways = {
        "ours": lambda: binned_mutual_information(codes, bins, progress=False),
        "bincount": lambda: bincount_loop(arrays, pairs["bincount"], bins, single, lookup),
        "sklearn": lambda: [mutual_info_score(arrays[i], arrays[j]) for i, j in pairs["sklearn"].T],
    }
    timings = in_turn(ways, repeats)
    every = units * (units + 1) / 2
    scale = {"ours": 1.0} | {name: every / count for name, count in PAIRS.items()}
    seconds = {name: timings[name].median * scale[name] for name in ways}
    ours = ways["ours"]()
    errors = {name: np.abs(ours.numpy()[tuple(pairs[name])] - ways[name]()).max() for name in PAIRS}
    return {
        **{f"{name}_s": significant(seconds[name]) for name in ways},
        **{f"{name}_spread": significant(timings[name].spread, 2) for name in ways},
        **{f"ratio_{name}": significant(seconds[name] / seconds["ours"]) for name in PAIRS},
        "max_error": significant(max(errors.values()), 2),
        "mean_information": significant(float(ours.sum() - ours.trace()) / (units**2 - units)),
        "repeats": repeats,
    }


def binned(units: int, examples: int, bins: int) -> Tensor:
    """Codes of correlated normal activations, bins of equal width for each unit."""
    generator = torch.Generator().manual_seed(0)
    shared = torch.randn(16, examples, generator=generator)
    values = torch.randn(units, 16, generator=generator) @ shared / 4
    values += 0.5 * torch.randn(units, examples, generator=generator)
    low, high = values.amin(1, keepdim=True), values.amax(1, keepdim=True)
    return ((values - low) / (high - low) * bins).long().clamp_max_(bins - 1)


def xlogx(largest: int) -> np.ndarray:
    """``c ln c`` for c from 0."""
    counts = np.arange(largest + 1.0)
    return counts * np.log(np.maximum(counts, 1.0))


def bincount_loop(
    codes: np.ndarray, pairs: np.ndarray, bins: int, single: np.ndarray, lookup: np.ndarray
) -> list[float]:
    """The information of each pair by one np.bincount; each unit's own part is precomputed."""
    n, found = codes.shape[1], []
    for i, j in pairs.T:
        joint = np.bincount(codes[i] * bins + codes[j], minlength=bins * bins)
        found.append((lookup.take(joint).sum() - single[i] - single[j] + lookup[n]) / n)
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    arguments = parser("histograms", __doc__)
    arguments.add_argument("--repeats", type=int, default=5)
    chosen = arguments.parse_args(argv)
    with one_thread():
        show({**measure(repeats=chosen.repeats), "about": about()}, as_json=chosen.json)


if __name__ == "__main__":
    main()
