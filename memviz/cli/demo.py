"""``python -m memviz demo``: the main job without a browser."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from memviz.checks import check_place

if TYPE_CHECKING:
    from memviz.engine.sets import AblationCurve

# At most one unit in twenty: few enough to show that memorization is localized.
SHARE = 20


def demo(
    seeds: Sequence[int],
    *,
    units: int | None,
    draws: int,
    figure: Path | None,
    as_json: bool,
) -> int:
    """Measure the ablation curve of each seed's network, print their mean, draw the figure."""
    if figure is None and not as_json:
        figure = Path("memviz-demo.png")
    if figure is not None:
        try:
            check_place(figure)
        except (OSError, ValueError) as error:
            raise SystemExit(f"--figure: {error}") from None
    curves, of = measure_all(seeds, units=units, draws=draws, progress=not as_json)
    if figure is not None:
        from memviz.plots.curve import ablation_curves
        from memviz.tensor_files import atomic_write

        with atomic_write(figure) as part:
            ablation_curves(curves).savefig(part, dpi=150)
    if as_json:
        print(json.dumps(summary(curves, of)))
        return 0
    print(table(curves, of, seeds, draws))
    print(f"\nThe curve against the number of units is in {figure}.")
    print("Do it yourself, unit by unit, with the mouse: python -m memviz lab")
    return 0


def measure_all(
    seeds: Sequence[int], *, units: int | None, draws: int, progress: bool
) -> tuple[list[AblationCurve], int]:
    """The curve of each seed's study, and how many units each of them has.

    Each seed has a process: three on two cores share these better than three in turn would.
    """
    if len(seeds) == 1:
        curve, of = measure(seeds[0], units=units, draws=draws, progress=progress)
        return [curve], of
    from joblib import Parallel, cpu_count, delayed, parallel_config  # type: ignore[import-untyped]
    from tqdm.auto import tqdm

    cores = cpu_count()
    processes = min(len(seeds), 2 * cores)
    with parallel_config("loky", inner_max_num_threads=max(1, cores // processes)):
        answers = Parallel(n_jobs=processes, return_as="generator")(
            delayed(_measure_quietly)(seed, units=units, draws=draws) for seed in seeds
        )
        # At once: no network is done before all have begun, and a bar with a delay waits for one.
        bar = tqdm(answers, "networks", len(seeds), leave=False, disable=not progress)
        curves, counts, said = zip(*bar, strict=True)
    for line in dict.fromkeys(line for lines in said for line in lines):
        print(line, file=sys.stderr)
    return list(curves), counts[0]


def measure(
    seed: int, *, units: int | None, draws: int, progress: bool
) -> tuple[AblationCurve, int]:
    """The ablation curve of one ready study, and how many units it has."""
    import memviz as mv

    study = mv.demo("digits", seed=seed)
    of = sum(layer.units for layer in mv.layers(study) if not layer.is_output)
    n = max(1, of // SHARE) if units is None else units
    if n >= of:
        raise SystemExit(f"--units {n} is too many: this network has {of}; give fewer than that.")
    effects = mv.sweep(study, progress=progress)
    ranking = effects.scores(group="memorized", against="clean")
    curve = mv.ablation_curve(study, ranking, counts=counts_to(n), random_draws=draws, seed=seed)
    return curve, of


def _measure_quietly(
    seed: int, *, units: int | None, draws: int
) -> tuple[AblationCurve, int, list[str]]:
    # The bars of several processes would write over each other; what else was said is kept.
    with redirect_stderr(io.StringIO()) as said:
        curve, of = measure(seed, units=units, draws=draws, progress=False)
    lines = [line.rsplit("\r", 1)[-1].strip() for line in said.getvalue().split("\n")]
    return curve, of, [line for line in lines if line and "%|" not in line]


def counts_to(n: int) -> list[int]:
    """0, the powers of two below `n`, and `n`."""
    return [0, *(2**k for k in range(n.bit_length()) if 2**k < n), n]


def summary(curves: Sequence[AblationCurve], of: int) -> dict[str, object]:
    """What ``--json`` prints: mean accuracies before, after, and with random units ablated."""
    means: dict[str, object] = {"units": curves[0].counts[-1], "of": of}
    for column, group in enumerate(curves[0].groups):
        before, after, random = accuracies(curves, column)
        means[group] = {
            "before": round(float(before.mean()), 4),
            "after": round(float(after.mean()), 4),
            "random": round(float(random.mean()), 4),
        }
    return means


def table(curves: Sequence[AblationCurve], of: int, seeds: Sequence[int], draws: int) -> str:
    """The same as a table to read, with the range over the seeds after each mean."""
    n = curves[0].counts[-1]
    many = len(curves) > 1
    about = f"mean (range) of {len(curves)} networks" if many else f"seed {seeds[0]}"
    lines = [
        f"Digits: {n} of {of} units ablated, those with the largest exact effect.",
        f"Accuracy, {about}:",
        "",
        f"{'':10}{'before':>18}{'after':>18}{f'{n} random units':>20}",
    ]
    for column, group in enumerate(curves[0].groups):
        cells = []
        for values in accuracies(curves, column):
            spread = f" ({values.min():.2f}-{values.max():.2f})" if many else ""
            cells.append(f"{values.mean():.2f}{spread}")
        lines.append(f"{group:10}{cells[0]:>18}{cells[1]:>18}{cells[2]:>20}")
    return "\n".join([*lines, "", f"Random units: of the same layers, mean of {draws} draws."])


def accuracies(
    curves: Sequence[AblationCurve], column: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Accuracies of one group before, after, and with random units instead, ``[curves]`` each."""
    return (
        np.array([curve.chosen[0, column] for curve in curves]),
        np.array([curve.chosen[-1, column] for curve in curves]),
        np.array([curve.random_mean[-1, column] for curve in curves]),
    )
