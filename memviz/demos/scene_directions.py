"""What makes the scenes' models memorize more or less: epochs, pairs, private words, mitigations.

``python -m memviz.demos.scene_directions words masking`` prints PPG, PRG and AUCG (10 neighbours,
the 5 most frequent labels) on training pairs and held-out pairs, and the utility, for each setting
of the named directions; without names, of all. Two trainings a setting and seed: minutes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

from memviz.data.scenes import draw_scenes
from memviz.demos.scenes import BATCH_SIZE, EPOCHS, SIDES, Scenes, fit, gaps, utility
from memviz.demos.scenes import whole_vocabulary as whole

STEPS = EPOCHS * -(-1000 // BATCH_SIZE)  # Of the demo's recipe; kept while the size varies.
_SIZES = (500, 1000, 2000, 4000)
# Direction to its settings: what is shown, what the scenes are drawn with, what is trained with.
DIRECTIONS: dict[str, Sequence[tuple[str, dict[str, int], dict[str, Any]]]] = {
    "epochs": [("epochs", {}, {"checkpoint_epochs": (5, 20, 40, EPOCHS)})],
    "size": [
        (
            f"{n:,} pairs, {STEPS} steps",
            {"target": n, "reference": n},
            {"epochs": round(STEPS / -(-n // BATCH_SIZE))},
        )
        for n in _SIZES
    ],
    "words": [(f"{words} private words", {"private_words": words}, {}) for words in (0, 1, 2, 3)],
    "masking": [
        (f"captions masked by {share}", {}, {"caption_masking": share})
        for share in (0.0, 0.3, 0.5, 0.7, 0.9)
    ],
    "temperature": [
        (f"temperature {temperature}", {}, {"temperature": temperature})
        for temperature in (0.03, 0.07, 0.2)
    ],
    "decay": [(f"weight decay {decay}", {}, {"weight_decay": decay}) for decay in (0.0, 0.1, 1.0)],
}


def measured(
    seed: int, scenes_with: dict[str, int], train_with: dict[str, Any], *, progress: bool = True
) -> Iterator[tuple[int, dict[str, tuple[float, ...]], float]]:
    """Train both models and give epoch, gaps and utility, at each checkpoint or at the end.

    Examples
    --------
    >>> sizes = {"target": 20, "reference": 20, "public": 30, "heldout": 20}
    >>> for epoch, found, useful in measured(0, sizes, {"epochs": 1}, progress=False):
    ...     print(epoch, sorted(found))
    1 ['held-out', 'swapped', 'training']
    """
    sets = draw_scenes(seed, **scenes_with)
    last = train_with.get("epochs", EPOCHS)
    settings = {"checkpoint_epochs": (last,), "progress": progress, **train_with}
    fitted = [fit(sets.named()[side], seed, **settings) for side in SIDES]
    for epoch in settings["checkpoint_epochs"]:
        clips = []
        for clip, run in fitted:
            model = deepcopy(clip.model)
            model.load_state_dict(whole(run.checkpoints[epoch]))
            clips.append(replace(clip, model=model))
        scenes = Scenes(sets, *clips)
        yield epoch, gaps(scenes), sum(utility(scenes, side) for side in SIDES) / len(SIDES)


def main() -> None:
    """Print one line a setting, checkpoint and seed."""
    parser = argparse.ArgumentParser(prog="python -m memviz.demos.scene_directions")
    parser.add_argument("directions", nargs="*", help=", ".join(DIRECTIONS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    given = parser.parse_args()
    unknown = [name for name in given.directions if name not in DIRECTIONS]
    if unknown:
        parser.error(f"there is no direction {unknown[0]!r}; choose from {', '.join(DIRECTIONS)}.")
    print("PPG PRG AUCG on training pairs (mean of both models' own), on held-out pairs; utility")
    for name in given.directions or DIRECTIONS:
        for words, scenes_with, train_with in DIRECTIONS[name]:
            for seed in given.seeds:
                for epoch, found, useful in measured(seed, scenes_with, train_with):
                    pairs = zip(found["training"], found["swapped"], strict=True)
                    own = " ".join(f"{(one + other) / 2:+.3f}" for one, other in pairs)
                    null = " ".join(f"{value:+.3f}" for value in found["held-out"])
                    print(f"{words}, epoch {epoch}, seed {seed}: {own} | {null} | {useful:.3f}")


if __name__ == "__main__":
    main()
