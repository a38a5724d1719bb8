"""How time and memory grow towards a hundred times the size: pairs, trainings, parameters.

    python -m benchmarks hundredfold --json

Each is varied with the others fixed. A line through the times gives the cost of each further one,
the exponent is the slope between the logarithms (1 where twice as much takes twice as long), and
``at_hundredfold_hours`` what the line says of a hundred times the largest size that was measured:
an extrapolation, not a measurement.

- ``pairs``: the nearest 10 of n rows, 512 features, for 256 queries, exactly
- ``trainings``: what many trainings cost besides training, each kept in a file
- ``examples``: Feldman-Zhang's scores from 100 trainings, for n examples
- ``parameters``: a sweep of 16 units of a GPT-2 on 8 passages, with random weights
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import memviz as mv
from benchmarks.report import about, parser, show, significant
from benchmarks.scaling import fit
from benchmarks.timing import Timing, one_thread
from memviz.engine.search import nearest
from memviz.models.gpt import GPT
from memviz.probes.examples import subsampled_memorization
from memviz.training.subsets import SubsetTrainings, train_subsets

QUERIES, FEATURES, K = 256, 512, 10
ROWS = (1_000, 3_000, 10_000, 30_000, 100_000)
TRAININGS = (10, 30, 100, 300)
TRAINED_ON = 10_000  # examples
EXAMPLES = (1_000, 3_000, 10_000, 30_000, 100_000)
WIDTHS = (64, 128, 256, 512)
UNITS, PASSAGES, TOKENS, BLOCKS = 16, 8, 32, 4
FOLD = 100


def pairs(rows: int) -> Callable[[], object]:
    """Nearest neighbours, exactly."""
    drawn = torch.randn(rows + QUERIES, FEATURES, generator=torch.Generator().manual_seed(0))
    index, queries = drawn[QUERIES:], drawn[:QUERIES]
    return lambda: nearest(queries, index, K, progress=False)


def _first_label(inputs: Tensor, labels: Tensor, chosen: Tensor, seed: int) -> Tensor:
    return labels


def trainings(count: int) -> Callable[[], object]:
    """Trainings that take no time, each kept in a file."""
    labels = torch.arange(TRAINED_ON) % 10
    study = mv.Study(nn.Linear(1, 10).eval(), torch.zeros(TRAINED_ON, 1), labels,
                     {"clean": range(TRAINED_ON)})  # fmt: skip

    def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            train_subsets(study, _first_label, trainings=count, folder=folder, progress=False)

    return run


def examples(count: int) -> Callable[[], object]:
    """Scores of trainings that are there."""
    generator = torch.Generator().manual_seed(0)
    inside, correct = (torch.rand(100, count, generator=generator) < 0.7 for _ in range(2))
    made = SubsetTrainings(torch.arange(count), inside, correct)
    return lambda: subsampled_memorization(made, null_draws=0)


def _gpt(width: int) -> GPT:
    return GPT(64, width, BLOCKS, 4, context=TOKENS, seed=0).eval()


def parameters(width: int) -> Callable[[], object]:
    """A sweep of neurons of all blocks."""
    tokens = torch.randint(64, (PASSAGES, TOKENS), generator=torch.Generator().manual_seed(0))
    prompt = TOKENS // 2
    task = mv.tasks.Language(prompt, TOKENS - prompt)
    groups = {"clean": range(PASSAGES)}
    study = mv.Study(_gpt(width), tokens, tokens[:, prompt:], groups, task=task)
    blocks = [f"blocks.{k}.up" for k in range(BLOCKS)]
    units = [mv.Unit(name, index) for name in blocks for index in range(UNITS // BLOCKS)]
    return lambda: mv.sweep(study, mv.UnitSet(units), progress=False)


def bytes_of_a_training(count: int = TRAINED_ON) -> int:
    """What the file of one training takes."""
    labels = torch.zeros(count, dtype=torch.int64)
    study = mv.Study(nn.Linear(1, 2).eval(), torch.zeros(count, 1), labels, {"clean": range(count)})
    with tempfile.TemporaryDirectory() as folder:
        train_subsets(study, _first_label, trainings=2, folder=folder, progress=False)
        return max(path.stat().st_size for path in Path(folder).iterdir())


def measure(
    *,
    rows: Sequence[int] = ROWS,
    counts: Sequence[int] = TRAININGS,
    of: Sequence[int] = EXAMPLES,
    widths: Sequence[int] = WIDTHS,
    repeats: int = 3,
) -> dict[str, Any]:
    """Times along the four axes, each with its line; repeats are taken in turn."""
    with one_thread():
        sizes = [sum(p.numel() for p in _gpt(width).parameters()) for width in widths]
        return {
            "benchmark": "hundredfold",
            "pairs": _slope(pairs, rows, rows, repeats),
            "trainings": {
                "of": f"{TRAINED_ON:,} examples",
                **_slope(trainings, counts, counts, repeats),
                "bytes_of_each": bytes_of_a_training(),
            },
            "examples": {"of": "100 trainings", **_slope(examples, of, of, repeats)},
            "parameters": _slope(parameters, widths, sizes, repeats),
            "about": about(),
        }


def _slope(
    prepare: Callable[[int], Callable[[], object]],
    given: Sequence[int],
    counts: Sequence[int],
    repeats: int,
) -> dict[str, Any]:
    timings = [Timing() for _ in given]
    runs = [prepare(one) for one in given]
    for run in runs:
        run()  # what is imported late or compiled is there then
    for _ in range(repeats):
        for timing, run in zip(timings, runs, strict=True):
            timing.run(run)
    seconds = [timing.median for timing in timings]
    line = fit(counts, seconds)
    whole = line["seconds_fixed"] + FOLD * counts[-1] * line["seconds_for_each"]
    return {
        "counts": list(counts),
        "seconds": [significant(value) for value in seconds],
        **line,
        "at_hundredfold_hours": significant(whole / 3600),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    arguments = parser("hundredfold", __doc__)
    arguments.add_argument("--repeats", type=int, default=3)
    chosen = arguments.parse_args(argv)
    show(measure(repeats=chosen.repeats), as_json=chosen.json)


if __name__ == "__main__":
    main()
