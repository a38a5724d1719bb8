"""Reports in a real browser: from a file, no network, nothing in the console, light and dark."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

import memviz as mv
from tests.support.access import serious
from tests.support.widgets import EVIL, hostile_study, small_study

pytestmark = pytest.mark.browser


@pytest.fixture
def show(open_saved: Any) -> Any:
    """A function that opens a report from its file."""
    return partial(open_saved, viewport={"width": 1180, "height": 1000})


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "small.html"
    return mv.report(small_study(), path, units=4, random_draws=2, progress=False)


@pytest.fixture(scope="module")
def digits_page(digits: mv.Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "digits.html"
    return mv.report(digits, path, random_draws=5, progress=False)


@pytest.fixture(scope="module")
def scenes_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "scenes.html"
    return mv.report(mv.demo("scenes"), path, units=16, random_draws=1, progress=False)


def luminance(page: Any, selector: str, what: str) -> float:
    colour = page.eval_on_selector(selector, f"(e) => getComputedStyle(e).{what}")
    return sum(float(part) for part in colour.split("(")[1].split(")")[0].split(",")[:3])


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_is_legible_in_both_themes(show: Any, small: Path, pictures: Path, theme: str) -> None:
    page = show(small, color_scheme=theme)
    paper = luminance(page, "body", "backgroundColor")
    ink = luminance(page, "figure > svg text", "fill")
    assert (paper > 700 and ink < 200) if theme == "light" else (paper < 100 and ink > 600)
    assert page.locator(".mv").get_attribute("data-mv-theme") == theme
    assert page.evaluate("document.documentElement.scrollWidth") <= 1180
    page.screenshot(path=pictures / f"report-small-{theme}.png", full_page=True)


def test_the_view_inside_switches_units_and_tables_can_be_saved(show: Any, small: Path) -> None:
    page = show(small)
    map_of = page.locator("canvas.mv-units[data-layer=fc]")
    map_of.focus()
    page.keyboard.press("Home")
    page.keyboard.press("Space")
    found = mv.readout(small_study(), "fc:0", random_draws=0)
    assert page.locator(".mv-say").inner_text() == found.sentence
    with page.expect_download() as saved:
        page.locator("a[download='curve.csv']").click()
    text = Path(saved.value.path()).read_text()
    assert text.startswith("units,group,accuracy") and len(text.splitlines()) == 1 + 4 * 5


def test_nothing_serious_is_found_by_axe(show: Any, small: Path) -> None:
    assert serious(show(small)) == []


def test_no_other_script_runs(show: Any, tmp_path: Path) -> None:
    """The page as somebody might have changed it: the browser refuses what is not the view's."""
    path = mv.report(hostile_study(), tmp_path / "a.html", units=2, scores=[], progress=False)
    other = "<script>window.pwned = 1</script></body>"
    path.write_text(path.read_text().replace("</body>", other))
    refusals: list[str] = []
    page = show(path, refusals=refusals)
    assert page.locator("script").count() == 3
    assert page.title() == f"memviz report: {EVIL}"
    assert page.evaluate("window.pwned") is None and page.locator("img").count() == 0
    (refusal,) = refusals
    assert "inline script" in refusal and "Content Security Policy" in refusal


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_digits(show: Any, digits_page: Path, pictures: Path, theme: str) -> None:
    page = show(digits_page, color_scheme=theme)
    assert page.locator("#short li").count() == 4
    assert page.locator("figure > svg").count() == 6
    assert digits_page.stat().st_size < 3_500_000
    page.screenshot(path=pictures / f"report-digits-{theme}.png", full_page=True)


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_scenes(show: Any, scenes_page: Path, pictures: Path, theme: str) -> None:
    page = show(scenes_page, color_scheme=theme)
    assert page.locator("#short li").count() == 4
    assert page.locator("figure > svg").count() == 5
    assert page.locator(".mv-part-deja_vu").count() == 1
    # The saved view takes up to 8 MB, and the chapters a tenth of that.
    assert scenes_page.stat().st_size < 9_000_000
    third = page.locator(".mv-dv-list li").nth(2)
    third.click()
    row = int(third.get_attribute("data-row"))
    assert mv.demo("scenes").training.captions[row] in page.locator(".mv-dv-caption").inner_text()
    page.screenshot(path=pictures / f"report-scenes-{theme}.png", full_page=True)
