"""DEL on the ready language model: each localizer's neurons are dropped out, more and more of them.

Each localizer of :mod:`memviz.probes.lm_localization` scores all FFN neurons on a few recited
passages minus as many held-out ones; then the highest of all layers together are set to zero, and
all recited passages and all held-out ones are read, most of which no localizer has seen. Beside it
as many random neurons of the same layers.

``python -m memviz.demos.language.localization`` prints the curves.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import torch

from memviz.probes.lm_localization import (
    DeletionCurve,
    NeuronTable,
    activations,
    deletion_curve,
    hard_concrete,
    integrated_gradients,
    slimming,
    zero_out,
)
from memviz.study import Study

from ._recipe import load

METHODS: Mapping[str, Callable[..., NeuronTable]] = {
    "slimming": slimming,
    "hard concrete": hard_concrete,
    "activations": activations,
    "zero-out": zero_out,
    "integrated gradients": partial(integrated_gradients, steps=5),  # 20 take minutes
}
SHARES = (0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2)
RISE = 0.1  # of held-out perplexity that a set of neurons may cost
RECITED, HELD_OUT = "recited", "held out"


def curves(
    study: Study,
    passages: int = 12,
    draws: int = 3,
    methods: Mapping[str, Callable[..., NeuronTable]] = METHODS,
    shares: Sequence[float] = SHARES,
) -> Iterator[tuple[DeletionCurve, float]]:
    """The curve of each localizer, and the seconds that it took to score the neurons.

    Parameters
    ----------
    study : Study
        With the groups ``recited`` and ``held out``.
    passages : int
        Of each group, to score neurons on.
    draws : int
        Of random neurons.
    """
    given = torch.cat([_spread(study.group(name), passages) for name in (RECITED, HELD_OUT)])
    for method in methods.values():
        start = time.perf_counter()
        scores = method(study, given, progress=False).scores(RECITED, HELD_OUT)
        seconds = time.perf_counter() - start
        yield (
            deletion_curve(
                study,
                scores,
                shares,
                held_out=HELD_OUT,
                per_layer=False,
                random_draws=draws,
                progress=False,
            ),
            seconds,
        )


def _spread(members: torch.Tensor, count: int) -> torch.Tensor:
    """Evenly spaced members: passages are in the order of their copies."""
    return members[torch.linspace(0, len(members) - 1, min(count, len(members))).long()]


def verdict(curve: DeletionCurve) -> str:
    """The last count that costs held-out text less than 10 % of its perplexity, in one line."""
    last = curve.within(RISE)
    row, column = curve.counts.index(last), curve.groups.index(RECITED)
    return (
        f"{curve.name}: {last} neurons, recited {curve.recited[row, column]:.2f} "
        f"(random {curve.random_recited[:, row, column].mean():.2f}), held-out perplexity × "
        f"{curve.perplexity[row]:.2f} (random × {curve.random_perplexity[:, row].mean():.2f})"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the curves of every localizer and seed."""
    parser = argparse.ArgumentParser(prog="python -m memviz.demos.language.localization")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--passages", type=int, default=12)
    parser.add_argument("--draws", type=int, default=3)
    chosen = parser.parse_args(arguments)
    for seed in chosen.seeds:
        study = load(seed)
        print(f"seed {seed}: {study!r}", flush=True)
        told = []
        for curve, seconds in curves(study, chosen.passages, chosen.draws):
            kept = [RECITED, f"{HELD_OUT} accuracy", "perplexity ratio"]
            table = curve.table()[[c for name in kept for c in (name, f"{name} random")]]
            print(f"\n{curve.name}, {seconds:.1f} s\n{table.round(3).to_string()}", flush=True)
            told.append(verdict(curve))
        print(f"\nheld-out perplexity up by less than {RISE:.0%}:")
        print("\n".join(told), flush=True)


if __name__ == "__main__":
    main()
