"""DEL on the ready language model: each localizer's neurons are dropped out, more and more of them.

Each localizer of :mod:`memviz.probes.lm_localization` scores all FFN neurons on a few recited
passages minus as many held-out ones; then the highest of all layers together are set to zero, and
all recited passages and all held-out ones are read, most of which no localizer has seen. Beside it
as many random neurons of the same layers. The same for the twelve attention heads, by zero-out.

``python -m memviz.demos.language.localization`` prints the curves; ``--distances`` decodes the
passages too, and prints how many characters of a continuation are to be edited.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch

from memviz.probes.lm_localization import (
    DeletionCurve,
    NeuronTable,
    activations,
    attention_heads,
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


def _heads(study: Study, examples: torch.Tensor, *, progress: bool = True) -> NeuronTable:
    """Zero-out of attention heads."""
    return zero_out(study, examples, attention_heads(study), progress=progress)


HEADS: Mapping[str, Callable[..., NeuronTable]] = {"zero-out of heads": _heads}
SHARES = (0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2)
HEAD_SHARES = (0, 1 / 12, 2 / 12, 3 / 12, 4 / 12)  # of twelve heads
RISE = 0.1  # of held-out perplexity that a set of neurons may cost
RECITED, HELD_OUT = "recited", "held out"


def curves(
    study: Study,
    passages: int = 12,
    draws: int = 3,
    methods: Mapping[str, Callable[..., NeuronTable]] = METHODS,
    shares: Sequence[float] = SHARES,
    *,
    distances: bool = False,
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
    methods, shares
        What scores the units, and which shares of them are dropped out.
    distances : bool
        Decode the passages too.
    """
    given = torch.cat([_spread(study.group(name), passages) for name in (RECITED, HELD_OUT)])
    for name, method in methods.items():
        start = time.perf_counter()
        scores = method(study, given, progress=False).scores(RECITED, HELD_OUT)
        seconds = time.perf_counter() - start
        yield (
            deletion_curve(
                study,
                replace(scores, name=name),
                shares,
                held_out=HELD_OUT,
                per_layer=False,
                distances=distances,
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
        f"{curve.name}: {last} units, recited {curve.recited[row, column]:.2f} "
        f"(random {curve.random_recited[:, row, column].mean():.2f}), held-out perplexity × "
        f"{curve.perplexity[row]:.2f} (random × {curve.random_perplexity[:, row].mean():.2f})"
    )


def _shown(curve: DeletionCurve) -> str:
    """The columns that tell recited passages from held-out text."""
    import pandas as pd

    kept = [RECITED, f"{HELD_OUT} accuracy", "perplexity ratio"]
    if curve.distance is not None:
        kept += [f"{RECITED} distance", f"{HELD_OUT} distance"]
    table = curve.table()[[c for name in kept for c in (name, f"{name} random")]]
    table.columns = pd.MultiIndex.from_product([kept, ["named", "random"]])
    return str(table.round(3).to_string(index_names=False))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the curves of every localizer and seed."""
    parser = argparse.ArgumentParser(prog="python -m memviz.demos.language.localization")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--passages", type=int, default=12)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--distances", action="store_true", help="edit distances, too")
    chosen = parser.parse_args(arguments)
    for seed in chosen.seeds:
        study = load(seed)
        print(f"seed {seed}: {study!r}", flush=True)
        told = []
        for methods, shares in ((METHODS, SHARES), (HEADS, HEAD_SHARES)):
            given = (chosen.passages, chosen.draws, methods, shares)
            for curve, seconds in curves(study, *given, distances=chosen.distances):
                print(f"\n{curve.name}, {seconds:.1f} s\n{_shown(curve)}", flush=True)
                told.append(verdict(curve))
        print(f"\nheld-out perplexity up by less than {RISE:.0%}:")
        print("\n".join(told), flush=True)


if __name__ == "__main__":
    main()
