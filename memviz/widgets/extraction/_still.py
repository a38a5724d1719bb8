"""The opened passage as a still picture, for notebooks without a kernel."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

from memviz.plots import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK, _WRONG = "#35456C", "#D55E00"
_WIDE, _ROW = 96, 0.62  # characters a line, and inches from one line of tokens to the next


class Said(Protocol):
    """What the picture reads of what a model said."""

    @property
    def matches(self) -> Tensor:
        """Which tokens are the true ones."""

    @property
    def matched(self) -> int:
        """Tokens before the first wrong one."""


def picture(
    prompt: str, true: Sequence[str], said: Sequence[str], before: Said, after: Said, words: str
) -> Figure:
    """True tokens over those said, the first wrong one marked, and strips before and after.

    Parameters
    ----------
    prompt : str
    true, said : sequences of str
        The text of each token.
    before, after : Said
    words : str
        The title.
    """
    lines, column = [[]], 0  # type: list[list[tuple[int, int]]], int
    for place, pair in enumerate(zip(true, said, strict=True)):
        width = max(len(_shown(word)) for word in pair) + 2
        if column + width > _WIDE and lines[-1]:
            lines.append([])
            column = 0
        lines[-1].append((place, column))
        column += width
    start = fill(_shown(prompt), _WIDE, max_lines=3)
    height = 1.6 + 0.2 * (start.count("\n") + 1) + _ROW * len(lines)
    figure = style.figure(9, height)
    axes = figure.add_subplot()
    axes.set(xlim=(0, _WIDE), ylim=(height - 0.6, 0))
    axes.set_axis_off()
    look: dict[str, Any] = {"family": "monospace", "fontsize": 8, "va": "top", "parse_math": False}
    axes.text(0, 0.05, start, color="0.45", **look)
    top = 0.35 + 0.2 * (start.count("\n") + 1)
    for row, line in enumerate(lines):
        for place, x in line:
            _token(axes, x, top + row * _ROW, place, true[place], said[place], after)
    _strip(axes, top + len(lines) * _ROW + 0.1, "before", before)
    _strip(axes, top + len(lines) * _ROW + 0.45, "after", after)
    figure.suptitle(fill(words, 120), fontsize=9, x=0.03, ha="left", parse_math=False)
    return figure


def _token(axes: Axes, x: float, y: float, place: int, true: str, said: str, after: Said) -> None:
    right = bool(after.matches[place])
    first = place == after.matched
    look: dict[str, Any] = {"family": "monospace", "fontsize": 8, "va": "top", "parse_math": False}
    axes.text(x, y, _shown(true), color="0.15", **look)
    colour = "0.6" if right else _WRONG
    weight = "bold" if first else "normal"
    axes.text(x, y + 0.22, _shown(said), color=colour, weight=weight, **look)
    if first:
        axes.plot([x - 0.5, x - 0.5], [y, y + 0.45], color=_INK, lw=1.5)


def _strip(axes: Axes, y: float, name: str, said: Said) -> None:
    axes.text(0, y, name, fontsize=8, va="center", color="0.35")
    n = len(said.matches)
    pitch = min(1.6, 78 / n)
    for place, right in enumerate(said.matches.tolist()):
        x = 9 + place * pitch
        if place == said.matched:
            axes.plot(x, y, "x", color=_WRONG, ms=4)
        else:
            fill_colour = _INK if right and place < said.matched else "0.85" if right else "white"
            axes.plot(x, y, "s", ms=4, mfc=fill_colour, mec="0.6", mew=0.4)
    end = "whole" if said.matched == n else f"first wrong at {said.matched + 1}"
    axes.text(10 + n * pitch, y, end, fontsize=8, va="center", color="0.35")


def _shown(text: str) -> str:
    """The text on one line, an empty token as a dot."""
    return " ".join(text.split()) or "·"
