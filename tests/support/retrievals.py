"""A small pair of CLIP models on scenes, for tests of the déjà vu test and its view."""

from __future__ import annotations

from memviz.data.scenes import caption, draw_scenes
from memviz.demos.scenes import _recipe as scenes
from memviz.probes.deja_vu.ablation import Retrieval


def small_retrieval() -> Retrieval:
    """Forty pairs a model, two epochs: it has learned little, and is trained in seconds."""
    sets = draw_scenes(0, target=40, reference=40, public=60, held_out=40)
    one, other = (
        scenes.fit(pairs, epochs=2, progress=False)[0] for pairs in (sets.target, sets.reference)
    )
    return Retrieval(
        one, other, sets.target, sets.public, sets.held_out, query=lambda name: caption([name], [])
    )
