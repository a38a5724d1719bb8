"""Figures in the frame of the click: those that the kernel then sends, for every unit shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import memviz as mv
from memviz.widgets.workbench import Controller
from tests.support.page import play, sent, settle
from tests.support.talk import played
from tests.support.widgets import Ear, ask, flat_study, listening, pair_study, small_study

pytestmark = pytest.mark.browser
STUDIES = {"strokes": small_study, "rows": flat_study, "pairs": pair_study}
# What the page shows of the accuracies, flips and notes, and of the examples on the screen.
FIGURES = """() => ({
  say: document.querySelector(".mv-say").textContent,
  groups: [...document.querySelectorAll(".mv-acc")].map((node) => [
    ...["mv-n", "mv-before", "mv-now", "mv-margin"].map((name) => node.querySelector("." + name).textContent),
    ...[...node.querySelectorAll("svg path")].slice(1, 3).map((path) => path.getAttribute("d").replace(/\\d+\\.\\d+/g, (x) => (+x).toFixed(2))),
  ]),
  flips: [...document.querySelectorAll(".mv-flips tbody tr")].map((row) => row.textContent),
  notes: [...document.querySelectorAll(".mv-notes p")].map((p) => p.textContent).filter((text) => !text.includes("random")),
})"""
TILES = """() => [...document.querySelectorAll(".mv-tile")].map((tile) => tile.getAttribute("aria-label")).sort()"""


class Bench:
    """A page and the controller whose messages it was sent, which answers only when told."""

    def __init__(self, page: Any, study: mv.Study) -> None:
        self.page = page
        self.controller: Controller
        self.ear: Ear
        self.controller, self.ear = listening(study)
        self.controller.worker.run_until_idle()
        page.evaluate("start('workbench')")
        play(page, *played(self.controller.snapshot()))
        settle(page)

    def click(self, unit: mv.Unit) -> None:
        """Click a unit on the map."""
        canvas = self.page.locator(f'canvas.mv-units[data-layer="{unit.layer}"]')
        canvas.scroll_into_view_if_needed()
        box = canvas.bounding_box()
        columns, pitch = (int(canvas.get_attribute(f"data-{n}")) for n in ("columns", "pitch"))
        row, column = divmod(unit.index, columns)
        self.page.mouse.click(box["x"] + (column + 0.4) * pitch, box["y"] + (row + 0.4) * pitch)

    def answer(self, *, random: bool = True) -> None:
        """What the kernel says to the newest request."""
        self.ear.forget()
        request = sent(self.page)[-1]
        ask(self.controller, self.ear, request.pop("type"), **request)
        heard = [m for m in self.ear.heard if random or m.content["type"] != "random"]
        play(self.page, *played(heard))
        settle(self.page)

    def figures(self) -> dict[str, Any]:
        return self.page.evaluate(FIGURES)


@pytest.fixture
def bench(open_page: Callable[[], Any]) -> Bench:
    return Bench(open_page(), small_study())


@pytest.mark.parametrize("name", STUDIES)
def test_every_unit_shows_at_once_what_the_kernel_says(
    open_page: Callable[[], Any], name: str
) -> None:
    bench = Bench(open_page(), STUDIES[name]())
    none, tiles = bench.figures(), bench.page.evaluate(TILES)
    for unit in bench.controller.scores.units:
        bench.click(unit)
        at_once = bench.figures()  # before the kernel has said a word
        assert at_once["say"].startswith(f"{unit.layer} unit {unit.index} ablated: ")
        settle(bench.page)
        shown = bench.page.evaluate(TILES)
        bench.answer()
        assert bench.figures() == at_once
        assert bench.page.evaluate(TILES) == shown
        bench.click(unit)
        assert bench.figures() == none
        settle(bench.page)
        assert bench.page.evaluate(TILES) == tiles
        bench.answer()
        assert bench.figures() == none


def test_a_set_is_estimated_until_it_is_known(bench: Bench) -> None:
    units = [unit for unit in bench.controller.scores.units if unit.layer == "fc"]
    bench.click(units[0])
    bench.answer()
    bench.click(units[1])
    guess = bench.figures()
    assert guess["say"].startswith("2 of 20 units ablated: memorized ") and "≈" in guess["say"]
    assert all(now.startswith("≈ ") and "≈" in margin for _, _, now, margin, *_ in guess["groups"])
    assert guess["notes"][0].startswith("≈ single effects added up: an estimate until")
    assert bench.page.locator(".mv-guess").count() == 3
    effects = bench.controller.effects["zero"]
    rows = [bench.controller.scores.units.index(unit) for unit in units[:2]]
    added = effects.margin + effects.margin_change[rows].sum(0)
    for (shown, *_), (group, mask) in zip(
        guess["groups"], bench.controller.session.study.groups.items(), strict=True
    ):
        assert shown == f"{int((added[mask] > 0).sum())} of {int(mask.sum())}", group
    bench.answer()
    known = bench.figures()
    assert "≈" not in str(known) and bench.page.locator(".mv-guess").count() == 0
    assert known["say"] == bench.controller.sentence
    bench.click(units[2])
    assert "≈" in bench.figures()["say"]
    bench.click(units[2])  # taken back before the kernel has answered
    assert bench.figures() == known


def test_what_was_said_ahead_is_no_estimate(bench: Bench) -> None:
    first, second = [unit for unit in bench.controller.scores.units if unit.layer == "fc"][:2]
    bench.click(first)
    bench.answer()
    bench.click(second)
    found = bench.controller.session.study, f"fc:{first.index},{second.index}"
    bench.controller.receive({"type": "toggle", "units": str(second)}, bench.ear)
    bench.controller.worker.run_until_idle()
    readout = bench.ear.last("readout").content
    fields = ("version", "ablated", "key", "sentence")
    ahead = {"type": "ahead", **{name: readout[name] for name in fields}}
    play(bench.page, {"msg": {**ahead, "groups": readout["groups"][:1]}, "buffers": []})
    settle(bench.page)
    now = [now for _, _, now, *_ in bench.figures()["groups"]]
    assert [text.startswith("≈") for text in now] == [False, True, True]
    exact = mv.readout(*found, random_draws=0).groups["memorized"].after
    assert bench.figures()["groups"][0][0] == f"{exact.correct} of {exact.n}"
    play(bench.page, *played(bench.ear.last(kind) for kind in ("state", "readout")))
    settle(bench.page)
    assert "≈" not in str(bench.figures())


# Clicks and messages in one task, since a click outlives an older state for a moment only.
LATE = """([layer, units, late]) => {
  const canvas = [...document.querySelectorAll("canvas.mv-units")].find((c) => c.dataset.layer === layer);
  const [columns, pitch] = [Number(canvas.dataset.columns), Number(canvas.dataset.pitch)];
  for (const unit of units) {
    const box = canvas.getBoundingClientRect();
    const at = { clientX: box.left + (unit % columns + 0.4) * pitch, clientY: box.top + (Math.floor(unit / columns) + 0.4) * pitch };
    for (const kind of ["pointerdown", "pointerup"]) canvas.dispatchEvent(new PointerEvent(kind, { bubbles: true, pointerType: "touch", ...at }));
  }
  model.play(late);
}"""


def test_a_late_answer_does_not_hide_a_newer_click(bench: Bench) -> None:
    first, second = [unit for unit in bench.controller.scores.units if unit.layer == "conv4"][:2]
    bench.controller.receive({"type": "toggle", "units": str(first)}, bench.ear)
    bench.controller.worker.run_until_idle()
    late = played(bench.ear.last(kind) for kind in ("state", "readout"))
    bench.page.evaluate(LATE, ["conv4", [first.index, first.index, second.index], late])
    assert bench.figures()["say"].startswith(f"conv4 unit {second.index} ablated")


def test_where_nothing_is_known_the_kernel_is_waited_for(bench: Bench) -> None:
    unit = bench.controller.scores.units[0]
    table = bench.controller._singles.of("zero", bench.controller.effects["zero"])
    play(bench.page, *played([table.withdrawn("zero")]))
    before = bench.figures()
    bench.click(unit)
    settle(bench.page)
    assert bench.figures() == before
    bench.answer()
    assert bench.figures()["say"].startswith("conv1 unit 0 ablated")


def test_the_slider_is_followed_while_it_is_held(bench: Bench) -> None:
    slider = bench.page.locator(".mv-top")
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    bench.page.mouse.move(box["x"] + 2, box["y"] + 10)
    bench.page.mouse.down()
    bench.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 10)
    settle(bench.page)
    assert "units ablated: memorized" in bench.figures()["say"] and "≈" in bench.figures()["say"]
    bench.page.mouse.up()
    bench.answer()
    assert "≈" not in str(bench.figures())
    assert bench.figures()["say"] == bench.controller.sentence
