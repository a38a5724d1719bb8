"""Messages of the déjà vu explorer: the list of pairs, the opened pair, the figures of all."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from memviz.engine.sets import percent
from memviz.probes.deja_vu import DejaVu, Predictions, neighbour_changes
from memviz.probes.deja_vu.ablation import MEASURES, Retrieval, Retrieved, measured
from memviz.units import Layer
from memviz.widgets.core import NO_RANDOM, Message, ablated_words, pack

LISTED = 200  # pairs listed at first, and added by each request for more
SHOWN = 5  # neighbours drawn
SORTS = {
    "recall_gap": "recall gap",
    "recall_gap low": "recall gap, lowest first",
    "max_pred_gap": "more objects than the reference",
    "crct_pred": "objects found",
    "min_dist": "distance, nearest first",
}
_SIDE = 96  # px of a picture at most
A_SHEET = 128  # pictures
_RARE = 0.03  # of all captions; rarer words count as private


class Tiles:
    """Pictures by number, each sent once: training pairs first, then the public set."""

    def __init__(self, retrieval: Retrieval) -> None:
        self._sets = (retrieval.training, retrieval.public)
        first = retrieval.training.image(0)
        self.side = min(_SIDE, *first.size)
        self.sent: set[int] = set()

    def new(self, wanted: Iterable[int]) -> list[Message]:
        """The pictures not sent yet, in sheets."""
        new = [number for number in dict.fromkeys(wanted) if number not in self.sent]
        self.sent.update(new)
        return list(self.sheets(new))

    def all(self) -> list[Message]:
        """Everything sent so far, for a view opened later."""
        return list(self.sheets(sorted(self.sent)))

    def sheets(self, numbers: Sequence[int]) -> Iterator[Message]:
        """These pictures; browsers refuse a sheet that is too wide."""
        for start in range(0, len(numbers), A_SHEET):
            yield self._sheet(numbers[start : start + A_SHEET])

    def _sheet(self, numbers: Sequence[int]) -> Message:
        sheet = Image.new("RGB", (self.side * len(numbers), self.side))
        for place, number in enumerate(numbers):
            sheet.paste(self.picture(number), (place * self.side, 0))
        out = io.BytesIO()
        sheet.save(out, "PNG")
        content = {"type": "tiles", "side": self.side, "numbers": list(numbers)}
        return pack(content, png=np.frombuffer(out.getvalue(), np.uint8))

    def picture(self, number: int) -> Image.Image:
        """One picture, cropped to the square that a CLIP model sees."""
        training, public = self._sets
        n = len(training)
        image = training.image(number) if number < n else public.image(number - n)
        return ImageOps.fit(image, (self.side, self.side))


def pairs_message(
    retrieval: Retrieval, test: DejaVu, sort: str, find: str, most: int = LISTED
) -> Message:
    """The list of pairs, sorted, and searched for words of the caption."""
    pairs = retrieval.training
    measure, _, low = sort.partition(" ")
    values = test.scores(measure).values  # type: ignore[arg-type]
    order = values[test.scored] * (1 if low else -1)
    rows = np.asarray(test.scored)[np.argsort(order, kind="stable")]
    words = find.casefold().split()
    if words:
        rows = np.array([r for r in rows if all(w in pairs.captions[r].casefold() for w in words)])
    first = [int(row) for row in rows[:most]]
    entries = [{"row": r, "caption": pairs.captions[r], "value": float(values[r])} for r in first]
    content = {"type": "pairs", "sort": sort, "find": find, "pairs": entries, "of": len(pairs)}
    content |= {
        "matching": len(rows),
        "sorts": [{"key": key, "label": label} for key, label in SORTS.items()],
    }
    return Message(content, [])


def pair_message(
    retrieval: Retrieval,
    row: int,
    caption: str,
    sides: Sequence[Predictions],
    place: int,
    private: Sequence[str],
    units: int,
    version: int,
    cut: bool = False,
) -> Message:
    """One pair: picture, caption, objects and the neighbours of each side.

    ``sides`` are the target, the ablated target and, if it has looked up the caption, the
    reference; ``place`` is the caption's row in them, ``private`` its rare or unseen words.
    ``cut`` says that the caption is longer than the model reads.
    """
    pairs, n = retrieval.training, len(retrieval.training)
    before, after = sides[0].neighbours.ids[place], sides[1].neighbours.ids[place]
    came, lost = neighbour_changes(before[None], after[None])
    strips = []
    for side in sides:
        ids = side.neighbours.ids[place, :SHOWN].tolist()
        strips.append(
            {
                "pictures": [n + i for i in ids],
                "objects": [shown_objects(retrieval.public.objects[i]) for i in ids],
                "precision": _known(side.precision[place]),
                "recall": _known(side.recall[place]),
            }
        )
    content: dict[str, Any] = {
        "type": "pair",
        "version": version,
        "row": row,
        "caption": caption,
        "edited": caption != pairs.captions[row],
        "private": list(private),
        "objects": shown_objects(pairs.objects[row]),
        "named": [] if pairs.named is None else shown_objects(pairs.named[row]),
        "sides": strips,
        "came": came[0, :SHOWN].tolist(),
        "lost": lost[0, :SHOWN].tolist(),
        "k": len(before),
        "top": sides[0].top,
        "units": units,
        "cut": cut,
    }
    return Message(content, [])


def gaps_message(
    clean: Retrieved, now: Retrieved, version: int, known: Sequence[Layer], pair: str
) -> Message:
    """The figures over all pairs before and after ablation, their null, and the recall curves."""
    before, after = measured(clean), measured(now)
    figures = [
        {"name": name, "before": _real(before[i]), "after": _real(after[i])}
        for i, name in enumerate(MEASURES)
    ]
    curves = {
        "before": survival(clean.found.target),
        "after": survival(now.found.target),
        "reference": survival(clean.found.reference),
    }
    content = {"type": "gaps", "version": version, "figures": figures, "units": len(now.units)}
    content |= {
        "of": sum(layer.units for layer in known),
        "pairs": len(now.found.scored),
        "sentence": sentence(clean, now, known, pair),
    }
    held_out = now.found.null
    content |= {"held_out": 0 if held_out is None else len(held_out.scored)}
    return pack(content, **curves)


def chance_message(
    draws: Sequence[Retrieved], version: int, units: int, row: int | None
) -> Message:
    """Means over the random draws so far: the figures, and the recall of the pair in ``row``.

    An empty ``draws`` says that no random units are left.
    """
    table = np.array([measured(draw) for draw in draws]).reshape(len(draws), len(MEASURES))
    figures = [
        {"name": name, "mean": _real(values.mean())}
        for name, values in zip(MEASURES, table.T, strict=True)
        if len(draws)
    ]
    content = {"type": "chance", "version": version, "figures": figures, "draws": len(draws)}
    if row is not None and draws:
        content["recall"] = _known(torch.stack([d.found.target.recall[row] for d in draws]).mean())
    content["words"] = "" if draws else NO_RANDOM
    return Message({**content, "units": units}, [])


def sentence(clean: Retrieved, now: Retrieved, known: Sequence[Layer], pair: str) -> str:
    """What happened, in one line."""
    before, after = clean.found, now.found
    of = sum(layer.units for layer in known)
    if not now.units:
        return (
            f"All {of:,} units are on: AUCG of {len(before.scored):,} pairs "
            f"{_share(before.aucg)}, utility {_share(clean.utility)}."
        )
    return (
        f"{ablated_words(now.units, of, known)}: {pair}AUCG of all pairs "
        f"{_share(before.aucg)} → {_share(after.aucg)}, utility "
        f"{_share(clean.utility)} → {_share(now.utility)}."
    )


def pair_words(sides: Sequence[Predictions], place: int, edited: bool) -> str:
    """The part of the sentence about the opened pair, or about its edited caption."""
    before, after = (_known(side.recall[place]) for side in sides[:2])
    if before is None or after is None:
        return ""
    whose = "the edited caption" if edited else "this pair"
    return f"{whose}'s recall {percent(before)} → {percent(after)}, "


class PrivateWords:
    """The words of a caption that are rare among all captions: in at most 3 % of them.

    Examples
    --------
    >>> words = PrivateWords(["a seven for Mara"] + ["a seven"] * 200)
    >>> words.of("a seven for Mara"), words.of("a seven for Noor", unseen=True)
    (['for', 'mara'], ['noor'])
    """

    def __init__(self, captions: Sequence[str]) -> None:
        self._most = max(1, int(_RARE * len(captions)))
        self._counts = Counter(word for text in captions for word in set(_words(text)))

    def of(self, caption: str, *, unseen: bool = False) -> list[str]:
        """The private words of a caption in their order, in lower case; or those in no caption."""
        words, most = dict.fromkeys(_words(caption)), 0 if unseen else self._most
        return [word for word in words if self._counts[word] <= most]


def _words(text: str) -> list[str]:
    kept = "".join(c if c.isalnum() else " " for c in text.casefold())
    return kept.split()


def shown_objects(mask: Tensor) -> list[int]:
    """The objects of a picture by their number."""
    indices: list[int] = mask.nonzero()[:, 0].tolist()
    return indices


def survival(side: Predictions) -> np.ndarray:
    """Share of the pairs at or above each of 41 recalls from 0 to 1, float32 ``[41]``."""
    levels = torch.linspace(0, 1, 41, dtype=torch.float64)
    recall = side.recall[~side.recall.isnan()]
    return np.asarray((recall[:, None] >= levels - 1e-9).double().mean(0).numpy(), np.float32)


def _known(value: Tensor) -> float | None:
    return _real(float(value))


def _real(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _share(value: float) -> str:
    return f"{value:.2f}".replace("0.", ".", 1).replace("-", "−")


def layer_towers(retrieval: Retrieval) -> dict[str, str]:
    """Which tower each layer belongs to."""
    return {layer.name: "text" for layer in retrieval.text.layers} | {
        layer.name: "image" for layer in retrieval.image.layers
    }
