"""The page: one file, offline, that runs one script and no other."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from html import escape

from memviz.widgets.core import Saved

from ._parts import Section

# Every other script is refused by the browser, whatever a name or a text in the page holds.
_POLICY = (
    "default-src 'none'; script-src '{hash}'; style-src 'unsafe-inline'; img-src data: blob:; "
    "base-uri 'none'; form-action 'none'"
)
_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1f1f1f; --soft: #5c5c5c; --line: #dcdcdc;
  --wash: #f6f6f4; --link: #0b57b0; --mem: #D55E00; --clean: #0072B2; --test: #00805E;
  --null: #9a9a9a; --bar: #4D556C; --other: #4a4a4a; }
@media (prefers-color-scheme: dark) { :root { --paper: #111; --ink: #e3e3e3; --soft: #a5a5a5;
  --line: #3c3c3c; --wash: #1c1c1e; --link: #8ab4f8; --mem: #F28A3C; --clean: #56B4E9;
  --test: #2FBF95; --null: #8a8a8a; --bar: #B4A76F; --other: #b8b8b8; } }
body { margin: 0 auto; padding: 24px 20px 60px; max-width: 1080px; background: var(--paper);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main h1, main h2 { line-height: 1.25; overflow-wrap: anywhere; }
h1 { font-size: 28px; margin: 0 0 4px; }
section > h2 { font-size: 20px; margin: 48px 0 12px; padding-top: 14px;
  border-top: 1px solid var(--line); }
.rep p, .rep li, .rep dd { max-width: 80ch; overflow-wrap: anywhere; }
.note, .method, #written { color: var(--soft); font-size: 13px; }
nav { display: flex; flex-wrap: wrap; gap: 2px 18px; margin: 14px 0; }
.rep a { color: var(--link); }
dl { display: grid; grid-template-columns: minmax(110px, max-content) 1fr; gap: 4px 20px; }
dt { color: var(--soft); }
dd { margin: 0; }
figure { margin: 24px 0 34px; }
figcaption { display: flex; flex-direction: column; gap: 2px; margin-bottom: 10px;
  max-width: 90ch; overflow-wrap: anywhere; font-size: 13px; }
figcaption b { font-size: 15px; font-weight: 600; }
figure > svg { display: block; width: 100%; height: auto; color: var(--ink); }
figure > svg text { font-family: system-ui, sans-serif !important; }
.wide { overflow-x: auto; max-height: 460px; overflow-y: auto; border: 1px solid var(--line);
  border-radius: 4px; }
.wide:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
table { border-collapse: collapse; font-size: 13px; line-height: 1.35;
  font-variant-numeric: tabular-nums; min-width: 100%; }
th, td { padding: 5px 12px; text-align: left; vertical-align: top; min-width: 4ch;
  max-width: 300px; overflow-wrap: break-word; }
th { position: sticky; top: 0; background: var(--wash); font-weight: 600; }
td { border-top: 1px solid var(--line); }
td.num { white-space: nowrap; }
.num { text-align: right; }
@media print { .wide { max-height: none; } }
"""
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title}</title><style>{own}
{style}</style></head>
<body><main><div class="rep"><h1>{title}</h1>
{written}
<nav aria-label="Chapters">{links}</nav>
{chapters}</div>
<section id="live"><h2>The live page</h2>
<div class="rep"><p>{about_live}</p></div>
{place}
</section>
<div class="rep">{last}</div></main>
<script type="module">{script}</script></body></html>
"""


def page(
    title: str,
    written: str,
    chapters: Sequence[Section],
    view: Saved,
    about_live: str,
    last: Section,
) -> bytes:
    """The whole file.

    Parameters
    ----------
    title : str
    written : str
        When it was written and how long that took: the only line that differs between two reports
        of the same input.
    chapters : sequence of Section
    view : Saved
        The live page.
    about_live : str
        What can be done with it.
    last : Section
        Comes after the live page.
    """
    anchors = [(part.key, part.title) for part in chapters]
    anchors += [("live", "The live page"), (last.key, last.title)]
    links = "".join(f'<a href="#{key}">{escape(name)}</a>' for key, name in anchors)
    digest = base64.b64encode(hashlib.sha256(view.script.encode()).digest()).decode()
    text = _PAGE.format(
        policy=_POLICY.format(hash=f"sha256-{digest}"),
        title=escape(title),
        own=_STYLE,
        style=view.style,
        written=f'<p id="written">{escape(written)}</p>',
        links=links,
        chapters="\n".join(part.html for part in chapters),
        about_live=escape(about_live),
        place=view.place,
        last=last.html,
        script=view.script,
    )
    # A name may hold bytes that are not text; the page shows "?" for them.
    return text.encode("utf-8", "replace")
