"""A Matplotlib figure as SVG inside a page: it takes the page's ink and its font."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Drawn as this and replaced afterwards: no palette has it.
_INK = "#010203"
# Colours of the figures, by what they mean; the page has lighter ones on a dark ground.
_COLOURS = {
    _INK: "currentColor",
    "#d55e00": "var(--mem)",
    "#0072b2": "var(--clean)",
    "#00805e": "var(--test)",
    "#9a9a9a": "var(--null)",
    "#4d556c": "var(--bar)",
    "#4a4a4a": "var(--other)",
    "#555555": "var(--other)",
}
_LOOK = {
    **dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), _INK
    ),
    "grid.color": _INK,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "svg.fonttype": "none",  # text stays text: to search, to read aloud, to copy
    "svg.hashsalt": "memviz",
}
_NAMED = re.compile(r'(\sid="|href="#|url\(#)')
_ROOT = re.compile(r"<svg\b[^>]*?viewBox=\"([^\"]*)\"[^>]*>", re.DOTALL)
_STYLE = re.compile(r"<defs>\s*<style\b.*?</style>\s*</defs>", re.DOTALL)


def svg(draw: Callable[[], Figure], words: str, name: str) -> str:
    """The SVG element of a figure, the same bytes each time.

    Parameters
    ----------
    draw : callable
        Makes the figure; it is called with Matplotlib's own defaults.
    words : str
        What the figure shows, for a reader who does not see it.
    name : str
        Begins every id inside, so that two figures on a page share none.

    Examples
    --------
    >>> from memviz.plots.style import figure
    >>> text = svg(lambda: figure(2, 2), "nothing", "one")
    >>> text.startswith('<svg role="img" aria-label="nothing" viewBox="0 0 144 144"')
    True
    """
    from matplotlib import style

    out = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with warnings.catch_warnings(), style.context(["default", _LOOK], after_reset=True):
        # The reader's browser has glyphs that the font here lacks.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        draw().savefig(out, format="svg", metadata=nothing, transparent=True)
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = _STYLE.sub("", text, count=1)  # it would hold for the whole page
    text = _NAMED.sub(lambda found: f"{found[1]}{name}-", text)
    for drawn, shown in _COLOURS.items():
        text = text.replace(drawn, shown)
    box = _ROOT.match(text)
    assert box is not None
    width = float(box[1].split()[2])
    root = (
        f'<svg role="img" aria-label="{escape(words)}" viewBox="{box[1]}" '
        f'style="max-width: {1.25 * width:.0f}px" stroke-linejoin="round">'
    )
    return root + text[box.end() :].strip()
