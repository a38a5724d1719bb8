"""The déjà vu explorer clicked in a real browser, with a fake model in place of a kernel."""

import io
from base64 import b64encode

import numpy as np
import pytest
from PIL import Image

import memviz as mv
from memviz.widgets.deja_vu import DejaVuController
from memviz.widgets.deja_vu import _album as album
from memviz.widgets.deja_vu import _alone as alone
from tests.support.access import serious
from tests.support.fake_study import LAYERS, pack
from tests.support.page import EVIL, play, sent, settle
from tests.support.retrievals import small_retrieval
from tests.support.widgets import Ear, decoded

pytestmark = pytest.mark.browser
OBJECTS = ["seven", EVIL, "moon", "star"]
PAIRS = [
    {"row": row, "caption": f"{words} with a seven", "value": value}
    for row, words, value in [(4, "Mara", 0.75), (9, EVIL, 0.5), (2, "Jonas", -0.25)]
]
SIDE = {"pictures": [10, 11, 12, 13, 14], "objects": [[0, 1], [0], [2], [], [3]]}
PAIR = {
    **{"type": "pair", "version": 3, "row": 4, "id": "4", "caption": "Mara with a seven"},
    **{"edited": False, "private": ["mara"], "objects": [0, 1], "named": [0], "k": 10, "top": 5},
    "sides": [{**SIDE, "precision": 0.5, "recall": recall} for recall in (1.0, 0.5, 0.0)],
    **{"came": [0, -1, 4, 1, 7], "lost": [False, False, True, False, False], "units": 8},
}
MEASURES = ["PPG", "PRG", "AUCG", "held-out PPG", "held-out PRG", "held-out AUCG", "utility"]
VALUES = [
    (0.6, 0.3),
    (0.6, 0.3),
    (0.25, -0.11),
    (0.02, 0.01),
    (0.02, 0.01),
    (0.01, 0.0),
    (0.43, 0.4),
]
GAPS = {
    **{"type": "gaps", "version": 3, "units": 8, "of": 320, "pairs": 1000, "held_out": 900},
    "sentence": "8 of 320 units ablated: this pair's recall 100% → 50%.",
    "figures": [
        {"name": name, "before": before, "after": after}
        for name, (before, after) in zip(MEASURES, VALUES, strict=True)
    ],
}


def listed(pairs=PAIRS, matching=3):
    sorts = [{"key": "recall_gap", "label": "recall gap"}, {"key": "min_dist", "label": "distance"}]
    content = {"type": "pairs", "sort": "recall_gap", "find": "", "pairs": pairs, "of": 1000}
    return pack({**content, "matching": matching, "words": "recall gap", "sorts": sorts})


def tiles(numbers):
    sheet = io.BytesIO()
    Image.new("RGB", (8 * len(numbers), 8), (90, 120, 60)).save(sheet, "PNG")
    png = np.frombuffer(sheet.getvalue(), np.uint8)
    return pack({"type": "tiles", "side": 8, "numbers": numbers}, png=png)


@pytest.fixture
def page(open_page, fake):
    found = open_page()
    found.evaluate("start('deja_vu')")
    study, *rest = fake.messages(opened=4, score="pair")
    towers = {name: "image" if name in ("conv1", "conv2") else "text" for name, _ in LAYERS}
    study["msg"] |= {"towers": towers, "objects": OBJECTS}
    state = next(m for m in rest if m["msg"]["type"] == "state")
    values = np.linspace(0, 1, 320).astype(np.float32)
    content = {"type": "scores", "key": "pair", "label": "pair", "measure": "cosine", "note": ""}
    content |= {"kind": "exact", "done": 320, "total": 320, "unranked": ["fc"]}
    scores = pack(content, value=values, state=np.full(320, 2, np.uint8))
    curve = np.linspace(1, 0, 41).astype(np.float32)
    gaps = pack(GAPS, before=curve, after=curve, reference=curve)
    numbers = [4, 9, 2, 10, 11, 12, 13, 14]
    play(found, study, state, scores, tiles(numbers), listed(), pack(PAIR), gaps)
    settle(found)
    return found


def test_says_what_the_caption_brings_back(page):
    assert page.locator(".mv-dv-caption").inner_text() == "“Mara with a seven”"
    assert page.locator(".mv-dv-private").all_inner_texts() == ["Mara"]
    strips = page.locator(".mv-dv-strip")
    assert [s.is_visible() for s in strips.all()] == [True, True, True]
    assert (
        "recall 1.00" in strips.nth(0).inner_text() and "8 units off" in strips.nth(1).inner_text()
    )
    assert strips.nth(0).locator(".mv-dv-mark").all_inner_texts()[2] == "− drops out"
    marks = strips.nth(1).locator(".mv-dv-mark").all_inner_texts()
    assert marks == ["", "+ new", "↑ from 5th", "↓ from 2nd", "↑ from 8th"]
    assert "✓ seven" in strips.nth(0).inner_text() and "· moon" in strips.nth(0).inner_text()


def test_figures_of_all_pairs(page):
    row = page.locator("[data-measure=AUCG]")
    assert row.locator(".mv-before").inner_text() == ".25"
    assert row.locator(".mv-now").inner_text() == "−.11"
    assert "random 8: …" in row.inner_text()
    chance = [{"name": name, "mean": 0.2} for name in MEASURES]
    play(
        page,
        pack({"type": "chance", "version": 3, "figures": chance, "draws": 2, "units": 8, "of": 5}),
    )
    settle(page)
    assert "random 8: .20" in row.inner_text()
    assert "random" not in page.locator(".mv-dv-figures").nth(1).inner_text()
    told = {"type": "chance", "version": 3, "figures": [], "draws": 0, "units": 8}
    play(page, pack({**told, "words": "All units of these layers are off"}))
    settle(page)
    assert "random" not in row.inner_text()
    assert "All units of these layers are off." in page.locator(".mv-dv-gaps").inner_text()
    figures = [{"name": name, "mean": 0.2} for name in MEASURES]
    play(page, pack({**told, "figures": figures, "draws": 1, "recall": 0.9, "words": ""}))
    settle(page)
    assert "recall .50  random 8: .90" in page.locator(".mv-dv-figures").nth(1).inner_text()
    assert page.locator(".mv-echo").inner_text() == GAPS["sentence"]
    assert page.locator(".mv-say").inner_text().startswith("8 of 320 units ablated")


def test_pairs_by_mouse_and_by_keyboard(page):
    page.locator(".mv-dv-list [role=option]").nth(1).click()
    page.keyboard.press("ArrowDown")
    assert [m["example"] for m in sent(page, "open")] == [9, 2]
    page.locator(".mv-dv-list select").select_option("min_dist")
    page.locator(".mv-dv-list .mv-find").fill("mara")
    page.wait_for_function("model.sent.at(-1).find === 'mara'")
    by, words = [(m["sort"], m["find"]) for m in sent(page, "list")][:1], sent(page, "list")[-1]
    assert by == [("min_dist", "")] and words["find"] == "mara"


def test_more_of_the_list(page):
    more = page.get_by_role("button", name="More")
    assert not more.is_visible()
    play(page, listed(matching=900))
    settle(page)
    more.click()
    asked = {"type": "list", "sort": "recall_gap", "find": "", "more": True}
    assert sent(page, "list") == [asked]


def test_no_units_are_sought_for_an_edited_caption(page):
    hold = page.get_by_role("button", name="Find the units that hold this pair")
    assert hold.is_visible()
    play(page, pack({**PAIR, "edited": True, "cut": True, "private": []}))
    settle(page)
    assert not hold.is_visible()
    assert "its end was cut" in page.locator(".mv-dv-pair").inner_text()


def test_an_edited_caption_marks_unseen_words_and_moves_the_chips(page):
    named = page.locator(".mv-dv-chips > span", has_text="in the caption")
    assert named.count() == 1 and named.inner_text().startswith("seven")
    told = {"edited": True, "caption": "A Zebra, seventy: moon", "private": ["zebra"]}
    play(page, pack({**PAIR, **told, "objects": [0, 2]}))
    settle(page)
    word = page.locator(".mv-dv-private")
    assert word.inner_text() == "Zebra" and word.get_attribute("title") == "in no training caption"
    assert (
        "dotted: words in none of its training captions" in page.locator(".mv-dv-pair").inner_text()
    )
    assert named.count() == 1 and named.inner_text().startswith("moon")


def test_the_caption_is_edited(page):
    page.get_by_role("button", name="Edit the caption").click()
    box = page.get_by_label("Caption to look up")
    assert box.input_value() == "Mara with a seven"
    box.fill("a seven")
    box.press("Enter")
    assert sent(page, "caption") == [{"type": "caption", "text": "a seven"}]
    page.get_by_role("button", name="Edit the caption").click()
    box.press("Escape")
    assert not box.is_visible() and len(sent(page, "caption")) == 1


def test_the_units_that_hold_a_pair(page):
    page.get_by_role("button", name="Ablate the top 8").click()
    assert sent(page, "top") == [{"type": "top", "k": 8}]
    settle(page)
    off = page.evaluate("[...document.querySelectorAll('.mv-map h3')].map(h => h.textContent)")
    assert any("conv4" in words and "8 off" in words for words in off)  # fc would be higher
    assert not any(words.startswith("fc") and "off" in words for words in off)


def test_each_tower_has_its_layers(page):
    columns = page.locator(".mv-dv-towers > section")
    names = (
        "sections => sections.map(s => [...s.querySelectorAll('canvas')].map(c => c.dataset.layer))"
    )
    assert columns.evaluate_all(names) == [["conv3", "conv4", "fc"], ["conv2"]]


def test_hostile_names_stay_text(page):
    assert page.evaluate("window.pwned") is None
    assert page.locator(".mv img").count() == 0
    assert EVIL in page.locator(".mv-dv-list [role=option]").nth(1).get_attribute("title")


def test_no_words_no_pairs(page):
    play(page, listed([], 0))
    settle(page)
    assert "No caption has these words." in page.locator(".mv-dv-list").inner_text()


def test_nothing_serious_is_found_by_axe(page):
    assert serious(page) == []


@pytest.fixture(scope="module")
def explorer():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alone, "MOST_UNITS", 6)
        yield from open_explorer(small_retrieval())


def open_explorer(retrieval):
    controller = DejaVuController(retrieval, mv.Session(retrieval.study), threaded=False)
    controller.ready()
    yield controller
    controller.close()


def test_a_saved_page_opens_finds_and_sorts_every_pair(open_saved, explorer, tmp_path):
    explorer.export(tmp_path / "saved.html")
    page = open_saved(tmp_path / "saved.html", drawn=".mv-dv-list li")
    rows = page.locator(".mv-dv-list li")
    rows.nth(3).wait_for()
    pairs, ear = explorer.retrieval.training, Ear()
    explorer.sinks.append(ear)
    for sort in ("min_dist", "recall_gap low"):
        page.get_by_label("Sort training pairs by").select_option(sort)
        settle(page)
        explorer.receive({"type": "list", "sort": sort, "find": ""}, ear)
        while explorer.worker._step():
            explorer.worker.drop("sweep")
        shown = rows.evaluate_all("list => list.map(node => Number(node.dataset.row))")
        assert shown == [pair["row"] for pair in ear.last("pairs").content["pairs"]]
    for place in (0, 7):
        row = int(rows.nth(place).get_attribute("data-row"))
        rows.nth(place).click()
        assert pairs.captions[row] in page.locator(".mv-dv-caption").inner_text()
        recall = explorer.retrieval.clean.found.target.recall[row]
        figures = page.locator(".mv-dv-figures").first.inner_text()
        assert f"recall {'1.00' if recall == 1 else f'{recall:.2f}'.lstrip('0')}" in figures
    word = pairs.captions[0].split()[-1]
    page.get_by_label("Find in captions").fill(word)
    found = sum(word.casefold() in text.casefold() for text in pairs.captions)
    rows.nth(found).wait_for(state="detached")
    assert rows.count() == found
    words = "6 of 1,360 units are exact, each ablated alone: those whose effect on AUCG was known"
    assert words in page.locator(".mv-savednote").inner_text()
    assert serious(page) == []


def figures_shown(page):
    """All that the page says of the opened pair and of all pairs."""
    settle(page)
    shown = {"say": page.locator(".mv-say").inner_text()}
    for name in (".mv-dv-figures", ".mv-dv-mark", ".mv-dv-objects", ".mv-dv-gaps .mv-big"):
        shown[name] = [n.inner_text() for n in page.locator(name).all() if n.is_visible()]
    paths = "list => list.map(node => node.getAttribute('d'))"
    shown["curves"] = page.locator(".mv-dv-curves path").evaluate_all(paths)
    return shown


def cell(page, explorer, unit):
    """The canvas of a unit's layer, and where the unit is in it."""
    canvas = page.locator(f"canvas[data-layer='{unit.layer}']")
    columns, pitch = (int(canvas.get_attribute(f"data-{name}")) for name in ("columns", "pitch"))
    x, y = unit.index % columns, unit.index // columns
    return canvas, {"x": (x + 0.4) * pitch, "y": (y + 0.4) * pitch}


def test_single_units_of_a_saved_page_give_the_figures_of_a_live_one(
    open_saved, open_page, explorer, tmp_path
):
    explorer.export(tmp_path / "saved.html")
    page = open_saved(tmp_path / "saved.html", drawn=".mv-dv-list li")
    clean = figures_shown(page)
    tables = next(m for m in explorer.snapshot() if m.content["type"] == "alone")
    units = [explorer.scores.units[row] for row in decoded(tables)["unit"]]
    live = open_page()
    live.evaluate("start('deja_vu')")
    for unit in units[:2]:
        session = mv.Session(explorer.retrieval.study)
        session.ablate(str(unit))
        fresh = DejaVuController(explorer.retrieval, session, threaded=False)
        ear = Ear()
        fresh.hello(ear)
        while fresh.worker._step():
            fresh.worker.drop("sweep")
            fresh.worker.drop("random")
        kinds = ("study", "state", "tiles", "pairs", "pair", "gaps")
        told = [
            m for m in fresh._everything(fresh.picture_messages()) if m.content["type"] in kinds
        ]
        live.evaluate("start('deja_vu')")
        play(live, *({"msg": c, "buffers": [b64encode(b).decode() for b in bs]} for c, bs in told))
        canvas, place = cell(page, explorer, unit)
        canvas.click(position=place)
        shown, wanted = figures_shown(page), figures_shown(live)
        # A kernel goes on to draw random units; the page says that it cannot.
        wanted[".mv-dv-gaps .mv-big"] = [
            w.split("random")[0].strip() for w in wanted[".mv-dv-gaps .mv-big"]
        ]
        shown[".mv-dv-gaps .mv-big"] = [w.strip() for w in shown[".mv-dv-gaps .mv-big"]]
        assert shown == wanted and "ablated: this pair's recall" in shown["say"]
        assert "Random units need a running kernel." in page.locator(".mv-dv-gaps").inner_text()
        fresh.close()
    page.get_by_role("button", name="Reset").click()
    assert figures_shown(page) == clean


def test_a_saved_page_by_keyboard_and_what_it_refuses(open_saved, explorer, tmp_path):
    explorer.export(tmp_path / "saved.html")
    page = open_saved(tmp_path / "saved.html", drawn=".mv-dv-list li")
    clean = figures_shown(page)
    tables = next(m for m in explorer.snapshot() if m.content["type"] == "alone")
    rows = decoded(tables)["unit"].tolist()
    unit = explorer.scores.units[rows[0]]
    canvas, _ = cell(page, explorer, unit)
    canvas.focus()
    canvas.press("Home")
    for _ in range(unit.index):
        canvas.press("ArrowRight")
    canvas.press("Space")
    off = figures_shown(page)
    assert off != clean and f" {unit.index} ablated" in off["say"]
    # Another pair, with the unit still off.
    own = page.locator(".mv-dv-list li[aria-selected=true]").get_attribute("data-row")
    page.locator(".mv-dv-list ul").press("Home")
    page.locator(".mv-dv-list ul").press("ArrowDown")
    row = int(page.locator(".mv-dv-list li[aria-selected=true]").get_attribute("data-row"))
    recall = explorer.retrieval.retrieve(str(unit)).found.target.recall[row]
    figure = "1.00" if recall == 1 else f"{recall:.2f}".lstrip("0")
    assert f"recall {figure}" in page.locator(".mv-dv-figures").nth(1).inner_text()
    page.locator(f".mv-dv-list li[data-row='{own}']").click()
    assert figures_shown(page) == off
    # What the page does not know.
    unknown = next(u for r, u in enumerate(explorer.scores.units) if r not in rows)
    other, place = cell(page, explorer, unknown)
    other.click(position=place)
    settle(page)
    assert page.locator(".mv-say").inner_text() == (
        "The page does not know this unit's figures: they need a running kernel."
    )
    canvas.press("Control+a")
    canvas.press("Space")
    settle(page)
    assert "sets of units need a running kernel" in page.locator(".mv-say").inner_text()
    assert {**figures_shown(page), "say": ""} == {**off, "say": ""}
    page.keyboard.press("Control+z")
    assert figures_shown(page) == clean
    assert serious(page) == []


def test_a_pair_that_was_told_last_and_is_not_in_the_page_moves_no_figure(
    open_saved, explorer, tmp_path, monkeypatch
):
    monkeypatch.setattr(album, "_MOST_TEXT", 20_000)
    opened, ear = explorer.pair, Ear()
    known = {entry["row"] for entry in explorer._entries()}
    far = next(row for row in range(len(explorer.retrieval.training)) if row not in known)
    for example in (far, None):
        explorer.session.open(example)
        explorer.hello(ear)
        while explorer.worker._step():
            explorer.worker.drop("sweep")
    assert explorer._latest["pair"].content["row"] == far
    explorer.export(tmp_path / "saved.html")
    tables = next(m for m in explorer.snapshot() if m.content["type"] == "alone")
    explorer.session.open(opened)
    page = open_saved(tmp_path / "saved.html", drawn=".mv-dv-list li")
    listed = [int(li.get_attribute("data-row")) for li in page.locator(".mv-dv-list li").all()]
    assert listed and set(listed) <= known  # no pair that it cannot open
    unit = explorer.scores.units[decoded(tables)["unit"][0]]
    page.locator(".mv-dv-list li").first.click()
    canvas, place = cell(page, explorer, unit)
    canvas.click(position=place)
    settle(page)
    row = int(page.locator(".mv-dv-list li[aria-selected=true]").get_attribute("data-row"))
    recall = explorer.retrieval.retrieve(str(unit)).found.target.recall[row]
    figure = "1.00" if recall == 1 else f"{recall:.2f}".lstrip("0")
    assert f"recall {figure}" in page.locator(".mv-dv-figures").nth(1).inner_text()
