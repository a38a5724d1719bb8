"""How the cost of a sweep grows with examples, units and depth.

    python -m benchmarks scaling

Each is varied over two decades with the others fixed. A line through the times gives the fixed
cost, the cost of each further one, and how well a line describes them; the exponent is the slope
between the logarithms, 1 where twice as much takes twice as long.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

import memviz as mv
from benchmarks.engines import ENGINES, evaluate
from benchmarks.report import about, parser, show, significant
from benchmarks.samples import spread
from benchmarks.timing import Timing, one_thread
from memviz.models.mlp import MLP

EXAMPLES = (16, 50, 160, 500, 1600)
UNITS = (3, 10, 30, 100, 300)
DEPTHS = (2, 6, 20, 60, 200)
WIDTH, DEPTH_EXAMPLES, DEPTH_UNITS = 64, 256, 16


def measure(
    *,
    examples: Sequence[int] = EXAMPLES,
    units: Sequence[int] = UNITS,
    depths: Sequence[int] = DEPTHS,
    repeats: int = 3,
) -> dict[str, Any]:
    """Times along the three axes, each with its line; repeats are taken in turn."""
    with one_thread():
        engine = ENGINES[0]
        study = mv.demo("digits")
        order = _shuffled(study)
        most = 256

        def by_examples(count: int) -> Callable[[], Any]:
            replay = mv.Replay(study, torch.arange(count))
            return lambda: evaluate(engine, replay, order[:32])

        def by_units(count: int) -> Callable[[], Any]:
            replay = mv.Replay(study, torch.arange(most))
            return lambda: evaluate(engine, replay, order[:count])

        def by_depth(depth: int) -> Callable[[], Any]:
            replay = mv.Replay(_deep(depth))
            chosen = [mv.Unit(f"fc{1 + k}", 0) for k in spread(depth, min(depth, DEPTH_UNITS))]
            # Each run has as many units; fewer layers are asked for several of theirs.
            full = (chosen * DEPTH_UNITS)[:DEPTH_UNITS]
            each = [mv.Unit(unit.layer, k) for k, unit in enumerate(full)]
            return lambda: evaluate(engine, replay, each)

        return {
            "benchmark": "scaling",
            "engine": engine,
            "examples": {"of": "digits, 32 units", **_line(by_examples, examples, repeats)},
            "units": {"of": f"digits, {most} examples", **_line(by_units, units, repeats)},
            "depth": {
                "of": f"MLP {WIDTH} wide, {DEPTH_UNITS} units, {DEPTH_EXAMPLES} examples",
                **_line(by_depth, depths, repeats),
            },
            "about": about(),
        }


def _shuffled(study: mv.Study) -> list[mv.Unit]:
    """Every unit in an order in which the first ones are a fair sample of all layers."""
    layers = [layer for layer in mv.layers(study) if not layer.is_output]
    units = [unit for layer in layers for unit in layer.all()]
    order = torch.randperm(len(units), generator=torch.Generator().manual_seed(0))
    return [units[k] for k in order.tolist()]


def _deep(depth: int) -> mv.Study:
    model = MLP([WIDTH] * (depth + 1) + [10], seed=0).eval()
    inputs = torch.randn(DEPTH_EXAMPLES, WIDTH, generator=torch.Generator().manual_seed(0))
    return mv.Study(model, inputs, torch.zeros(DEPTH_EXAMPLES), {"test": range(DEPTH_EXAMPLES)})


def _line(
    prepare: Callable[[int], Callable[[], Any]], counts: Sequence[int], repeats: int
) -> dict[str, Any]:
    runs = {count: prepare(count) for count in counts}
    timings = {count: Timing() for count in counts}
    for _ in range(repeats):
        for count, run in runs.items():
            timings[count].run(run)
    seconds = [timing.median for timing in timings.values()]
    return {
        "counts": list(counts),
        "seconds": [significant(value) for value in seconds],
        **fit(counts, seconds),
    }


def fit(counts: Sequence[int], seconds: Sequence[float]) -> dict[str, float]:
    """A line through the times, weighted so that each counts by its relative error.

    Examples
    --------
    >>> fit([1, 10, 100], [0.5 + 2 * n for n in (1, 10, 100)])["seconds_for_each"]
    2.0
    """
    x, y = np.asarray(counts, float), np.asarray(seconds, float)
    each, fixed = np.polyfit(x, y, 1, w=1 / y)
    off = np.abs((fixed + each * x) / y - 1)
    slope = np.polyfit(np.log(x), np.log(y), 1)[0]
    return {
        "seconds_fixed": significant(float(fixed)),
        "seconds_for_each": significant(float(each)),
        "largest_miss_of_the_line": significant(float(off.max()), 2),
        "exponent": significant(float(slope)),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    arguments = parser("scaling", __doc__)
    arguments.add_argument("--repeats", type=int, default=3)
    chosen = arguments.parse_args(argv)
    show(measure(repeats=chosen.repeats), as_json=chosen.json)


if __name__ == "__main__":
    main()
