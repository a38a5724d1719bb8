"""What a user gives to the déjà vu explorer, checked before its models run."""

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

_SHOWN = 60  # characters of what was given
_CLIP = (
    "memviz.models.clip.load_clip(folder) makes one, and Clip(model, preprocess, tokenizer, "
    "config) of a model that is open already"
)


def check_models(target: Any, reference: Any) -> None:
    """Refuse what is no model with its preprocessing and tokenizer, and a model twice."""
    if not isinstance(target, Clip):
        raise ValueError(f"target is {_told(target)}; give a Clip: {_CLIP}.")
    if not isinstance(reference, Clip | Embedded):
        raise ValueError(f"reference is {_told(reference)}; give a Clip or an Embedded: {_CLIP}.")
    if isinstance(reference, Clip) and _same(target, reference):
        raise ValueError(
            "target and reference are one model, with equal weights, and have no gap; give as "
            "reference a model of the same recipe that was trained without the training pairs."
        )


def check_sets(sets: Mapping[str, Any], query: Any) -> None:
    """Refuse what is no set of pairs, sets of other classes, and a query that can't be called."""
    for name, pairs in sets.items():
        if not isinstance(pairs, CaptionPairs):
            raise ValueError(
                f"{name} is {_told(pairs)}; give CaptionPairs(pictures, captions, objects, "
                "class_names), which memviz.data.caption_readers reads from files."
            )
    first, *others = sets.values()
    for pairs in others:
        if list(pairs.class_names) != list(first.class_names):
            raise ValueError(
                f"the training pairs have the classes {_some(first.class_names)} and another set "
                f"{_some(pairs.class_names)}; use one list of object classes for all sets."
            )
    if not callable(query):
        raise ValueError(
            f"query is {_told(query)}; give a function from a class name to a caption, such as "
            "'a photo of a {}'.format."
        )


def warn_of_shared(pictures: Mapping[str, Tensor]) -> None:
    """Warn of pictures, as the target sees them, that stand in two of the sets."""
    found = duplicates(pictures)
    pairs = ((one, other) for one, _, other, *_ in found.rows if one != other)
    told = [
        f"{count:,} of the {found.sizes[one]:,} {one} pictures are also {other} pictures"
        for (one, other), count in Counter(pairs).items()
    ]
    if told:
        warnings.warn(
            f"{', '.join(told)}; the sets should share none, since what two sets share changes "
            "the gap or its null: leave it out of one.",
            stacklevel=3,
        )


def _same(one: Clip, other: Clip) -> bool:
    if one.model is other.model:
        return True
    mine, theirs = one.model.state_dict(), other.model.state_dict()
    return mine.keys() == theirs.keys() and all(
        torch.equal(tensor, theirs[name].to(tensor.device)) for name, tensor in mine.items()
    )


def _told(given: Any) -> str:
    """A path or another word as it is, of anything else its type."""
    words = str(given) if isinstance(given, str) else type(given).__name__
    words = words if len(words) <= _SHOWN else f"{words[:_SHOWN]}…"
    return repr(words) if isinstance(given, str) else f"of type {words}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" … ({len(names)})" if len(names) > 3 else "")
