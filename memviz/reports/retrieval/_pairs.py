"""Which pairs are memorized: the gaps between two models, and the pairs with the largest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from memviz.probes.deja_vu import figures
from memviz.probes.deja_vu.ablation import Retrieval

from .._parts import Section, figure, table, words

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = 20  # pairs on the page; the file has all
_FRACTIONS = (0.01, 0.1, 0.25, 0.5, 1.0)
_NAMED = {
    "id": "pair",
    "target_recall": "recall, target",
    "reference_recall": "recall, reference",
    "recall_gap": "gap",
}


def pairs_section(retrieval: Retrieval, seed: int) -> Section:
    """The chapter on pairs."""
    found = retrieval.clean.found
    summary = found.summary(seed=seed)
    held_out = (
        "Grey: the same of held-out pairs, which neither model was trained on. "
        if found.null is not None
        else "There are no held-out pairs, and so no null. "
    )
    source = f"Source: {summary.attrs['source']}."
    kept = "all objects" if retrieval.top is None else f"their {retrieval.top} commonest objects"
    sorted_ = found.most_memorized("recall_gap", _FRACTIONS)
    parts = [
        words(
            f"A caption is looked up among {len(retrieval.public):,} public pictures: what its "
            f"{retrieval.k} nearest show ({kept}) is compared with the caption's own picture. "
            f"What {found.names[0]} finds and {found.names[1]}, trained without the pair, does "
            "not is memorized."
        ),
        figure(
            lambda: figures.gaps(found, seed=seed),
            "The gaps between the two models",
            "gaps",
            summary.reset_index(),
            method=f"95% of 1,000 resamples of {len(found.scored):,} pairs. {held_out}{source}",
        ),
        figure(
            lambda: figures.most_memorized({"recall gap": sorted_}),
            "The gap over the pairs that show it most",
            "first-pairs",
            sorted_,
            method="Sorting by a gap makes one: dashed, the held-out pairs sorted the same way. "
            f"{source}",
        ),
        _listed(retrieval, source),
    ]
    return Section("pairs", "Which pairs are memorized", tuple(parts))


def pair_table(retrieval: Retrieval) -> pd.DataFrame:
    """One row per training pair, the largest recall gap first, with its caption and objects."""
    found, pairs = retrieval.clean.found, retrieval.training
    names = np.array([str(name) for name in pairs.class_names], dtype=object)
    frame = found.frame.iloc[found.order("recall_gap")].copy()
    rows = frame.index.tolist()
    frame.insert(1, "caption", [pairs.captions[row] for row in rows])
    frame.insert(2, "shows", [", ".join(names[pairs.objects[row].numpy()]) for row in rows])
    return frame


def _listed(retrieval: Retrieval, source: str) -> str:
    whole = pair_table(retrieval)
    frame = whole[["id", "caption", "shows", *list(_NAMED)[1:]]].rename(columns=_NAMED)
    return table(
        frame,
        f"The {min(_SHOWN, len(frame))} of {len(frame):,} pairs with the largest recall gap",
        "pairs",
        method="Recall: share of the picture's objects that the neighbours show. The file has all "
        f"pairs that show an object. {source}",
        shown=_SHOWN,
        whole=whole,
    )
