"""The capacity playground clicked in a real browser, with the messages of a real controller."""

from __future__ import annotations

import pytest

from memviz.widgets.capacity._controller import CapacityController
from memviz.widgets.capacity._settings import Settings
from tests.support.access import serious
from tests.support.page import sent, settle
from tests.support.talk import Talk

pytestmark = pytest.mark.browser


class Kernel(Talk):
    """A page with the playground of twelve points."""

    def __init__(self, page) -> None:
        super().__init__(page, CapacityController(Settings(n=12), threaded=False), "capacity")

    def work(self) -> None:
        self.controller.worker.drop("needed")  # trains networks
        super().work()


@pytest.fixture
def kernel(open_page):
    made = Kernel(open_page())
    yield made
    made.controller.close()


@pytest.fixture
def page(kernel):
    return kernel.page


def sentence(page) -> str:
    return page.locator(".mv-say").inner_text()


def test_shows_the_function_its_owners_and_every_method(page, kernel):
    assert sentence(page).startswith("12 points in 4 + 3 units: 12 of 12 are right.")
    assert page.locator(".mv-cp-chart circle").count() == 12
    assert [b.inner_text() for b in page.locator(".mv-cp-owner").all()] == ["1", "2", "3"]
    rows = page.locator(".mv-cp-table tbody tr")
    assert rows.count() == 8
    assert rows.first.inner_text().split("\t")[:2] == ["Yun, hard-tanh", "7"]
    labels = [b.get_attribute("aria-label") for b in page.locator(".mv-cp-box").all()]
    assert len(labels) == 5 and labels[3].startswith(
        "decision regions, Certified, train 1.00, test"
    )
    assert page.locator("[data-method=yu] svg circle").count() == 24  # a ball around each point
    assert page.locator(".mv-cp-fn table tbody tr").count() == 12


def test_an_owner_loses_its_points_and_two_neighbours_no_others(page, kernel):
    page.locator("[data-owner='1']").click()
    kernel.answer()
    assert "Owner 2 off: its 4 points go to one value" in sentence(page)
    assert "every other point moves by 1" in sentence(page)
    page.locator("[data-owner='2']").click()
    kernel.answer()
    assert "the other 4 keep their value" in sentence(page)
    assert page.locator("[aria-pressed=true]").count() == 2
    assert "random 2" in page.locator(".mv-cp-null").inner_text()
    assert str(kernel.controller.session.units) == "layer2:1,2"
    page.get_by_role("button", name="Undo").click()
    kernel.answer()
    assert str(kernel.controller.session.units) == "layer2:1"
    page.get_by_role("button", name="Reset").click()
    kernel.answer()
    assert page.locator("[aria-pressed=true]").count() == 0


def test_hovering_an_owner_rings_its_points(page):
    page.locator("[data-owner='0']").hover()
    settle(page)
    assert page.locator(".mv-cp-chart circle[r='7']").count() == 4
    page.locator(".mv-undo").hover(force=True)
    settle(page)
    assert page.locator(".mv-cp-chart circle[r='7']").count() == 0


def test_a_click_can_show_points_instead(page, kernel):
    page.get_by_role("radio", name="show its points").click()
    page.locator("[data-owner='1']").click()
    settle(page)
    assert sentence(page) == "Owner 2 owns 4 of 12 points, 2 + and 2 −, ringed in the chart."
    page.locator(".mv-undo").hover(force=True)
    settle(page)
    ringed = page.locator(".mv-cp-chart circle[r='7']")
    assert ringed.count() == 4
    for layer, owns in (("layer1", "layer1:0 owns 3 of 12"), ("layer2", "Owner 1 owns 4 of 12")):
        page.locator(f"canvas[data-layer={layer}]").click(position={"x": 8, "y": 8})
        settle(page)
        assert sentence(page).startswith(owns)
    page.locator("[data-owner='0']").click()  # again: it shows them no more
    page.locator(".mv-undo").hover(force=True)
    settle(page)
    assert ringed.count() == 0 and sentence(page).startswith("12 points in 4 + 3 units")
    assert sent(page, "toggle") == []
    page.get_by_role("radio", name="take it out").click()
    page.locator("[data-owner='1']").click()
    kernel.answer()
    assert str(kernel.controller.session.units) == "layer2:1"


def test_keys_move_among_owners_and_take_them_out(page, kernel):
    page.locator("[data-owner='0']").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    kernel.answer()
    assert str(kernel.controller.session.units) == "layer2:1"
    assert page.evaluate("document.activeElement.dataset.owner") == "1"
    page.keyboard.press("End")
    page.keyboard.press("Space")
    kernel.answer()
    assert str(kernel.controller.session.units) == "layer2:1,2"
    page.keyboard.press("Control+z")
    kernel.answer()
    assert str(kernel.controller.session.units) == "layer2:1"


def test_a_dragged_number_builds_another_network_and_undo_brings_the_old_one(page, kernel):
    slider = page.locator(".mv-cp-n")
    slider.focus()
    page.keyboard.press("PageUp")
    assert "20" not in page.locator(".mv-cp-fits").inner_text()  # widths follow N
    page.wait_for_function("model.sent.some((m) => m.type === 'capacity_set')")
    kernel.answer()
    assert kernel.controller.settings.n == 22
    assert page.locator(".mv-cp-chart circle").count() == 22
    page.get_by_role("radio", name="Certified").click()
    kernel.answer()
    assert kernel.controller.settings.method == "yu"
    assert page.locator(".mv-cp-owner").count() == 22
    assert page.locator(".mv-cp-first").is_disabled()
    for _ in range(2):
        page.get_by_role("button", name="Undo").click()
        kernel.answer()
    assert (kernel.controller.settings.n, kernel.controller.settings.method) == (12, "yun")
    assert page.locator(".mv-cp-chart circle").count() == 12


def test_widths_that_hold_too_few_points_are_refused_in_place(page, kernel):
    page.locator(".mv-cp-second").focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("model.sent.some((m) => m.type === 'capacity_set')")
    kernel.answer()
    said = page.locator(".mv-error").inner_text()
    assert said.startswith("! 4 × 2 = 8 is less than N = 12")
    assert page.locator(".mv-cp-second").input_value() == "3"


def test_beyond_the_plane_no_regions_are_drawn(page, kernel):
    kernel.controller.receive({"type": "capacity_set", "key": "features", "value": 5}, kernel.ear)
    kernel.answer()
    assert page.locator(".mv-cp-panels").is_hidden()
    assert page.get_by_text("Decision regions are drawn in two dimensions.").is_visible()
    assert page.locator(".mv-cp-table tbody tr").count() == 8


def test_the_view_in_light_and_dark(page, kernel, pictures):
    for owner in ("1", "2"):
        page.locator(f"[data-owner='{owner}']").click()
        kernel.answer()
    page.set_viewport_size({"width": 1040, "height": 1500})
    for theme, light in (("light", "true"), ("dark", "false")):
        page.evaluate(f"document.body.dataset.jpThemeLight = '{light}'")
        settle(page)
        settle(page)
        page.locator("#a").screenshot(path=pictures / f"capacity-page-{theme}.png")
    page.set_viewport_size({"width": 560, "height": 1500})
    settle(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_saved_page_shows_the_same_and_asks_nothing(open_page, kernel, tmp_path):
    kernel.controller.session.ablate("layer2:1,2")
    kernel.answer()
    kernel.controller.export(tmp_path / "saved.html")
    page = open_page()
    page.set_content((tmp_path / "saved.html").read_text())
    page.wait_for_selector(".mv-cp-owner")
    settle(page)
    assert "Owners 2 and 3 off" in sentence(page)
    assert page.locator(".mv-cp-owner").first.is_disabled()
    assert page.locator(".mv-cp-n").is_disabled()
    assert page.locator(".mv-cp-table tbody tr").count() == 8
    page.get_by_role("radio", name="show its points").click()
    page.locator("[data-owner='0']").click()
    settle(page)
    assert "Owner 1 owns 4 of 12 points" in sentence(page)


def test_a_lost_kernel_is_told_of_and_the_last_figures_stay(page):
    page.evaluate("model.lose()")
    settle(page)
    words = "! The kernel is gone: run this cell again."
    assert page.locator(".mv-error").inner_text() == words
    assert page.locator(".mv-cp").evaluate("node => node.inert")
    assert page.locator(".mv-cp-chart circle").count() == 12


def test_nothing_serious_is_found_by_axe(page):
    assert serious(page) == []
