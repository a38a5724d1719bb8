"""Messages of the extraction explorer, and its sentence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from memviz.probes.extraction import Recital
from memviz.session import Session
from memviz.units import Layer
from memviz.widgets.core import Choices, Message, interventions, layers_content, pack

from ._figures import Reading, told
from ._opened import WANTED, Answered, Asked, candidates, sides, tries
from ._passages import Passages


def study_message(
    session: Session, passages: Passages, layers: Sequence[Layer], scores: Choices
) -> Message:
    """Everything that never changes."""
    study = session.study
    group = np.full(len(study), 255, np.uint8)
    for index, mask in enumerate(study.groups.values()):
        group[mask.numpy()] = index
    task = passages.task
    content: dict[str, Any] = {
        "type": "study",
        "name": study.name,
        "summary": study.summary,
        "classes": [],
        "groups": [{"name": n, "count": int(m.sum())} for n, m in study.groups.items()],
        **layers_content(layers, session.known),
        "scores": list(scores),
        "interventions": interventions(session.how),
        "image": {"height": 1, "width": 1, "channels": 1, "ink": True},
        "examples": len(study),
        "methods": [],
        "variants": [{"key": key, "label": words} for key, words in session.variants.items()],
        "prompt": task.prompt,
        "continuation": task.continuation,
        "trained": len(passages.trained),
        "heldOut": len(passages.held_out),
        "writes": task.tokenizer is not None,
        "wanted": list(WANTED),
    }
    nothing = np.full(len(study), 65535, np.uint16)
    return pack(content, label=nothing, truth=nothing, group=group)


def list_message(
    passages: Passages, rows: Sequence[int], values: np.ndarray, sort: str, find: str, most: int
) -> Message:
    """The list of passages, sorted and searched."""
    entries = []
    for row in rows[:most]:
        value = float(values[row])
        entries.append(passages.entry(row) | {"value": value if np.isfinite(value) else None})
    content: dict[str, Any] = {"type": "passages", "sort": sort, "find": find, "passages": entries}
    content |= {"of": len(passages.study), "matching": len(rows)}
    content["sorts"] = [{"key": key, "label": label} for key, label in passages.sorts.items()]
    return Message(content, [])


def passage_message(
    passages: Passages,
    asked: Asked,
    before: Answered,
    after: Answered,
    units: int,
    version: int,
    sentence: str,
) -> Message:
    """The opened passage: prompt, true tokens, what is said before and after, and the chances."""
    row, prompt = asked.row, list(asked.prompt)
    shown = candidates(before.recital, after.recital)
    own = passages.prompt(row)
    content: dict[str, Any] = {
        "type": "passage",
        "version": version,
        "row": row,
        "copies": None if passages.copies is None else int(passages.copies[row]),
        "held": bool((passages.held_out == row).any()) and bool(passages.group),
        "prompt": passages.text(prompt),
        "own": passages.words(own),
        "length": len(prompt),
        "edited": asked.edited,
        "sample": asked.sample,
        "temperature": asked.temperature,
        "topK": asked.top_k,
        "units": units,
        "true": passages.words(list(asked.true), prompt),
        "saidBefore": passages.words(before.recital.said.tolist(), prompt),
        "saidAfter": passages.words(after.recital.said.tolist(), prompt),
        "shown": [passages.words(place) for place in shown.tolist()],
        "matchedBefore": before.recital.matched,
        "matchedAfter": after.recital.matched,
        "tries": {"before": tries(before.chance), "after": tries(after.chance)},
        "sentence": sentence,
    }
    arrays: dict[str, np.ndarray] = {}
    for name, answered in (("Before", before), ("After", after)):
        found = sides(answered.recital, shown)
        arrays |= {f"{key}{name}": value for key, value in found.items()}
    return pack(content, **arrays)


def null_message(
    found: dict[str, Any],
    recitals: Sequence[Recital],
    shown: torch.Tensor,
    row: int,
    units: int,
    version: int,
    of: int,
) -> Message:
    """Random units in place of the ablated ones: figures of all, and of the opened passage."""
    draws = len(recitals)
    content = {"type": "recited_null", "version": version, "units": units, "draws": draws, "of": of}
    content |= {"figures": found, "row": row, "words": ""}
    content["whole"] = sum(recital.whole for recital in recitals)
    content["matched"] = float(np.mean([recital.matched for recital in recitals]))
    right = torch.stack([recital.matches for recital in recitals]).float().mean(0)
    chance = torch.stack([recital.probabilities(shown) for recital in recitals]).mean(0)
    first = torch.stack([recital.ranks == 1 for recital in recitals]).float().mean(0)
    arrays = {"right": right, "chance": chance, "first": first}
    return pack(content, **{k: v.numpy().astype(np.float32) for k, v in arrays.items()})


def no_null_message(units: int, version: int, words: str) -> Message:
    """Says that no null is possible."""
    content = {"type": "recited_null", "version": version, "units": units, "draws": 0, "of": 0}
    return Message({**content, "words": words, "figures": {}, "row": None}, [])


def figures_message(
    found: dict[str, Any], before: Reading, now: Reading, units: int, version: int, words: str
) -> Message:
    """The figures of all passages, and each one's tokens before the first wrong one."""
    content = {"type": "recited", "version": version, "units": units, "rows": found}
    most = np.iinfo(np.uint16).max
    arrays = {"matchedBefore": before.matched, "matchedAfter": now.matched}
    cut = {key: np.minimum(value, most).astype(np.uint16) for key, value in arrays.items()}
    return pack({**content, "sentence": words}, **cut)


def curve_message(
    row: int,
    version: int,
    units: int,
    starts: int | None,
    wrong: dict[str, list[str]],
    **curves: np.ndarray,
) -> Message:
    """Tokens recited before the first wrong one, by prompt length from 1 on; NaN where unknown.

    ``wrong`` are the first wrong tokens themselves, so that a view can show them while the length
    is dragged.
    """
    content = {"type": "prompt_curve", "row": row, "version": version, "units": units}
    return pack(
        {**content, "starts": starts, **wrong},
        **{k: v.astype(np.float32) for k, v in curves.items()},
    )


def passage_words(before: Recital, after: Recital) -> str:
    """What became of the opened passage."""
    n = len(after.true)
    if after.whole:
        return "this passage stays whole" if before.whole else "this passage is now recited whole"
    broken = f"token {after.matched + 1} of {n}"
    if before.whole:
        return f"this passage now breaks at {broken}"
    same = after.matched == before.matched
    was = "as before" if same else f"before at token {before.matched + 1}"
    return f"this passage breaks at {broken}, {was}"


def sentence(found: dict[str, Any], passage: str, off: str, about: str) -> str:
    """What happened, in one line; ``off`` are the ablated units in words, if there are any."""
    recited, held, perplexity = (found.get(key) for key in ("recited", "held", "perplexity"))
    if not off:
        parts = []
        if recited:
            count, among = recited["counts"][0], recited["of"]
            parts.append(f"{count:,} of {among:,} passages are recited whole")
        if held and held is not recited:
            parts.append(f"{held['counts'][0]:,} of {held['of']:,} held-out ones")
        start = "; ".join(parts) or "No passage was in training"
        return f"{start}. {about}" if about else f"{start}."
    parts = [passage] if passage else []
    if recited:
        before, after = recited["counts"]
        parts.append(f"recited whole {before:,} → {after:,} of {recited['of']:,} passages")
    if perplexity:
        before, after = told(perplexity["before"]), told(perplexity["after"])
        parts.append(f"held-out perplexity {before} → {after}")
    head, *rest = parts or ["nothing to read"]
    told_of = f"{head}; {', '.join(rest)}" if passage and rest else ", ".join([head, *rest])
    return f"{off}: {told_of}."


def about_passage(passages: Passages, asked: Asked, before: Recital, starts: int | None) -> str:
    """The opened passage with every unit on."""
    n, row = len(before.true), asked.row
    if asked.edited:
        return f"Edited prompt: tokens are compared with passage {row}; (n, p) does not apply."
    if before.whole:
        size = f" from a prompt of {starts} token{'' if starts == 1 else 's'} on"
        how = "recited whole" + ("" if starts is None else size)
    else:
        how = f"wrong first at token {before.matched + 1} of {n}"
    seen = ""
    if passages.copies is not None:
        copies = int(passages.copies[row])
        seen = f"; it was in training {copies:,} time{'' if copies == 1 else 's'}"
    elif passages.group and bool((passages.held_out == row).any()):
        seen = "; it was held out"
    return f"Passage {row} is {how}{seen}."
