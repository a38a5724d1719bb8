"""Truths for the contest: networks whose memorizing units are known, because they were planted.

All but the passage are made from scikit-learn's digits and a seed, in seconds:

- ``injected, one image a unit``: eight units of the digits network's ``fc`` are each tuned until
  only one image activates them (as in the check of Wang et al. 2024), and then given a large weight
  to a wrong class. The images are test images that the network classified correctly.
- ``injected, trained``: twenty test images get wrong labels, and the network is trained to learn
  them, but only the weights into and out of eight units may change.
- ``constructed, hard-tanh`` and ``constructed, ReLU``: a network with explicit weights that knows
  576 images with random labels (Yun et al. 2019); the images of four neighbouring owners count as
  memorized. Only units of ``layer2`` may be named: those of ``layer1`` hold the addresses of all
  images. Owners depend on their neighbours, and the two ReLUs of an owner on each other: together
  the planted units hold their images and no others, but each alone is needed by many.
- ``example-tied, all`` and ``example-tied, one image``: example-tied dropout (Maini et al. 2023)
  with every image's own channels active. Planted are all memorization channels, four of five units;
  or those of one image, where only that image counts as memorized.
- ``digits``: an ordinary network with 120 wrong labels. Nothing is planted; ablation alone judges.
- ``injected, one passage``: twenty neurons of a small GPT hold one passage of random tokens
  (Chang et al. 2024); only FFN neurons may be named.
- ``constructed, slabs``: five of the forty slabs of a constructed memorizer (Bubeck et al. 2020),
  four units and five images each.
- ``gates, looked up``: a circuit of logic gates, trained on clean digits, and widened by AND gates
  that look up ten images by bits that no other image has, and vote for a wrong class.

``python -m memviz.demos.contest`` prints the tables of three seeds and saves the figures.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from memviz.probes.contest import Contest, Entry, contest
from memviz.tensor_files import atomic_write

from ._found import known_truths, truths

SEEDS = (0, 1, 2)
MINUTES = 7  # For three seeds on one idle core; printed before it starts.


def show(result: Contest) -> None:
    """Print every table: mean, lowest and highest over the seeds."""
    titles = {
        "recall": "share of the planted units that were named; for random the expected share",
        "memorized drop": "accuracy on memorized examples lost when the named units are ablated",
        "clean drop": "accuracy on clean examples lost",
        "test drop": "accuracy on test examples lost",
        "agreement": "rank correlation with the exact ablation of each unit alone",
        "seconds": "processor seconds",
    }
    for what, title in titles.items():
        print(f"\n{title}; mean of {len(result.seeds)} seeds (lowest to highest)")
        print(result.text(what))
    chances = result.frame.dropna(subset="recall").groupby("truth", sort=False)
    print("\nnumber of units named, and 95 % interval of random recall")
    for name, rows in chances:
        named = sorted({f"{k} of {n}" for k, n in zip(rows["k"], rows["units"], strict=True)})
        low, high = rows["random low"].min(), rows["random high"].max()
        print(f"  {name:<28} {', '.join(named):<36} {low:.2f} to {high:.2f}")
    for (truth, localizer), why in result.refused.items():
        print(f"{localizer} does not fit {truth}: {why}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Hold the contest, print its tables and save its figures."""
    parser = argparse.ArgumentParser(prog="python -m memviz.demos.contest")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    known = list(known_truths())
    parser.add_argument("--truths", nargs="+", default=known, choices=known)
    parser.add_argument("--folder", type=Path, default=Path(), help="for the figures")
    given = parser.parse_args(arguments)
    print(
        f"{len(given.truths)} truths, {len(given.seeds)} seeds: about "
        f"{MINUTES * len(given.seeds) / len(SEEDS):.0f} minutes on an idle core."
    )
    start, seen = time.perf_counter(), set()

    def report(entry: Entry) -> None:
        if (entry.truth, entry.seed) not in seen:
            seen.add((entry.truth, entry.seed))
            print(f"  {time.perf_counter() - start:4.0f} s  {entry.truth}, seed {entry.seed}")

    result = contest(truths(given.seeds, given.truths), progress=False, report=report)
    show(result)
    given.folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(given.folder / "contest.csv") as part:
        result.frame.to_csv(part, index=False)
    figures = {"contest.png": result.plot()}
    if result.frame["recall"].notna().any():
        figures["contest-curves.png"] = result.plot_curves()
    for name, figure in figures.items():
        with atomic_write(given.folder / name) as part:
            figure.savefig(part, dpi=150)
    print(f"\nfigures and contest.csv: {given.folder.resolve()}")
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
