"""Effects on disk: one safetensors file, written whole and checked when read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from memviz import tensor_files
from memviz.checks import check_file, check_place, coded, listed, quoted
from memviz.study import Study, check_study, study_facts
from memviz.units import Unit

from ._table import EffectTable

_FORMAT = "memviz effects 1"
_TABLES = {  # of units U and examples n
    "margin": "n",
    "loss": "n",
    "margin_change": "Un",
    "loss_change": "Un",
    "correct": "Un",
    "done": "U",
    "examples": "n",
}
_WORDS = {
    "weights": "other weights than this study's model has",
    "data": "other inputs or labels than this study has",
    "task": "another task than this study has",
    "how": "another intervention",
    "units": "other units",
    "examples": "other examples",
}


class StoredError(ValueError):
    """A file of effects that can't be used, with the reason."""


def save_table(effects: EffectTable, path: str | Path) -> None:
    """Write effects; a reader sees the whole file or none."""
    check_place(path)
    write(Path(path), effects, study_facts(effects.study))


def load_table(path: str | Path, study: Study) -> dict[str, Any]:
    """Read the effects of this study: the fields of a table.

    Raises
    ------
    StoredError
        If the file is damaged, no file of effects, or of other weights, inputs or labels.
    """
    check_file(path)
    check_study(study)
    fields, facts = read(Path(path))
    check(Path(path), facts, study_facts(study))
    return {"study": study, **fields}


def sweep_facts(effects: EffectTable) -> dict[str, str]:
    """What was ablated, how, and on which examples."""
    return {
        "how": effects.how,
        "units": json.dumps([[unit.layer, unit.index] for unit in effects.units]),
        "examples": tensor_files.digest({"examples": effects.examples}),
    }


def write(path: Path, effects: EffectTable, of_study: Mapping[str, str]) -> None:
    """Write effects of a study whose facts are known."""
    check_place(path)
    tensors = {name: getattr(effects, name) for name in _TABLES}
    facts = {"format": _FORMAT, "engine": effects.engine, "why": effects.why}
    facts |= {**of_study, **sweep_facts(effects)}
    tensor_files.write(path, tensors, {**facts, "sha256": tensor_files.digest(tensors, facts)})


def read(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Read the fields of a table, whole and unaltered but of whatever study, and its facts."""
    check_file(path)
    try:
        tensors, facts = tensor_files.read(path)
    except tensor_files.DamagedFile as error:
        raise StoredError(
            coded(
                "E33",
                f"{quoted(str(path))} can't be read as effects ({error}); delete it, or name "
                "another file.",
            )
        ) from error
    if facts.get("format") != _FORMAT:
        raise StoredError(
            f"{quoted(str(path))} is not a file of effects; name one that effects.save or "
            "sweep(path=...) wrote."
        )
    if facts.pop("sha256", "") != tensor_files.digest(tensors, facts):
        raise StoredError(
            coded(
                "E33",
                f"{quoted(str(path))} was altered after it was written; delete it, or name another "
                "file.",
            )
        )
    try:
        return _fields(tensors, facts), facts
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise StoredError(
            f"{quoted(str(path))} lacks part of what a file of effects holds; delete it, or name "
            "another file."
        ) from error


def _fields(tensors: Mapping[str, torch.Tensor], facts: Mapping[str, str]) -> dict[str, Any]:
    """The fields of a table; KeyError, TypeError or ValueError where one is missing or unfit."""
    units = tuple(Unit(str(layer), int(index)) for layer, index in json.loads(facts["units"]))
    sizes = {"U": len(units), "n": len(tensors["examples"])}
    for name, axes in _TABLES.items():
        if tensors[name].shape != tuple(sizes[axis] for axis in axes):
            raise ValueError(f"{name} has another shape")
    # Files written earlier call the engine a path, and say nothing of why.
    engine = facts["engine"] if "engine" in facts else facts["path"]
    found = {"units": units, "how": facts["how"], "engine": engine, "why": facts.get("why", "")}
    return found | {name: tensors[name] for name in _TABLES}


def check(path: Path, found: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    """Refuse a file that belongs to something else, in one sentence."""
    for key, value in wanted.items():
        there = found.get(key, "")
        # Files written earlier name the task with its module.
        if there != value and not (key == "task" and there.endswith(f".{value}")):
            which = f" ({listed([there])}, not {listed([value])})" if key in ("how", "task") else ""
            raise StoredError(
                coded(
                    "E31",
                    f"{quoted(str(path))} holds the effects of {_WORDS[key]}{which}; "
                    "name another file, or delete it.",
                )
            )
