"""The gate map clicked in a real browser, with a controller that answers at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import memviz as mv
from memviz.session import GateSession
from memviz.widgets.gates._controller import GateController
from memviz.widgets.gates._curves import check_curves
from memviz.widgets.workbench import Controller
from tests.support.access import serious
from tests.support.gates import CURVES, gate_study, tree_net
from tests.support.page import EVIL, settle
from tests.support.talk import Talk

pytestmark = pytest.mark.browser
GROUPS = {EVIL: range(10), "clean": range(10, 60), "test": range(60, 90)}
EVIL_CURVES = {
    **CURVES,
    "group": [EVIL if group == "memorized" else group for group in CURVES["group"]],
}


class GateTalk(Talk):
    """A page with the gate map of a study."""

    def __init__(self, page: Any, study: mv.Study, curves: Any = None) -> None:
        self.session = GateSession(study)
        lines = None if curves is None else check_curves(curves)
        super().__init__(page, GateController(self.session, lines, threaded=False), "gates")

    def press(self, *keys: str) -> None:
        self.page.locator(".mv-gt-grid").focus()
        for key in keys:
            self.page.keyboard.press(key)
            self.answer()

    def cell(self) -> str:
        """What a screen reader hears of the gate that has the focus."""
        return self.page.locator(".mv-gt-grid [role=gridcell]").inner_text()

    def live(self, layer: int) -> list[int]:
        circuit = self.session.circuits.circuit
        of = circuit.layers[layer]
        return [row for row in range(of.start, of.start + of.gates) if circuit.live[row]]


@pytest.fixture
def talk(open_page: Any) -> GateTalk:
    study = gate_study(groups=GROUPS, name=EVIL, class_names=[EVIL, "bee", "cat", "dog"])
    return GateTalk(open_page(), study, EVIL_CURVES)


def test_opens_with_the_circuit_one_gate_and_one_example(talk: GateTalk) -> None:
    page = talk.page
    assert talk.says() == talk.controller.sentence
    heads = page.locator(".mv-gt-over .mv-bold").all_text_contents()
    assert heads[:4] == ["input", "layer 1", "layer 2", "layer 3"]
    assert talk.cell().startswith("layer 3 gate ") and ", 1, reads layer 2 gate" in talk.cell()
    rows = page.locator(".mv-gt-card tbody tr")
    assert rows.count() == 4 and rows.locator("..").locator("tr.mv-now").count() == 1
    bits = [row.locator(".mv-gt-bit").all_inner_texts() for row in rows.all()]
    assert [b[:2] for b in bits] == [["0", "0"], ["0", "1"], ["1", "0"], ["1", "1"]]
    chosen = talk.controller.chosen
    assert chosen is not None
    number = talk.session.circuits.circuit.layers[2].numbers[chosen - 50]
    assert "".join(b[2] for b in bits) == f"{number:04b}"
    label = page.locator(".mv-gt-wires").get_attribute("aria-label")
    assert label.startswith("trace of example 0: layer 3 gate ") and label.count(" is ") == 7
    assert "1 vote" in page.locator(".mv-gt-wires").text_content()
    assert page.locator("[data-chart]").count() == 2
    assert (
        "step 50: soft .70, hard .10"
        in page.locator("[data-chart='Soft against hard']").text_content()
    )
    assert page.evaluate("window.pwned") is None


def test_keys_move_along_the_layer_the_wires_and_the_readers(talk: GateTalk) -> None:
    circuit = talk.session.circuits.circuit
    talk.press("Home")
    assert talk.controller.chosen == 50
    talk.press("ArrowRight", "ArrowRight", "ArrowLeft", "End", "Home")
    assert talk.controller.chosen == 50
    talk.press("w")
    a = talk.controller.chosen
    assert a == 20 + circuit.layers[2].reads[0, 0, 0, 0]
    talk.press("r")
    readers = [
        50 + k for k in range(24) if a is not None and a - 20 in circuit.layers[2].reads[:, k, 0, 0]
    ]
    seen = {talk.controller.chosen}
    for _ in range(len(readers) - 1):
        talk.press("r")
        seen.add(talk.controller.chosen)
    assert seen == set(readers)
    talk.press("PageUp", "PageUp", "Home", "Shift+W")
    assert talk.says() == "This wire comes from an input bit: the circuit begins here."
    assert talk.controller.chosen == 0
    assert talk.page.evaluate("window.escaped") == []


def test_gates_are_set_by_keys_and_mouse_and_undone(talk: GateTalk) -> None:
    page, row = talk.page, talk.live(1)[2]
    talk.controller.choose(row)
    talk.answer()
    for key, setting in (
        ("1", "constant 1"),
        ("a", "input a"),
        ("b", "input b"),
        ("n", "negation"),
    ):
        talk.press(key)
        assert talk.session.settings == {row: setting}
    assert talk.says() == talk.controller.sentence and "negated: " in talk.says()
    assert "set to not" in talk.cell()
    talk.press("n")
    assert talk.session.settings == {}
    talk.press("0", "Control+z")
    assert talk.session.settings == {}
    talk.press("Control+Shift+z")
    assert talk.session.settings == {row: "zero"}
    page.locator(".mv-gt-set button[data-key='negation']").click()
    talk.answer()
    assert talk.session.settings == {row: "negation"}
    assert page.locator(".mv-gt-set [aria-checked=true]").inner_text() == "not"
    page.locator(".mv-gt-set button[data-key='']").click()
    talk.answer()
    assert talk.session.settings == {}


def test_a_click_chooses_and_a_second_one_sets_to_the_better_constant(talk: GateTalk) -> None:
    page = talk.page
    ring, grid = page.locator(".mv-gt-ring"), page.locator(".mv-gt-grid")
    row = talk.live(1)[0]
    talk.controller.choose(row)
    talk.answer()
    place = [float(ring.get_attribute(side)) + 6 for side in ("x", "y")]
    talk.controller.choose(talk.live(2)[0])
    talk.answer()
    grid.hover(position={"x": place[0], "y": place[1]})
    assert page.locator(
        ".mv-gt-tip b"
    ).inner_text().lower() == talk.session.circuits.circuit.words_for(row)
    grid.click(position={"x": place[0], "y": place[1]})
    talk.answer()
    assert talk.controller.chosen == row and talk.session.settings == {}
    grid.click(position={"x": place[0], "y": place[1]})
    talk.answer()
    assert talk.session.settings == {row: talk.controller.scores.setting(row, "better")}


def test_a_dead_gate_says_so_and_is_not_set(talk: GateTalk) -> None:
    dead = int(np.flatnonzero(~talk.session.circuits.circuit.live)[0])
    talk.controller.choose(dead)
    talk.answer()
    talk.press("0")
    words = talk.session.circuits.circuit.words_for(dead)
    assert (
        talk.says() == f"L{words[1:]} is dead: nothing reads it, so taking it out changes nothing."
    )
    assert talk.session.settings == {}
    assert all(button.is_disabled() for button in talk.page.locator(".mv-gt-set button").all())


def test_examples_are_stepped_through_group_by_group(talk: GateTalk) -> None:
    talk.press("]", "]")
    assert talk.session.opened == 2
    assert "Example 2, bit by bit" in talk.page.locator(".mv-gt-title").inner_text()
    talk.press("[", "[", "[")
    assert talk.session.opened == 89
    talk.page.get_by_label("next example").click()
    talk.answer()
    assert talk.session.opened == 0


def test_the_top_gates_with_random_ones_beside_them(talk: GateTalk) -> None:
    page = talk.page
    page.locator(".mv-k").fill("6")
    page.keyboard.press("Enter")
    talk.answer()
    assert len(talk.session.settings) == 6
    assert talk.says().startswith("6 of ") and "live gates set" in talk.says()
    notes = page.locator(".mv-gt-read .mv-notes").inner_text()
    assert "6 random live gates of the same layers" in notes and "200 draws" in notes
    assert "dead gates are never drawn" in notes
    cells = page.locator(".mv-gt-read .mv-flips tbody tr").first.locator("td").all_inner_texts()
    assert len(cells) == 3 and all(cells)
    page.locator(".mv-gt-to button[data-key='zero']").click()
    talk.answer()
    assert talk.controller.score == "zero"


@pytest.mark.parametrize("shown", ["bit", "kind", "weight"])
def test_cells_show_something_else(talk: GateTalk, shown: str) -> None:
    page = talk.page
    pixels = "() => document.querySelector('.mv-gt-cells').toDataURL()"
    before = page.evaluate(pixels)
    page.locator(".mv-gt-show").select_option(shown)
    settle(page)
    assert page.evaluate(pixels) != before
    assert page.locator(".mv-gt-scale").inner_text()


def test_a_convolution_fits_and_has_no_curves(open_page: Any) -> None:
    talk = GateTalk(open_page(), gate_study(tree_net()))
    talk.controller.choose(13)
    talk.answer()
    assert "reads" in talk.cell() and talk.cell().startswith("conv 2.1 gate 1")
    assert "No curves of the training were given" in talk.page.locator(".mv-gt-train").inner_text()


def test_a_large_circuit_is_legible_and_drawn_at_once(open_page: Any) -> None:
    from memviz.models.logic_gates import logic_dense_net

    model = logic_dense_net(16, [3000, 3000, 3000], 4, thresholds=[0.5], init="gaussian")
    study = gate_study(model.eval())
    page = open_page()
    session = GateSession(study)
    controller = GateController(session, threaded=False)
    controller.scores.begin = lambda: None  # type: ignore[method-assign]
    Talk(page, controller, "gates")
    assert float(page.locator(".mv-gt-grid").get_attribute("data-pitch")) >= 5
    box = page.locator(".mv-gt-area").bounding_box()
    assert (
        box["height"] < 640
        and box["width"] <= page.locator(".mv-gt-scroll").bounding_box()["width"]
    )


def test_a_saved_page_needs_no_kernel(talk: GateTalk, open_page: Any, tmp_path: Any) -> None:
    path = tmp_path / "page.html"
    talk.controller.export(path)
    page = open_page()
    page.set_content(path.read_text())
    page.wait_for_selector(".mv-gt-cells")
    settle(page)
    assert (
        "Saved page: setting gates and tracing examples need"
        in page.locator(".mv-live").inner_text()
    )
    assert page.locator(".mv-gt-grid [role=gridcell]").inner_text() == talk.cell()
    assert all(button.is_disabled() for button in page.locator(".mv-gt-set button").all())
    page.locator(".mv-gt-grid").focus()
    page.keyboard.press("w")
    settle(page)
    assert page.locator(".mv-gt-grid [role=gridcell]").inner_text() != talk.cell()


def test_a_workbench_draws_dead_gates_apart(open_page: Any, pictures: Any) -> None:
    study = gate_study()
    talk = Talk(open_page(), Controller(mv.Session(study), threaded=False), "workbench")
    page, name = talk.page, "3.gates"
    dead = sorted(next(layer for layer in mv.layers(study) if layer.name == name).dead)
    alive = next(unit for unit in range(30) if unit not in dead)
    canvas = page.locator(f"canvas.mv-units[data-layer='{name}']")
    assert f"30 units · {len(dead)} dead" in canvas.locator("xpath=../..").inner_text()
    assert "dotted: dead, nothing reads it" in page.locator(".mv-scale").inner_text()
    columns, pitch = (int(canvas.get_attribute(f"data-{n}")) for n in ("columns", "pitch"))

    def at(unit: int, right: float, down: float) -> tuple[float, float]:
        return (unit % columns + right) * pitch, (unit // columns + down) * pitch

    def hovered(unit: int) -> str:
        x, y = at(unit, 0.4, 0.4)
        canvas.hover(position={"x": x, "y": y})
        settle(page)
        return str(page.locator(".mv-tip").inner_text())

    def corner(unit: int) -> list[int]:
        """The colour beside the middle of a cell: paper where it is hollow."""
        return list(
            page.evaluate(
                """([canvas, x, y]) => [...canvas.getContext("2d").getImageData(
                     Math.round(x * devicePixelRatio), Math.round(y * devicePixelRatio), 1, 1
                   ).data]""",
                [canvas.element_handle(), *at(unit, 0.25, 0.25)],
            )
        )

    assert [corner(unit)[3] == 0 for unit in (dead[0], alive)] == [True, False]
    assert "On, dead: nothing reads it." in hovered(dead[0])
    assert "dead" not in hovered(alive)
    for theme, light in (("light", "true"), ("dark", "false")):
        page.evaluate(f"document.body.dataset.jpThemeLight = '{light}'")
        settle(page)
        settle(page)
        page.locator("#a").screenshot(path=pictures / f"workbench-of-gates-{theme}.png")


def test_every_curve_has_its_line_in_the_legend(open_page: Any, pictures: Any) -> None:
    groups = ["wrong" if group == "memorized" else group for group in CURVES["group"]]
    page = GateTalk(open_page(), gate_study(), CURVES | {"group": groups}).page
    early = page.locator("[data-chart='Early learning']")
    lines = early.locator("polyline")
    legend = early.locator(".mv-gt-key > span")
    assert legend.all_inner_texts() == [
        "test",
        "wrong: says the given label",
        "wrong: says the true label",
        "clean",
    ]
    looks = []
    for k in range(4):
        line, sample = lines.nth(k), legend.nth(k).locator("path")
        for name in ("stroke", "stroke-dasharray"):
            assert line.get_attribute(name) == sample.get_attribute(name)
        looks.append(line.evaluate("node => getComputedStyle(node).stroke"))
    assert looks[1] == looks[2] and len(set(looks)) == 3
    assert len({lines.nth(k).get_attribute("stroke-dasharray") for k in range(4)}) == 3
    for width in (1040, 500):
        page.set_viewport_size({"width": width, "height": 1400})
        for theme, light in (("light", "true"), ("dark", "false")):
            page.evaluate(f"document.body.dataset.jpThemeLight = '{light}'")
            settle(page)
            settle(page)
            path = pictures / f"gates-curves-{width}-{theme}.png"
            page.locator(".mv-gt-train").screenshot(path=path)


def test_nothing_serious_is_found_by_axe(talk: GateTalk) -> None:
    assert serious(talk.page) == []
