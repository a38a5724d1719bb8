"""The parts of a page: paragraphs, tables, figures with their tables; whatever is given is text."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from ._svg import svg

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Format = Callable[[Any], str]
# A table program would take a cell that begins so for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class Section:
    """A chapter of the page.

    Attributes
    ----------
    key : str
        Its anchor.
    title : str
    parts : tuple of str
        HTML, made with the functions of this file.
    """

    key: str
    title: str
    parts: tuple[str, ...]

    @property
    def html(self) -> str:
        """The chapter as HTML."""
        head = f'<section id="{self.key}"><h2>{escape(self.title)}</h2>'
        return "\n".join([head, *self.parts, "</section>"])


def words(text: str, kind: str = "") -> str:
    """A paragraph.

    Examples
    --------
    >>> words("a < b", "note")
    '<p class="note">a &lt; b</p>'
    """
    opening = f'<p class="{kind}">' if kind else "<p>"
    return f"{opening}{escape(text)}</p>"


def points(texts: list[str]) -> str:
    """A list of sentences."""
    return "<ul>" + "".join(f"<li>{escape(text)}</li>" for text in texts) + "</ul>"


def facts(pairs: Mapping[str, str]) -> str:
    """Names, each with what stands for it.

    Examples
    --------
    >>> facts({"model": "<Net>"})
    '<dl><dt>model</dt><dd>&lt;Net&gt;</dd></dl>'
    """
    rows = (f"<dt>{escape(name)}</dt><dd>{escape(told)}</dd>" for name, told in pairs.items())
    return "<dl>" + "".join(rows) + "</dl>"


def table(
    frame: pd.DataFrame,
    title: str,
    name: str,
    *,
    method: str = "",
    shown: int | None = None,
    formats: Mapping[str, Format] | None = None,
    whole: pd.DataFrame | None = None,
) -> str:
    """A table with its whole content as CSV.

    Parameters
    ----------
    frame : DataFrame
        Its index is not shown.
    title : str
    name : str
        Of the CSV file.
    method : str
        How it was measured and where that comes from.
    shown : int, optional
        Rows that the page shows; all by default.
    formats : mapping of column to callable
        By default numbers are written with four digits.
    whole : DataFrame, optional
        What the CSV holds instead.
    """
    formats = formats or {}
    columns = [str(column) for column in frame.columns]
    is_number = [_is_number(frame.iloc[:, place]) for place in range(len(columns))]
    head = "".join(
        f'<th scope="col"{_of(number)}>{escape(column)}</th>'
        for column, number in zip(columns, is_number, strict=True)
    )
    rows = []
    for row in frame.head(len(frame) if shown is None else shown).itertuples(index=False):
        cells = (
            f"<td{_of(number)}>{escape(formats.get(column, plain)(value))}</td>"
            for value, column, number in zip(row, columns, is_number, strict=True)
        )
        rows.append(f"<tr>{''.join(cells)}</tr>")
    caption = f"<figcaption>{_caption(title, method, frame if whole is None else whole, name)}"
    return (
        f'<figure class="table">{caption}</figcaption><div class="wide" tabindex="0" '
        f'role="region" aria-label="{escape(title)}"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div></figure>"
    )


def figure(
    draw: Callable[[], Figure], title: str, name: str, frame: pd.DataFrame, *, method: str
) -> str:
    """A figure with its table as CSV."""
    caption = f"<figcaption>{_caption(title, method, frame, name)}</figcaption>"
    return f"<figure>{caption}{svg(draw, title, name)}</figure>"


def csv_link(frame: pd.DataFrame, name: str) -> str:
    r"""A link that saves a table as CSV; the table is inside the link.

    Examples
    --------
    >>> import pandas as pd
    >>> link = csv_link(pd.DataFrame({"name": ["=1+1"], "value": [-0.5]}), "demo")
    >>> base64.b64decode(link.split("base64,")[1].split('"')[0])
    b"name,value\n'=1+1,-0.5\n"
    """
    safe = frame.rename(columns=_inert)
    for place in range(safe.shape[1]):
        if not _is_number(safe.iloc[:, place]):
            safe.isetitem(place, [_inert(value) for value in safe.iloc[:, place]])
    text = safe.to_csv(index=False, lineterminator="\n")
    data = base64.b64encode(text.encode("utf-8", "replace")).decode()
    return (
        f'<a download="{escape(name)}.csv" href="data:text/csv;charset=utf-8;base64,{data}">'
        f"{escape(name)}.csv</a> ({plural(len(frame), 'row')})"
    )


def plain(value: Any) -> str:
    """A value as the page writes it.

    Examples
    --------
    >>> plain(0.03125), plain(12), plain(float("nan")), plain("a")
    ('0.03125', '12', '–', 'a')
    """
    if isinstance(value, float | np.floating):
        number = float(value)
        if np.isnan(number):
            return "–"
        return f"{number:,.0f}" if 1e4 <= abs(number) < 1e9 else f"{number:.4g}"
    return f"{value:,}" if isinstance(value, int | np.integer) else str(value)


def plural(count: int, what: str) -> str:
    """A number of things.

    Examples
    --------
    >>> plural(1, "row"), plural(1200, "row")
    ('1 row', '1,200 rows')
    """
    return f"{count:,} {what}{'s' * (count != 1)}"


def between(low: float, high: float, form: Format) -> str:
    """Both ends of an interval.

    Examples
    --------
    >>> between(0.25, 1.0, share)
    '25.0% to 100%'
    """
    return f"{form(low)} to {form(high)}"


def share(value: float) -> str:
    """A share in percent, with one decimal unless it is none or all.

    Examples
    --------
    >>> share(0.9648), share(1.0), share(float("nan"))
    ('96.5%', '100%', '–')
    """
    if np.isnan(value):
        return "–"
    return f"{value:.0%}" if value in (0, 1) else f"{value:.1%}"


def _caption(title: str, method: str, frame: pd.DataFrame, name: str) -> str:
    told = f'<span class="method">{escape(method)}</span>' if method else ""
    return f"<b>{escape(title)}</b>{told}<span>{csv_link(frame, name)}</span>"


def _is_number(column: pd.Series[Any]) -> bool:
    return bool(column.dtype.kind in "iuf")


def _of(number: bool) -> str:
    return ' class="num"' if number else ""


def _inert(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
