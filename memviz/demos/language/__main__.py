"""Print the figures of the language demo, or train what ships again.

    python -m memviz.demos.language

prints which passages each model recites, how smaller models and earlier epochs foretell it, and
what ablating 64 neurons does, means over three seeds from the tables that ship with memviz;
``--json`` prints them as one JSON object. ``train`` trains the three sizes of the seeds again
(about a minute and a half a seed on two cores) and writes weights and tables.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from ._measures import SEEDS, figures, prepare_tables
from ._recipe import SHIPPED_SEEDS, prepare
from ._text import fingerprints


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures, or train again."""
    parser = argparse.ArgumentParser("python -m memviz.demos.language")
    parser.add_argument("action", nargs="?", choices=("show", "train", "fingerprints"))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--json", action="store_true", help="one JSON object")
    given = parser.parse_args(arguments)
    if given.action == "fingerprints":
        print(json.dumps(fingerprints()))
    elif given.action == "train":
        prepare([seed for seed in given.seeds if seed in SHIPPED_SEEDS])
        prepare_tables(given.seeds)
    elif given.json:
        print(json.dumps(figures(given.seeds)))
    else:
        _show(figures(given.seeds))


def _show(found: dict[str, Any]) -> None:
    import pandas as pd

    print(f"share of passages recited, by copies in an epoch; mean of {found['seeds']} seeds")
    table = pd.DataFrame(found["recited_by_model"]).T
    table["held out"] = pd.Series(found["held_out_by_model"])
    print(table.round(2).to_string())
    print("\nforecasts of the largest size, on the passages that all were trained on")
    forecasts = {name: found[name] for name in ("precision", "recall")}
    print(pd.DataFrame(forecasts).astype(float).round(2).to_string())
    print("\n64 neurons ablated, chosen by one half of the recited passages, read on the other")
    print(pd.Series(found["ablation"]).round(3).to_string())
    print(
        f"\nshare of trained passages with a score of exactly 1: {found['spike']}; at a constant "
        f"rate per token {found['spike_by_chance']}"
    )


if __name__ == "__main__":
    main()
