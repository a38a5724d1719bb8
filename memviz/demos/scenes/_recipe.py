"""Scenes and their captions: a small CLIP that has memorized its training pairs, and its reference.

Recipe. Two open_clip models, each trained on its own 1,000 pairs (``memviz.data.scenes``): a
transformer of two blocks over the 16 cells of a picture and one of two blocks over the caption,
width 64, 64 features; AdamW, cosine learning rate from 2e-3, weight decay 0.1, batches of 256, 60
epochs. Both start from the same weights. Another 2,000 pairs are the public set, and 1,000 the
held-out null.

CLIP's tokenizer has 49,408 tokens; the captions use about 280. Only the embeddings of these are
trained and stored; every other token gets their mean, so a word the model never saw carries no
meaning. Weights are rounded to half precision after training, and all figures are of the rounded
weights.

``python -m memviz.demos.scenes`` prints PPG, PRG and AUCG of three seeds, with the held-out null;
``python -m memviz.demos.scenes train`` trains the shipped weights again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from memviz.data.caption_pairs import CaptionPairs
from memviz.data.scenes import NAMES, OBJECTS, PLACES, SIZE, SceneSets, caption, draw_scenes
from memviz.engine.search import embed
from memviz.models.clip import Clip, create_clip
from memviz.probes.deja_vu import Embedded, two_model_test
from memviz.training.contrastive import ContrastiveRun, train_contrastive

from .._kept import Kept, announce, folder_to_prepare, warn_not_kept

RECIPE = "scenes-1"  # Change it with any setting below: other stored weights are refused.
EPOCHS, BATCH_SIZE, LEARNING_RATE, WEIGHT_DECAY = 60, 256, 2e-3, 0.1
WIDTH, CONTEXT, VOCABULARY = 64, 16, 49408
PREPROCESS = {"mean": [0.25] * 3, "std": [0.25] * 3, "size": SIZE}
SHIPPED_SEEDS = (0,)
TRAINING_SECONDS = 90  # Both models on two cores, at most; printed before a training starts.
MINUTES = TRAINING_SECONDS / 60  # To prepare one seed on two cores.
_EMBEDDING = "token_embedding.weight"

Side = Literal["target", "reference"]
SIDES: tuple[Side, ...] = ("target", "reference")


@dataclass(frozen=True, eq=False)
class Scenes:
    """Two trained models and the four sets of pairs.

    ``target`` was trained on ``sets.target``, ``reference`` on ``sets.reference``.
    """

    sets: SceneSets
    target: Clip
    reference: Clip

    def images(self, name: str) -> Tensor:
        """A set's pictures as inputs of the image tower, float32 ``[n, 3, 32, 32]``."""
        return self.pairs(name).inputs(self.target.preprocess)

    def tokens(self, name: str) -> Tensor:
        """A set's captions as inputs of the text tower, integers ``[n, 16]``."""
        return self.target.tokenizer(list(self.pairs(name).captions))

    def pairs(self, name: str) -> CaptionPairs:
        """A set by its name: target, reference, public or held_out.

        Raises
        ------
        ValueError : there is no set of this name.
        """
        sets = self.sets.named()
        if name not in sets:
            raise ValueError(f"there is no set {name!r}; choose from {', '.join(sets)}.")
        return sets[name]


def load_scenes(seed: int = 0) -> Scenes:
    """Both models of a seed, and the scenes they were trained on.

    Seed 0 ships with the package; any other is trained on first use, in at most a minute and a half
    on two cores, and kept in the cache folder. The models are plain open_clip models:
    ``memviz.models.clip.save_clip(folder, scenes.target)`` writes one that opens as ``local-dir``.

    Raises
    ------
    ValueError : the seed is not a whole number from 0 up, or the shipped weights are damaged.

    Examples
    --------
    >>> scenes = load_scenes(seed=0)
    >>> scenes.sets.target, scenes.target.model.visual.transformer.resblocks[0].mlp.c_fc
    (CaptionPairs(1,000 pairs, 24 classes), Linear(in_features=64, out_features=256, bias=True))
    """
    sets = draw_scenes(seed)
    stored = [_kept(seed, side).read(f"epoch{EPOCHS}") for side in SIDES]
    states = [state for state in stored if state is not None]
    if len(states) < len(SIDES):
        announce(
            f"Training the scenes' two models for seed {seed}: about {TRAINING_SECONDS} s on two "
            f"cores, once; the weights are kept in {_kept(seed, 'target').folder}."
        )
        states = [_trained(sets, seed, side) for side in SIDES]
        try:
            _write(states, seed)
        except OSError as error:
            warn_not_kept(error)
    target, reference = map(_whole, states)
    return Scenes(sets, target, reference)


def fit(pairs: CaptionPairs, seed: int = 0, **settings: Any) -> tuple[Clip, ContrastiveRun]:
    """Train a model of the demo's recipe on any scenes.

    Parameters
    ----------
    pairs : scenes from ``draw_scenes``.
    seed : draws the initial weights and the shuffling.
    settings : arguments of ``train_contrastive`` in place of the recipe's, for example ``epochs``,
        ``caption_masking`` or ``weight_decay``. ``held_out`` is not possible: it would need this
        model's own tokens.

    Returns
    -------
    The model over CLIP's whole vocabulary, and the run. The run's checkpoints cover the trained
    tokens only; ``whole_vocabulary`` completes them.
    """
    clip = create_clip(_config(len(_tokens())), PREPROCESS, seed=seed)
    whole = _empty()
    run = train_contrastive(
        clip.model,
        pairs.inputs(whole.preprocess),
        torch.searchsorted(_tokens(), whole.tokenizer(list(pairs.captions))),
        **{
            "epochs": EPOCHS,
            "batch_size": BATCH_SIZE,
            "learning_rate": LEARNING_RATE,
            "weight_decay": WEIGHT_DECAY,
            "seed": seed,
            **settings,
        },
    )
    whole.model.load_state_dict(whole_vocabulary(clip.model.state_dict()))
    return whole, run


def whole_vocabulary(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Extend a state dict over the captions' tokens to all 49,408; the others get their mean."""
    trained = state[_EMBEDDING]
    rows = trained.mean(0).repeat(VOCABULARY, 1)
    rows[_tokens()] = trained
    return {**state, _EMBEDDING: rows}


def prepare(seeds: Iterable[int] = SHIPPED_SEEDS, folder: str | Path | None = None) -> Path:
    """Train from the recipe and write the weights; returns their folder."""
    target = folder_to_prepare() if folder is None else Path(folder)
    for seed in seeds:
        sets = draw_scenes(seed)
        _write([_trained(sets, seed, side) for side in SIDES], seed, target)
        print(f"scenes, seed {seed}: written to {target}")
    return target


@cache
def _tokens() -> Tensor:
    """The ids of all tokens that a scene's caption can have, ascending.

    Ascending, so that the end of text keeps the largest id, at which open_clip pools.
    """
    texts = [*OBJECTS, *NAMES, *PLACES, caption(list(OBJECTS[:2]), [*NAMES[:2], PLACES[0]])]
    tokens: Tensor = _empty().tokenizer(texts).unique()
    return tokens


def _empty() -> Clip:
    return create_clip(_config(VOCABULARY), PREPROCESS)


def _config(vocabulary: int) -> dict[str, Any]:
    vision = {"image_size": SIZE, "patch_size": 8, "layers": 2, "width": WIDTH, "head_width": 16}
    text = {"context_length": CONTEXT, "vocab_size": vocabulary, "layers": 2, "heads": 4}
    return {"embed_dim": 64, "vision_cfg": vision, "text_cfg": {**text, "width": WIDTH}}


def _whole(state: Mapping[str, Tensor]) -> Clip:
    clip = _empty()
    clip.model.load_state_dict(whole_vocabulary(state))
    return clip


def _kept(seed: int, side: Side) -> Kept:
    facts = {"recipe": RECIPE, "seed": str(seed), "side": side}
    return Kept(f"scenes-seed{seed}-{side}", facts, seed in SHIPPED_SEEDS)


def _trained(sets: SceneSets, seed: int, side: Side) -> dict[str, Tensor]:
    """The state dict over the trained tokens, rounded as it is stored."""
    clip, _ = fit(sets.named()[side], seed)
    state = {**clip.model.state_dict()}
    state[_EMBEDDING] = state[_EMBEDDING][_tokens()]
    return {k: v.half().float() if v.ndim > 1 else v.clone() for k, v in state.items()}


def _write(states: Sequence[Mapping[str, Tensor]], seed: int, folder: Path | None = None) -> None:
    for side, state in zip(SIDES, states, strict=True):
        _kept(seed, side).write(f"epoch{EPOCHS}", state, folder, half=True)


def gaps(scenes: Scenes, k: int = 10, top: int | None = 5) -> dict[str, tuple[float, ...]]:
    """PPG, PRG and AUCG of the two-model test: on training pairs, and on held-out pairs as null.

    ``"training"`` are the target's pairs, ``"swapped"`` the reference's with the models exchanged,
    ``"held-out"`` pairs that neither model has seen.

    Parameters
    ----------
    k, top : public images found per caption, and most frequent labels kept; None keeps all.
    """
    objects = {name: pairs.objects for name, pairs in scenes.sets.named().items()}
    public = {side: _embed(scenes, side, "public") for side in SIDES}
    rows: dict[str, tuple[float, ...]] = {}
    for words, name, order in (
        ("training", "target", SIDES),
        ("swapped", "reference", SIDES[::-1]),
        ("held-out", "held_out", SIDES),
    ):
        first, second = (
            Embedded(_embed(scenes, side, name), public[side], name=side) for side in order
        )
        test = two_model_test(
            first, second, objects[name], objects["public"], k=k, top=top, progress=False
        )
        rows[words] = (test.ppg, test.prg, test.aucg)
    return rows


def utility(scenes: Scenes, side: Side = "target", first: int = 20) -> float:
    """Precision at ``first``: share of held-out pictures found by an object's name that show it."""
    clip, objects = getattr(scenes, side), scenes.sets.held_out.objects
    queries = clip.tokenizer([caption([name], []) for name in OBJECTS])
    texts = embed(clip.model.encode_text, queries)
    pictures = embed(clip.model.encode_image, scenes.images("held_out"))
    normal = torch.nn.functional.normalize
    nearest = (normal(texts, dim=1) @ normal(pictures, dim=1).T).topk(first, 1).indices
    return float(objects.T.gather(1, nearest).float().mean())


def _embed(scenes: Scenes, side: Side, name: str) -> Tensor:
    """Features of the public pictures, or of another set's captions."""
    model: Any = getattr(scenes, side).model
    if name == "public":
        return embed(model.encode_image, scenes.images(name))
    return embed(model.encode_text, scenes.tokens(name))
