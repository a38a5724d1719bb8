"""The widgets themselves: traits, two views of one session, the still picture, hostile names."""

from __future__ import annotations

import base64
import gc
import io
import json
import re
import subprocess
import sys
import threading
import weakref
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import ipywidgets
import numpy as np
import pytest
from PIL import Image
from traitlets import TraitError

import memviz as mv
from memviz.widgets.core import Message, _assets, files, script, style
from memviz.widgets.core import _view as base
from memviz.widgets.core import _worker as worker
from memviz.widgets.workbench import Controller, View, shown_controller
from memviz.widgets.workbench import _view as view
from tests.support.widgets import (
    EVIL,
    EVIL_GROUP,
    EVIL_LAYER,
    Ear,
    flat_study,
    hostile_study,
    small_study,
)

PARTS = {
    "workbench": mv.workbench,
    "layers": mv.layer_list,
    "units": mv.unit_map,
    "examples": mv.example_gallery,
    "readout": mv.readout_view,
}


@pytest.fixture(scope="module")
def study() -> mv.Study:
    return small_study()


def heard(shown: View) -> Ear:
    """What the front end of a view is sent from now on."""
    ear = Ear()
    real = shown.send

    def send(content: Any, buffers: Any = None) -> None:
        json.dumps(content, allow_nan=False)  # what the comm cannot carry fails here
        assert all(isinstance(buffer, bytes) for buffer in buffers or [])
        real(content, buffers)
        ear.tell(Message(content, buffers or []))

    shown.send = send
    return ear


def play(shown: View, **content: Any) -> None:
    """A custom message, as it comes from the comm."""
    shown._handle_custom_msg(content, [])


# Parts, traits, messages --------------------------------------------------------------------------


@pytest.mark.parametrize("part", PARTS)
def test_every_part_is_a_view_of_a_session_or_of_a_study(study: mv.Study, part: str) -> None:
    session = mv.Session(study)
    shown = PARTS[part](session)
    assert isinstance(shown, View) and shown.part == part
    assert shown.session is session
    assert PARTS[part](study).session is not session


def test_the_front_end_can_change_the_part_only_to_a_text(study: mv.Study) -> None:
    shown = mv.workbench(study)
    shown.set_state({"part": "units"})
    assert shown.part == "units"
    with pytest.raises(TraitError):
        shown.part = 5


def test_every_view_has_an_identity_of_its_own(study: mv.Study) -> None:
    session = mv.Session(study)
    assert mv.workbench(session).uid != mv.workbench(session).uid


def test_hello_and_a_click(study: mv.Study) -> None:
    shown = mv.workbench(study)
    ear = heard(shown)
    play(shown, type="hello")
    ear.wait("readout", version=0)
    play(shown, type="toggle", units="conv4:1")
    assert str(shown.session.units) == "conv4:1"
    ear.wait("readout", version=1)
    assert ear.of("state")[-1]["units"] == "conv4:1"
    assert ear.of("error") == []


def test_a_bad_message_is_answered_and_not_raised(study: mv.Study) -> None:
    shown = mv.workbench(study)
    ear = heard(shown)
    play(shown, type="toggle", units="conv9:1")
    assert "no layer 'conv9'" in ear.of("error")[0]["text"]


def test_two_views_of_one_session_are_both_told(study: mv.Study) -> None:
    session = mv.Session(study)
    first, second = mv.unit_map(session), mv.readout_view(session)
    ears = heard(first), heard(second)
    for shown in (first, second):
        play(shown, type="hello")
    play(first, type="toggle", units="conv4:1")
    session.toggle("fc:2")  # from Python
    for ear in ears:
        assert ear.wait("readout", version=2)["units"] == 2
        assert ear.of("state")[-1]["units"] == "conv4:1 fc:2"
    # Only the sender hears what it alone asked for.
    play(second, type="code")
    assert (len(ears[0].of("code")), len(ears[1].of("code"))) == (0, 1)


def test_a_closed_view_is_told_nothing_more(study: mv.Study) -> None:
    session = mv.Session(study)
    first, second = mv.workbench(session), mv.readout_view(session)
    ears = heard(first), heard(second)
    first.close()
    session.toggle("conv4:1")
    ears[1].wait("readout", version=1)
    assert ears[0].heard == []
    first.close()  # twice is once


def test_the_last_view_closed_ends_the_thread_and_lets_go(study: mv.Study) -> None:
    session = mv.Session(study)
    shown = mv.workbench(session)
    ear = heard(shown)
    play(shown, type="hello")
    ear.wait("readout", version=0)
    thread = shown.controller.worker._thread
    shown.close()
    thread.join(60)
    assert not thread.is_alive()
    assert session not in view._CONTROLLERS
    # The session is shown again by a new view.
    again = mv.workbench(session)
    ear = heard(again)
    play(again, type="hello")
    ear.wait("readout", version=0)


def test_a_view_whose_making_was_interrupted_ends_without_a_word(
    study: mv.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)

    def interrupted(*_: object, **__: object) -> str:
        raise KeyboardInterrupt

    for name in ("uuid.uuid4", "anywidget.AnyWidget.__init__"):
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(name, interrupted)
            mv.workbench(study)
        gc.collect()
    assert not told


def test_a_session_and_its_controller_are_collected_after_the_last_view(study: mv.Study) -> None:
    session = mv.Session(study)
    shown, second = mv.workbench(session), mv.readout_view(session)
    kept = weakref.ref(session), weakref.ref(shown.controller)
    thread = _answered(session, shown.controller)
    shown.close()
    assert view._CONTROLLERS[session]() is second.controller
    second.close()
    thread.join(60)
    del session, shown, second
    gc.collect()
    assert [one() for one in kept] == [None, None]


def test_a_session_and_its_controller_are_collected_without_a_view(
    study: mv.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "_LINGER", 0.01)
    session = mv.Session(study)
    controller = shown_controller(session)
    kept = weakref.ref(session), weakref.ref(controller)
    _answered(session, controller).join(60)
    assert shown_controller(session) is controller
    del session, controller
    gc.collect()
    assert [one() for one in kept] == [None, None]


def _answered(session: mv.Session, controller: Controller) -> threading.Thread:
    """The thread that has answered one click."""
    session.toggle("conv4:1")
    thread = controller.worker._thread
    assert thread is not None
    controller.worker.run_first(lambda: None)
    return thread


def test_scores_of_the_users_own(study: mv.Study) -> None:
    units = (mv.Unit("fc", 0), mv.Unit("fc", 3))
    mine = mv.Scores("mine", "volts", np.array([1.0, 3.0]), units=units)
    for given, name in (([mine], "mine"), ({"other name": mine}, "other name")):
        shown = mv.unit_map(study, scores=given)
        ear = heard(shown)
        play(shown, type="hello")
        assert ear.of("study")[0]["scores"][-1]["label"] == name


def test_scores_over_examples_are_refused(study: mv.Study) -> None:
    wrong = mv.Scores("C-score", "share", np.zeros(60), examples=np.arange(60))
    with pytest.raises(ValueError, match="'C-score' is over examples; the unit map shows scores"):
        mv.workbench(study, scores=[wrong])


# Without a kernel ---------------------------------------------------------------------------------


def test_a_view_displays_live_and_still(study: mv.Study) -> None:
    session = mv.Session(study)
    session.ablate("conv4:1 fc:2")
    shown = mv.workbench(session)
    data, _ = shown._repr_mimebundle_()
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == shown.model_id
    assert data["text/plain"].startswith("memviz workbench of 'strokes'. 2 of 20 units ablated")
    png = re.search(r"data:image/png;base64,([^\"]+)", data["text/html"])
    assert png is not None
    with Image.open(io.BytesIO(base64.b64decode(png[1]))) as picture:
        assert picture.width > 600 and picture.height > 200
        grey = np.asarray(picture.convert("L"))
    assert grey.std() > 10  # something is drawn
    assert "2 of 20 units ablated" in data["text/html"]


def test_the_picture_below_a_view_follows_it(
    study: mv.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[dict[str, str], dict[str, Any]]] = []
    news = threading.Event()

    def update(data: dict[str, str], **options: Any) -> None:
        told.append((data, options))
        news.set()

    monkeypatch.setattr("IPython.display.display", lambda data, *_, **o: told.append((data, o)))
    monkeypatch.setattr("IPython.display.update_display", update)
    monkeypatch.setattr(base, "_REST", 0.05)
    with mv.workbench(study) as shown:
        shown._ipython_display_()
        (live, _), (still, options) = told
        assert set(live) == {"application/vnd.jupyter.widget-view+json", "text/plain"}
        assert "No unit is ablated" in still["text/html"] and "run this cell" in still["text/html"]
        play(shown, type="hello")
        news.clear()
        shown.session.ablate("conv4:1 fc:2")
        while news.wait(30) and "2 of 20 units" not in told[-1][0]["text/html"]:
            news.clear()
        assert "2 of 20 units ablated" in told[-1][0]["text/html"]
        assert told[-1][1]["display_id"] == options["display_id"]


def test_the_still_picture_is_there_before_any_browser_asks(study: mv.Study) -> None:
    data, _ = mv.workbench(study)._repr_mimebundle_()
    assert "data:image/png" in data["text/html"]
    assert "No unit is ablated" in data["text/plain"]


def test_after_the_still_picture_the_browser_gets_everything(study: mv.Study) -> None:
    shown = mv.workbench(study)
    shown._repr_mimebundle_()
    ear = heard(shown)
    play(shown, type="hello")
    ear.wait("scores", key="effect", done=20)
    assert {"study", "state", "sprites", "readout"} <= {m.content["type"] for m in ear.heard}


def test_a_table_has_a_still_picture_too() -> None:
    data, _ = mv.workbench(flat_study())._repr_mimebundle_()
    assert "data:image/png" in data["text/html"]


# Untrusted text -----------------------------------------------------------------------------------


class Tags(HTMLParser):
    """The elements and attributes that a browser would make of a text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, list[str]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, [name for name, _ in attrs]))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_hostile_names_are_text_in_the_still_picture() -> None:
    session = mv.Session(hostile_study())
    session.ablate({EVIL_LAYER: [1]})
    data, _ = mv.workbench(session)._repr_mimebundle_()
    tags = Tags(data["text/html"])
    assert tags.found == [("p", []), ("img", ["alt", "src", "style"])]
    for name in (EVIL_LAYER, EVIL_GROUP):
        assert name not in data["text/html"]
        assert name in tags.text


def test_hostile_names_reach_the_browser_as_data() -> None:
    shown = mv.workbench(hostile_study())
    ear = heard(shown)
    play(shown, type="hello")
    content = ear.of("study")[0]
    assert content["classes"][0] == EVIL and content["name"] == EVIL
    play(shown, type="toggle", units=f"{EVIL_LAYER}:1")
    assert ear.wait("readout", version=1)["units"] == 1
    assert EVIL_LAYER in ear.of("readout")[-1]["sentence"]


# Sizes and set-up ---------------------------------------------------------------------------------


def test_what_a_notebook_saves_is_small(study: mv.Study) -> None:
    shown = mv.workbench(study)
    ear = heard(shown)
    play(shown, type="hello")
    for _ in range(10):
        play(shown, type="toggle", units="conv4:1")
    ear.wait("readout", version=10)
    saved = {k: v for k, v in shown.get_state().items() if k not in ("_esm", "_css")}
    assert len(json.dumps(saved, default=str).encode()) < 1000


@pytest.mark.parametrize(
    ("kind", "of_core", "of_view"), [("js", 76_000, 48_000), ("css", 24_000, 8_000)]
)
def test_the_front_end_is_small(kind: str, of_core: int, of_view: int) -> None:
    sizes: dict[str, int] = {}
    for file in files(kind):
        view = file.parts[-3]
        sizes[view] = sizes.get(view, 0) + file.stat().st_size
    assert sizes.pop("core") < of_core
    assert {view for view, size in sizes.items() if size >= of_view} == set()


def test_the_front_end_is_joined_from_every_file() -> None:
    text = script()
    assert not re.search(r"^import ", text, re.MULTILINE)
    assert text.count("export default") == 1 and "export { mount }" in text
    for file in files("js"):
        lines = [line for line in file.read_text().splitlines() if not line.startswith("import ")]
        assert "\n".join(lines) in text, file.name
        assert "innerHTML" not in text
    names = re.findall(r"^(?:export )?(?:function|const|let) (\w+)", text, re.MULTILINE)
    assert len(names) == len(set(names))  # one module has one of each


def test_views_of_other_packages_are_joined_in_a_scope_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    for package in ("ebb_paper", "flood_paper"):
        folder = tmp_path / package / "widgets" / "tide" / "static"
        folder.mkdir(parents=True)
        (folder / "tide.js").write_text(
            'import { registerView } from "../../core/static/views.js";\n'
            'import { el } from "./own.js";\nregisterView(el);\n'
        )
        (folder / "own.js").write_text(f'export const el = "{package}";\n')
        (folder / "tide.css").write_text(f".{package} {{}}\n")
    (tmp_path / "no_views_paper").mkdir()
    there = ["memviz", "ebb_paper", "flood_paper", "no_views_paper"]
    monkeypatch.setattr(_assets, "packages", lambda: there)
    joined = [f'{{\nconst el = "{name}";\nregisterView(el);\n}}\n' for name in there[1:3]]
    assert script.__wrapped__() == script() + "".join(joined)
    assert style.__wrapped__().startswith(style())
    assert ".ebb_paper {}\n" in style.__wrapped__() and ".flood_paper {}\n" in style.__wrapped__()


def test_the_widgets_import_by_themselves_and_memviz_without_them() -> None:
    code = (
        "import sys, memviz; assert 'anywidget' not in sys.modules; "
        "assert 'workbench' in dir(memviz); import memviz.widgets; "
        "assert memviz.workbench is memviz.widgets.workbench"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_views_close_with_all_other_widgets(study: mv.Study) -> None:
    shown = mv.workbench(study)
    ipywidgets.Widget.close_all()
    assert shown.controller.sinks == []


def test_without_a_readout_the_still_picture_is_a_line(
    study: mv.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("the model fell over")

    shown = mv.workbench(study)
    monkeypatch.setattr(shown.session.toggles, "outputs", broken)
    ear = heard(shown)
    data, _ = shown._repr_mimebundle_()
    assert data["text/html"] == "<p>memviz workbench of &#x27;strokes&#x27;. starting</p>"
    assert ear.wait("error")["text"] == "the model fell over"


def test_a_view_that_nobody_greets_tells_everything_by_itself() -> None:
    widget = mv.workbench(small_study())
    ear = heard(widget)
    widget._announce((0.0,))
    ear.wait("readout")
    assert {"study", "state", "sprites"} <= {content["type"] for content, _ in ear.heard}
    widget._hear({"type": "undo"})
    ear.forget()
    widget._announce((0.0,))
    for thread in threading.enumerate():
        if thread.name == "memviz hello":
            thread.join(60)
    assert ear.of("study") == []  # the browser has spoken: it asks for what it needs


# Ends and failures --------------------------------------------------------------------------------


def test_with_closes_the_view_and_waits_for_its_thread(study: mv.Study) -> None:
    with mv.workbench(study) as shown:
        shown.session.ablate("conv4:1")
        thread = shown.controller.worker._thread
        assert thread is not None
    assert not thread.is_alive()
    assert shown.controller.sinks == [] and shown.comm is None
    shown.close()  # twice is once


def test_with_leaves_the_other_views_of_the_session_alone(study: mv.Study) -> None:
    session = mv.Session(study)
    other = mv.readout_view(session)
    ear = heard(other)
    with pytest.raises(KeyError), mv.workbench(session):
        raise KeyError("in a cell")
    session.ablate("conv4:1")
    assert ear.wait("readout", version=1)["units"] == 1


def test_a_view_whose_channel_fails_is_dropped_and_the_others_are_told(study: mv.Study) -> None:
    session = mv.Session(study)
    failing, other = mv.unit_map(session), mv.readout_view(session)
    ear = heard(other)
    real = failing.send

    def broken(*_: Any) -> None:
        raise ConnectionError("the socket is closed")

    failing.send = broken
    play(failing, type="hello")
    session.ablate("conv4:1")
    ear.wait("readout", version=1)
    ear.wait("scores", key="effect", done=20)
    assert failing.controller.sinks == [other]
    # It speaks again: it is sent everything, and its request is answered.
    failing.send = real
    again = heard(failing)
    play(failing, type="toggle", units="conv4:1")
    again.wait("readout", version=2)
    assert again.of("study") and failing.controller.sinks == [other, failing]
