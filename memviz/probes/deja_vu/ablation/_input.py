"""Checks of the déjà vu explorer's arguments, before any model runs."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from memviz.data.caption_pairs import CaptionPairs
from memviz.models.clip import Clip

from .._duplicates import duplicates
from .._embedded import Embedded

_SHOWN = 60  # characters of an argument that an error quotes
_CLIP = (
    "load one with memviz.models.clip.load_clip(folder), or wrap a loaded model as "
    "Clip(model, preprocess, tokenizer, config)"
)


def check_models(target: Any, reference: Any) -> None:
    """Refuse anything but two different models."""
    if not isinstance(target, Clip):
        raise ValueError(f"target is {_described(target)}; expected a Clip: {_CLIP}.")
    if not isinstance(reference, Clip | Embedded):
        raise ValueError(
            f"reference is {_described(reference)}; expected a Clip or an Embedded: {_CLIP}."
        )
    if isinstance(reference, Clip) and _same(target, reference):
        raise ValueError(
            "target and reference have equal weights, so there is no gap between them; give a "
            "reference of the same recipe that was trained without the training pairs."
        )


def check_sets(sets: Mapping[str, Any], query: Any) -> None:
    """Refuse anything but sets of pairs with the same classes, and a query that can be called."""
    for name, pairs in sets.items():
        if not isinstance(pairs, CaptionPairs):
            raise ValueError(
                f"{name} is {_described(pairs)}; expected CaptionPairs(images, captions, "
                "objects, class_names); memviz.data.caption_readers reads them from files."
            )
    first, *others = sets.values()
    for pairs in others:
        if list(pairs.class_names) != list(first.class_names):
            raise ValueError(
                f"the training pairs have the classes {_some(first.class_names)} and another set "
                f"{_some(pairs.class_names)}; give all sets the same object classes."
            )
    if not callable(query):
        raise ValueError(
            f"query is {_described(query)}; expected a function from a class name to a caption, "
            "such as 'a photo of a {}'.format."
        )


def warn_of_shared(images: Mapping[str, Tensor]) -> None:
    """Warn about images that two of the sets share, as the target sees them."""
    shared = duplicates(images)
    pairs = ((name, other) for name, _, other, *_ in shared.rows if name != other)
    sentences = [
        f"{count:,} of the {shared.sizes[name]:,} {name} images are also {other} images"
        for (name, other), count in Counter(pairs).items()
    ]
    if sentences:
        warnings.warn(
            f"{', '.join(sentences)}; shared images change the gap or its null, so leave them out "
            "of one of the sets.",
            stacklevel=3,
        )


def _same(target: Clip, reference: Clip) -> bool:
    if target.model is reference.model:
        return True
    weights, others = target.model.state_dict(), reference.model.state_dict()
    return weights.keys() == others.keys() and all(
        torch.equal(tensor, others[name].to(tensor.device)) for name, tensor in weights.items()
    )


def _described(given: Any) -> str:
    """A string, such as a path, in quotes; the type of anything else."""
    words = str(given) if isinstance(given, str) else type(given).__name__
    words = words if len(words) <= _SHOWN else f"{words[:_SHOWN]}…"
    return repr(words) if isinstance(given, str) else f"of type {words}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" … ({len(names)})" if len(names) > 3 else "")
