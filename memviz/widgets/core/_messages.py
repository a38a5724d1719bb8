"""Messages to the browser: a small dict each, with arrays as binary buffers."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote

import numpy as np
from torch import Tensor

from memviz.scores import Scores
from memviz.session import Session
from memviz.units import Layer, Unit, UnitSet, layer_words, unit_words

from ._labels import UNKNOWN as UNKNOWN
from ._labels import Labels
from ._pictures import Pictures

Choices = list[dict[str, str]]

ROUNDING = 1e-6  # of the mean margin
_LONGEST = 400  # characters of an error that a view shows
_INTERVENTIONS = [{"key": key, "label": key} for key in ("zero", "mean", "filter")]


class Message(NamedTuple):
    """A message as it is sent: JSON content and binary buffers."""

    content: dict[str, Any]
    buffers: list[bytes]


class Sink(Protocol):
    """A view that receives messages."""

    def tell(self, message: Message) -> None:
        """Send a message to the browser."""


def pack(content: dict[str, Any], **arrays: np.ndarray) -> Message:
    """A message whose arrays are sent as little-endian buffers, in the order given."""
    specs, buffers = [], []
    for name, array in arrays.items():
        flat = np.ascontiguousarray(array)
        specs.append({"name": name, "dtype": flat.dtype.name, "shape": list(flat.shape)})
        buffers.append(flat.tobytes())
    return Message({**content, "arrays": specs}, buffers)


def study_message(
    session: Session,
    pictures: Pictures,
    scores: Sequence[dict[str, str]],
    interventions: Sequence[dict[str, str]],
    methods: Sequence[dict[str, str]],
    outputs: Tensor | None = None,
) -> Message:
    """Everything that never changes: layers, groups, classes, labels and choices.

    ``outputs`` are those of all examples, where they are known without a recorded pass.
    """
    study = session.study
    group = np.full(len(study), 2**16 - 1, np.uint16)
    for index, mask in enumerate(study.groups.values()):
        group[mask.numpy()] = index
    labels = Labels.of(study, session.replay.clean if outputs is None else outputs)
    height, width, channels = pictures.shape
    image = {"height": height, "width": width, "channels": channels, "ink": pictures.ink}
    content = {
        "type": "study",
        "name": study.name,
        "summary": study.summary,
        "classes": labels.names,
        "groups": [{"name": n, "count": int(m.sum())} for n, m in study.groups.items()],
        **layers_content(session.known, session.known),
        "scores": list(scores),
        "interventions": list(interventions),
        "image": {**image, "asked": pictures.on_demand},
        "examples": len(study),
        "methods": list(methods),
        "variants": [{"key": key, "label": words} for key, words in session.variants.items()],
    }
    return pack(content, label=labels.given, truth=labels.truth, group=group)


def layers_content(layers: Sequence[Layer], known: Sequence[Layer]) -> dict[str, Any]:
    """The layers of a view, among all that are known: names, words, units and where they start."""
    words, start, entries = layer_words(known), 0, list[dict[str, Any]]()
    for layer in layers:
        title, one = words[layer.name]
        entries.append({"name": layer.name, "label": title, "one": one, "kind": layer.kind})
        entries[-1] |= {"units": layer.units, "start": start}
        entries[-1] |= {"dead": sorted(layer.dead)} if layer.dead else {}
        start += layer.units
    return {"layers": entries, "units": start, "of_words": f"{start:,} units"}


def ablated_words(units: UnitSet, of: int, known: Sequence[Layer]) -> str:
    """Which units are off, of those in the list; empty if none is."""
    if len(units) == 1:
        return f"{unit_words(next(iter(units)), layer_words(known))} ablated"
    return f"{len(units):,} of {of:,} units ablated" if units else ""


def interventions(how: str) -> Choices:
    """The three usual interventions, and the current one if it is another."""
    keys = {entry["key"] for entry in _INTERVENTIONS}
    return [*_INTERVENTIONS, *([] if how in keys else [{"key": how, "label": how}])]


def error_message(error: BaseException) -> Message:
    """The first line of an error, for the user to read."""
    try:
        lines = str(error).split("\n")
    except Exception:  # an error of the user's own may fail to describe itself
        lines = []
    named = f"the computation failed with {type(error).__name__}."
    text = next((line.strip() for line in lines if line.strip()), named)
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]} … (cut)."
    return Message({"type": "error", "text": text}, [])


def saved_message(name: str) -> Message:
    """Says which file was written, and where below a Jupyter server's address it can be opened."""
    place = _below_the_server(Path(name).resolve())
    href = f"files/{quote(place.as_posix())}" if place is not None else ""
    content = {"type": "exported", "file": name, "text": f"Saved as {name}.", "href": href}
    return Message(content, [])


def _below_the_server(file: Path) -> Path | None:
    """The file's path from the root of the Jupyter server that started this kernel, if one did."""
    try:
        from jupyter_core.paths import jupyter_runtime_dir

        told = Path(jupyter_runtime_dir(), f"jpserver-{os.getppid()}.json").read_text()
        return file.relative_to(Path(json.loads(told)["root_dir"]).resolve())
    except (ImportError, OSError, ValueError, KeyError, TypeError):
        return None


def progress_message(job: str, done: int, total: int, words: str = "") -> Message:
    """Progress of a job; a total of 0 ends the bar."""
    content = {"type": "progress", "job": job, "words": words, "done": done, "total": total}
    return Message(content, [])


NO_RANDOM = "All units of these layers are off: no random ones to compare with"


def unit_scores_message(
    key: str,
    label: str,
    measure: str,
    value: np.ndarray,
    note: str = "",
    exact: np.ndarray | None = None,
) -> Message:
    """Scores over units, float32 ``[units]``; NaN where a unit has none.

    If only some are ``exact``, bool ``[units]``, the others are shown but not ranked.
    """
    value = np.where(np.isfinite(value), value, np.nan).astype(np.float32)
    known = ~np.isnan(value)
    is_exact = known if exact is None else known & exact
    kind = "other" if is_exact.sum() == known.sum() else "exact" if is_exact.any() else "estimate"
    content = {"type": "scores", "key": key, "label": label, "measure": measure, "note": note}
    counts = {"kind": kind, "done": int(is_exact.sum()), "total": len(value)}
    state = known.astype(np.uint8) + is_exact.astype(np.uint8)
    return pack({**content, **counts}, value=value, state=state)


def extra_scores_message(key: str, scores: Scores, units: Sequence[Unit]) -> Message:
    """A user's own scores, in the order of the units on the map."""
    assert scores.units is not None
    row = {unit: place for place, unit in enumerate(scores.units)}
    rows = np.array([row.get(unit, -1) for unit in units])
    value = np.where(rows < 0, np.nan, scores.values[rows].astype(np.float32))
    exact = None if scores.exact is None else scores.exact[rows] & (rows >= 0)
    return unit_scores_message(key, scores.name, scores.measure, value, scores.higher, exact)


def ranking(message: Message) -> list[int]:
    """Rows by falling score; estimates are never ranked among exact effects."""
    content, buffers = message
    value, state = np.frombuffer(buffers[0], np.float32), np.frombuffer(buffers[1], np.uint8)
    least = 2 if content["kind"] == "exact" or content["key"] == "effect" else 1
    known = np.flatnonzero((state >= least) & np.isfinite(value))
    ranked: list[int] = known[np.argsort(-value[known], kind="stable")].tolist()
    return ranked
