"""The scatter of two unit scores, clicked in a real browser: brush, keys, ablate, open, picture."""

import numpy as np
import pytest

from tests.support.access import serious
from tests.support.fake_study import pack
from tests.support.page import focus_by_keys, play, sent, settle

pytestmark = pytest.mark.browser
EVIL = '<img src=x onerror="window.pwned=1">'
ROWS = np.arange(320)
KINDS = {"effect": "exact", "estimate": "estimate"}


def scores(key, value, label="", kind="other", state=None, **more):
    known = np.isfinite(value)
    state = known * 2 if state is None else state
    told = {"type": "scores", "key": key, "label": label or key, "measure": "share", "note": ""}
    told |= {"kind": kind, "done": int((state == 2).sum()), "total": len(value), **more}
    return pack(told, value=value.astype(np.float32), state=state.astype(np.uint8))


def scatter(x="UnitMem", y="entropy", unit=""):
    return pack({"type": "scatter", "x": x, "y": y, "unit": unit})


def firing(unit, examples, words=""):
    values = np.linspace(3, 1, len(examples)).astype(np.float32)
    told = {"type": "firing", "unit": unit, "words": words}
    return pack(told, examples=np.array(examples, np.uint32), values=values)


def grid():
    """Units on a grid of 20 columns: x of unit 0 is the lowest, and so is its y."""
    x, y = (ROWS % 20).astype(float), (ROWS // 20).astype(float) - 4
    x[[100, 101]] = np.nan  # dead units of conv3
    return scores("UnitMem", x), scores("entropy", y)


def study_of(fake, **over):
    study = fake.study(**over)
    study["msg"]["scores"] = [
        {"key": key, "label": key, "kind": KINDS.get(key, "other"), "measure": ""}
        for key in ("effect", "estimate", "UnitMem", "entropy")
    ]
    return study


@pytest.fixture
def plot(open_page, fake):
    page = open_page()
    page.evaluate("start('scatter')")
    layers = [name for name, _ in fake.layers]
    messages = [study_of(fake), *fake.sprites(), fake.state(layers=layers, units="")]
    play(page, *messages, *grid(), fake.readout(), scatter())
    settle(page)
    return page


def place(page, row):
    """Where a unit's dot lies on the screen, found by its column and line of the grid."""
    box = page.locator(".mv-dots").bounding_box()
    left, right, top, bottom = 46, box["width"] - 10, 8, box["height"] - 24
    share = lambda v, n: (v + 0.04 * (n - 1)) / ((n - 1) * 1.08)  # noqa: E731
    x = left + (right - left) * share(row % 20, 20)
    y = bottom - (bottom - top) * share(row // 20, 16)
    return box["x"] + x, box["y"] + y


def drag(page, first, last):
    (x0, y0), (x1, y1) = place(page, first), place(page, last)
    page.mouse.move(x0 - 5, y0 + 5)
    page.mouse.down()
    page.mouse.move((x0 + x1) / 2, (y0 + y1) / 2, steps=3)
    page.mouse.move(x1 + 5, y1 - 5, steps=3)
    assert page.locator(".mv-band").is_visible()
    page.mouse.up()
    settle(page)


def pixel(page, row):
    """The colour in the middle of a unit's dot."""
    x, y = place(page, row)
    return page.evaluate(
        """([x, y]) => {
          const canvas = document.querySelector(".mv-dots"), box = canvas.getBoundingClientRect();
          const at = (v) => Math.round(v * devicePixelRatio);
          const data = canvas.getContext("2d").getImageData(at(x - box.left), at(y - box.top), 1, 1);
          return [...data.data];
        }""",
        [x, y],
    )


def brushed(page):
    return page.locator(".mv-brushed").inner_text()


def test_draws_and_says_what_is_not_drawn(plot):
    assert plot.locator("select[data-axis=x]").input_value() == "UnitMem"
    assert "UnitMem (share) →" in plot.locator(".mv-xname").inner_text()
    assert plot.locator(".mv-lack").inner_text().startswith("2 units have no value for one of")
    label = "318 units, UnitMem across, entropy up"
    assert plot.locator(".mv-dots").get_attribute("aria-label") == label
    assert pixel(plot, 0)[3] > 150 and pixel(plot, 100)[3] == 0
    ticks = plot.locator(".mv-axes text").all_text_contents()
    assert "0" in ticks and "−5" not in ticks and "10" in ticks


def test_a_rectangle_brushes_and_ablates_what_is_on(plot, fake):
    drag(plot, 0, 22)
    assert brushed(plot) == "6 units: 6 of conv1."  # rows 0-2 and 20-22
    plot.locator(".mv-ablatebrushed").click()
    assert sent(plot, "toggle")[-1] == {"type": "toggle", "units": "conv1:0-2,20-22"}
    play(plot, fake.state(version=2, units="conv1:0-2,20-22", layers=["conv1", "conv2"]))
    settle(plot)
    assert brushed(plot) == "6 units: 6 of conv1; 6 off."
    assert plot.locator(".mv-ablatebrushed").is_disabled()
    plot.locator(".mv-togglebrushed").click()
    assert sent(plot, "toggle")[-1]["units"] == "conv1:0-2,20-22"
    plot.locator(".mv-undo").click()
    assert sent(plot)[-1] == {"type": "undo"}
    # Shift adds another rectangle; a click beside the dots brushes nothing.
    plot.keyboard.down("Shift")
    drag(plot, 40, 41)
    plot.keyboard.up("Shift")
    assert brushed(plot).startswith("8 units: 6 of conv1, 2 of conv2")
    x, y = place(plot, 0)
    plot.mouse.click(x + 9, y - 9)
    assert "Drag over the dots" in brushed(plot)


def test_random_units_are_told_beside_what_is_off(plot, fake):
    control = plot.locator(".mv-control")
    assert not control.is_visible()
    play(plot, fake.state(version=2, units="conv4:0-7"), fake.readout(2))
    settle(plot)
    assert control.inner_text() == "Random units of the same layers: drawing …"
    play(plot, fake.random(2))
    settle(plot)
    assert control.inner_text() == (
        "For comparison, 8 random units of the same layers off instead (mean of 200 draws): "
        "memorized .99, clean 1.00, test .93."
    )
    play(plot, fake.state(version=3, units=""), fake.readout(3))
    settle(plot)
    assert not control.is_visible()


def test_an_ablated_unit_is_a_cross(plot, fake):
    x, y = place(plot, 5)
    between = f"""() => {{
      const canvas = document.querySelector(".mv-dots"), box = canvas.getBoundingClientRect();
      const at = (dx) => [...canvas.getContext("2d").getImageData(
        Math.round(({x} - box.left + dx) * devicePixelRatio),
        Math.round(({y} - box.top) * devicePixelRatio), 1, 1).data];
      return [at(0), at(3)];
    }}"""
    dot = plot.evaluate(between)
    play(plot, fake.state(version=2, units="conv1:5", layers=["conv1", "conv2"]))
    settle(plot)
    cross = plot.evaluate(between)
    assert dot[0][:3] == dot[1][:3]  # one colour all over
    assert max(cross[0][:3]) < 60  # ink where the arms meet
    assert cross[1] != dot[1]


def test_by_keyboard_alone(plot):
    focus_by_keys(plot, ".mv-dots")
    option = plot.locator(".mv-dots [role=option]")
    assert option.text_content().startswith("conv1 unit 0, on, UnitMem .00, entropy −4.00")
    assert plot.locator(".mv-round:visible").count() == 1
    plot.keyboard.press("ArrowRight")  # the next in x is the next line of the same column
    assert option.text_content().startswith("conv1 unit 20")
    plot.keyboard.press("ArrowUp")
    assert option.text_content().startswith("conv1 unit 21")
    plot.keyboard.press("Space")
    assert option.get_attribute("aria-selected") == "true" and brushed(plot).startswith("1 unit:")
    for _ in range(2):
        plot.keyboard.press("Shift+ArrowUp")
    assert brushed(plot) == "3 units: 3 of conv1."
    plot.keyboard.press("Space")
    assert brushed(plot) == "2 units: 2 of conv1."
    plot.keyboard.press("Enter")
    assert sent(plot, "unit") == [{"type": "unit", "unit": "conv1:23"}]
    plot.keyboard.press("Control+z")
    assert sent(plot)[-1] == {"type": "undo"}
    plot.keyboard.press("Escape")
    assert "Drag over" in brushed(plot)
    plot.keyboard.press("Control+a")
    assert brushed(plot).startswith("318 units")
    plot.keyboard.press("PageDown")  # the next layer alone
    assert plot.locator(".mv-onelayer").input_value() == "conv1"
    plot.keyboard.press("Control+a")
    assert brushed(plot) == "32 units: 32 of conv1."
    assert plot.evaluate("escaped") == []  # no key reached the notebook


def test_one_layer_is_chosen_and_dots_stay_where_they_are(plot):
    before = pixel(plot, 0)
    plot.locator(".mv-onelayer").select_option("fc")
    settle(plot)
    assert pixel(plot, 0) != before and pixel(plot, 0)[3] > 0  # faint, at the same place
    drag(plot, 0, 319)
    assert brushed(plot) == "128 units: 128 of fc."


def test_hovering_says_it_in_words(plot):
    plot.mouse.move(*place(plot, 64))
    settle(plot)
    card = plot.locator(".mv-scatter .mv-tip")
    assert card.locator("h3").inner_text() == "conv3 unit 0"
    assert "UnitMem 4.00" in card.inner_text() and "entropy −1.00" in card.inner_text()
    plot.mouse.move(0, 0)
    assert card.is_hidden()


def test_an_opened_unit_shows_its_pictures_and_a_picture_opens(plot):
    assert plot.locator(".mv-firing .mv-empty").is_visible()
    plot.mouse.click(*place(plot, 64))
    x, y = place(plot, 64)
    plot.mouse.move(x + 1, y)
    settle(plot)
    assert plot.locator(".mv-scatter .mv-tip").is_hidden()  # it makes way for the pictures
    assert sent(plot, "unit") == [{"type": "unit", "unit": "conv3:0"}]
    title = plot.locator(".mv-firing h3")
    settle(plot)
    assert title.inner_text().startswith("conv3 unit 0 fires most on")
    assert plot.locator(".mv-firing [role=status]").inner_text() == "Reading activations …"
    play(plot, scatter(unit="conv3:0"), firing("conv3:0", [11, 7, 300]))
    settle(plot)
    tiles = plot.locator(".mv-fire")
    assert [t.get_attribute("data-example") for t in tiles.all()] == ["11", "7", "300"]
    assert "activation 3.00" in tiles.first.get_attribute("aria-label")
    assert tiles.first.locator("svg.mv-mark").count() == 1
    tiles.first.focus()
    plot.keyboard.press("ArrowRight")
    plot.keyboard.press("Enter")
    assert sent(plot, "open") == [{"type": "open", "example": 7}]
    settle(plot)
    assert tiles.nth(1).get_attribute("aria-current") == "true"
    # Another unit: the old pictures stay, dimmed, until the new ones come.
    play(plot, scatter(unit="fc:1"))
    settle(plot)
    assert "mv-stale" in plot.locator(".mv-fires").get_attribute("class")
    play(plot, firing("fc:1", [], "This unit has the same activation on every example."))
    settle(plot)
    assert tiles.count() == 0
    assert "same activation" in plot.locator(".mv-firing [role=status]").inner_text()
    plot.locator(".mv-firing .mv-close").click()
    assert sent(plot, "unit")[-1] == {"type": "unit", "unit": ""}


def test_the_marks_of_groups_are_explained(open_page, fake):
    page = open_page()
    page.evaluate("start('scatter')")
    groups = [{"name": name, "count": 1} for name in ("clean", EVIL, "drawn", "test")]
    study = study_of(fake, groups=groups)
    of = np.full(fake.n, 255, np.uint8)
    of[:4] = range(4)
    study = pack(study["msg"], label=fake.label, truth=fake.truth, group=of)
    play(page, study, *fake.sprites(), fake.state(), *grid(), fake.readout())
    legend = page.locator(".mv-firegroups span")

    def told(*examples):
        play(page, scatter(unit="fc:1"), firing("fc:1", list(examples)))
        settle(page)
        marks = legend.locator("svg.mv-mark").count()
        return legend.all_inner_texts() if legend.count() else [], marks

    assert told(3, 0, 3) == (["clean", "test"], 2)  # in the order of the groups
    assert told(1, 2, 7) == ([f"{EVIL} or drawn", "no mark: in no group"], 1)  # one mark for both
    assert told(7) == ([], 0) and page.locator(".mv-firegroups").is_hidden()
    assert page.evaluate("window.pwned") is None


def test_other_scores_on_the_axes_arrive_in_place(plot):
    plot.locator("select[data-axis=y]").select_option("effect")
    assert sent(plot, "axes") == [{"type": "axes", "keys": {"y": "effect"}}]
    settle(plot)
    assert plot.locator(".mv-plot .mv-empty").inner_text() == "Computing the scores …"
    value, state = ROWS / 320, np.full(320, 1)
    play(plot, scatter(y="effect"), scores("effect", value, kind="exact", state=state))
    settle(plot)
    box = plot.locator(".mv-dots").bounding_box()
    assert plot.locator(".mv-plot .mv-empty").inner_text() == "No unit shown is exact yet."
    state[[80, 87]] = 2
    play(plot, scores("effect", value, kind="exact", state=state))
    settle(plot)
    focus_by_keys(plot, ".mv-dots")
    option = plot.locator(".mv-dots [role=option]")
    assert "effect .25" in option.text_content() and "estimated" not in option.text_content()
    assert plot.locator(".mv-dots").bounding_box() == box  # no layout shift


def swept(done, **more):
    """An estimate, and the exact effect of the first units: minus what was estimated."""
    estimate = np.linspace(-1, 1, 320)
    exact = np.where(ROWS < done, -estimate, estimate)
    state = np.where(ROWS < done, 2, 1)
    told = scores("effect", exact, "exact effect", "exact", state, **more)
    return scores("estimate", estimate, kind="estimate", state=np.ones(320)), told


@pytest.mark.parametrize("axes", [("estimate", "effect"), ("effect", "estimate")])
def test_no_estimate_is_placed_on_the_axis_of_the_exact_effect(plot, axes):
    play(plot, *swept(17), scatter(*axes))
    settle(plot)
    dots, sofar = plot.locator(".mv-dots"), plot.locator(".mv-sofar")
    assert dots.get_attribute("aria-label").startswith("17 units, ")
    said = "17 of 320 units exact. The others appear as they are swept."
    assert sofar.inner_text() == said
    assert plot.locator(".mv-sweeprest").is_hidden()  # the sweep goes on by itself
    assert plot.locator(".mv-lack").inner_text() == ""
    dots.focus()
    plot.keyboard.press("Control+a")
    assert brushed(plot) == "17 units: 17 of conv1."
    # A layer of which none is swept yet says so.
    plot.locator(".mv-onelayer").select_option("fc")
    settle(plot)
    assert plot.locator(".mv-plot .mv-empty").inner_text() == "No unit shown is exact yet."
    plot.locator(".mv-onelayer").select_option("")
    play(plot, *swept(320))
    settle(plot)
    assert dots.get_attribute("aria-label").startswith("320 units, ")
    assert sofar.is_hidden()


def test_the_legend_says_what_the_scores_are(plot):
    value, some = np.linspace(0, 1, 320), np.where(ROWS < 9, 2, 1)
    mixed = scores("entropy", value, kind="exact", state=some)
    play(plot, *swept(17), mixed)
    exact, estimate, own = "computed exactly", "only estimated", "measured"

    def legend(x, y):
        play(plot, scatter(x, y))
        settle(plot)
        marks = [plot.locator(f".mv-side .{name}") for name in ("mv-full", "mv-hollow")]
        return [mark.inner_text() if mark.is_visible() else "" for mark in marks]

    def pair(a, b):
        return f"a unit: one value {a}, the other {b}"

    def both(a):
        return f"a unit: both values {a}"

    for x, y, sure, guess in [
        ("effect", "effect", both(exact), ""),
        ("effect", "UnitMem", pair(exact, own), ""),
        ("UnitMem", "UnitMem", both(own), ""),
        ("estimate", "estimate", "", both(estimate)),
        ("estimate", "effect", "", pair(estimate, exact)),
        ("estimate", "UnitMem", "", pair(estimate, own)),
        # A user's own score that is exact for some units and estimated for the others.
        ("entropy", "effect", both(exact), pair(estimate, exact)),
        ("entropy", "UnitMem", pair(exact, own), pair(estimate, own)),
        ("entropy", "estimate", "", f"{pair(estimate, exact)}, or {both(estimate)}"),
    ]:
        assert legend(x, y) == legend(y, x) == [sure, guess], (x, y)


def test_a_cancelled_sweep_goes_on_when_asked(plot):
    play(plot, *swept(1, cancelled=True), scatter("estimate", "effect"))
    settle(plot)
    assert (
        plot.locator(".mv-sofar").inner_text() == "1 of 320 units exact. The others are not drawn."
    )
    plot.locator(".mv-sweeprest").click()
    assert sent(plot, "axes") == [{"type": "axes", "keys": {"y": "effect"}}]
    assert plot.evaluate("document.activeElement.className") == "mv-dots"
    play(plot, *swept(1, cancelled=False))
    settle(plot)
    assert plot.locator(".mv-sweeprest").is_hidden()
    # Where no axis is exact, there is nothing to sweep.
    play(plot, *swept(1, cancelled=True), scatter("estimate", "UnitMem"))
    settle(plot)
    assert plot.locator(".mv-sweeprest").is_hidden() and plot.locator(".mv-sofar").is_hidden()
    assert plot.locator(".mv-lack").inner_text().startswith("2 units have no value")


def test_names_are_text_and_the_theme_is_followed(open_page, fake):
    page = open_page()
    page.evaluate("start('scatter')")
    study = study_of(fake)
    study["msg"]["scores"][1]["label"] = EVIL
    study["msg"]["layers"][0]["name"] = EVIL.replace(" ", "/")
    x, y = grid()
    x["msg"]["label"] = x["msg"]["measure"] = EVIL
    play(page, study, *fake.sprites(), fake.state(layers=[EVIL.replace(" ", "/")]), x, y)
    play(page, fake.readout(), scatter(unit=f"{EVIL.replace(' ', '/')}:3"))
    settle(page)
    page.mouse.move(*place(page, 3))
    settle(page)
    assert EVIL in page.locator(".mv-xname").inner_text()
    assert page.evaluate("window.pwned") is None and page.locator(".mv img").count() == 0
    light = pixel(page, 3)
    page.evaluate("document.body.dataset.jpThemeLight = 'false'")
    settle(page)
    settle(page)
    assert pixel(page, 3) != light


def test_a_saved_page_shows_and_asks_nothing(open_page, fake):
    page = open_page()
    told = [study_of(fake), *fake.sprites(), fake.state(), *grid(), fake.readout()]
    told += [scatter(unit="conv4:1"), firing("conv4:1", [3, 4])]
    page.evaluate("list => mount(document.getElementById('a'), 'scatter', list)", told)
    settle(page)
    page.wait_for_selector(".mv-fire")
    drag(page, 0, 319)
    assert brushed(page).startswith("286 units")  # conv1 is not shown
    assert page.locator(".mv-ablatebrushed").is_disabled()
    assert page.locator("select[data-axis=x] option[value=effect]").is_disabled()


# The unit map wears such scores, too --------------------------------------------------------------


def test_a_score_below_zero_is_worn_from_its_least_value_up(open_page, fake):
    page = open_page()
    page.evaluate("start('units')")
    value = np.linspace(-3, -1, 320)
    value[288] = np.nan  # fc 96
    play(page, study_of(fake), fake.state(units="", score="entropy"), scores("entropy", value))
    play(page, fake.readout())
    settle(page)
    colours = page.evaluate(
        """() => [64, 160, 319].map((row) => {
          const canvas = document.querySelector(`canvas[data-layer=${row < 64 ? "conv2" : row < 128 ? "conv3" : row < 192 ? "conv4" : "fc"}]`);
          const unit = row - (row < 128 ? 64 : row < 192 ? 128 : 192);
          const pitch = +canvas.dataset.pitch, columns = +canvas.dataset.columns, s = devicePixelRatio;
          return [...canvas.getContext("2d").getImageData((unit % columns * pitch + pitch * .4) * s, (Math.floor(unit / columns) * pitch + pitch * .4) * s, 1, 1).data].slice(0, 3);
        })"""
    )
    assert len({tuple(c) for c in colours}) == 3  # low, middle and high are told apart
    assert sum(colours[0]) > sum(colours[1]) > sum(colours[2])
    ticks = page.locator(".mv-ticks span").all_inner_texts()
    assert ticks == ["−3", "−1"]
    canvas = page.locator("canvas.mv-units[data-layer=fc]")
    columns, pitch = (int(canvas.get_attribute(f"data-{n}")) for n in ("columns", "pitch"))
    canvas.hover(position={"x": 96 % columns * pitch + 8, "y": 96 // columns * pitch + 8})
    settle(page)
    assert "no value for this score" in page.locator(".mv-tip").inner_text()


def test_scores_brought_by_another_view_are_offered(open_page, fake):
    page = open_page()
    page.evaluate("start('units')")
    play(page, *fake.messages())
    settle(page)
    assert page.locator(".mv-score option").count() == 2
    more = [*fake.study()["msg"]["scores"], {"key": "h", "label": EVIL, "kind": "other"}]
    play(page, pack({"type": "picks", "scores": more}))
    settle(page)
    assert page.locator(".mv-score option").all_inner_texts()[-1] == EVIL
    assert page.locator(".mv-units").count() == 4  # nothing else has changed


@pytest.mark.parametrize(("part", "picker"), [("units", ".mv-score"), ("scatter", "[data-axis=x]")])
def test_scores_are_offered_in_their_groups(open_page, fake, part, picker):
    page = open_page()
    page.evaluate("part => start(part)", part)
    more = [
        {"key": key, "label": key, "kind": "other", "group": group}
        for key, group in [("a", "localizers"), ("b", EVIL), ("c", "localizers")]
    ]
    study = study_of(fake)
    study["msg"]["scores"] += more
    play(page, study, fake.state(), scatter("c", "a"))
    settle(page)
    groups = page.locator(f"{picker} optgroup")
    assert [group.get_attribute("label") for group in groups.all()] == ["localizers", EVIL]
    assert groups.first.locator("option").all_inner_texts() == ["a", "c"]
    offered = page.locator(f"{picker} > option").all_inner_texts()
    assert offered == ["effect", "estimate", "UnitMem", "entropy"]
    page.locator(picker).select_option("b")
    assert sent(page)[-1] in (
        {"type": "score", "key": "b"},
        {"type": "axes", "keys": {"x": "b"}},
    )


def test_a_second_answer_to_the_same_view_keeps_what_is_brushed(plot, fake):
    drag(plot, 0, 22)
    assert brushed(plot).startswith("6 units")
    layers = [name for name, _ in fake.layers]
    play(plot, study_of(fake), *fake.sprites(), fake.state(layers=layers, units=""), *grid())
    settle(plot)
    assert brushed(plot).startswith("6 units") and plot.locator(".mv-ablatebrushed").is_enabled()
    play(plot, study_of(fake, name="another"), fake.state(layers=layers, units=""), *grid())
    settle(plot)
    assert "Drag over" in brushed(plot)


def test_brushed_units_are_brushed_again_once_their_scores_are_back(plot):
    drag(plot, 0, 22)
    _, y = grid()
    nothing = scores("entropy", np.full(320, np.nan))
    play(plot, nothing)
    settle(plot)
    assert "Drag over" in brushed(plot) and plot.locator(".mv-ablatebrushed").is_disabled()
    play(plot, y)
    settle(plot)
    assert brushed(plot) == "6 units: 6 of conv1."


def test_nothing_serious_is_found_by_axe(plot):
    assert serious(plot) == []
