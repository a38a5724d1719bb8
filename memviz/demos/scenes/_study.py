"""The ready pair of models, with their pictures and captions."""

from __future__ import annotations

from memviz.data.scenes import caption
from memviz.probes.deja_vu.ablation import Retrieval

from ._effects import known_effects
from ._recipe import load_scenes


def load(seed: int = 0, k: int = 10, top: int | None = 5) -> Retrieval:
    """The scenes as the déjà vu explorer takes them: the target, its reference and the sets.

    Examples
    --------
    >>> load(seed=0)
    Retrieval('scenes': 1,000 training pairs, 2,000 public images, 1,000 held-out pairs)
    """
    scenes = load_scenes(seed)
    sets = scenes.sets
    found = Retrieval(
        scenes.target,
        scenes.reference,
        sets.target,
        sets.public,
        sets.held_out,
        query=lambda name: caption([name], []),
        k=k,
        top=top,
        name="scenes" if seed == 0 else f"scenes, seed {seed}",
        summary=f"two-tower CLIP · {len(sets.target):,} private pairs, "
        f"{len(sets.public):,} public pictures",
        origin=f'mv.demo("scenes"{f", seed={seed}" if seed else ""})',
    )
    found.effects = known_effects(found, seed) if (k, top) == (10, 5) else None
    return found


retrieval = load  # its name of old
