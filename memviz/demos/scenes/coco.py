"""Déjà vu of real photographs: two small CLIP models trained on COCO pairs.

``python -m memviz.demos.scenes.coco FOLDER --seeds 0 1 2`` reads ``captions.json``,
``instances.json`` and ``images`` in FOLDER, splits the photos into target, reference, public and
held-out sets, reports their duplicates, trains both models and prints PPG, PRG and AUCG with the
held-out null, and the utility. The models are stored in ``--keep`` (by default the cache folder),
two open_clip folders per seed that ``memviz.models.clip.load_clip`` opens. An interrupted training
resumes from there.

Recipe. A pair is a photo, squashed to 64 x 64 pixels, and its first caption. A transformer of three
blocks over 64 patches, one of three over the caption, width 128; AdamW at 1e-3 with a cosine,
weight decay 0.1, batches of 64. Both models start from the same weights. As in
``memviz.demos.scenes``, of CLIP's vocabulary only the captions' tokens are trained, and every other
gets their mean.

So few photos teach a model little about photographs in general: the figures mostly reflect what it
knows of its own pairs.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from memviz.data.caption_pairs import CaptionPairs
from memviz.data.caption_readers import read_coco
from memviz.data.scenes import SceneSets
from memviz.demos.scenes.directions import GAPS, both_ways
from memviz.engine.search import embed
from memviz.models.clip import Clip, create_clip, save_clip
from memviz.probes.deja_vu import (
    Duplicates,
    by_chance,
    duplicates,
    linear_probe,
    near_duplicates,
    zero_shot,
)
from memviz.training.contrastive import train_contrastive

from .._weight_files import cache_folder
from ._recipe import SIDES, Scenes, Side

PAIRS, EPOCHS, BATCH_SIZE, LEARNING_RATE, WEIGHT_DECAY = 128, 60, 64, 1e-3, 0.1
SIZE, PATCH, WIDTH, LAYERS, CONTEXT, VOCABULARY = 64, 8, 128, 3, 32, 49408
PREPROCESS = {"size": SIZE, "resize_mode": "squash"}  # No crop: every object stays in the picture.
HELD_OUT_SHARE = 0.3  # Of the photos that no model is trained on; the others are public.
LEAST = 5  # Photos that a class needs to count for the utility.
THUMBNAIL, ALIKE = 8, 0.98
RULES = ((10, 5), (10, None), (1, None), (5, 3))  # Neighbours, and labels kept of them.
_EMBEDDING = "token_embedding.weight"


def read(folder: str | Path) -> CaptionPairs:
    """Photos with their first caption and their objects; unreadable ones are reported and left out.

    Raises
    ------
    FileNotFoundError, ValueError : a file is missing, or the annotations are not COCO's.

    Examples
    --------
    >>> read("nowhere")
    Traceback (most recent call last):
    FileNotFoundError: there is no folder of pictures 'nowhere/images'.
    """
    folder = Path(folder)
    pairs = read_coco(folder / "captions.json", folder / "instances.json", folder / "images")
    readable = pairs.readable()
    if not bool(readable.all()):
        print(f"{int((~readable).sum())} photos can't be read and are left out.")
    return pairs.subset(readable)


def split(pairs: CaptionPairs, size: int = PAIRS, seed: int = 0) -> SceneSets:
    """Four disjoint sets of photos: two of ``size`` to train on, the rest public and held out.

    Raises
    ------
    ValueError : there are too few photos for two training sets of this size.
    """
    rest = len(pairs) - 2 * size
    held_out = int(HELD_OUT_SHARE * rest)
    if size < 2 or held_out < 1:
        raise ValueError(
            f"there are {len(pairs)} photos, too few for two training sets of {size}; use "
            f"2 to {(len(pairs) - 4) // 2}."
        )
    order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(int(seed)))
    parts = order.split([size, size, rest - held_out, held_out])
    return SceneSets(*(pairs.subset(part) for part in parts))


def shared(sets: SceneSets) -> dict[str, Duplicates]:
    """Duplicates between and within the sets: equal pixels, equal captions, similar thumbnails."""
    named = sets.named()
    thumbnails = {name: _thumbnails(pairs) for name, pairs in named.items()}
    return {
        "pixels": duplicates({name: pairs.digests() for name, pairs in named.items()}),
        "captions": duplicates({name: list(pairs.captions) for name, pairs in named.items()}),
        f"thumbnails of {THUMBNAIL} x {THUMBNAIL}": near_duplicates(
            thumbnails, ALIKE, progress=False
        ),
    }


def train(
    sets: SceneSets,
    side: Side,
    *,
    vocabulary: Sequence[str],
    epochs: int = EPOCHS,
    seed: int = 0,
    folder: str | Path | None = None,
    progress: bool = True,
) -> Clip:
    """Train a model of the recipe on one side's pairs.

    Parameters
    ----------
    vocabulary : texts whose tokens are trained; give both sides the same.
    folder : where the training is saved after every epoch, and resumed from.

    Returns
    -------
    The model over CLIP's whole vocabulary.
    """
    whole = create_clip(_config(VOCABULARY), PREPROCESS)
    known = whole.tokenizer(list(vocabulary)).unique()
    small = create_clip(_config(len(known)), PREPROCESS, seed=seed)
    pairs = sets.named()[side]
    train_contrastive(
        small.model,
        pairs.inputs(whole.preprocess),
        # Ascending ids stay ascending: open_clip pools at the largest, the end of text.
        torch.searchsorted(known, whole.tokenizer(list(pairs.captions))),
        epochs=epochs,
        batch_size=BATCH_SIZE,
        learning_rate=LEARNING_RATE,
        weight_decay=WEIGHT_DECAY,
        seed=seed,
        folder=folder,
        progress=progress,
    )
    state = dict(small.model.state_dict())
    rows = state[_EMBEDDING].mean(0).repeat(VOCABULARY, 1)
    rows[known] = state[_EMBEDDING]
    whole.model.load_state_dict({**state, _EMBEDDING: rows})
    return whole


def queries(class_names: Sequence[str]) -> list[str]:
    """One caption per class, naming it.

    Examples
    --------
    >>> queries(["dog", "oven"])
    ['a photo of a dog', 'a photo of an oven']
    """
    return [f"a photo of {'an' if name[0] in 'aeiou' else 'a'} {name}" for name in class_names]


def gaps(photos: Scenes, k: int = 10, top: int | None = 5) -> dict[str, tuple[float, ...]]:
    """PPG, PRG and AUCG: the mean over both models' own pairs, and on the held-out pairs."""
    own, other = both_ways(photos, k, top)
    null = own.null
    assert null is not None
    pairs = [(getattr(own, name.lower()), getattr(other, name.lower())) for name in GAPS]
    return {
        "training pairs": tuple(sum(pair) / 2 for pair in pairs),
        "held-out pairs": (null.ppg, null.prg, null.aucg),
    }


def useful(photos: Scenes) -> dict[str, float]:
    """Average precision on photos that neither model was trained on, mean of both models."""
    by_side = [_useful(photos, getattr(photos, side)) for side in SIDES]
    return {name: sum(row[name] for row in by_side) / len(by_side) for name in by_side[0]}


def _useful(photos: Scenes, clip: Clip) -> dict[str, float]:
    """Average precision of zero-shot retrieval and of a linear probe, and by chance."""
    public, held_out = photos.sets.public, photos.sets.held_out
    model: Any = clip.model
    images = [
        embed(model.encode_image, pairs.inputs(clip.preprocess), progress=False)
        for pairs in (public, held_out)
    ]
    objects = torch.cat([public.objects, held_out.objects])
    texts = embed(model.encode_text, clip.tokenizer(queries(public.class_names)), progress=False)
    return {
        "zero-shot": zero_shot(texts, torch.cat(images), objects, least=LEAST),
        "zero-shot by chance": by_chance(objects, least=LEAST),
        "linear probe": linear_probe(
            images[0], public.objects, images[1], held_out.objects, least=LEAST
        ),
        "linear probe by chance": by_chance(held_out.objects, least=LEAST),
    }


def _thumbnails(pairs: CaptionPairs) -> Tensor:
    """Every photo as a few coloured cells around its mean: the same for copies of another size."""
    from torchvision.transforms.functional import pil_to_tensor

    cells = [
        pil_to_tensor(pairs.image(i).resize((THUMBNAIL, THUMBNAIL))) for i in range(len(pairs))
    ]
    flat = torch.stack(cells).flatten(1).float()
    # The column of ones keeps a photo of a single colour from being a row of zeros.
    return torch.cat([flat - flat.mean(1, keepdim=True), torch.ones(len(flat), 1)], 1)


def _config(vocabulary: int) -> dict[str, Any]:
    vision = {"image_size": SIZE, "patch_size": PATCH, "head_width": 32}
    text = {"context_length": CONTEXT, "vocab_size": vocabulary, "heads": 4}
    towers = {"layers": LAYERS, "width": WIDTH}
    return {"embed_dim": WIDTH, "vision_cfg": {**vision, **towers}, "text_cfg": {**text, **towers}}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the duplicates of each seed's sets, then the figures of all seeds."""
    parser = argparse.ArgumentParser(prog="python -m memviz.demos.scenes.coco")
    parser.add_argument("folder", type=Path, help="with captions.json, instances.json and images/")
    parser.add_argument("--pairs", type=int, default=PAIRS, help="training pairs of each model")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--keep", type=Path, help="folder for the models (default: the cache)")
    given = parser.parse_args(arguments)
    pairs = read(given.folder)
    texts = [*pairs.captions, *queries(pairs.class_names)]
    all_photos = []
    for seed in given.seeds:
        sets = split(pairs, given.pairs, seed)
        sizes = ", ".join(f"{name} {len(part)}" for name, part in sets.named().items())
        print(f"seed {seed}: photos {sizes}")
        for what, equal in shared(sets).items():
            print(f"{what}: {equal}")
        folder = given.keep or cache_folder()
        folder /= f"coco-{given.pairs}-epochs{given.epochs}-seed{seed}"
        clips = []
        for side in SIDES:
            clip = train(
                sets,
                side,
                vocabulary=texts,
                epochs=given.epochs,
                seed=seed,
                folder=folder / f"{side}-training",
            )
            save_clip(folder / side, clip)
            clips.append(clip)
        all_photos.append(Scenes(sets, *clips))
    print(
        f"mean of seeds {tuple(given.seeds)} (lowest to highest); {given.pairs} photos per "
        f"training set, {given.epochs} epochs"
    )
    for k, top in RULES:
        print(f"{k} neighbours, {'all' if top is None else f'the {top} most frequent'} labels")
        tables = [gaps(photos, k, top) for photos in all_photos]
        for name in tables[0]:
            columns = zip(*(table[name] for table in tables), strict=True)
            cells = [f"{gap} {_spread(column)}" for gap, column in zip(GAPS, columns, strict=True)]
            print(f"  {name}  {'  '.join(cells)}")
    print("average precision on photos that neither model was trained on")
    precisions = [useful(photos) for photos in all_photos]
    for name in precisions[0]:
        print(f"  {name:<22} {_spread([row[name] for row in precisions])}")


def _spread(values: Sequence[float]) -> str:
    return f"{sum(values) / len(values):+.3f} ({min(values):+.3f} to {max(values):+.3f})"


if __name__ == "__main__":
    main()
