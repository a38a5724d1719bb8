"""Results as Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

NAMES = {"resnet9": "ResNet-9", "resnet18": "ResNet-18", "vit": "ViT", "mlp": "MLP"}


def table(headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table."""
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join("| " + " | ".join(cell(value) for value in line) + " |" for line in lines)


def generic(result: Mapping[str, Any]) -> str:
    """Any result: nested parts become tables with a row each, the rest a table of two columns."""
    nested = {k: v for k, v in result.items() if isinstance(v, Mapping) and k != "about"}
    flat = [(words_of(k), v) for k, v in result.items() if k not in nested and k != "about"]
    parts = [table(["measured", ""], flat)] if flat else []
    if nested:
        keys = list(dict.fromkeys(key for row in nested.values() for key in row))
        rows = [[name_of(k), *(row.get(key, "") for key in keys)] for k, row in nested.items()]
        parts.append(table(["", *map(words_of, keys)], rows))
    return "\n\n".join(parts)


def by_engine(result: Mapping[str, Any]) -> str:
    """A result with the figures of both engines side by side; keys of replay begin with its name.

    Examples
    --------
    >>> print(by_engine({"units": 8, "ratio": 5.0, "replay_ratio": 2.5}))
    | measured |  |
    | --- | --- |
    | units | 8 |
    <BLANKLINE>
    | measured | graph | replay |
    | --- | --- | --- |
    | ratio | 5 | 2.5 |
    """
    both = [key for key in result if f"replay_{key}" in result]
    differ = [key for key in both if result[key] != result[f"replay_{key}"]]
    ours = {*differ, *(f"replay_{key}" for key in both)}
    parts = [generic({key: value for key, value in result.items() if key not in ours})]
    if differ:
        rows = [[words_of(key), result[key], result[f"replay_{key}"]] for key in differ]
        parts.append(table(["measured", "graph", "replay"], rows))
    return "\n\n".join(parts)


def name_of(key: str) -> str:
    """A model's name as it is usually written, anything else in words."""
    return NAMES.get(key, words_of(key))


def words_of(key: str) -> str:
    """A key as words."""
    return key.replace("_", " ")


def cell(value: Any) -> str:
    """One value, formatted for a reader."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        whole = value == int(value) if abs(value) < 1e15 else False
        return f"{int(value):,}" if whole else f"{value:.3g}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        return ", ".join(cell(item) for item in value)
    return str(value).replace("|", "\\|")
