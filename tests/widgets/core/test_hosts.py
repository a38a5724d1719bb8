"""What a host of widgets must offer: anywidget's documented model and an element, nothing else."""

from __future__ import annotations

import re

from memviz.widgets.core import files, script, style

MODEL = {"get", "set", "on", "off", "send", "save_changes"}
# Names that one host has and another has not, and stores that a sandboxed frame refuses.
HOSTS = r"\b(Jupyter|jupyterapp|IPython|requirejs|google\.colab|acquireVsCodeApi|marimo)\b"
STORES = r"\b(localStorage|sessionStorage|indexedDB|document\.cookie)\b"
NETWORK = r"\b(fetch|XMLHttpRequest|WebSocket|EventSource|importScripts)\b|\bimport\s*\("


def code_of(text: str) -> str:
    """The script without its comments."""
    return re.sub(r"/\*.*?\*/|(?<!:)//[^\n]*", "", text, flags=re.S)


def test_the_model_is_asked_for_what_anywidget_documents() -> None:
    (index,) = [path for path in files("js") if path.name == "index.js"]
    used = set(re.findall(r"\bmodel\.(\w+)", code_of(index.read_text())))
    assert {"get", "on", "off", "send"} <= used <= MODEL
    assert "experimental" not in script()


def test_nothing_of_one_host_and_nothing_from_a_network_is_used() -> None:
    code = code_of(script())
    for pattern in (HOSTS, STORES, NETWORK):
        assert re.findall(pattern, code) == []
    assert re.findall(r"^\s*import\b.*", code, re.M) == []  # one module, joined
    assert set(re.findall(r"https?://[\w./]+", code)) == {"http://www.w3.org/2000/svg"}
    assert re.findall(r"@import|url\((?!\s*['\"]?(?:data:|#))", style()) == []


def test_the_page_is_never_asked_for_what_may_lie_in_a_shadow_root() -> None:
    # The one exception is JupyterLab's own page, for the link to an exported file.
    found = re.findall(r"document\.(?:querySelector\w*|getElement\w*|activeElement).*", script())
    assert len(found) == 1 and "jupyter-config-data" in found[0]


def test_the_sheet_styles_memviz_alone() -> None:
    sheet = re.sub(r"/\*.*?\*/", "", style(), flags=re.S)
    heads = re.findall(r"([^{}@;]+)\{", sheet)
    rules = [h for head in heads if not (h := head.strip()).startswith(("container ", "media "))]
    assert len(rules) > 300
    # A comma inside brackets parts no selectors.
    selectors = [part.strip() for rule in rules for part in re.split(r",(?![^()]*\))", rule)]
    assert [text for text in selectors if not re.search(r"\.(mv|memviz)\b", text)] == []
