"""What somebody runs into in a first hour: nothing moves, cards close, files and sweeps are found again."""

import pytest

from tests.support.fake_study import pack
from tests.support.page import begin, focus_by_keys, play, sent, settle

pytestmark = pytest.mark.browser
CONV4 = "canvas.mv-units[data-layer=conv4]"
PLACES = """() => Object.fromEntries([...document.querySelectorAll(".mv-grid, canvas.mv-units, .mv-top")]
  .map((node, i) => [i, [node.getBoundingClientRect().x, node.getBoundingClientRect().y]]))"""


@pytest.fixture
def bench(open_page, fake):
    return begin(open_page(), fake)


def progress(done, total=320):
    return pack(
        {"type": "progress", "job": "sweep", "words": "exact for", "done": done, "total": total}
    )


def test_nothing_moves_while_a_sweep_comes_in(bench, fake):
    before = bench.evaluate(PLACES)
    play(bench, progress(60), fake.scores("effect", "exact"))
    settle(bench)
    assert bench.locator(".mv-busy").is_visible()
    assert bench.evaluate(PLACES) == before
    play(bench, progress(0, 0))
    settle(bench)
    assert not bench.locator(".mv-busy").is_visible()
    assert bench.evaluate(PLACES) == before


def test_no_empty_row_below_the_choices(bench):
    bar, maps = (bench.locator(name).bounding_box() for name in (".mv-controls", ".mv-grid"))
    assert bar["height"] < 60
    assert maps["y"] - bar["y"] - bar["height"] < 4


@pytest.mark.parametrize("away", ["Escape", "click"])
def test_a_pinned_card_closes_wherever_the_hand_is(bench, away):
    focus_by_keys(bench, CONV4)
    bench.keyboard.press("Enter")
    card = bench.locator(".mv-tip.mv-pinned")
    assert card.is_visible()
    if away == "Escape":
        play(bench, progress(60))
        bench.locator(".mv-undo").focus()
        bench.keyboard.press("Escape")
        assert sent(bench, "cancel") == []
    else:
        box = card.bounding_box()
        bench.mouse.click(box["x"] + 20, box["y"] + 8)
        assert card.is_visible()  # not for a click on itself
        bench.locator(".mv h2").click()
    assert card.is_hidden()


def test_the_card_of_a_unit_is_whole_in_the_unit_map(open_page, fake):
    page = begin(open_page(), fake, "units", layers=["conv4"])
    root = page.locator(".mv").bounding_box()
    canvas = page.locator(CONV4)
    box = canvas.bounding_box()
    pitch, columns = (int(canvas.get_attribute(f"data-{name}")) for name in ("pitch", "columns"))
    said = page.locator(".mv-live").bounding_box()
    for row in range(int(box["height"] // pitch) + 1):
        page.mouse.move(box["x"] + (columns - 1) * pitch + 5, box["y"] + row * pitch + 5)
        settle(page)
        card = page.locator(".mv-tip").bounding_box()
        assert card["y"] >= said["y"] + said["height"] - 1
        assert card["y"] + card["height"] <= root["y"] + root["height"] + 1


def test_a_saved_file_is_a_link_below_the_sentence(bench):
    sentence = bench.locator(".mv-say").inner_text()
    told = {
        "type": "exported",
        "file": "a.html",
        "text": "Saved as a.html.",
        "href": "files/b/a.html",
    }
    play(bench, pack(told))
    settle(bench)
    link = bench.get_by_text("Saved as a.html.")
    assert link.get_attribute("href") is None  # a host that serves no files
    bench.evaluate(
        """() => document.body.append(Object.assign(document.createElement("script"),
        {type: "application/json", id: "jupyter-config-data", textContent: '{"baseUrl": "/u/"}'}))"""
    )
    play(bench, pack(told))
    settle(bench)
    assert link.get_attribute("href") == "/u/files/b/a.html"
    assert bench.locator(".mv-say").inner_text() == sentence


def test_a_cancelled_sweep_offers_to_go_on(bench, fake):
    play(bench, progress(60))
    settle(bench)
    bench.get_by_role("button", name="cancel").click()
    assert sent(bench)[-1] == {"type": "cancel"}
    left = fake.scores("effect", "exact")
    left["msg"] |= {"cancelled": True, "done": 60, "total": 320}
    play(bench, progress(0, 0), left)
    settle(bench)
    assert bench.locator(".mv-busy").inner_text().startswith("stopped at 60 of 320")
    bench.get_by_role("button", name="go on").click()
    assert sent(bench)[-1] == {"type": "score", "key": "effect"}
