"""Timeline, inspector and the choice of the model's variant, clicked in a real browser."""

import pytest

from tests.support.access import serious
from tests.support.page import begin, play, sent, settle

pytestmark = pytest.mark.browser
EVIL = '<img src=x onerror="window.pwned=1">'
CURVES = [
    {"name": "memorized", "given": [0.1, 0.3, 1.0], "true": [0.1, 0.6, 0.0]},
    {"name": "clean", "given": [0.1, 0.9, 1.0], "true": None},
]
TIMELINE = {
    **{"type": "timeline", "epochs": [0, 20, 60], "groups": CURVES, "fine": []},
    "layers": [{"name": "conv1", "label": "first"}, {"name": EVIL, "label": EVIL}],
    "accuracy": {"memorized": 1.0, "clean": 1.0},
}
INSPECTED = {
    **{"type": "inspected", "index": 7},
    "scores": [
        {"name": EVIL, "measure": "nats", "value": 0.5, "rank": 3, "of": 1200, "null": [0.1, 0.2]},
        {"name": "AUM", "measure": "logits", "value": None, "rank": None, "of": 9, "null": None},
    ],
    "units": [
        {"unit": "conv4:7", "lost": 2.0, "exact": True},
        {"unit": "fc:3", "lost": 1.0, "exact": False},
    ],
    "curve": {"epochs": [0, 20, 60], "margin": [-1.0, 0.5, 4.0]},
    "random": [-0.2, 0.1, 0.9],
    "neighbours": [{"index": 11, "cosine": 0.99812}, {"index": 12, "cosine": 0.99783}],
}


def message(content):
    return {"msg": {**content, "arrays": []}, "buffers": []}


@pytest.fixture
def timeline(open_page, fake):
    page = begin(open_page(), fake, "timeline", variant="")
    play(page, message(TIMELINE))
    settle(page)
    return page


def test_dragging_the_cursor_looks_at_a_checkpoint(timeline):
    chart = timeline.locator("svg.mv-time")
    assert chart.get_attribute("aria-valuetext") == "Current model: memorized 1.00, clean 1.00."
    box = chart.bounding_box()
    timeline.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + 40)
    timeline.mouse.down()
    timeline.mouse.move(box["x"] + box["width"] * 0.36, box["y"] + 40, steps=4)
    timeline.mouse.up()
    timeline.wait_for_function("model.sent.at(-1).key === 'epoch 20'")
    assert sent(timeline, "variant")[-1] == {"type": "variant", "key": "epoch 20"}
    words = "After epoch 20: memorized .30 (true label .60), clean .90."
    assert timeline.locator(".mv-when").inner_text() == words


def test_the_timeline_by_keyboard(timeline):
    timeline.locator("svg.mv-time").focus()
    timeline.keyboard.press("Home")
    timeline.wait_for_function("model.sent.at(-1).key === 'epoch 0'")
    timeline.keyboard.press("ArrowRight")
    timeline.wait_for_function("model.sent.at(-1).key === 'epoch 20'")
    timeline.keyboard.press("End")
    timeline.wait_for_function("model.sent.at(-1).key === ''")


# In one task, since a choice outlives an older state for a moment only.
CROSSED = """([older, later]) => {
  const chart = document.querySelector("svg.mv-time");
  const press = (key) => chart.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
  press("Home");
  const now = performance.now() + later;
  performance.now = () => now;
  model.play([older]);
  press("ArrowRight");
  delete performance.now;
}"""


@pytest.mark.parametrize("later", [0, 1500])  # ms that a slow kernel takes to answer
def test_a_state_that_crosses_a_key_does_not_undo_it(timeline, fake, later):
    older = next(played for played in fake.messages() if played["msg"]["type"] == "state")
    crossing = {**older, "msg": {**older["msg"], "variant": "", "version": 2}}
    timeline.evaluate(CROSSED, [crossing, later])
    timeline.wait_for_function("model.sent.at(-1).key === 'epoch 20'")


def test_a_choice_that_the_kernel_refuses_is_taken_back(timeline, fake):
    timeline.locator("svg.mv-time").focus()
    timeline.keyboard.press("Home")
    play(
        timeline,
        *(
            played
            for played in fake.messages(variant="", version=2)
            if played["msg"]["type"] == "state"
        ),
    )
    timeline.wait_for_function(
        "document.querySelector('.mv-when').textContent.startsWith('Current model')"
    )


def test_a_layer_is_rewound_and_put_back(timeline):
    slider = timeline.locator(".mv-rewinds input").first
    slider.fill("1")
    timeline.wait_for_function("model.sent.at(-1).type === 'rewind'")
    asked = {"type": "rewind", "epochs": {"conv1": 20}}
    assert sent(timeline, "rewind")[-1] == asked
    assert slider.get_attribute("aria-valuetext") == "epoch 20"
    told = {"type": "rewound", "epochs": {"conv1": 20}}
    play(timeline, message({**told, "accuracy": {"memorized": 0.25, "clean": 0.9}}))
    settle(timeline)
    answer = timeline.locator(".mv-rewound")
    assert answer.inner_text() == "memorized 1.00 → .25, clean 1.00 → .90"
    timeline.locator(".mv-forward").click()
    timeline.wait_for_function(
        "(m => m.type === 'rewind' && !Object.keys(m.epochs).length)(model.sent.at(-1))"
    )
    assert timeline.evaluate("window.pwned") is None


def test_the_inspector_shows_and_ablates(open_page, fake):
    page = begin(open_page(), fake, "inspector", opened=7)
    waiting = page.locator(".mv-inspector .mv-empty")
    assert waiting.inner_text() == "Reading what is known of example 7 …"
    play(page, message({**INSPECTED, "index": 8}), message(INSPECTED))
    settle(page)
    rows = [row.inner_text().split("\t") for row in page.locator(".mv-scores tbody tr").all()]
    assert rows == [[EVIL, ".50", "3 of 1,200", ".10 to .20"], ["AUM", "–", "–", "–"]]
    units = page.locator(".mv-critical li")
    assert [u.locator("span").inner_text() for u in units.all()] == ["conv4:7", "fc:3"]
    assert "estimate" in units.nth(1).inner_text()
    null = "a random unit: .10, 95 % of all units −.20 to .90"
    assert null in page.locator(".mv-inspected").inner_text()
    near = page.locator(".mv-neighbour small").all_inner_texts()
    assert near == [".9981", ".9978"]
    page.locator(".mv-takeline .mv-btn", has_text="Undo").click()
    assert sent(page)[-1] == {"type": "undo"}
    page.locator(".mv-takeline input").fill("1")
    page.locator(".mv-takeout").click()
    assert sent(page, "set") == [{"type": "set", "units": "conv4:7"}]
    page.locator(".mv-neighbour").nth(1).click()
    assert sent(page, "open")[-1] == {"type": "open", "example": 12}
    label = page.locator(".mv-curve svg").get_attribute("aria-label")
    assert label == "margin from −1.00 at epoch 0 to 4.00 at epoch 60"
    assert page.evaluate("window.pwned") is None


def test_the_workbench_chooses_a_variant(open_page, fake):
    page = begin(open_page(), fake)
    assert page.locator("select.mv-variant").is_hidden()
    study = fake.study()
    study["msg"]["variants"] = [{"key": "", "label": "own masks"}, {"key": "dropped", "label": "d"}]
    play(page, study, fake.state(variant=""))
    settle(page)
    page.locator("select.mv-variant").select_option("dropped")
    assert sent(page, "variant") == [{"type": "variant", "key": "dropped"}]
    play(page, fake.state(version=2, variant="dropped"))
    settle(page)
    assert page.locator("select.mv-variant").input_value() == "dropped"


def test_nothing_serious_is_found_by_axe(timeline, open_page, fake):
    assert serious(timeline) == []
    page = begin(open_page(), fake, "inspector", opened=7)
    play(page, message(INSPECTED))
    settle(page)
    assert serious(page) == []
