"""The exported page in a real browser: from a file, without a kernel, without a network."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import memviz as mv
from memviz.widgets.workbench import Controller
from tests.support.access import serious
from tests.support.widgets import (
    EVIL,
    EVIL_GROUP,
    EVIL_LAYER,
    Ear,
    ask,
    hostile_study,
    listening,
    small_study,
)

pytestmark = pytest.mark.browser


@pytest.fixture
def show(open_saved: Any, tmp_path: Path) -> Callable[..., Any]:
    """A function that opens a controller's exported page from its file."""

    def opened(controller: Controller, **options: Any) -> Any:
        file = tmp_path / "saved.html"
        controller.export(file)
        return open_saved(file, **options)

    return opened


def coloured(page: Any, layer: str) -> int:
    """How many colours a unit map was painted with."""
    return page.evaluate(
        """(layer) => {
          const canvas = [...document.querySelectorAll("canvas.mv-units")].find((c) => c.dataset.layer === layer);
          const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
          return new Set(new Uint32Array(data.buffer)).size;
        }""",
        layer,
    )


def test_hostile_names_are_text_and_nothing_runs(show: Any, pictures: Path) -> None:
    controller, ear = listening(hostile_study())
    ask(controller, ear, "set", units=f"{EVIL_LAYER}:1 fc:2")
    ask(controller, ear, "open", example=3)
    assert ear.of("error") == []
    page = show(controller)
    assert page.title() == EVIL
    shown = page.locator("body").inner_text()
    assert f"2 of 20 units ablated: {EVIL_GROUP}" in page.locator(".mv-say").inner_text()
    assert "Saved page: single units are exact, sets are estimates (≈)" in shown
    for name in (EVIL, EVIL_GROUP, EVIL_LAYER):
        assert name in shown
    for layer in ("conv1", EVIL_LAYER, "fc"):
        assert coloured(page, layer) > 3
    assert page.evaluate("window.pwned") is None
    assert page.locator("img").count() == 0
    page.screenshot(path=pictures / "export-hostile.png", full_page=True)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_slower_engine_is_named_with_its_reason(show: Any, pictures: Path, theme: str) -> None:
    """In bfloat16 the graph rounds too coarsely: replay answers, and the unit map says so."""
    small = small_study()
    inputs = small.inputs.to(torch.bfloat16)
    model = small.model.to(torch.bfloat16)
    study = mv.Study(model, inputs, small.labels, small.groups)
    controller, ear = listening(study)
    controller.worker.run_until_idle()
    assert ear.of("error") == []
    page = show(controller, color_scheme=theme)
    assert page.locator(".mv-engine").is_visible()
    words = page.locator(".mv-engine").inner_text()
    assert words.startswith("Computed by ") and "replay" in words and "the graph is off by" in words
    page.screenshot(path=pictures / f"export-replay-{theme}.png", full_page=True)


@pytest.fixture(scope="module")
def ablated(digits: mv.Study) -> Controller:
    """The ready study with the 8 units of the largest estimate off and one example opened."""
    controller, ear = Controller(mv.Session(digits), threaded=False), Ear()
    controller.receive({"type": "hello"}, ear)
    controller.worker._step()  # the readout
    while "zero" not in controller.estimates:  # which come chunk by chunk
        controller.worker._step()
    controller.worker.drop("sweep")
    for content in (
        {"type": "score", "key": "estimate"},
        {"type": "top", "k": 8},
        {"type": "open", "example": 3},
    ):
        controller.receive(content, ear)
    controller.worker.run_until_idle()
    assert ear.of("error") == []
    return controller


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_saved_page_can_be_read_but_not_switched(
    show: Any, pictures: Path, ablated: Controller, theme: str
) -> None:
    page = show(ablated, color_scheme=theme)
    figures = page.locator(".mv-acc").all_inner_texts()
    assert page.locator(".mv-say").inner_text().startswith("8 of 320 units ablated: memorized")
    assert len(figures) == 3 and "of 120" in figures[0] and "random 8: " in figures[0]
    assert page.locator(".mv").get_attribute("data-mv-theme") == theme
    for layer in ("conv2", "conv4", "fc"):
        assert coloured(page, layer) > 3
    page.screenshot(path=pictures / f"export-{theme}.png", full_page=True)

    # Reading goes on: the gallery filters, its tiles are drawn, the opened example is there.
    chip = page.locator("[data-filter='group 0']")
    assert chip.inner_text().split()[-1] == "120"
    chip.click()
    page.wait_for_function("document.querySelectorAll('.mv-tile .mv-picbox canvas').length > 10")
    assert chip.get_attribute("aria-pressed") == "true"
    drawn = """() => [...document.querySelectorAll(".mv-tile canvas")].slice(0, 6).every((c) =>
      new Set(c.getContext("2d").getImageData(0, 0, c.width, c.height).data).size > 4)"""
    page.wait_for_function(drawn)
    assert "Example 3" in page.locator("body").inner_text()

    # Switching does not: what needs a kernel is off, a click on a unit changes nothing.
    maps = page.locator("canvas.mv-units[data-layer=conv4]")
    maps.click(position={"x": 20, "y": 8})
    maps.press("Space")
    assert page.locator(".mv-acc").all_inner_texts() == figures
    assert not page.locator(".mv-undo").is_visible()
    assert page.locator(".mv-k").is_disabled()
    assert page.get_by_text("Saved page: switching units needs a running kernel.").is_visible()


def test_every_example_opens_with_its_picture(show: Any, ablated: Controller) -> None:
    page = show(ablated)
    for group in (0, 1, 2):
        page.locator(f"[data-filter='group {group}']").click()
        tile = page.locator(".mv-tile").nth(4)
        tile.click()
        assert tile.get_attribute("aria-selected") == "true"
        page.wait_for_function(
            """() => {
              const canvas = document.querySelector(".mv-trio canvas");
              const { width, height } = canvas;
              const blank = Object.assign(document.createElement("canvas"), { width, height });
              return canvas.toDataURL() !== blank.toDataURL();
            }"""
        )
        page.get_by_text("Why it is predicted so needs a running kernel.").wait_for()
        assert page.locator(".mv-trio figure:visible").count() == 1


def test_nothing_serious_is_found_by_axe(show: Any, ablated: Controller) -> None:
    assert serious(show(ablated)) == []


def click(page: Any, layer: str, unit: int) -> None:
    canvas = page.locator(f"canvas.mv-units[data-layer={layer}]")
    columns, pitch = (int(canvas.get_attribute(f"data-{name}")) for name in ("columns", "pitch"))
    x, y = unit % columns * pitch + 0.4 * pitch, unit // columns * pitch + 0.4 * pitch
    canvas.click(position={"x": x, "y": y})


def margin(x: float) -> str:
    """As the page writes it."""
    ends = [(100, 0), (10, 1), (0.1, 2), (0.001, 3)]
    digits = next((digits for end, digits in ends if abs(x) >= end), 4 if x else 2)
    return re.sub(r"^(-?)0\.", r"\1.", f"{x:.{digits}f}").replace("-", "−")


def agrees(say: str, figures: list[str], readout: mv.Readout) -> None:
    """The page shows what was read out, to the last digit."""
    assert say == readout.sentence
    for text, group in zip(figures, readout.groups.values(), strict=True):
        words = " ".join(text.split())
        assert f"{group.after.correct:,} of {group.after.n:,}" in words
        low, high = margin(group.after.margin_low), margin(group.after.margin_high)
        assert f"→ {margin(group.after.margin)} ({low} to {high})" in words


def test_a_swept_page_ablates_single_units_by_itself(show: Any) -> None:
    study = small_study()
    controller, _ = listening(study)
    controller.worker.run_until_idle()
    page = show(controller)
    page.locator(".mv-k").wait_for()
    for unit in controller.scores.units:
        click(page, unit.layer, unit.index)
        say, figures = page.locator(".mv-say").inner_text(), page.locator(".mv-acc")
        readout = mv.readout(study, mv.UnitSet([unit]), random_draws=0)
        agrees(say, figures.all_inner_texts(), readout)
        click(page, unit.layer, unit.index)
    assert page.locator(".mv-say").inner_text() == mv.readout(study, "").sentence


# A unit off, what the page then says, and on again.
ALONE = """([layer, unit]) => {
  const canvas = [...document.querySelectorAll("canvas.mv-units")].find((c) => c.dataset.layer === layer);
  const click = () => {
    const [columns, pitch] = [Number(canvas.dataset.columns), Number(canvas.dataset.pitch)];
    const box = canvas.getBoundingClientRect();
    const at = { clientX: box.left + (unit % columns + 0.4) * pitch, clientY: box.top + (Math.floor(unit / columns) + 0.4) * pitch };
    for (const kind of ["pointerdown", "pointerup"]) canvas.dispatchEvent(new PointerEvent(kind, { bubbles: true, pointerType: "touch", ...at }));
  };
  click();
  return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => {
    const said = [".mv-say", ".mv-acc"].map((name) => [...document.querySelectorAll(name)].map((node) => node.innerText));
    click();
    done(said);
  })));
}"""


@pytest.mark.slow
def test_every_unit_of_the_digits_study_by_itself_as_in_a_live_view(
    show: Any, digits: mv.Study
) -> None:
    controller, ear = listening(digits)
    controller.worker.run_until_idle()
    page = show(controller)
    page.locator(".mv-k").wait_for()
    for unit in controller.scores.units:
        (say,), figures = page.evaluate(ALONE, [unit.layer, unit.index])
        controller.receive({"type": "set", "units": str(unit)}, ear)
        while controller.worker._step():
            controller.worker.drop("random")  # the null is not compared
        assert controller.readout is not None
        agrees(say, figures, controller.readout)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_swept_page_estimates_sets_and_goes_back(show: Any, pictures: Path, theme: str) -> None:
    controller, ear = listening(small_study())
    controller.worker.run_until_idle()
    ask(controller, ear, "set", units="conv4:0,1")
    known = controller.sentence
    page = show(controller, color_scheme=theme)
    says = page.locator(".mv-say")
    assert says.inner_text() == known and "≈" not in known  # exact: the kernel has said it
    assert not page.locator(".mv-code").is_visible() and page.locator(".mv-undo").is_disabled()
    page.locator("canvas.mv-units[data-layer=fc]").focus()
    page.keyboard.press("Home")
    page.keyboard.press("Space")
    assert (
        says.inner_text().startswith("3 of 20 units ablated: memorized")
        and "≈" in says.inner_text()
    )
    notes = page.locator(".mv-notes").inner_text()
    assert re.search(r"off by \.\d{3} of accuracy and .* random sets of 2 to 16 units", notes)
    flipped = page.locator("[data-filter=flipped]")
    assert flipped.inner_text().split()[-1] == "0"  # those of another set are not shown
    assert "they need a running kernel" in notes and page.locator(".mv-guess").count() == 3
    page.screenshot(path=pictures / f"export-guess-{theme}.png", full_page=True)
    page.keyboard.press("Control+z")
    assert says.inner_text() == known
    page.keyboard.press("Control+Shift+z")
    assert "≈" in says.inner_text()
    page.locator(".mv-reset").click()
    assert says.inner_text() == mv.readout(controller.session.study, "").sentence
    page.locator(".mv-k").fill("4")
    page.locator(".mv-k").press("Enter")
    assert says.inner_text().startswith("4 of 20 units ablated")


def test_what_was_not_swept_is_left_to_a_kernel(show: Any) -> None:
    controller, _ = listening(small_study())
    controller.worker.run_until_idle()
    controller._singles.of("zero", controller.effects["zero"]).known[0] = False
    controller._singles.tell("zero")
    page = show(controller)
    before = page.locator(".mv-acc").all_inner_texts()
    click(page, "conv1", 0)
    assert page.locator(".mv-say").inner_text().endswith("they need a running kernel.")
    assert page.locator(".mv-acc").all_inner_texts() == before
    click(page, "conv1", 1)
    assert page.locator(".mv-say").inner_text().startswith("conv1 unit 1 ablated")
