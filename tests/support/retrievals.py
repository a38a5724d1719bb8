"""Small pairs of CLIP models on scenes, for tests of the déjà vu test, its view and its report."""

from __future__ import annotations

import torch

from memviz.data.scenes import caption, draw_scenes
from memviz.demos.scenes import _recipe as scenes
from memviz.models.clip import Clip, create_clip
from memviz.probes.deja_vu.ablation import Retrieval

_VISION = {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 16}
_TEXT = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
_CONFIG = {"embed_dim": 8, "vision_cfg": _VISION, "text_cfg": _TEXT}
_PREPROCESS = {"mean": [0.25] * 3, "std": [0.25] * 3, "size": 32}


def small_retrieval() -> Retrieval:
    """Forty pairs a model, two epochs: it has learned little, and is trained in seconds."""
    sets = draw_scenes(0, target=40, reference=40, public=60, held_out=40)
    one, other = (
        scenes.fit(pairs, epochs=2, progress=False)[0] for pairs in (sets.target, sets.reference)
    )
    return Retrieval(
        one, other, sets.target, sets.public, sets.held_out, query=lambda name: caption([name], [])
    )


def untrained_clip(seed: int) -> Clip:
    """A model of one block a tower whose captions are not all alike."""
    clip = create_clip(_CONFIG, _PREPROCESS, seed=seed)
    with torch.no_grad():
        for name, weight in clip.model.named_parameters():
            if weight.ndim > 1:
                weight.mul_(20 if "embedding" in name else 3)
    return clip


def untrained_retrieval(pairs: int = 14) -> Retrieval:
    """As many training pairs, and 10 more held out, of two models that learned nothing."""
    sets = draw_scenes(3, target=pairs, reference=8, public=20, held_out=pairs + 10)
    return Retrieval(
        untrained_clip(1), untrained_clip(2), sets.target, sets.public, sets.held_out,
        query=lambda name: caption([name], []), k=4, top=3,
    )  # fmt: skip
