"""What a VAE remembers of noise among digits, over three seeds.

    python -m memviz.demos.density [--json] [--seeds 0 1 2]

prints, by learning rate and epoch, the median M in nats of noise images that occur once and of
those that occur five times, the .95 quantile of M over the digits, each beside the same with in and
out of training drawn at random, and log p of test digits; then how the nearest-neighbour ratio
ranks the images. ``--units`` ablates the eight units of the decoder's hidden layer that single
ablations find for the noise; of other seeds than 0 it trains what is not stored. ``--samples``
trains 20 VAEs anew and prints M against the number of importance samples. ``--json`` prints one
object, means over the seeds.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

import numpy as np
import torch

from memviz.engine.sets import readout
from memviz.engine.sweep import sweep
from memviz.statistics import spearman

from ._measures import SHIPPED_SEEDS, Summary, nearest_ratios, summary
from ._recipe import EPOCHS, HIDDEN, RATES, by_samples, examples, load

_SHOWN = ("unique", "duplicates", "digits", "q95")


def main(argv: Sequence[str] | None = None) -> None:
    """Print the tables, or one JSON object."""
    parser = argparse.ArgumentParser("python -m memviz.demos.density")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--samples", action="store_true", help="M by importance samples (trains)")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SHIPPED_SEEDS))
    parser.add_argument("--units", action="store_true", help="ablate eight units of the decoder")
    given = parser.parse_args(argv)
    if given.units:
        for seed in given.seeds:
            print_units(seed)
        return
    if given.samples:
        print_samples(given.seeds[0])
        return
    found = [summary(seed) for seed in given.seeds]
    mean = mean_of(found)
    if given.json:
        print(json.dumps(as_json(mean, found, given.seeds)))
        return
    for at, rate in enumerate(RATES):
        print(f"\nlearning rate {rate:g}, means of seeds {given.seeds}, nats (null in brackets)")
        print("epoch  " + "".join(f"{name:>16}" for name in _SHOWN) + f"{'held-out log p':>16}")
        for place, epoch in enumerate(EPOCHS):
            row = {name: float(table[at, place]) for name, table in mean.tables.items()}
            cells = [f"{row[name]:8.2f} ({row[f'null_{name}']:.2f})" for name in _SHOWN]
            held_out = row["held_out_log_p"]
            print(f"{epoch:>5}  " + "".join(f"{cell:>16}" for cell in cells) + f"{held_out:16.2f}")
    for name in ("unique", "duplicates"):
        values = [one.last(name) for one in found]
        print(
            f"\n{name} by seed, last row: {', '.join(f'{value:.1f}' for value in values)}", end=""
        )
    print("\n")
    print_ratios(given.seeds[0])


def mean_of(found: Sequence[Summary]) -> Summary:
    """The mean over seeds of each measure."""
    names = found[0].tables
    return Summary(
        {name: torch.stack([one.tables[name] for one in found]).mean(0) for name in names}
    )


def as_json(mean: Summary, found: Sequence[Summary], seeds: Sequence[int]) -> dict[str, object]:
    """One object: numbers at the last epoch of the larger rate, curves by rate and epoch."""
    return {
        "unique": mean.last("unique"),
        "duplicates": mean.last("duplicates"),
        "digits": mean.last("digits"),
        "null": mean.last("null_digits"),
        "null_unique": mean.last("null_unique"),
        "null_duplicates": mean.last("null_duplicates"),
        "q95": mean.by_rate("q95"),
        "null_q95": mean.by_rate("null_q95"),
        "held_out_log_p": mean.by_rate("held_out_log_p"),
        "unique_by_epoch": mean.by_rate("unique"),
        "duplicates_by_epoch": mean.by_rate("duplicates"),
        "seeds": {
            str(seed): {name: one.last(name) for name in ("unique", "duplicates", "null_digits")}
            for seed, one in zip(seeds, found, strict=True)
        },
    }


def print_ratios(seed: int) -> None:
    """How the nearest-neighbour ratio sees the groups, beside M."""
    study = load(seed)
    scores = study.fits[study.rate].memorization()
    ratios = nearest_ratios(study).numpy()
    print(f"nearest-neighbour ratio, seed {seed} (above 1: nearer to a generated image)")
    for words, group in (
        ("unique", "memorized"),
        ("duplicates", "duplicates"),
        ("digits", "clean"),
    ):
        members = study.groups[group][scores.examples].numpy()
        print(
            f"  {words:<11}median {np.median(ratios[members]):.2f}, "
            f"above 1: {(ratios[members] > 1).mean():.0%}"
        )
    digits = study.groups["clean"][scores.examples].numpy()
    correlation = spearman(ratios[digits], scores.values[digits])
    print(f"  Spearman rank correlation with M over the digits: {correlation:.2f}")


def print_units(seed: int) -> None:
    """Margins, M of the study's own model, with eight decoder units off and with random ones."""
    study = load(seed)
    chosen = torch.cat([study.group("memorized"), study.group("clean")[:100]])
    effects = sweep(study, f"decoder.fc1:0-{HIDDEN - 1}", chosen, progress=False)
    units = effects.scores("memorized", "clean").top(8, of="units")
    frame = readout(study, units, random_draws=20, seed=seed).frame
    print(f"seed {seed}: {units} off, mean margin in nats")
    print(frame[["margin_before", "margin_after", "random_margin"]].round(2).to_string())


def print_samples(seed: int) -> None:
    """M against the number of importance samples."""
    trainings, (_, groups) = by_samples(seed), examples(seed)
    print(f"M in nats by importance samples, seed {seed}, last epoch of rate {RATES[-1]:g}")
    for count in trainings.epochs:
        values = trainings.memorization(count, null_draws=0).values
        medians = [
            f"{words} {np.median(values[groups[group].numpy()[: len(values)]]):.2f}"
            for words, group in (("unique", "memorized"), ("duplicates", "duplicates"))
        ]
        digits = values[groups["clean"].numpy()[: len(values)]]
        print(
            f"  {count or 'fitted':>6}: {', '.join(medians)}, digits {np.median(digits):.2f}, "
            f".95 quantile {np.quantile(digits, 0.95):.2f}, held-out log p "
            f"{trainings.held_out_log_p(count):.2f}"
        )


if __name__ == "__main__":
    main()
