"""Messages of a page, at random: valid ones, and ones that no page of memviz's would send."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.soak_world import EPOCHS
from memviz.session import Session
from memviz.units import UnitSet

Draw = np.random.Generator
_NAN, _LONG = float("nan"), "x" * 100_000
_DEEP: Any = []
for _ in range(300):
    _DEEP = [_DEEP]
# What is never right for any field.
JUNK = [
    *(1.5, _NAN, float("inf"), -1, 10**30, True, {}, {"a": _NAN}, [1.5], [None], _DEEP),
    *("banana", "conv9:1", "conv1:99", "conv1:0-9999999", "conv1:5-2", "fc:1:2", "\ud800", _LONG),
    *("<img src=x onerror=alert(1)>", "scale nan", "constant inf", "constant 1e999", "epoch 99"),
]
SORTS = ("recall_gap", "recall_gap low", "max_pred_gap", "crct_pred", "min_dist")
HOWS = ("zero", "mean", "filter", "scale 0.5", "constant 1.0", "zero")
PLAIN = ("undo", "redo", "undo", "reset", "cancel", "code", "hello")
# The field of each request, and values that are wrong although their type is right.
FIELDS: dict[str, tuple[str, list[Any]]] = {
    "toggle": ("units", []),
    "set": ("units", []),
    "top": ("k", [5000]),
    "layers": ("names", [["conv9"], [["conv1"]], [_LONG], "conv1"]),
    "intervention": ("key", []),
    "variant": ("key", []),
    "score": ("key", ["localizer: banana"]),
    "open": ("example", [5000, "3", [3]]),
    "method": ("key", []),
    "rewind": ("epochs", [{"conv1": 1.5}, {"conv1": 4}, {"conv9": 3}, {"conv1": None}, "x", []]),
    "axes": ("keys", [{"x": "banana"}, {"x": None}, {"y": [1]}, "effect"]),
    "unit": ("unit", ["conv1:0,1", 3]),
    "list": ("sort", [3]),
    "caption": ("text", [3, None]),
}
OF_PARTS = {"rewind": "timeline", "axes": "scatter", "unit": "scatter"}
OF_DEJA_VU = {"list", "caption"}
NOT_OF_DEJA_VU = {"method", "rewind", "axes", "unit", "variant"}


def kinds(part: str, parts: set[str]) -> list[str]:
    """Requests with a field that a view's controller answers."""
    if part == "deja_vu":
        return [kind for kind in FIELDS if kind not in NOT_OF_DEJA_VU]
    there = [kind for kind in FIELDS if kind not in OF_DEJA_VU]
    return [kind for kind in there if OF_PARTS.get(kind, "") in {"", *parts}]


def bad(draw: Draw, part: str, parts: set[str]) -> Any:
    """A request that must be refused."""
    shape = draw.random()
    if shape < 0.1:
        return _pick(draw, [None, [], 3, "toggle", _DEEP, [{"type": "undo"}], _NAN])
    if shape < 0.2:
        return {"type": _pick(draw, ["no such thing", None, 3, _DEEP, {}, _LONG, "__class__"])}
    kind = _pick(draw, kinds(part, parts))
    field, wrong = FIELDS[kind]
    if shape < 0.3:
        return {"type": kind}  # the field is missing
    if kind == "list" and shape < 0.4:
        return {"type": kind, "sort": "recall_gap", "find": _pick(draw, [3, None, [], _LONG])}
    value = _pick(draw, [*JUNK, *wrong, *wrong])
    if kind == "caption" and isinstance(value, str) and value != _LONG:
        value = _LONG  # any shorter text may be a caption
    if kind == "axes" and isinstance(value, dict) and not {"x", "y"} & set(value):
        value = []  # it would choose nothing
    if kind == "rewind" and value == {}:
        value = []
    return {"type": kind, field: value, "find": ""}


def good(draw: Draw, session: Session, part: str, parts: set[str], scores: list[str]) -> Any:
    """A request of the page's own."""
    if draw.random() < 0.25:
        return {"type": _pick(draw, PLAIN)}
    if draw.random() < 0.5:
        return {"type": "toggle", "units": _units(draw, session)}
    kind = _pick(draw, kinds(part, parts))
    return {"type": kind, **_fields(draw, session, kind, scores)}


def _fields(draw: Draw, session: Session, kind: str, scores: list[str]) -> dict[str, Any]:
    match kind:
        case "top":
            return {"k": int(draw.integers(4))}
        case "layers":
            names = [layer.name for layer in session.known]
            return {"names": [name for name in names if draw.random() < 0.6]}
        case "intervention":
            return {"key": _pick(draw, HOWS)}
        case "variant":
            return {"key": _pick(draw, list(session.variants))}
        case "score":
            return {"key": _pick(draw, scores)}
        case "open":
            opened = int(draw.integers(len(session.study)))
            return {"example": None if draw.random() < 0.2 else opened}
        case "method":
            return {"key": _pick(draw, ["integrated_gradients", "saliency", "occlusion"])}
        case "rewind":
            layers = [f"conv{k}" for k in range(1, 5) if draw.random() < 0.5]
            return {"epochs": {name: _pick(draw, EPOCHS) for name in layers}}
        case "axes":
            return {"keys": {_pick(draw, "xy"): _pick(draw, scores)}}
        case "unit":
            return {"unit": _unit(draw, session) if draw.random() < 0.8 else ""}
        case "list":
            words = _pick(draw, ["", "seven", "a nine in", "\u00e9"])
            return {"sort": _pick(draw, SORTS), "find": words, "more": bool(draw.random() < 0.5)}
        case "caption":
            return {"text": _pick(draw, ["", "Anne with a nine", "a " * 200, "\u4e09 <b>"])}
        case _:
            return {"units": _units(draw, session)}


def _unit(draw: Draw, session: Session) -> str:
    layer = _pick(draw, session.known)
    return str(UnitSet({layer.name: [int(draw.integers(layer.units))]}))


def _units(draw: Draw, session: Session) -> str:
    return " ".join(dict.fromkeys(_unit(draw, session) for _ in range(int(draw.integers(1, 4)))))


def _pick(draw: Draw, among: Any) -> Any:
    return among[int(draw.integers(len(among)))]
