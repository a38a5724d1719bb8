"""A session on disk: JSON with a hash of itself, and of the weights that it belongs to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from memviz.checks import check_file, check_place, coded, quoted, read_json
from memviz.tensor_files import atomic_write, digest
from memviz.units import UnitSet

T = TypeVar("T")

_FORMAT = 1
_LARGEST = 1 << 26  # bytes; a million selected examples take 10 MB
# Version 0.1.0 wrote no hash, no marks, and at first no variant, examples or opened example.
_NEEDED = {"format", "weights", "layers", "units", "how"}
_KNOWN = _NEEDED | {"study", "variant", "examples", "opened", "sha256", "confirmed", "rejected"}


@dataclass(frozen=True)
class Saved:
    """What a file of a session holds."""

    weights: str
    study: str
    layers: tuple[str, ...]
    units: UnitSet
    how: str
    variant: str
    examples: tuple[int, ...]
    opened: int | None
    confirmed: tuple[int, ...] = ()
    rejected: tuple[int, ...] = ()


def write(path: str | Path, saved: Saved) -> None:
    """Write a session atomically."""
    check_place(path)
    content = {"format": _FORMAT, **vars(saved), "units": str(saved.units)}
    content["sha256"] = _hash(content)
    with atomic_write(Path(path)) as part:
        part.write_text(json.dumps(content, indent=1), encoding="utf-8")


def read(path: str | Path) -> Saved:
    """Read a session, whole and unaltered.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not a saved session, or was altered.
    """
    check_file(path, _LARGEST)
    try:
        content = read_json(path, _LARGEST)
        _check(path, content)
        return Saved(
            weights=_is(str, content["weights"]),
            study=_is(str, content.get("study", "")),
            layers=_all(str, content["layers"]),
            units=UnitSet.parse(content["units"]),
            how=_is(str, content["how"]),
            variant=_is(str, content.get("variant", "")),
            examples=_all(int, content.get("examples", [])),
            opened=None if content.get("opened") is None else _is(int, content["opened"]),
            confirmed=_all(int, content.get("confirmed", [])),
            rejected=_all(int, content.get("rejected", [])),
        )
    except _Refused:
        raise
    except (ValueError, TypeError) as error:
        raise _Refused(
            f"{quoted(str(path))} is not a saved session; write one with session.save."
        ) from error


def is_of(saved: Saved, model: nn.Module) -> bool:
    """Whether a session belongs to the weights of a model."""
    state = model.state_dict()
    return saved.weights in (digest(state), _former_digest(state))


class _Refused(ValueError):
    """A file that can't be used; the message says why."""


def _check(path: str | Path, content: Any) -> None:
    """Refuse what no version wrote: an unknown key may be what became of the hash's."""
    if not isinstance(content, dict) or not _NEEDED <= content.keys() <= _KNOWN:
        raise ValueError("not the keys of a session")
    written = content["format"]
    if type(written) is not int or written != _FORMAT:
        raise _Refused(
            f"{quoted(str(path))} has format {quoted(written)}, and this version of memviz reads "
            f"format {_FORMAT}; save the session again."
        )
    if "sha256" in content and content["sha256"] != _hash(content):
        raise _Refused(
            coded(
                "E33",
                f"{quoted(str(path))} was altered after it was written; save the session again.",
            )
        )


def _hash(content: Mapping[str, Any]) -> str:
    """A hash of all but the hash itself."""
    rest = {key: value for key, value in content.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _is(kind: type[T], value: Any) -> T:
    """The value, if it is of this type; a bool is no whole number."""
    if type(value) is not kind:
        raise TypeError(f"{quoted(value)} is not of type {kind.__name__}")
    return value


def _all(kind: type[T], values: Any) -> tuple[T, ...]:
    return tuple(_is(kind, value) for value in _is(list, values))


def _former_digest(state: Mapping[str, torch.Tensor]) -> str:
    """The hash in sessions that version 0.1.0 saved: of names and bytes alone."""
    found = hashlib.sha256()
    for name, tensor in state.items():
        found.update(name.encode())
        found.update(tensor.detach().cpu().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
