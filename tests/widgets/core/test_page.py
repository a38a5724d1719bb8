"""The exported page: whole or not at all, complete without a kernel, and inert."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import memviz as mv
from memviz.widgets.core import Message
from memviz.widgets.core import _page as export
from tests.support.widgets import (
    EVIL,
    EVIL_GROUP,
    EVIL_LAYER,
    ask,
    decoded,
    hostile_study,
    listening,
    small_study,
)


class Page(HTMLParser):
    """The elements of a page, and the text of each script."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.title = ""
        self.text = path.read_text(encoding="utf-8")
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][0] == "script":
            self.scripts[-1] += data
        elif self.elements and self.elements[-1][0] == "title":
            self.title += data

    @property
    def snapshot(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.scripts[0])
        return found


def test_the_page_holds_everything_a_view_was_told(tmp_path: Path) -> None:
    controller, ear = listening(small_study())
    ask(controller, ear, "set", units="conv4:1 fc:2")
    ask(controller, ear, "open", example=3)
    controller.export(tmp_path / "a.html")
    snapshot = Page(tmp_path / "a.html").snapshot
    kinds = [entry["msg"]["type"] for entry in snapshot]
    assert kinds[:3] == ["study", "state", "sprites"]
    assert {"readout", "random", "scores", "example"} <= set(kinds)
    assert not {"progress", "error", "code"} & set(kinds)
    assert snapshot[1]["msg"]["units"] == "conv4:1 fc:2"
    for entry in snapshot:
        assert len(entry["buffers"]) == len(entry["msg"].get("arrays", []))


def test_a_page_can_be_written_before_any_browser_has_asked(tmp_path: Path) -> None:
    session = mv.Session(small_study())
    session.ablate("conv4:1")
    mv.workbench(session).export(str(tmp_path / "a.html"))
    kinds = [entry["msg"]["type"] for entry in Page(tmp_path / "a.html").snapshot]
    assert kinds[:3] == ["study", "state", "sprites"]
    assert "readout" in kinds


def test_hostile_names_open_no_element(tmp_path: Path) -> None:
    controller, ear = listening(hostile_study())
    ask(controller, ear, "set", units=f"{EVIL_LAYER}:1")
    ask(controller, ear, "open", example=3)
    controller.export(tmp_path / "a.html")
    page = Page(tmp_path / "a.html")
    names = [name for name, _ in page.elements]
    assert " ".join(names) == "html head meta meta meta title style body main h1 div script script"
    assert page.title == EVIL
    for name in (EVIL, EVIL_GROUP, EVIL_LAYER):
        assert name not in page.text
    assert "<" not in page.scripts[0]
    study = page.snapshot[0]["msg"]
    assert study["classes"][0] == EVIL and study["groups"][0]["name"] == EVIL_GROUP


def test_the_page_asks_nothing_of_a_network(tmp_path: Path) -> None:
    controller, _ = listening(small_study())
    controller.export(tmp_path / "a.html")
    page = Page(tmp_path / "a.html")
    policy = next(a["content"] for _, a in page.elements if "http-equiv" in a)
    assert policy is not None and "default-src 'none'" in policy and "http" not in policy
    assert not any("src" in a or "href" in a for _, a in page.elements)
    addresses = set(re.findall(r"https?://[\w./]+", page.text))
    assert addresses <= {"http://www.w3.org/2000/svg"}  # a name, not an address


def test_numbers_that_json_lacks_do_not_break_the_page(tmp_path: Path) -> None:
    message = Message({"type": "readout", "margin": float("nan"), "all": [float("inf"), 1.5]}, [])
    export.page(tmp_path / "a.html", "t", "workbench", [message])
    text = Page(tmp_path / "a.html").scripts[0]
    found = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert found[0]["msg"] == {"type": "readout", "margin": None, "all": [None, 1.5]}


def test_a_script_end_inside_the_module_stays_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "script", lambda: 'const a = "</script><img>";\n')
    export.page(tmp_path / "a.html", "t", "workbench", [])
    names = [name for name, _ in Page(tmp_path / "a.html").elements]
    assert "img" not in names and names.count("script") == 2


def test_a_page_that_fails_leaves_nothing_and_touches_nothing(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "a.html").write_text("before")
    with pytest.raises(ValueError, match="is a folder, not a file; name a file"):
        export.page(tmp_path / "folder", "t", "workbench", [])
    with pytest.raises(FileNotFoundError, match="there is no folder .* make it first"):
        export.page(tmp_path / "none" / "a.html", "t", "workbench", [])
    with pytest.raises(TypeError):
        export.page(tmp_path / "a.html", "t", "workbench", [Message({"type": {1, 2}}, [])])
    assert {path.name for path in tmp_path.iterdir()} == {"folder", "a.html"}
    assert (tmp_path / "a.html").read_text() == "before"


def test_names_that_are_no_text_are_written(tmp_path: Path) -> None:
    message = Message({"type": "study", "name": "\udcff"}, [])  # a byte of a file's name
    export.page(tmp_path / "a.html", "\udcff", "workbench", [message])
    assert Page(tmp_path / "a.html").title == "?"


def test_a_name_becomes_a_file_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert export.free_path("../../etc/<b>.html").name == "..-..-etc--b-.html"
    assert export.free_path("über uns.html").name == "über-uns.html"
    assert export.free_path(".html").suffix == ""
    for name in ("a.html", "a-2.html", "a-3.html"):
        path = export.free_path("a.html")
        assert path.name == name
        path.write_text("taken")
    long = export.free_path("x" * 500 + ".html")
    long.write_text("fits")
    assert len(long.name) < 255


def test_buffers_come_back(tmp_path: Path) -> None:
    controller, _ = listening(small_study())
    messages = controller.snapshot()
    controller.export(tmp_path / "a.html")
    for entry, message in zip(Page(tmp_path / "a.html").snapshot, messages, strict=True):
        again = Message(entry["msg"], [base64.b64decode(text) for text in entry["buffers"]])
        assert again.buffers == message.buffers
        assert {k: v.shape for k, v in decoded(again).items()} == {
            k: v.shape for k, v in decoded(message).items()
        }


def test_a_closed_view_still_exports(tmp_path: Path) -> None:
    shown = mv.workbench(small_study())
    shown.close()
    shown.export(str(tmp_path / "a.html"))
    kinds = [entry["msg"]["type"] for entry in Page(tmp_path / "a.html").snapshot]
    assert "readout" in kinds
