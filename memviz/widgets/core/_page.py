"""A page that shows a session without a kernel and without a network."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from memviz.checks import check_place
from memviz.tensor_files import atomic_write

from ._assets import script, style

if TYPE_CHECKING:
    from ._messages import Message

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; script-src 'unsafe-inline' data:; style-src 'unsafe-inline';
 img-src data: blob:">
<title>{title}</title><style>body {{ margin: 16px; }}
h1 {{ position: absolute; width: 1px; height: 1px; margin: 0; overflow: hidden;
 clip-path: inset(50%); }}
@media (prefers-color-scheme: dark) {{ body {{ background: #111; }} }}
{style}</style></head>
<body><main><h1>{title}</h1>{place}</main>
<script type="module">{script}</script></body></html>
"""
_PLACE = """<div id="memviz"></div>
<script type="application/json" id="snapshot">{snapshot}</script>"""
_SCRIPT = """{script}
mount(document.getElementById("memviz"), {part},
  JSON.parse(document.getElementById("snapshot").textContent));
"""


class Saved(NamedTuple):
    """A saved view as the parts of a page.

    Attributes
    ----------
    place : str
        The element that shows it, and its data, which run nothing.
    script : str
        The text of the one script: a module.
    style : str
        The style sheet.
    """

    place: str
    script: str
    style: str


def saved(part: str, snapshot: Iterable[Message]) -> Saved:
    """A view without a kernel, to stand in a page; one to a page.

    Parameters
    ----------
    part : str
        As for :func:`page`.
    snapshot : messages
        Everything that a new view is sent.

    Examples
    --------
    >>> saved("workbench", []).place.splitlines()[0]
    '<div id="memviz"></div>'
    """
    messages = [
        {"msg": _jsonable(content), "buffers": [base64.b64encode(b).decode() for b in buffers]}
        for content, buffers in snapshot
    ]
    code = script().replace("</script", "<\\/script")
    return Saved(
        _PLACE.format(snapshot=_inert(messages)),
        _SCRIPT.format(script=code, part=json.dumps(part)),
        style(),
    )


def page(path: str | Path, title: str, part: str, snapshot: Iterable[Message]) -> None:
    """Write the page atomically.

    Parameters
    ----------
    path : str or Path
    title : str
        Escaped before it is shown.
    part : str
        The view to show: ``"workbench"``, ``"layers"``, ``"units"``, ``"examples"``, ``"readout"``
        or the name of another view.
    snapshot : messages
        Everything that a new view is sent.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page(Path(folder) / "a.html", "<b>", "workbench", [])
    ...     "<title>&lt;b&gt;</title>" in (Path(folder) / "a.html").read_text()
    True
    """
    text = _PAGE.format(title=escape(title), **saved(part, snapshot)._asdict())
    check_place(path)
    with atomic_write(Path(path)) as part_file:
        # A file name may hold bytes that are not text; the title shows "?" for them.
        part_file.write_bytes(text.encode("utf-8", "replace"))


def _jsonable(content: dict[str, Any]) -> Any:
    # A browser's JSON has no NaN and no infinity.
    return json.loads(json.dumps(content), parse_constant=lambda _: None)


def _inert(value: Any) -> str:
    # Inside a script element only "<" could end it or open another.
    return json.dumps(value).replace("<", "\\u003c")


def free_path(name: str) -> Path:
    """A file name with unsafe characters replaced, numbered if the file exists.

    Examples
    --------
    >>> free_path("a/b: <c>.html").name
    'a-b---c-.html'
    """
    stem, suffix = os.path.splitext(name)
    safe = "".join(c if c.isalnum() or c in "-_." else "-" for c in stem) or "memviz"
    safe = safe.encode()[:150].decode(errors="ignore")  # file systems take 255 bytes
    path, number = Path(safe + suffix), 2
    while path.exists():
        path, number = Path(f"{safe}-{number}{suffix}"), number + 1
    return path
