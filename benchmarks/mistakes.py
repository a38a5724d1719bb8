"""Plausible mistakes: what a user may give in place of a right argument, and other forms of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

import memviz as mv

# What is given, in words; the value; and whether it is the right value in another form.
Change = tuple[str, Any, bool]

_IDS = ("examples", "support", "pool", "held_out", "rows", "train", "test")
_LONG = "memorized " * 100
_WRONG_UNITS: tuple[Any, ...] = (
    *("conv9:0", "0:99", "0", ":", "0:5-2", "0:0-9999999", "0:1.5", "0:-1", _LONG, 3, 1.5, None),
    *([0, 1], torch.tensor([0, 1]), ("0", 1), b"0:1", {"0": "12"}, {"0": [-1]}, {"0": 99}),
    *({0: [1]}, {"0": [0.5]}, ["0"], [None], math.nan, mv.Unit("0", 99), mv.Unit("0", -1)),
)
_WRONG_HOW: tuple[Any, ...] = (
    *("zreo", "Zero", "", None, 3, 1.5, "scale", "scale nan", "constant inf", "scale abc"),
    *(["zero"], mv.Zero, torch.zeros(1), "constant", "mean 3", _LONG, b"zero", "replay"),
)


def changes(name: str, value: Any, annotation: str, values: Mapping[str, Any]) -> list[Change]:
    """All that may be given for one argument of a call.

    Parameters
    ----------
    name : str
    value
        What is right.
    annotation : str
    values : mapping
        All arguments of the call.
    """
    study = values.get("study")
    n = len(study) if isinstance(study, mv.Study) else 6
    if name in ("how",) or "Intervention" in annotation:
        return [(f"{wrong!r:.30}", wrong, False) for wrong in _WRONG_HOW]
    if "UnitsLike" in annotation or name in ("unit", "units"):
        return [(f"{wrong!r:.30}", wrong, False) for wrong in _WRONG_UNITS] + (
            [("same, as UnitSet", mv.UnitSet.of(value), True)] if isinstance(value, str) else []
        )
    is_left_out = value is None
    found = list(_by_type(name, _example(name, annotation, n) if is_left_out else value, n))
    if is_left_out:  # nothing to be the same as
        found = [(words, wrong, False) for words, wrong, _ in found]
    if "None" not in annotation:
        found.append(("None", None, False))
    return found


def _example(name: str, annotation: str, n: int) -> Any:
    """A right value for an argument that is left out."""
    if name in _IDS or ("Tensor" in annotation and name != "labels"):
        return torch.arange(min(n, 4))
    if "Path" in annotation:
        return Path("absent") / "file"
    if "Sequence[str]" in annotation or "LayersLike" in annotation:
        return ["0"]
    if "[int]" in annotation:
        return [0]
    if "int" in annotation:
        return 2
    if "float" in annotation:
        return 0.5
    if "Callable" in annotation:
        return len
    return "text"


def _by_type(name: str, value: Any, n: int) -> Iterator[Change]:
    if isinstance(value, bool):
        yield from _wrong("yes", 2, [True], math.nan, torch.tensor([True, False]))
    elif isinstance(value, int | np.integer):
        yield from _numbers(value)
        yield "same, of NumPy", np.int64(value), True
        yield from _wrong(1.5, 2**63, 2**64, 10**7, np.uint64(2**63))
    elif isinstance(value, float):
        yield from _numbers(value)
        yield from _wrong(math.inf, -math.inf, 1e300, 2.0)
        yield "same, of NumPy", np.float64(value), True
    elif isinstance(value, str):
        yield from _wrong(value[1:], value.upper() + "x", "", _LONG, 3, [value], value.encode())
        yield from _wrong(f"<b>{value}</b>", math.nan, ("a", "b"), np.array([1]))
    elif isinstance(value, Path):
        yield from _wrong("absent/folder/file", ".", "", 3, b"file", ["file"], "a\0b")
    elif isinstance(value, Tensor | np.ndarray):
        yield from _arrays(name, value, n)
    elif isinstance(value, list | tuple | range):
        yield from _lists(value, n)
    elif isinstance(value, Mapping):
        yield from _mappings(value)
    elif isinstance(value, mv.Study):
        yield from _wrong(value.model, "digits", 3, value.inputs, {"study": value}, mv.Study)
    elif isinstance(value, nn.Module):
        yield from _wrong("resnet", nn.Module, value.state_dict(), 3, nn.Identity().eval())
    elif callable(value):
        yield from _wrong("function", 3, lambda: None, lambda *_: None)
    else:
        yield from _wrong("digits", 3, [value], {"a": value}, type(value), torch.zeros(2))


def _wrong(*values: Any) -> Iterator[Change]:
    for value in values:
        yield f"{value!r:.30}", value, False


def _numbers(value: Any) -> Iterator[Change]:
    yield from _wrong(-1, 0, -(10**6), math.nan, str(value), [value], (value,), b"1", "many")
    yield from _wrong(torch.tensor([1, 2]), np.array([1, 2]), 1j, {"value": value}, object())


def _arrays(name: str, value: Any, n: int) -> Iterator[Change]:
    tensor = torch.as_tensor(value).detach()
    yield "same, as array", tensor.detach().cpu().numpy(), True
    yield "same, as list", tensor.tolist(), True
    yield "same, as tensor", tensor, True
    if tensor.dim() == 1 and not tensor.is_floating_point() and tensor.dtype != torch.bool:
        yield from _ids(tensor.tolist(), n)
    if tensor.dim() == 1:
        # Of the same precision, so that the answer must be the same, too.
        yield "same, as Series", pd.Series(tensor.cpu().numpy()), True
    if tensor.dim():
        yield "no rows", tensor[:0], False
        yield "one row less", tensor[:-1], False
        yield "rows twice", torch.cat([tensor, tensor]), False
        yield "a row in a row", tensor[None], False
        yield "the first row", tensor[0], False
    yield "another axis", tensor[..., None], False
    yield "as strings", np.asarray(tensor).astype(str), False
    yield "complex", tensor.to(torch.complex64), False
    yield "objects", np.full(tuple(tensor.shape), None, dtype=object), False
    yield "on the meta device", tensor.to("meta"), False
    nan = tensor.double().clone()
    if nan.numel():
        nan.view(-1)[0] = math.nan
        yield "a NaN", nan, False
        yield "an infinity", torch.where(nan.isnan(), math.inf, nan), False
    yield from _wrong("examples", 3, 1.5, {"a": 1}, object(), [], [None], ["a"], [[1], [2, 3]])


def _ids(ids: list[int], n: int) -> Iterator[Change]:
    tensor = torch.tensor(ids, dtype=torch.int64)
    yield "same, as tuple", tuple(ids), True
    for kind in (np.int32, np.int16):
        small = tensor.numpy().astype(kind)
        if (small == tensor.numpy()).all():  # not if they are too large for it
            yield f"same, {np.dtype(kind)}", small, True
    if ids and 0 <= min(ids) and max(ids) < 256:
        yield "same, uint8", tensor.to(torch.uint8), True
    yield "same, as Index", pd.Index(ids), True
    yield "a fraction", tensor.double() + 0.5, False
    yield "a mask of ones and zeros", torch.arange(n) % 2, False
    yield "negative", torch.tensor([-1, *ids[1:]]), False
    yield "outside", torch.tensor([99, *ids[1:]]), False
    yield "far outside", torch.tensor([2**62, *ids[1:]]), False
    yield "twice", torch.tensor([*ids[:1], *ids]), False
    yield "a mask of no rows", torch.zeros(n, dtype=torch.bool), False
    yield "a mask of another length", torch.ones(n + 1, dtype=torch.bool), False
    yield "nested", [ids], False
    yield "a set", set(ids), False
    yield "a frame", pd.DataFrame({"example": ids}), False


def _lists(value: Any, n: int) -> Iterator[Change]:
    items = list(value)
    yield from _wrong([], 3, 1.5, [None], [items], {"a": 1}, ["zzz"], [math.nan], [object()], [-1])
    yield from _wrong([*items, None], {*(str(item) for item in items)}, object())
    if items and isinstance(items[0], str):
        yield "one string", items[0], False
        yield "misspelt", [items[0] + "x"], False
        yield "twice", items[:1] * 2, False
    yield "same, as tuple", tuple(items), True
    yield "same, as list", items, True
    if items and all(isinstance(item, int) and not isinstance(item, bool) for item in items):
        yield from _ids(items, n)
        yield "same, as array", np.array(items), True
        yield "same, as tensor", torch.tensor(items), True


def _mappings(value: Mapping[Any, Any]) -> Iterator[Change]:
    yield from _wrong({}, list(value), list(value.values()), 3, "text", [], {"zzz": 1}, {3: None})
    for key, part in list(value.items())[:1]:
        without = {k: v for k, v in value.items() if k != key}
        yield "without its first", without, False
        for wrong in (None, 3, "text", [], math.nan, torch.zeros(0), torch.tensor([99])):
            yield f"{key!r:.12}: {wrong!r:.20}", {**without, key: wrong}, False
        yield "a misspelt key", {**without, f"{key}x": part}, False
