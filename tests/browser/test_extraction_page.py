"""The extraction explorer clicked in a real browser, with the messages of a real controller."""

from __future__ import annotations

import numpy as np
import pytest

import memviz as mv
from memviz.probes.extraction import predicted_by_prompt
from memviz.widgets.extraction import ExtractionController
from memviz.widgets.extraction._passages import Passages
from tests.support.access import serious
from tests.support.page import EVIL, play, sent, settle
from tests.support.recited import (
    CONTINUATION,
    COPIES,
    PROMPT,
    WORDS,
    passages,
    recited_ladder,
    recited_study,
)
from tests.support.talk import Talk, played

pytestmark = pytest.mark.browser
UNITS = "blocks.0.up:0-14 blocks.1.attention:1"


class Kernel(Talk):
    """A page with the extraction explorer; each answer takes so many steps, the sweep none."""

    steps = 60

    def work(self) -> None:
        for _ in range(self.steps):
            self.controller.worker._step()
            self.controller.worker.drop("sweep")


@pytest.fixture(scope="module")
def study():
    return recited_study(summary="GPT, 2 blocks · 12 passages")


@pytest.fixture
def kernel(open_page, study):
    controller = ExtractionController(
        mv.Session(study), Passages(study, copies=COPIES), recited_ladder(), threaded=False
    )
    yield Kernel(open_page(), controller, "extraction")
    controller.close()


@pytest.fixture
def page(kernel):
    return kernel.page


def ablate(kernel, units: str = UNITS) -> None:
    kernel.controller.session.ablate(units)
    kernel.answer()


def test_shows_a_passage_token_by_token(page):
    tokens = page.locator(".mv-ex-t")
    assert tokens.count() == 8
    assert (
        tokens.nth(2).locator("b").inner_text() == EVIL == tokens.nth(2).locator("u").inner_text()
    )
    assert page.locator(".mv-ex-no").count() == 0
    assert page.locator(".mv-ex-title").inner_text().startswith("Passage 0 ×16 copies · 6 + 8")
    assert [s.is_visible() for s in page.locator(".mv-ex-strip").all()] == [True, False, False]
    first = page.locator(".mv-ex-list [role=option]").first
    assert "×16" in first.inner_text() and "✓ whole" in first.inner_text()
    assert "12 of 12" in page.locator("[data-row=recited]").inner_text()


def test_an_ablation_marks_the_first_wrong_token_and_moves_the_figures(page, kernel):
    ablate(kernel)
    at = kernel.controller.after.recital.matched
    first = page.locator(".mv-ex-first")
    assert first.count() == 1
    assert first.get_attribute("aria-label").startswith(f"token {at + 1}, true")
    assert first.get_attribute("aria-label").endswith("wrong, first")
    assert f"first wrong at {at + 1}" in page.locator("[data-strip=off]").inner_text()
    assert "of 20 draws" in page.locator("[data-strip=random]").inner_text()
    assert page.locator("[data-row=recited] .mv-before").inner_text() == "1.00"
    assert page.locator("[data-row=recited] .mv-now").inner_text() != "1.00"
    assert "random 16: ." in page.locator("[data-row=recited]").inner_text()
    assert "random 16: " in page.locator("[data-row=perplexity]").inner_text()
    assert f"this passage now breaks at token {at + 1} of 8" in page.locator(".mv-say").inner_text()
    assert f"✕ at {at + 1}" in page.locator(".mv-ex-list [role=option]").first.inner_text()
    page.get_by_role("button", name="Undo").click()
    kernel.answer()
    assert page.locator(".mv-ex-no").count() == 0


def test_a_click_on_a_head_ablates_it(page, kernel):
    page.locator(".mv-ex-heads canvas.mv-units").nth(1).click(position={"x": 40, "y": 13})
    kernel.answer()
    assert str(kernel.controller.session.units) == "blocks.1.attention:1"
    assert "1 off" in page.locator(".mv-ex-heads .mv-map h3").nth(1).inner_text()
    page.locator(".mv-ex-neurons canvas.mv-units").first.click(position={"x": 17, "y": 5})
    kernel.answer()
    assert set(kernel.controller.session.units) == set(
        mv.UnitSet.parse("blocks.0.up:1 blocks.1.attention:1")
    )


def test_a_token_tells_its_chances_to_pointer_and_keyboard(page, kernel):
    ablate(kernel)
    card = page.locator(".mv-ex-card")
    assert "Point at a token" in card.inner_text()
    page.locator(".mv-ex-t").nth(1).hover()
    assert "Token 2 of 8" in card.inner_text().replace("\n", " ")
    rows = card.locator("tbody tr")
    assert "true" in rows.first.inner_text() and rows.count() == 3
    assert card.locator("thead th").all_inner_texts()[-3:] == ["before", "16 off", "random 16"]
    page.locator(".mv-ex-toks").focus()
    page.keyboard.press("e")
    at = kernel.controller.after.recital.matched
    assert f"Token {at + 1}" in card.inner_text()
    assert f"Rank of the true token 1 → {kernel.controller.after.recital.ranks[at]}" in (
        card.inner_text()
    )
    page.keyboard.press("End")
    assert "Token 8" in card.inner_text()
    assert "reads its own words" in card.inner_text()
    page.keyboard.press("ArrowLeft")
    active = page.locator(".mv-ex-toks").get_attribute("aria-activedescendant")
    assert active.endswith("-t6") and page.locator(f"#{active}").count() == 1
    assert page.evaluate("window.escaped") == []


def test_passages_by_mouse_keyboard_sorting_and_words(page, kernel):
    page.locator(".mv-ex-list [role=option]").nth(1).click()
    kernel.answer()
    assert page.locator(".mv-ex-title").inner_text().startswith("Passage 1 ")
    page.keyboard.press("ArrowDown")
    kernel.answer()
    assert kernel.controller.session.opened == 2
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.className") == "mv-ex-toks"
    page.keyboard.press("/")
    page.keyboard.type("onerror")
    page.wait_for_function("model.sent.at(-1).find === 'onerror'")
    kernel.answer()
    assert page.locator(".mv-ex-list [role=option]").count() == 1
    page.locator(".mv-ex-list .mv-find").fill("nowhere")
    page.wait_for_function("model.sent.at(-1).find === 'nowhere'")
    kernel.answer()
    assert "No passage has these words." in page.locator(".mv-ex-list").inner_text()


def test_the_length_of_the_prompt_is_dragged_and_moved_by_keys(page, kernel):
    slider = page.locator(".mv-ex-slider")
    assert slider.get_attribute("aria-valuetext") == "6 of 6 tokens, 8 of 8 recited before"
    assert "recited whole from 6 on" in page.locator(".mv-ex-len").inner_text()
    box = slider.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 522 / 532, box["y"] + box["height"] * 0.8)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 34 / 532, box["y"] + box["height"] * 0.8, steps=3)
    # The line and the prompt's text follow at once; nothing is asked before the hand rests.
    assert slider.get_attribute("aria-valuenow") == "1"
    assert page.locator(".mv-ex-left").inner_text().split() == ["from", "in", "to", "was", "you"]
    # So do the tokens up to the first wrong one, from the cached passes; later ones wait.
    predicted = predicted_by_prompt(
        kernel.controller.session.study.model, passages()[0].tolist(), PROMPT, CONTINUATION, [1]
    )[0]
    matched = int((predicted == passages()[0, PROMPT:]).long().cumprod(0).sum())
    marks = page.locator(".mv-ex-t s").all_inner_texts()
    assert marks == ["✓"] * matched + ["✕"] + [""] * (CONTINUATION - matched - 1)
    assert page.locator(".mv-ex-first u").inner_text() == WORDS[int(predicted[matched])]
    assert sent(page, "prompt_length") == []
    page.mouse.up()
    assert sent(page, "prompt_length")[-1] == {"type": "prompt_length", "length": 1}
    kernel.answer()
    assert kernel.controller.asked.prompt == tuple(kernel.controller.passages.prompt(0)[-1:])
    assert page.locator(".mv-ex-no").count() > 0
    slider.focus()
    page.keyboard.press("End")
    page.wait_for_function("model.sent.at(-1).length === 6")
    kernel.answer()
    assert page.locator(".mv-ex-no").count() == 0
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("model.sent.at(-1).length === 5")


def test_with_units_off_the_tokens_of_a_dragged_length_are_those_without_them(page, kernel):
    ablate(kernel)
    slider = page.locator(".mv-ex-slider")
    slider.focus()
    page.keyboard.press("ArrowLeft")
    told = kernel.controller._latest["prompt_curve"]
    after = int(
        np.frombuffer(
            told.buffers[[a["name"] for a in told.content["arrays"]].index("after")], np.float32
        )[4]
    )
    assert page.locator(".mv-ex-t s").all_inner_texts().index("✕") == after
    assert page.locator(".mv-ex-first u").inner_text() == told.content["wrongAfter"][4].strip()
    page.wait_for_function("model.sent.at(-1).length === 5")
    kernel.answer()
    assert page.locator(".mv-ex-t s").all_inner_texts().index("✕") == after
    assert page.locator(".mv-ex-wait").count() == 0


def test_the_units_that_hold_a_passage_are_found_and_ablated(page, kernel):
    hold = page.get_by_role("button", name="Find the units that hold this passage")
    top = page.get_by_role("button", name="Ablate the top 8")
    assert hold.get_attribute("aria-pressed") == "false" and not top.is_visible()
    hold.click()
    assert sent(page, "score")[-1] == {"type": "score", "key": "opened passage"}
    kernel.steps = 600
    kernel.answer()
    assert hold.get_attribute("aria-pressed") == "true"
    ranked, units = kernel.controller.held.ranking(), kernel.controller.scores.units
    assert len(ranked) == 192  # the neurons
    best = {str(units[row]) for row in ranked[:8]}
    top.click()
    kernel.answer()
    assert {str(unit) for unit in kernel.controller.session.units} == best
    assert "8 of 198 units ablated: this passage" in page.locator(".mv-say").inner_text()


def test_copied_code_opens_the_view_that_was_open(page, kernel):
    ablate(kernel)
    slider = page.locator(".mv-ex-slider")
    slider.focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("model.sent.at(-1).length === 5")
    kernel.answer()
    page.get_by_role("button", name="Copy code").click()
    kernel.answer()
    code = page.locator(".mv-codebox pre").inner_text()
    assert "copies = [16] * 6 + [4] * 3 + [1] * 3 + [0] * 6" in code
    assert "ladder = {'new': ..., 'moons': {'40': ..., '80': ..., '150': ...}}" in code
    assert "view = mv.extraction(session, copies=copies, ladder=ladder)" in code
    assert "view.controller.ask(5)" in code


def test_the_prompt_is_edited(page, kernel):
    page.get_by_role("button", name="Edit").click()
    box = page.get_by_label("Prompt", exact=True)
    assert box.input_value() == " from in to was you or"
    box.fill("moon")
    page.keyboard.press("Escape")
    assert not box.is_visible() and sent(page, "prompt_text") == []
    page.get_by_role("button", name="Edit").click()
    box.fill("moon <img src=x onerror='window.pwned=1'>")
    page.keyboard.press("Control+z")
    page.keyboard.press("/")
    assert sent(page, "undo") == []
    box.fill("moon sun")
    page.keyboard.press("Enter")
    kernel.answer()
    assert page.locator(".mv-ex-prompt").inner_text().endswith("moon sun")
    assert "does not apply to an edited prompt" in page.locator(".mv-ex-tries").inner_text()
    assert "edited prompt" in page.locator(".mv-ex-title").inner_text()
    page.get_by_role("button", name="Original prompt").click()
    kernel.answer()
    assert page.locator(".mv-ex-no").count() == 0


def test_sampling_shows_other_words_and_the_samples_it_takes(page, kernel):
    assert not page.locator(".mv-ex-how").is_visible()
    page.get_by_role("radio", name="sample").click()
    kernel.answer()
    page.get_by_label("temperature").fill("4")
    page.get_by_label("sample from this many tokens").fill("9")
    page.keyboard.press("Tab")
    kernel.answer()
    asked = sent(page, "decode")[-1]
    assert asked == {"type": "decode", "key": "sample", "temperature": 4, "topK": 9}
    assert "sampled at temperature 4, top 9" in page.locator(".mv-ex-tries").inner_text()
    first = page.locator(".mv-ex-toks").inner_text()
    page.get_by_role("button", name="Again").click()
    kernel.answer()
    assert page.locator(".mv-ex-toks").inner_text() != first
    assert "sampled" in page.locator(".mv-ex-break h3").inner_text()


def test_news_before_the_study_is_shown_with_it(kernel, open_page):
    """A view that is shown again, as in a notebook that scrolls, hears what all are told."""
    news = [told for told in kernel.controller._latest.values() if told.content["type"] != "study"]
    page = open_page()
    page.evaluate("start('extraction')")
    play(page, *played(news))
    settle(page)
    assert page.locator(".mv-ex-ladder tbody tr").count() == 0
    play(page, *played(kernel.ear.heard))
    settle(page)
    rows = [each.locator(".mv-ex-ladder tbody tr").count() for each in (kernel.page, page)]
    assert rows[0] == rows[1] > 0


def test_the_ladder_stands_in_rows(page):
    rows = page.locator(".mv-ex-ladder tbody tr")
    assert rows.count() == 2
    words = [" ".join(text.split()) for text in rows.all_inner_texts()]
    assert words[0].startswith("new 16 k weights") and words[0].endswith(".00 – .00")
    assert "✓ 8" in words[1] and words[1].endswith("1.00 1.00 1.00")
    assert "would give precision 1.00" in page.locator(".mv-ex-ladder .mv-note").inner_text()


def test_hostile_words_stay_text(page, kernel):
    ablate(kernel)
    page.locator(".mv-ex-t").nth(2).hover()
    assert page.evaluate("window.pwned") is None
    assert page.locator(".mv img").count() == 0


def test_a_saved_page_still_reads(open_page, kernel, pictures):
    ablate(kernel)
    told = played(kernel.controller.snapshot())
    page = open_page()
    page.evaluate("list => mount(document.getElementById('a'), 'extraction', list)", told)
    settle(page)
    assert page.locator(".mv-ex-first").count() == 1
    page.locator(".mv-ex-t").nth(1).hover()
    assert "Token 2" in page.locator(".mv-ex-card").inner_text()
    assert "need a running kernel" in page.locator(".mv-savednote").inner_text()
    for theme in ("light", "dark"):
        page.evaluate(
            "light => document.body.dataset.jpThemeLight = light", str(theme == "light").lower()
        )
        settle(page)
        page.locator(".mv").screenshot(path=pictures / f"extraction-{theme}.png")


@pytest.mark.parametrize("width", [420, 820])
def test_nothing_spills_out_of_a_narrow_cell(page, kernel, width):
    ablate(kernel)
    page.set_viewport_size({"width": width, "height": 1200})
    settle(page)
    wide = "node => node.scrollWidth - node.clientWidth"
    assert page.locator("section.mv").evaluate(wide) <= 1


def test_nothing_serious_is_found_by_axe(page):
    assert serious(page) == []
