"""Train the models of the scenes and print their déjà vu."""

from __future__ import annotations

import sys

from ._recipe import SIDES, gaps, load_scenes, prepare, utility


def main(arguments: list[str]) -> None:
    """Print PPG, PRG and AUCG of three seeds, on training pairs and on held-out pairs."""
    if arguments == ["train"]:
        prepare()
    seeds, rules = (0, 1, 2), ((10, 5), (10, None), (1, None))
    all_scenes = [load_scenes(seed) for seed in seeds]
    gaps_by_rule = {rule: [gaps(scenes, *rule) for scenes in all_scenes] for rule in rules}
    print(f"mean of seeds {seeds} (lowest to highest); null: the same models, held-out pairs")
    for (k, top), tables in gaps_by_rule.items():
        print(f"{k} neighbours, {'all' if top is None else f'the {top} most frequent'} labels")
        for name in tables[0]:
            cells = []
            for metric, column in zip(("PPG", "PRG", "AUCG"), range(3), strict=True):
                values = [table[name][column] for table in tables]
                mean = sum(values) / len(values)
                cells.append(f"{metric} {mean:+.3f} ({min(values):+.3f} to {max(values):+.3f})")
            print(f"  {name:<10} {'  '.join(cells)}")
    utilities = [utility(scenes, side) for scenes in all_scenes for side in SIDES]
    chance = sum(float(s.sets.held_out.objects.float().mean()) for s in all_scenes) / len(seeds)
    print(
        f"utility of the six models {sum(utilities) / len(utilities):.3f} "
        f"({min(utilities):.3f} to {max(utilities):.3f}), by chance {chance:.3f}"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
