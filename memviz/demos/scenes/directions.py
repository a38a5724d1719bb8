"""What makes the scenes' models memorize more or less: pairs, epochs, private words, mitigations.

``python -m memviz.demos.scenes.directions size masking --seeds 0 1 2`` prints PPG, PRG and AUCG (10
neighbours, the 5 most frequent labels) on training pairs and on held-out pairs, and the utility,
for each setting of the named directions, by default of all. ``base`` prints the recipe's gaps
against the number of neighbours, and over the first pairs in each sort order. ``--pictures FOLDER``
draws them.

Training pairs: the mean of target against reference on the target's pairs, and of reference
against target on its own. Held-out pairs: the same two models on pairs that neither was trained
on. Utility and linear probe are means of both models, on held-out pictures. Each setting and seed
takes two trainings, about a minute on one core. They are stored in the cache folder, so the
command can be interrupted, and equal settings are trained once. ``--ready`` prints only settings
that are trained already. Rows are seeds, or seeds times both models.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from memviz.engine.search import embed
from memviz.probes.deja_vu import MEASURES, DejaVu, Embedded, linear_probe, two_model_test
from memviz.tensor_files import atomic_write

from ._recipe import SIDES, Scenes, utility
from ._trainings import DIRECTIONS, Setting, is_ready, scenes_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

GAPS = ("PPG", "PRG", "AUCG")
FRACTIONS = (0.01, 0.03, 0.1, 0.3, 1.0)
KS, TOPS = (1, 5, 10, 50), (None, 1, 5, 10)


def both_ways(scenes: Scenes, k: int = 10, top: int | None = 5) -> tuple[DejaVu, DejaVu]:
    """The two-model test of each model's own training pairs, both with the held-out pairs as null.

    Examples
    --------
    >>> from memviz.demos.scenes import load_scenes
    >>> own, other = both_ways(load_scenes(seed=0))
    >>> own.ppg > 0.3 and other.ppg > 0.3
    True
    """
    held_out = scenes.tokens("held_out")
    images = scenes.images("public")
    tests = []
    for own, other in (SIDES, SIDES[::-1]):
        tokens = scenes.tokens(own)
        target, reference = (
            Embedded(
                embed(model.encode_text, tokens, progress=False),
                embed(model.encode_image, images, progress=False),
                embed(model.encode_text, held_out, progress=False),
                name=side,
            )
            for side, model in ((side, getattr(scenes, side).model) for side in (own, other))
        )
        tests.append(
            two_model_test(
                target,
                reference,
                scenes.pairs(own).objects,
                scenes.sets.public.objects,
                held_out_objects=scenes.sets.held_out.objects,
                k=k,
                top=top,
                progress=False,
            )
        )
    return tests[0], tests[1]


def row(scenes: Scenes) -> dict[str, float]:
    """Gaps, their null, and utility: the table row of one setting and seed."""
    both = both_ways(scenes)
    values = {name: sum(getattr(test, name.lower()) for test in both) / 2 for name in GAPS}
    values |= {f"null {name}": getattr(both[0].null, name.lower()) for name in GAPS}
    values["utility"] = sum(utility(scenes, side) for side in SIDES) / 2
    return {**values, "linear probe": sum(_probed(scenes, side) for side in SIDES) / 2}


def measured(direction: str, seeds: Sequence[int], *, only_ready: bool = False) -> pd.DataFrame:
    """One row per setting of a direction and seed.

    Parameters
    ----------
    direction : a name in ``DIRECTIONS``.
    only_ready : train nothing, and leave out settings that are not in the cache folder.
    """
    import pandas as pd

    points = DIRECTIONS[direction].points
    rows = [
        {
            "direction": DIRECTIONS[direction].title,
            "setting": point.value,
            "seed": seed,
            **row(scenes_of(point.setting, seed)[point.epoch]),
        }
        for point in points
        for seed in seeds
        if not only_ready or is_ready(point.setting, seed)
    ]
    return pd.DataFrame(rows)


def _probed(scenes: Scenes, side: str) -> float:
    """Linear classifiers of the public pictures' features, on the held-out pictures."""
    encode = getattr(scenes, side).model.encode_image
    parts = [
        part
        for name in ("public", "held_out")
        for part in (embed(encode, scenes.images(name), progress=False), scenes.pairs(name).objects)
    ]
    return linear_probe(*parts)


def base(seeds: Sequence[int]) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """The recipe's gaps by k and number of labels, and over the first pairs in each sort order.

    Each row is of one seed and one of its two models. The null of the curves is given once per
    seed: exchanging the two models only changes its sign.
    """
    import pandas as pd

    setting, curves, tests = Setting(), [], []
    for seed in seeds:
        own, other = both_ways(scenes_of(setting, seed)[setting.epochs], k=max(KS), top=None)
        tests += [test.at(10, 5) for test in (own, other)]
        mirrored = other.curve(KS, TOPS)
        curves += [own.curve(KS, TOPS), mirrored.drop(columns=[f"null {name}" for name in GAPS])]
    firsts: dict[str, pd.DataFrame] = {
        sort: pd.concat([test.most_memorized(sort, FRACTIONS) for test in tests])
        for sort in MEASURES
    }
    return pd.concat(curves), firsts


def _print_base(curves: pd.DataFrame, firsts: dict[str, pd.DataFrame]) -> None:
    print("\nneighbours and labels; both models of each seed")
    _table(curves, ["labels", "k"])
    shown = [f"{null}{name}_gap" for name in ("precision", "recall") for null in ("", "null_")]
    for sort, table in firsts.items():
        print(f"\nfirst pairs by {sort}; both models of each seed")
        _table(table[["pairs", *shown]], ["pairs"])


def _draw_base(curves: pd.DataFrame, firsts: dict[str, pd.DataFrame], folder: Path) -> None:
    from memviz.probes.deja_vu.figures import curve, most_memorized

    means = curves.groupby(["labels", "k"], sort=False).mean().reset_index()
    _write(curve(means), folder / "deja-vu-neighbours.png")
    first = {sort: rows.groupby("pairs").mean().reset_index() for sort, rows in firsts.items()}
    _write(most_memorized(first), folder / "deja-vu-first-pairs.png")


def _write(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as part:
        figure.savefig(part, dpi=110, facecolor="white")


def _table(rows: pd.DataFrame, keys: list[str]) -> None:
    """Print one line per setting: mean, lowest and highest of each figure."""
    import pandas as pd

    def cell(values: pd.Series) -> str:
        return f"{values.mean():.3f} ({values.min():.3f} to {values.max():.3f})"

    figures = rows.drop(columns=["seed", "direction"], errors="ignore")
    groups = figures.groupby(keys, sort=False)
    table = groups.agg(cell)
    table.insert(0, "rows", groups.size())
    with pd.option_context("display.width", None, "display.max_columns", None):
        print(table.rename_axis(columns=None).to_string())


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one line per setting: mean of the seeds, lowest to highest."""
    import pandas as pd

    parser = argparse.ArgumentParser(prog="python -m memviz.demos.scenes.directions")
    parser.add_argument("directions", nargs="*", help=", ".join(["base", *DIRECTIONS]))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--pictures", type=Path, help="folder for the figures")
    parser.add_argument("--ready", action="store_true", help="only settings already trained")
    given = parser.parse_args(arguments)
    names = given.directions or ["base", *DIRECTIONS]
    unknown = [name for name in names if name not in ("base", *DIRECTIONS)]
    if unknown:
        known = ", ".join(["base", *DIRECTIONS])
        parser.error(f"there is no direction {unknown[0]!r}; choose from {known}.")
    print(f"mean of seeds {tuple(given.seeds)} (lowest to highest)")
    tables = []
    for name in names:
        if name == "base":
            figures = base(given.seeds)
            _print_base(*figures)
            if given.pictures is not None:
                _draw_base(*figures, given.pictures)
            continue
        table = measured(name, given.seeds, only_ready=given.ready)
        if len(table):
            print(f"\n{DIRECTIONS[name].title}", flush=True)
            _table(table, ["setting"])
            tables.append(table)
    if given.pictures is not None and tables:
        from memviz.probes.deja_vu.figures import mitigation

        both = mitigation(pd.concat(tables), utilities=("utility", "linear probe"))
        _write(both, given.pictures / "deja-vu-mitigation.png")


if __name__ == "__main__":
    main()
