"""The density explorer clicked in a real browser, with a controller that answers at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import memviz as mv
from memviz.widgets.density import DensityExplorer
from memviz.widgets.workbench import Controller
from tests.support.access import serious
from tests.support.density import PLANTED, PlantedTable, density_study
from tests.support.page import EVIL, focus_by_keys, settle
from tests.support.talk import Talk, played

pytestmark = pytest.mark.browser
WIDEST = """() => [...document.querySelectorAll(".mv *")].filter((node) => !node.closest(".mv-sr")
  && node.getBoundingClientRect().right > innerWidth).map((node) => `${node.tagName} ${node.getAttribute("class")}`)"""
GROUPS = {EVIL: PLANTED["planted"], "clean": PLANTED["clean"], "test": PLANTED["test"]}


class DensityTalk(Talk):
    """A page with the density explorer of a planted table."""

    def __init__(
        self, page: Any, table: PlantedTable | None = None, study: mv.Study | None = None
    ) -> None:
        study = study or density_study(groups=GROUPS, name=EVIL)
        controller = Controller(mv.Session(study), threaded=False)
        self.part = controller.part(DensityExplorer)
        self.table = table or PlantedTable()
        self.part.begin(self.table)
        super().__init__(page, controller, "density")

    def order(self) -> list[int]:
        """The images of the sheet, in its order."""
        tiles = self.page.locator(".mv-dn-tile")
        told = [(int(t.get_attribute("aria-posinset")), t) for t in tiles.all()]
        return [
            int(tile.get_attribute("data-example")) for _, tile in sorted(told, key=lambda x: x[0])
        ]


@pytest.fixture
def talk(open_page: Any) -> DensityTalk:
    return DensityTalk(open_page())


def test_opens_the_most_memorized_image_with_its_trainings(talk: DensityTalk) -> None:
    page, found = talk.page, talk.table.estimate(1e-3, 60)
    best = int(found.memorization.argmax())
    assert talk.order()[0] == best
    assert talk.says() == f"{talk.part.sentence}"
    assert "M 29.8 nats" in talk.says()
    tile = page.locator(f".mv-dn-tile[data-example='{best}']")
    assert tile.get_attribute("aria-selected") == "true"
    assert tile.get_attribute("aria-label") == f"image {best}, M 29.8 nats, {EVIL}"
    words = page.locator(".mv-dn-says").inner_text()
    assert words == "With it in training the models give it 29.8 nats more than without."
    assert "in 16 models that saw it" in page.locator(".mv-dn-top .mv-note").inner_text()
    label = page.locator(".mv-dn-hist").get_attribute("aria-label")
    assert label.startswith("log-likelihoods: 16 in training, median ") and "4 held out" in label
    assert page.locator(".mv-dn-near figcaption").all_inner_texts()[:2] == ["2.50", "2.60"]
    assert "ratio 1.27, and " in page.locator(".mv-dn-near + .mv-note").inner_text()
    assert page.evaluate("window.pwned") is None


def test_sorts_finds_and_opens_by_mouse_and_keys(talk: DensityTalk) -> None:
    page, found = talk.page, talk.table.estimate(1e-3, 60)
    by_m = [int(i) for i in (-found.memorization).argsort(kind="stable")]
    assert talk.order()[:28] == by_m[:28]
    page.locator(".mv-dn-sort").select_option("log_p")
    settle(page)
    assert talk.order()[:4] == [int(i) for i in found.inside.argsort()[:4]]
    page.locator(".mv-dn-sort").select_option("ratio")
    settle(page)
    assert talk.order()[0] == int(talk.table.nearest_ratio.argmax())
    page.locator(".mv-dn-sort").select_option("m")
    settle(page)
    page.locator(".mv-dn-tile").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    talk.answer()
    assert talk.controller.session.opened == by_m[5]
    assert f"Image {by_m[5]} after 60 epochs" in talk.says()
    page.keyboard.press("/")
    page.keyboard.type("45")
    settle(page)
    assert talk.order() == [45]
    page.locator(".mv-dn-tile").first.click()
    talk.answer()
    assert talk.says() == "Image 45 was in no training."
    assert "no M" in page.locator(".mv-dn-says").inner_text()
    assert page.locator(".mv-dn-hist").is_hidden()
    page.locator(".mv-dn-list .mv-find").fill("nothing")
    settle(page)
    assert "No image has this number or group." in page.locator(".mv-dn-list").inner_text()
    assert page.evaluate("window.escaped") == []


def test_epochs_and_rates_are_sliders_that_answer_at_once(talk: DensityTalk) -> None:
    page, table = talk.page, talk.table
    epochs, rate = page.locator(".mv-dn-epochs"), page.locator(".mv-dn-rate")
    assert epochs.get_attribute("aria-valuetext") == "60 epochs"
    epochs.focus()
    page.keyboard.press("ArrowLeft")
    settle(page)  # before Python has answered
    found = table.estimate(1e-3, 40)
    best = found.memorization[0]
    assert epochs.get_attribute("aria-valuetext") == "40 epochs"
    assert f"after 40 epochs: M {best:.1f} nats" in talk.says()
    assert f"{best:.1f} nats more" in page.locator(".mv-dn-says").inner_text()
    page.wait_for_function("model.sent.some((m) => m.type === 'density_at')")
    talk.answer()
    assert (talk.part.rate, talk.part.epoch) == (1, 1)
    rate.focus()
    page.keyboard.press("Home")
    settle(page)
    assert rate.get_attribute("aria-valuetext") == "10⁻⁴"
    assert f"M {table.estimate(1e-4, 40).memorization[0]:.1f} nats" in talk.says()
    # Dragging to the left end of the axis is the first epoch.
    box = epochs.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + 10)
    page.mouse.down()
    page.mouse.move(box["x"] + 20, box["y"] + 10, steps=4)
    page.mouse.up()
    settle(page)
    assert epochs.get_attribute("aria-valuetext") == "20 epochs"
    label = page.locator(".mv-dn-q95").get_attribute("aria-label")
    assert label.startswith(".95 quantile of M after 20 epochs at 10⁻⁴: ")
    rows = page.locator(".mv-dn-read table tbody tr")
    assert rows.count() == 3 and rows.first.locator("td").count() == 4
    page.wait_for_timeout(150)
    talk.answer()
    assert (talk.part.rate, talk.part.epoch) == (0, 0)


def test_units_go_off_and_come_back(talk: DensityTalk) -> None:
    page = talk.page
    assert page.locator(".mv-dn-row .mv-before").first.is_hidden()
    canvas = page.locator("canvas.mv-units[data-layer='decoder.fc1']")
    pitch = float(canvas.get_attribute("data-pitch"))
    for unit in range(3):
        canvas.click(position={"x": unit * pitch + pitch / 2, "y": pitch / 2})
    talk.answer()
    assert str(talk.controller.session.units) == "decoder.fc1:0-2"
    assert talk.says() == talk.part.sentence and "; 3 units off: " in talk.says()
    row = page.locator(f"[data-group='{EVIL}']")
    assert row.locator(".mv-before").inner_text() == "10.0"
    assert "random 3: " in row.inner_text() and "…" not in row.inner_text()
    assert "Log p of test" in page.locator("[data-group=test]").inner_text()
    assert "20 draws" in page.locator(".mv-dn-how").inner_text()
    made = page.locator(".mv-dn-made figure:not([hidden]) figcaption span").all_inner_texts()
    assert made == ["the image", "before", "3 units off", "random 3"]
    canvas.focus()
    for _ in range(3):
        page.keyboard.press("Control+z")
    talk.answer()
    assert not talk.controller.session.units
    made = page.locator(".mv-dn-made figure:not([hidden]) figcaption span").all_inner_texts()
    assert made == ["the image", "reconstructed"]
    assert page.locator(".mv-dn-row .mv-before").first.is_hidden()


def test_a_neighbour_is_opened_and_code_is_copied(talk: DensityTalk) -> None:
    page = talk.page
    page.locator(".mv-dn-near button").nth(2).click()
    talk.answer()
    assert talk.controller.session.opened == 3
    page.locator(".mv-code").click()
    talk.answer()
    assert "import memviz as mv" in page.locator(".mv-codebox pre").inner_text()


def test_units_are_ranked_by_the_opened_image(talk: DensityTalk) -> None:
    page = talk.page
    hold = page.locator(".mv-dn-hold")
    assert hold.get_attribute("aria-pressed") == "false"
    hold.click()
    talk.answer()
    assert hold.get_attribute("aria-pressed") == "true"
    assert page.locator("select.mv-score").input_value() == "opened image"
    page.locator(".mv-k").fill("2")
    page.keyboard.press("Enter")
    talk.answer()
    assert len(talk.controller.session.units) == 2


def test_without_neighbours_and_held_out_images_the_rest_stands(open_page: Any) -> None:
    table = PlantedTable()
    table.nearest_ratio = None
    talk = DensityTalk(open_page(), table)
    assert talk.page.locator(".mv-dn-near").is_hidden()
    assert talk.page.locator(".mv-dn-tile").count() > 20
    talk.page.locator(".mv-dn-sort").select_option("ratio")
    settle(talk.page)
    assert "can't be" in talk.page.locator(".mv-dn-list .mv-note").inner_text()


def test_images_that_are_the_same_are_marked(open_page: Any) -> None:
    study = density_study(groups=GROUPS, name=EVIL)
    images = study.inputs["images"]
    images[7] = images[2]
    images[45] = images[9]  # held out: no copy in training
    images[3, 0, 0, 0] = 1 - images[3, 0, 0, 0]
    talk = DensityTalk(open_page(), study=study)
    marks = {}
    for tile in talk.page.locator(".mv-dn-tile").all():
        marks[int(tile.get_attribute("data-example"))] = tile.locator("small").inner_text()
    assert {i for i, words in marks.items() if words} <= {2, 7} and marks[2] == "×2"
    label = talk.page.locator(".mv-dn-tile[data-example='2']").get_attribute("aria-label")
    assert label.endswith(f"2 times in training, {EVIL}")


def test_a_single_training_epoch_and_values_without_end(open_page: Any) -> None:
    table = PlantedTable()
    table.rates, table.epochs, table.of_model = (1e-3,), (60,), None
    table.noise[~table.is_in[:, 20], 20] = -np.inf
    table.noise[:, 3] = np.nan
    talk = DensityTalk(open_page(), table)
    page = talk.page
    assert talk.order()[0] == 20
    assert page.locator(".mv-dn-tile b").first.inner_text() == "∞"
    page.locator(".mv-dn-sort").select_option("less")
    settle(page)
    page.locator(".mv-dn-tile").first.focus()
    page.keyboard.press("End")
    settle(page)
    assert page.locator(".mv-dn-tile[aria-posinset='40']").get_attribute("data-example") == "3"
    page.locator(".mv-dn-epochs").press("ArrowLeft")
    page.locator(".mv-dn-rate").press("Home")
    talk.answer()
    assert talk.says().startswith("Image 20 after 60 epochs: M ∞ nats")
    assert "NaN" not in page.locator("section.mv").inner_html()


@pytest.mark.parametrize("width", [1040, 760, 420])
def test_nothing_overflows_in_light_or_dark(talk: DensityTalk, width: int, pictures: Any) -> None:
    page = talk.page
    page.set_viewport_size({"width": width, "height": 1400})
    for light in ("true", "false"):
        page.evaluate("light => (document.body.dataset.jpThemeLight = light)", light)
        settle(page)
        settle(page)
        wide = page.evaluate(WIDEST)
        assert wide == []
        name = f"density-{width}-{'light' if light == 'true' else 'dark'}.png"
        page.locator("section.mv").screenshot(path=pictures / name)
    focus_by_keys(page, ".mv-dn-epochs")
    outline = page.locator(".mv-dn-epochs").evaluate("node => getComputedStyle(node).outlineStyle")
    assert outline == "solid"


def test_a_saved_page_still_sorts_and_slides(open_page: Any, talk: DensityTalk) -> None:
    talk.controller.session.ablate("decoder.fc1:0,1")
    talk.controller.worker.run_until_idle()
    told = played(talk.controller.snapshot())
    page = open_page()
    page.evaluate("list => mount(document.getElementById('a'), 'density', list)", told)
    settle(page)
    note = page.locator(".mv-savednote").inner_text()
    assert note == "Saved page: reconstructions and switching units need a running kernel."
    assert page.locator(".mv-say").inner_text() == talk.part.sentence
    page.locator(".mv-dn-epochs").focus()
    page.keyboard.press("Home")
    settle(page)
    assert "after 20 epochs" in page.locator(".mv-say").inner_text()
    page.locator(".mv-dn-sort").select_option("less")
    settle(page)
    first = page.locator(".mv-dn-tile[aria-posinset='1']").get_attribute("data-example")
    assert int(first) == int(talk.table.estimate(1e-3, 20).memorization.argmin())


def test_nothing_serious_is_found_by_axe(talk: DensityTalk) -> None:
    assert serious(talk.page) == []
