"""A view that memviz does not know, announced by its own file alone."""

import re
from pathlib import Path

import pytest

from memviz.widgets.core import _assets, files
from tests.support.page import play, sent, settle

pytestmark = pytest.mark.browser
FORMAT = """\
/** Memviz has a function of this name; this one is another. */
export function count(tide) {
  return `${tide.level} of ${tide.of}`;
}
"""
VIEW = """\
import { el, say } from "../../core/static/dom.js";
import { liveLine } from "../../core/static/header.js";
import { registerView } from "../../core/static/views.js";
import { count } from "./format.js";

function region(view) {
  const root = el("p", { class: "tide" });
  return { root, prompt: true, update: () => say(root, view.store.tide ? count(view.store.tide) : "no tide") };
}

registerView({
  part: "tide",
  title: "tide table",
  needs: "asking the moon needs",
  state: () => ({ tide: null }),
  takers: (store) => ({
    study() {
      store.tide = null;
    },
    tide(msg, { waves }) {
      store.tide = { level: waves[0], of: msg.of };
    },
  }),
  dirty: ["tide"],
  build(view) {
    const regions = [liveLine(view), region(view)];
    view.root.append(...regions.map(({ root }) => root));
    return regions;
  },
});
"""
TIDE = {"msg": {"type": "tide", "of": 9, "arrays": [{"name": "waves", "dtype": "uint8"}]}}


@pytest.fixture
def page(open_page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The harness, where a package beside memviz brings a view."""
    folder = tmp_path / "tide_paper" / "widgets" / "tide" / "static"
    folder.mkdir(parents=True)
    (folder / "format.js").write_text(FORMAT)
    (folder / "tide.js").write_text(VIEW)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(_assets, "packages", lambda: ["memviz", "tide_paper"])
    joined = _assets.script.__wrapped__()

    def answer(route):
        route.fulfill(body=joined, content_type="text/javascript")

    return open_page(routes={"**/bundle.js": answer})


def test_draws_itself_and_takes_its_own_messages(page, fake):
    page.evaluate("start('tide')")
    settle(page)
    assert page.locator("section.mv").get_attribute("aria-label") == "memviz tide table"
    assert page.locator(".tide").inner_text() == "no tide"
    assert sent(page) == [{"type": "hello"}]
    play(page, *fake.messages(), {**TIDE, "buffers": ["Bw=="]})
    settle(page)
    assert page.locator(".tide").inner_text() == "7 of 9"
    assert page.locator(".mv-say").inner_text().startswith("8 of 320 units ablated")
    play(page, fake.study(name="another"))  # another study: its taker empties its field
    play(page, fake.state(version=2))
    settle(page)
    assert page.locator(".tide").inner_text() == "no tide"


def test_its_saved_page_says_what_needs_a_kernel(page, fake):
    told = [fake.study(), fake.state(), {**TIDE, "buffers": ["Bw=="]}]
    page.evaluate("list => mount(document.getElementById('a'), 'tide', list)", told)
    settle(page)
    assert page.locator(".tide").inner_text() == "7 of 9"
    note = page.locator(".mv-savednote").inner_text()
    assert note == "Saved page: asking the moon needs a running kernel."


def test_other_views_are_as_before_and_an_unknown_one_says_so(page, fake):
    page.evaluate("start('units')")
    play(page, *fake.messages(), {**TIDE, "buffers": ["Bw=="]})
    settle(page)
    assert page.locator("canvas.mv-units").count() == 4
    page.evaluate("start('<b>moon</b>', 'b')")
    assert page.locator("#b").inner_text() == "memviz has no view called “<b>moon</b>”."


def test_the_shared_code_names_no_view():
    names = r"timeline|rewound|inspected|scatter|firing|pairs|gaps|chance|deja"
    core = {path.name: path.read_text() for path in files("js") if path.parts[-3] == "core"}
    assert {"store.js", "view.js", "views.js", "index.js"} <= core.keys()
    assert {name: re.findall(names, text, re.IGNORECASE) for name, text in core.items()} == {
        name: [] for name in core
    }
    assert not any("../" in line for text in core.values() for line in text.splitlines())
